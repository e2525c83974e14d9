// SPDX-License-Identifier: Apache-2.0
// Morphological opening by an all-ones rectangle: erosion (minimum), then dilation (maximum).
//
// Source: cv2.morphologyEx(MORPH_OPEN) of OpenCV 4 and 5. The rules that decide a byte:
//
// - Both steps look at the same window, from pixel x - k / 2 to x - k / 2 + k - 1 (OpenCV's
//   default anchor; the dilation does not reflect it). For an even side the window reaches one
//   further up and left, the opening shifts the image and can exceed its input.
// - What lies outside the image counts for nothing (OpenCV's default border value), in both steps.
//
// Minimum and maximum are separable and idempotent, so the time hardly depends on k. Along a row,
// windows grow fourfold: from the minima of p neighbours, those of up to 4 p are four of them,
// which may overlap. Down the columns (M. van Herk, 1992; J. Gil and M. Werman, 1993), rows are
// cut in blocks of k; a window spans the end of one block and the start of the next, and running
// minima from the cut in both directions give every window:
//
//     rows    | b0 b1 b2 b3 | b4 b5 b6 b7 |      k = 4
//     tail    | <---------- |             |      tail[i] = min(b[i]…b[3])
//     head    |             | ----->      |      head    = min(b4…b5)
//     window        [ b2 b3   b4 b5 ]            = min(tail[2], head)
//
// The image is read once and written once. A row of the result needs k rows that are eroded in
// both directions and dilated across; these wait in a ring, where their tails replace them:
//
//     src -> eroded down -> across -> dilated across -> ring of k rows -> dilated down -> dst
//
// An opening by 2x2 looks at the 3x3 pixels that end with its own, and takes one step. What lies
// before the first row or column may there be taken for a copy of it, which changes no extremum.

#include <stdlib.h>
#include <string.h>

#include "ce_kernels.h"
#include "rows.h"

// A window along one axis of n pixels: how far it reaches before and after its own pixel. More
// than n - 1 to either side meets no further pixel.
typedef struct {
    size_t before, length;
} window;

static window make_window(size_t kernel, size_t n) {
    const size_t before = kernel / 2, after = kernel - 1 - before;
    window w;
    w.before = before < n ? before : n - 1;
    w.length = w.before + 1 + (after < n ? after : n - 1);
    return w;
}

// Rows that come round again: row r lies at r modulo length.
typedef struct {
    uint8_t *base;
    size_t length, stride;
} ring;

static uint8_t *in_ring(const ring *r, size_t row) {
    return r->base + row % r->length * r->stride;
}

// Erosion or dilation down the columns.
typedef struct {
    ce_pair_row extremum;
    window down;
    size_t height, width, row_bytes;
    const uint8_t *src;  // NULL: rows come from the ring of tails, and may be overwritten there
    ptrdiff_t src_stride;
    ring tails;
    uint8_t *head;
} column_pass;

static const uint8_t *row_at(const column_pass *p, size_t row) {
    return p->src != NULL ? p->src + (ptrdiff_t)row * p->src_stride : in_ring(&p->tails, row);
}

// Row y of the result; called for y = 0, 1, 2, … once the rows of its window are there.
static void next_row(const column_pass *p, uint8_t *dst, size_t y) {
    const size_t k = p->down.length, before = p->down.before;
    const size_t first = y > before ? y - before : 0;
    const size_t beyond = y + k - before;               // the row after the window,
    const size_t end = beyond < p->height ? beyond : p->height;  // and the last one that exists
    // The cut that this window spans, or at which it ends.
    const size_t block_end = beyond - y % k;
    const size_t cut = block_end < p->height ? block_end : p->height;

    if (y % k == 0) {
        const uint8_t *tail = row_at(p, cut - 1);  // the last row of a block is its own tail
        for (size_t row = cut - 1; row-- > first;) {
            // The longest tail is the result, and is used again only if it began off the image.
            uint8_t *longer = row + before == y ? dst : in_ring(&p->tails, row);
            p->extremum(longer, row_at(p, row), tail, p->width);
            tail = longer;
        }
        if (tail != dst) memcpy(dst, tail, p->row_bytes);
        return;
    }
    const uint8_t *tail = first == cut - 1 ? row_at(p, first) : in_ring(&p->tails, first);
    if (end == cut) {
        memcpy(dst, tail, p->row_bytes);
        return;
    }
    const uint8_t *head = row_at(p, cut);
    if (end - cut > 1) {
        if (end == beyond)
            p->extremum(p->head, end - cut == 2 ? head : p->head, row_at(p, end - 1), p->width);
        head = p->head;
    }
    p->extremum(dst, tail, head, p->width);
}

