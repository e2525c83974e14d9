// SPDX-License-Identifier: Apache-2.0
// Contrast-limited adaptive histogram equalisation.
//
// Source: K. Zuiderveld, "Contrast Limited Adaptive Histogram Equalization", Graphics Gems IV,
// 1994, in the form of OpenCV 4 and 5 (cv2.createCLAHE, x86). The rules that decide a byte:
//
// - Tiles: if both sides divide by the grid, a tile is (height / rows, width / cols). If either
//   does not, *both* are first extended at the bottom and right by grid - side % grid, so that a
//   side that divides gains a whole extra pixel per tile. Mirrored without repeating the edge.
// - Levels: 256 for uint8. For uint16, OpenCV counts 65536; here 2^bits, which is the same for 16.
// - Clip limit: limit * pixels in a tile / levels in float64, cut to an integer of at least 1; 0 is
//   "no clipping". A value past 2^31 - 1 counts as 1: OpenCV leaves it to the x86 conversion,
//   which answers INT_MIN.
// - Excess: counts above the limit are cut; excess / levels goes to every level, then one each of
//   the remainder to levels 0, s, 2 s, … with s = levels / remainder.
// - Table: cumulative count times (levels - 1) / pixels in a tile in float32, rounded half to even.
// - Blend: a pixel at x lies between the tiles floor(x / tile width - 1/2) and the next (those
//   off the grid clamped), likewise in y; float32, products and sums rounded one by one (so the
//   file is built with -ffp-contract=off), the result rounded half to even.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "clahe.h"
#include "threads.h"

// Ask for memory ahead of time. A processor foresees the walk along a row, but not into a tile.
#if defined(__GNUC__)
#define CE_PREFETCH(at) __builtin_prefetch(at)
#define CE_NOINLINE __attribute__((noinline))
#define CE_SETTLE(pointer) __asm__("" : "+r"(pointer))
#else
#define CE_PREFETCH(at) ((void)(at))
#define CE_NOINLINE
#define CE_SETTLE(pointer) ((void)(pointer))
#endif

// Index in 0..n-1 of position i >= n, mirrored as in dcb|abcd|cba, and how many positions from
// there on, before `end`, mirror a run of neighbours: *first is the lowest of them.
static size_t mirrored_run(size_t i, size_t end, size_t n, size_t *first) {
    *first = 0;
    if (n == 1) return 1;
    const size_t period = 2 * (n - 1), phase = i % period;
    const size_t longest = phase < n ? n - phase : period - phase;
    const size_t length = end - i < longest ? end - i : longest;
    *first = phase < n ? phase : period - phase - (length - 1);
    return length;
}

static ce_status measure(ce_clahe *g, size_t height, size_t width, size_t rows, size_t cols) {
    if (height == 0 || width == 0 || rows == 0 || cols == 0) return CE_EMPTY;
    if (height > INT32_MAX || width > INT32_MAX || rows > INT32_MAX || cols > INT32_MAX)
        return CE_TOO_LARGE;
    const int divides = height % rows == 0 && width % cols == 0;
    g->rows = rows;
    g->cols = cols;
    g->extra_height = divides ? 0 : rows - height % rows;
    g->extra_width = divides ? 0 : cols - width % cols;
    g->tile_height = (height + g->extra_height) / rows;
    g->tile_width = (width + g->extra_width) / cols;
    return g->tile_height > INT32_MAX / g->tile_width ? CE_TOO_LARGE : CE_OK;
}

// Most pixels that one grey level of one tile may count.
static int32_t integer_limit(double clip_limit, double tile_pixels, double levels) {
    if (clip_limit == 0) return INT32_MAX;
    const double limit = clip_limit * tile_pixels / levels;
    return limit >= 1 && limit < INT32_MAX + 1.0 ? (int32_t)limit : 1;
}

static uint16_t largest_level(ce_image image) {
    uint16_t largest = 0;
    for (size_t y = 0; y < image.height; y++) {
        const uint16_t *row =
            (const uint16_t *)((const char *)image.pixels + (ptrdiff_t)y * image.stride);
        for (size_t x = 0; x < image.width; x++) largest = row[x] > largest ? row[x] : largest;
    }
    return largest;
}

// Count a level in a set of counters. The sum of base and level is settled first: Intel processors
// before Ice Lake have one port more for a store whose address is a single register and a constant.
static inline void count_one(int32_t *counts, size_t level, size_t offset) {
    int32_t *at = counts + level;
    CE_SETTLE(at);
    at[offset]++;
}

