// SPDX-License-Identifier: Apache-2.0
// Contrast-limited adaptive histogram equalisation.
//
// Source: K. Zuiderveld, "Contrast Limited Adaptive Histogram Equalization", Graphics Gems IV,
// 1994, in the form of OpenCV 4 and 5 (cv2.createCLAHE, x86). The rules that decide a byte:
//
// - Tiles: if both sides divide by the grid, a tile is (height / rows, width / cols). If either
//   does not, *both* are first extended at the bottom and right by grid - side % grid, so that a
//   side that divides gains a whole extra pixel per tile. Mirrored without repeating the edge.
// - Clip limit: limit * pixels in a tile / 256 in float64, cut to an integer of at least 1; 0 is
//   "no clipping". A value past 2^31 - 1 counts as 1: OpenCV leaves it to the x86 conversion,
//   which answers INT_MIN.
// - Excess: counts above the limit are cut; excess / 256 goes to every level, then one each of
//   the remainder to levels 0, s, 2 s, … with s = max(256 / remainder, 1).
// - Table: cumulative count times 255 / pixels in a tile in float32, rounded half to even.
// - Blend: a pixel at x lies between the tiles floor(x / tile width - 1/2) and the next (those
//   off the grid clamped), likewise in y; float32, products and sums rounded one by one (so the
//   file is built with -ffp-contract=off), the result rounded half to even.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ce_kernels.h"
#include "rows.h"

typedef struct {
    size_t rows, cols;                 // of the grid
    size_t tile_height, tile_width;    // in pixels
    size_t extra_height, extra_width;  // mirrored pixels beyond the image
} geometry;

// Index in 0..n-1 of position i >= n, mirrored as in dcb|abcd|cba.
static size_t mirrored(size_t i, size_t n) {
    if (n == 1) return 0;
    i %= 2 * (n - 1);
    return i < n ? i : 2 * (n - 1) - i;
}