// Erosion or dilation along a row, for windows of more than one pixel.
typedef struct {
    ce_window_row extremum;
    window across;
    size_t width, pixel_bytes;
    uint8_t *line;     // where the row is put, amid what counts for nothing
    uint8_t *wide[2];  // room for as much
} row_pass;

static uint8_t *row_of(const row_pass *p) { return p->line + p->across.before * p->pixel_bytes; }

static void run_across(const row_pass *p, uint8_t *dst) {
    const uint8_t *now = p->line;
    size_t reach = 1, n = p->width + p->across.length - 1;
    for (int into = 0; 4 * reach < p->across.length; into = !into) {
        n -= 3 * reach;
        p->extremum(p->wide[into], now, reach, 4 * reach, n);
        now = p->wide[into];
        reach *= 4;
    }
    p->extremum(dst, now, reach, p->across.length, p->width);
}

static void run(const column_pass *erode_down, const row_pass *erode_across,
                const row_pass *dilate_across, const column_pass *dilate_down, uint8_t *dst,
                ptrdiff_t dst_stride) {
    const size_t height = dilate_down->height;
    const size_t after = dilate_down->down.length - 1 - dilate_down->down.before;
    const int across = erode_across->across.length > 1;
    size_t ready = 0;  // rows that have reached the ring
    for (size_t y = 0; y < height; y++) {
        for (; ready < height && ready <= y + after; ready++) {
            uint8_t *row = in_ring(&dilate_down->tails, ready);
            next_row(erode_down, across ? row_of(erode_across) : row, ready);
            if (!across) continue;
            run_across(erode_across, row_of(dilate_across));
            run_across(dilate_across, row);
        }
        next_row(dilate_down, dst + (ptrdiff_t)y * dst_stride, y);
    }
}

// Rows of the scratch memory begin on cache lines, and an odd number of them apart: rows a power of
// two apart would compete for the same few places in the cache.
enum { CACHE_LINE = 64 };

static size_t scratch_stride(size_t bytes) {
    return ((bytes + CACHE_LINE - 1) / CACHE_LINE | 1) * CACHE_LINE;
}

// A batch of rows is narrow enough for the cache, whatever their distance. Its first columns are
// opened in a copy, with two more to the left.
enum { BATCH = 16, BEFORE = 2, EDGE = 32 };

static void open_2x2(const ce_extrema *kernels, size_t pixel_bytes, const uint8_t *src,
                     ptrdiff_t src_stride, uint8_t *dst, ptrdiff_t dst_stride, size_t height,
                     size_t width) {
    const size_t edge = width < EDGE ? width : EDGE;
    uint16_t copies[BATCH + BEFORE][BEFORE + EDGE];  // of pixels of either type
    for (size_t top = 0; top < height; top += BATCH, dst += BATCH * dst_stride) {
        const size_t rows = height - top < BATCH ? height - top : BATCH;
        const uint8_t *from[BATCH + BEFORE], *edges[BATCH + BEFORE];
        for (size_t i = 0; i < rows + BEFORE; i++) {
            const size_t row = top + i < BEFORE ? 0 : top + i - BEFORE;
            from[i] = src + (ptrdiff_t)row * src_stride;
            uint8_t *copy = (uint8_t *)copies[i];
            edges[i] = copy;
            for (size_t j = 0; j < BEFORE; j++, copy += pixel_bytes)
                memcpy(copy, from[i], pixel_bytes);
            memcpy(copy, from[i], edge * pixel_bytes);
            from[i] += (edge - (edge < width ? BEFORE : 0)) * pixel_bytes;
        }
        kernels->open_2x2_rows(dst, dst_stride, edges, rows, edge);
        if (edge < width)
            kernels->open_2x2_rows(dst + edge * pixel_bytes, dst_stride, from, rows, width - edge);
    }
}