// Neighbouring pixels are often equal, and a counter that was just written is slow to read back:
// the pixels of two rows take turns in several sets of counters. What lies to the right of a tile
// is the next tile. Inlined, it would have to share its registers.
static CE_NOINLINE void count_u8(int32_t *counts, const uint8_t *src, ptrdiff_t stride,
                                 size_t height, size_t width) {
    enum { STRIDE = CE_SET_STRIDE(256) };
    size_t y = 0;
    for (; y + 2 <= height; y += 2, src += 2 * stride) {
        const uint8_t *up = src, *down = src + stride;
        CE_PREFETCH(up + width);
        CE_PREFETCH(down + width);
        size_t x = 0;
        // Byte by byte: a load is cheaper than what it takes to cut a byte out of a word.
        for (; x + 8 <= width; x += 8)
            for (size_t i = 0; i < 8; i++) {
                count_one(counts, up[x + i], 2 * i % CE_SETS_U8 * STRIDE);
                count_one(counts, down[x + i], (2 * i + 1) % CE_SETS_U8 * STRIDE);
            }
        for (; x < width; x++) counts[up[x]]++, counts[STRIDE + down[x]]++;
    }
    if (y < height)
        for (size_t x = 0; x < width; x++) counts[x % CE_SETS_U8 * STRIDE + src[x]]++;
}

static void count_u16(int32_t *counts, size_t levels, const uint16_t *src, ptrdiff_t stride,
                      size_t height, size_t width) {
    int32_t *const sets[CE_SETS_U16] = {counts, counts + CE_SET_STRIDE(levels)};
    for (size_t y = 0; y < height; y++) {
        size_t x = 0;
        for (; x + 8 <= width; x += 8)
            for (size_t i = 0; i < 8; i++) count_one(sets[i % CE_SETS_U16], src[x + i], 0);
        for (; x < width; x++) counts[src[x]]++;
        src = (const uint16_t *)((const char *)src + stride);
    }
}

enum { LINE = 64 };  // of cache, in bytes

static void *next_line(const void *memory) {
    return (void *)(((uintptr_t)memory + LINE - 1) / LINE * LINE);
}

typedef struct {
    const ce_clahe *clahe;
    ce_image image;
    int32_t limit;
    int32_t *counts;  // sets for each thread, at 0
} tables_job;

static void count_tile(const tables_job *job, size_t tile, int32_t *counts) {
    const ce_clahe *c = job->clahe;
    const ce_image *image = &job->image;
    const size_t top = tile / c->cols * c->tile_height, bottom = top + c->tile_height;
    const size_t left = tile % c->cols * c->tile_width, right = left + c->tile_width;
    size_t rows, cols, row, col;
    for (size_t y = top; y < bottom; y += rows) {
        rows = mirrored_run(y, bottom, image->height, &row);
        for (size_t x = left; x < right; x += cols) {
            cols = mirrored_run(x, right, image->width, &col);
            const char *from = (const char *)image->pixels + (ptrdiff_t)row * image->stride;
            if (c->bits == 8)
                count_u8(counts, (const uint8_t *)from + col, image->stride, rows, cols);
            else
                count_u16(counts, c->levels, (const uint16_t *)from + col, image->stride, rows,
                          cols);
        }
    }
}

static void make_tables(void *context, size_t thread, size_t begin, size_t end) {
    const tables_job *job = context;
    const ce_clahe *c = job->clahe;
    const size_t all = (size_t)1 << c->bits;
    const size_t tile_pixels = c->tile_height * c->tile_width;
    const float scale = (float)(int32_t)(all - 1) / (float)(int32_t)tile_pixels;
    const size_t sets = c->bits == 8 ? CE_SETS_U8 : CE_SETS_U16;
    int32_t *counts = job->counts + thread * sets * CE_SET_STRIDE(c->levels);
    for (size_t tile = begin; tile < end; tile++) {
        count_tile(job, tile, counts);
        ce_active_clahe()->make_table(c->tables + tile * c->levels, counts, c->levels, sets, all,
                                      job->limit, scale);
    }
}