static ce_status measure(geometry *g, size_t height, size_t width, size_t rows, size_t cols) {
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

// Most pixels that one grey level of one tile may count; 0 for no limit.
static uint32_t integer_limit(double clip_limit, double tile_pixels) {
    if (clip_limit == 0) return 0;
    const double limit = clip_limit * tile_pixels / CE_GREY_LEVELS;
    return limit >= 1 && limit < INT32_MAX + 1.0 ? (uint32_t)limit : 1;
}

static void clip(uint32_t counts[CE_GREY_LEVELS], uint32_t limit) {
    uint32_t excess = 0;
    for (size_t v = 0; v < CE_GREY_LEVELS; v++)
        if (counts[v] > limit) {
            excess += counts[v] - limit;
            counts[v] = limit;
        }
    const uint32_t share = excess / CE_GREY_LEVELS, rest = excess % CE_GREY_LEVELS;
    for (size_t v = 0; v < CE_GREY_LEVELS; v++) counts[v] += share;
    if (rest == 0) return;
    const size_t step = CE_GREY_LEVELS / rest;  // rest < 256, so at least 1 and never past the end
    for (size_t i = 0; i < rest; i++) counts[i * step]++;
}

// Adding 1.5 * 2^23 leaves no bits for a fraction, so the addition itself rounds, half to even.
static uint8_t rounded(float value) {
    const float sum = value + 12582912.0f;
    uint32_t bits;
    memcpy(&bits, &sum, sizeof bits);
    return (uint8_t)bits;
}

static void equalise(uint8_t table[CE_GREY_LEVELS], const uint32_t counts[CE_GREY_LEVELS],
                     float scale) {
    int32_t below = 0;
    for (size_t v = 0; v < CE_GREY_LEVELS; v++) {
        below += (int32_t)counts[v];
        table[v] = rounded((float)below * scale);
    }
}

// Fill tables, rows * cols of them; counts is scratch for one row of tiles.
static void make_tables(const ce_clahe_rows *kernels, const geometry *g, const uint8_t *src,
                        ptrdiff_t stride, size_t height, size_t width, uint32_t limit,
                        uint8_t (*tables)[CE_GREY_LEVELS], uint32_t (*counts)[CE_GREY_LEVELS],
                        uint8_t *mirror) {
    const size_t tile_pixels = g->tile_height * g->tile_width;
    const float scale = (float)(CE_GREY_LEVELS - 1) / (float)(int32_t)tile_pixels;
    for (size_t tile_row = 0; tile_row < g->rows; tile_row++) {
        memset(counts, 0, g->cols * sizeof *counts);
        for (size_t y = tile_row * g->tile_height; y < (tile_row + 1) * g->tile_height; y++) {
            const uint8_t *row = src + (ptrdiff_t)(y < height ? y : mirrored(y, height)) * stride;
            for (size_t i = 0; i < g->extra_width; i++)
                mirror[i] = row[mirrored(width + i, width)];
            for (size_t tile = 0; tile < g->cols; tile++) {
                const size_t begin = tile * g->tile_width, end = begin + g->tile_width;
                const size_t inside = begin >= width ? begin : end < width ? end : width;
                if (inside > begin)
                    kernels->histogram_row(counts[tile], row + begin, inside - begin);
                if (end > inside)
                    kernels->histogram_row(counts[tile], mirror + (inside - width), end - inside);
            }
        }
        for (size_t tile = 0; tile < g->cols; tile++) {
            if (limit > 0) clip(counts[tile], limit);
            equalise(tables[tile_row * g->cols + tile], counts[tile], scale);
        }
    }
}

// Where a position lies between two tiles along one axis: their indices and their weights.
typedef struct {
    size_t first, second;
    float first_weight, second_weight;
} between;

static size_t clamped(ptrdiff_t tile, size_t tiles) {
    return tile < 0 ? 0 : (size_t)tile < tiles ? (size_t)tile : tiles - 1;
}

static between locate(size_t position, float inverse_tile, size_t tiles) {
    const float at = (float)(int32_t)position * inverse_tile - 0.5f;
    const float below = floorf(at);
    const ptrdiff_t tile = (ptrdiff_t)below;
    between b;
    b.second_weight = at - below;
    b.first_weight = 1.0f - b.second_weight;
    b.first = clamped(tile, tiles);
    b.second = clamped(tile + 1, tiles);
    return b;
}

// A cell is the run of columns between the same two tile centres. It has one table of four bytes
// per grey level, so that a pixel costs one look-up.
typedef struct {
    size_t begin, end;     // columns
    size_t first, second;  // tile columns
} cell;

// At most one cell more than tile columns, and none is empty.
static size_t find_cells(cell *cells, float *left, float *right, const geometry *g, size_t width) {
    const float inverse_tile = 1.0f / (float)(int32_t)g->tile_width;
    size_t count = 0;
    for (size_t x = 0; x < width; x++) {
        const between b = locate(x, inverse_tile, g->cols);
        left[x] = b.first_weight;
        right[x] = b.second_weight;
        if (count > 0 && cells[count - 1].first == b.first && cells[count - 1].second == b.second) {
            cells[count - 1].end = x + 1;
        } else {
            cells[count++] = (cell){x, x + 1, b.first, b.second};
        }
    }
    return count;
}

static void pack(uint32_t packed[CE_GREY_LEVELS], const uint8_t *up_left, const uint8_t *up_right,
                 const uint8_t *down_left, const uint8_t *down_right) {
    for (size_t v = 0; v < CE_GREY_LEVELS; v++)
        packed[v] = (uint32_t)up_left[v] | (uint32_t)up_right[v] << 8 |
                    (uint32_t)down_left[v] << 16 | (uint32_t)down_right[v] << 24;
}

static void blend(const ce_clahe_rows *kernels, const geometry *g, const uint8_t *src,
                  ptrdiff_t src_stride, uint8_t *dst, ptrdiff_t dst_stride, size_t height,
                  size_t width, uint8_t (*tables)[CE_GREY_LEVELS], cell *cells, float *left,
                  float *right, uint32_t (*packed)[CE_GREY_LEVELS]) {
    const size_t cell_count = find_cells(cells, left, right, g, width);
    const float inverse_tile = 1.0f / (float)(int32_t)g->tile_height;
    size_t packed_first = SIZE_MAX, packed_second = SIZE_MAX;
    for (size_t y = 0; y < height; y++) {
        const between b = locate(y, inverse_tile, g->rows);
        if (b.first != packed_first || b.second != packed_second) {
            uint8_t(*up)[CE_GREY_LEVELS] = tables + b.first * g->cols;
            uint8_t(*down)[CE_GREY_LEVELS] = tables + b.second * g->cols;
            for (size_t c = 0; c < cell_count; c++)
                pack(packed[c], up[cells[c].first], up[cells[c].second], down[cells[c].first],
                     down[cells[c].second]);
            packed_first = b.first;
            packed_second = b.second;
        }
        const uint8_t *from = src + (ptrdiff_t)y * src_stride;
        uint8_t *to = dst + (ptrdiff_t)y * dst_stride;
        for (size_t c = 0; c < cell_count; c++) {
            const size_t x = cells[c].begin;
            kernels->blend_row(to + x, from + x, cells[c].end - x,
                               (const uint32_t *)packed[c], left + x, right + x, b.first_weight,
                               b.second_weight);
        }
    }
}

ce_status ce_clahe_u8(const uint8_t *src, ptrdiff_t src_stride, uint8_t *dst, ptrdiff_t dst_stride,
                      size_t height, size_t width, double clip_limit, size_t grid_rows,
                      size_t grid_cols) {
    geometry g;
    const ce_status status = measure(&g, height, width, grid_rows, grid_cols);
    if (status != CE_OK) return status;
    if (!isfinite(clip_limit) || clip_limit < 0) return CE_BAD_CLIP_LIMIT;
    if (grid_rows > SIZE_MAX / CE_GREY_LEVELS / grid_cols) return CE_NO_MEMORY;

    const ce_clahe_rows *kernels = ce_active_clahe();
    const size_t cells = grid_cols + 1 < width ? grid_cols + 1 : width;
    const uint32_t limit = integer_limit(clip_limit, (double)(g.tile_height * g.tile_width));

    uint8_t(*tables)[CE_GREY_LEVELS] = malloc(grid_rows * grid_cols * sizeof *tables);
    uint32_t(*counts)[CE_GREY_LEVELS] = malloc(grid_cols * sizeof *counts);
    uint32_t(*packed)[CE_GREY_LEVELS] = malloc(cells * sizeof *packed);
    cell *cell_list = malloc(cells * sizeof *cell_list);
    float *weights = malloc(2 * width * sizeof *weights);
    uint8_t *mirror = malloc(g.extra_width + 1);
    const int enough = tables && counts && packed && cell_list && weights && mirror;
    if (enough) {
        make_tables(kernels, &g, src, src_stride, height, width, limit, tables, counts, mirror);
        blend(kernels, &g, src, src_stride, dst, dst_stride, height, width, tables, cell_list,
              weights, weights + width, packed);
    }
    free(mirror);
    free(weights);
    free(cell_list);
    free(packed);
    free(counts);
    free(tables);
    return enough ? CE_OK : CE_NO_MEMORY;
}