static ce_status open(const ce_extrema *kernels, size_t pixel_bytes, const uint8_t *src,
                      ptrdiff_t src_stride, uint8_t *dst, ptrdiff_t dst_stride, size_t height,
                      size_t width, size_t kernel_rows, size_t kernel_cols) {
    if (height == 0 || width == 0 || kernel_rows == 0 || kernel_cols == 0) return CE_EMPTY;
    if (height > INT32_MAX || width > INT32_MAX) return CE_TOO_LARGE;

    // Strips of wider rows, a power of two of bytes apart, would share too few sets of the cache.
    if (kernel_rows == 2 && kernel_cols == 2 && width < 2048 / pixel_bytes) {
        open_2x2(kernels, pixel_bytes, src, src_stride, dst, dst_stride, height, width);
        return CE_OK;
    }

    // Both windows are clamped: at most 2 * height rows, and 4 lines of at most 3 * width pixels.
    const window down = make_window(kernel_rows, height), across = make_window(kernel_cols, width);
    if (width > SIZE_MAX / 16 / pixel_bytes) return CE_NO_MEMORY;
    const size_t line_bytes = (width + across.length - 1) * pixel_bytes;
    const size_t row_stride = scratch_stride(width * pixel_bytes);
    const size_t line_stride = scratch_stride(line_bytes);
    const size_t ring_rows = down.length < height ? down.length : height;
    const size_t rows = 2 * ring_rows + 2, lines = across.length > 1 ? 4 : 0;
    if (rows > (SIZE_MAX - CACHE_LINE - lines * line_stride) / row_stride) return CE_NO_MEMORY;
    uint8_t *scratch = malloc(2 * CACHE_LINE + rows * row_stride + lines * line_stride);
    if (scratch == NULL) return CE_NO_MEMORY;

    uint8_t *row = scratch + (CACHE_LINE - (uintptr_t)scratch % CACHE_LINE);
    uint8_t *line = row + rows * row_stride;
    line += (CACHE_LINE - across.before * pixel_bytes % CACHE_LINE) % CACHE_LINE;
    column_pass erode_down = {kernels->min.pair_row, down, height, width, width * pixel_bytes,
                              src, src_stride, {row, ring_rows, row_stride},
                              row + ring_rows * row_stride};
    row += (ring_rows + 1) * row_stride;
    column_pass dilate_down = {kernels->max.pair_row, down, height, width, width * pixel_bytes,
                               NULL, 0, {row, ring_rows, row_stride},
                               row + ring_rows * row_stride};
    row_pass erode_across = {kernels->min.window_row, across, width, pixel_bytes, line,
                             {line + 2 * line_stride, line + 3 * line_stride}};
    row_pass dilate_across = {kernels->max.window_row, across, width, pixel_bytes,
                              line + line_stride,
                              {line + 2 * line_stride, line + 3 * line_stride}};
    if (lines > 0) {
        memset(erode_across.line, 0xff, line_bytes);
        memset(dilate_across.line, 0, line_bytes);
    }
    run(&erode_down, &erode_across, &dilate_across, &dilate_down, dst, dst_stride);
    free(scratch);
    return CE_OK;
}

ce_status ce_morph_open_u8(const uint8_t *src, ptrdiff_t src_stride, uint8_t *dst,
                           ptrdiff_t dst_stride, size_t height, size_t width, size_t kernel_rows,
                           size_t kernel_cols) {
    return open(&ce_active_morph()->u8, sizeof *src, src, src_stride, dst, dst_stride, height,
                width, kernel_rows, kernel_cols);
}

ce_status ce_morph_open_u16(const uint16_t *src, ptrdiff_t src_stride, uint16_t *dst,
                            ptrdiff_t dst_stride, size_t height, size_t width, size_t kernel_rows,
                            size_t kernel_cols) {
    return open(&ce_active_morph()->u16, sizeof *src, (const uint8_t *)src, src_stride,
                (uint8_t *)dst, dst_stride, height, width, kernel_rows, kernel_cols);
}