ce_status ce_clahe_begin(ce_clahe *clahe, ce_image image, unsigned bits, double clip_limit,
                         size_t grid_rows, size_t grid_cols, size_t threads) {
    const ce_status status = measure(clahe, image.height, image.width, grid_rows, grid_cols);
    if (status != CE_OK) return status;
    if (!isfinite(clip_limit) || clip_limit < 0) return CE_BAD_CLIP_LIMIT;
    if (bits != 8 && (bits < 10 || bits > 16)) return CE_BAD_BITS;
    const size_t all = (size_t)1 << bits;
    clahe->bits = bits;
    clahe->levels = bits == 8 ? all : (size_t)largest_level(image) + 1;
    if (clahe->levels > all) return CE_BAD_LEVEL;
    if (grid_rows > SIZE_MAX / sizeof *clahe->tables / clahe->levels / grid_cols)
        return CE_NO_MEMORY;

    const size_t tiles = grid_rows * grid_cols;
    threads = ce_threads(threads, tiles);
    const size_t sets = bits == 8 ? CE_SETS_U8 : CE_SETS_U16;
    const size_t tile_pixels = clahe->tile_height * clahe->tile_width;
    // Vectors of counters that lie across two lines of cache would take twice as long.
    const size_t counters = threads * sets * CE_SET_STRIDE(clahe->levels);
    int32_t *memory = calloc(counters + LINE / sizeof *memory, sizeof *memory);
    tables_job job = {clahe, image, integer_limit(clip_limit, (double)tile_pixels, (double)all),
                      next_line(memory)};
    clahe->tables = malloc(tiles * clahe->levels * sizeof *clahe->tables);
    const int enough = memory != NULL && clahe->tables != NULL;
    if (enough)
        ce_parallel(threads, tiles, make_tables, &job);
    else
        free(clahe->tables);
    free(memory);
    return enough ? CE_OK : CE_NO_MEMORY;
}

void ce_clahe_end(ce_clahe *clahe) { free(clahe->tables); }

static size_t clamped(ptrdiff_t tile, size_t tiles) {
    return tile < 0 ? 0 : (size_t)tile < tiles ? (size_t)tile : tiles - 1;
}

// Quads are read four and more at a time: those of a span, and of a table, start a line of cache.
enum { QUADS = LINE / sizeof(ce_quad) };

// So many quads and the rest of a line.
static size_t lines(size_t quads) { return (quads + QUADS - 1) / QUADS * QUADS; }

static ce_quad *allocate_quads(void **memory, size_t count) {
    const int fits = count < SIZE_MAX / sizeof(ce_quad) - QUADS;
    *memory = fits ? malloc((count + QUADS) * sizeof(ce_quad)) : NULL;
    return *memory == NULL ? NULL : next_line(*memory);
}

ce_status ce_axis_begin(ce_axis *axis, const size_t *at, size_t count, size_t tile, size_t tiles) {
    const float inverse_tile = 1.0f / (float)(int32_t)tile;
    axis->count = count;
    axis->spans = 0;
    const size_t most_spans = at == NULL && tiles < count ? tiles + 1 : count;
    axis->span = malloc(most_spans * sizeof *axis->span);
    ce_quad *weights = allocate_quads(&axis->memory, count + most_spans * (QUADS - 1));
    if (axis->span == NULL || weights == NULL) return CE_NO_MEMORY;
    ce_span *last = NULL;
    ptrdiff_t below_last = 0;
    for (size_t i = 0; i < count; i++) {
        const float position = (float)(int32_t)(at == NULL ? i : at[i]) * inverse_tile - 0.5f;
        const ptrdiff_t below = position < 0 ? -1 : (ptrdiff_t)position;
        const float second_weight = position - (float)below, first_weight = 1.0f - second_weight;
        if (last == NULL || below != below_last) {
            const size_t first = clamped(below, tiles), second = clamped(below + 1, tiles);
            if (last == NULL || last->first != first || last->second != second) {
                while ((uintptr_t)weights % LINE != 0) weights++;
                last = axis->span + axis->spans++;
                *last = (ce_span){i, i, first, second, weights};
            }
            below_last = below;
        }
        const ce_quad four = {first_weight, second_weight, first_weight, second_weight};
        memcpy(*weights++, four, sizeof four);
        last->end = i + 1;
    }
    return CE_OK;
}

void ce_axis_end(ce_axis *axis) {
    free(axis->memory);
    free(axis->span);
}

typedef struct {
    const ce_clahe *clahe;
    const ce_axis *down, *across;
    const char *src;
    ptrdiff_t src_stride;
    char *dst;
    ptrdiff_t dst_stride;
    ce_quad *scratch;  // levels for each thread
} blend_job;

static void blend_cell(const blend_job *job, const ce_span *rows, const ce_span *cols,
                       ce_quad *scratch) {
    const ce_clahe *c = job->clahe;
    const uint16_t *up = c->tables + rows->first * c->cols * c->levels;
    const uint16_t *down = c->tables + rows->second * c->cols * c->levels;
    const size_t left = cols->first * c->levels, right = cols->second * c->levels;
    const ce_cell cell = {.height = rows->end - rows->begin,
                          .width = cols->end - cols->begin,
                          .tables = {up + left, up + right, down + left, down + right},
                          .levels = c->levels,
                          .across = (const ce_quad *)cols->weights,
                          .down = (const ce_quad *)rows->weights,
                          .tile_height = c->tile_height,
                          .tile_width = c->tile_width,
                          .scratch = scratch};
    const size_t pixel = c->bits == 8 ? 1 : 2;
    const char *src = job->src + (ptrdiff_t)rows->begin * job->src_stride + cols->begin * pixel;
    char *dst = job->dst + (ptrdiff_t)rows->begin * job->dst_stride + cols->begin * pixel;
    if (c->bits == 8)
        ce_active_clahe()->blend_u8(&cell, (uint8_t *)dst, job->dst_stride, (const uint8_t *)src,
                                    job->src_stride);
    else
        ce_active_clahe()->blend_u16(&cell, (uint16_t *)dst, job->dst_stride,
                                     (const uint16_t *)src, job->src_stride);
}

static void blend_rows(void *context, size_t thread, size_t begin, size_t end) {
    const blend_job *job = context;
    for (size_t s = 0; s < job->down->spans; s++) {
        ce_span rows = job->down->span[s];
        if (rows.begin < begin) {
            rows.weights += begin - rows.begin;
            rows.begin = begin;
        }
        if (rows.end > end) rows.end = end;
        if (rows.begin >= rows.end) continue;
        for (size_t t = 0; t < job->across->spans; t++)
            blend_cell(job, &rows, &job->across->span[t],
                       job->scratch + thread * lines(job->clahe->levels));
    }
}

ce_status ce_clahe_blend(const ce_clahe *clahe, const ce_axis *down, const ce_axis *across,
                         const void *src, ptrdiff_t src_stride, void *dst, ptrdiff_t dst_stride,
                         size_t threads) {
    threads = ce_threads(threads, down->count);
    void *memory;
    ce_quad *scratch = allocate_quads(&memory, threads * lines(clahe->levels));
    if (scratch == NULL) return CE_NO_MEMORY;
    blend_job job = {clahe, down, across, src, src_stride, dst, dst_stride, scratch};
    ce_parallel(threads, down->count, blend_rows, &job);
    free(memory);
    return CE_OK;
}

static ce_status clahe(ce_image src, void *dst, ptrdiff_t dst_stride, unsigned bits,
                       double clip_limit, size_t grid_rows, size_t grid_cols, size_t threads) {
    ce_clahe c;
    ce_status status =
        ce_clahe_begin(&c, src, bits, clip_limit, grid_rows, grid_cols, threads);
    if (status != CE_OK) return status;
    ce_axis down = {0}, across = {0};
    status = ce_axis_begin(&down, NULL, src.height, c.tile_height, c.rows);
    if (status == CE_OK)
        status = ce_axis_begin(&across, NULL, src.width, c.tile_width, c.cols);
    if (status == CE_OK)
        status = ce_clahe_blend(&c, &down, &across, src.pixels, src.stride, dst, dst_stride,
                                threads);
    ce_axis_end(&across);
    ce_axis_end(&down);
    ce_clahe_end(&c);
    return status;
}

ce_status ce_clahe_u8(const uint8_t *src, ptrdiff_t src_stride, uint8_t *dst, ptrdiff_t dst_stride,
                      size_t height, size_t width, double clip_limit, size_t grid_rows,
                      size_t grid_cols, size_t threads) {
    return clahe((ce_image){src, src_stride, height, width}, dst, dst_stride, 8, clip_limit,
                 grid_rows, grid_cols, threads);
}

ce_status ce_clahe_u16(const uint16_t *src, ptrdiff_t src_stride, uint16_t *dst,
                       ptrdiff_t dst_stride, size_t height, size_t width, unsigned bits,
                       double clip_limit, size_t grid_rows, size_t grid_cols, size_t threads) {
    if (bits < 10 || bits > 16) return CE_BAD_BITS;
    return clahe((ce_image){src, src_stride, height, width}, dst, dst_stride, bits, clip_limit,
                 grid_rows, grid_cols, threads);
}
