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
// windows double: from the minima of p neighbours, those of 2 p are one pairwise minimum, and a
// last, overlapping step reaches k. Down the columns (M. van Herk, 1992; J. Gil and M. Werman,
// 1993), rows are cut in blocks of k; a window spans the end of one block and the start of the
// next, and running minima from the cut in both directions give every window:
//
//     rows    | b0 b1 b2 b3 | b4 b5 b6 b7 |      k = 4
//     tail    | <---------- |             |      tail[i] = min(b[i]…b[3])
//     head    |             | ----->      |      head    = min(b4…b5)
//     window        [ b2 b3   b4 b5 ]            = min(tail[2], head)

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

typedef struct {
    ce_extremum_row extremum;
    uint8_t neutral;  // 255 for the minimum, 0 for the maximum
    size_t height, width;
    window down, across;
    size_t padded;     // width and what the windows reach beyond it
    uint8_t *line[2];  // padded bytes each
    uint8_t *blocks;   // 2 * down.length rows of width bytes
    uint8_t *head;     // width bytes
} sweep;

// The running extremum of one row.
static void sweep_across(const sweep *s, uint8_t *dst, const uint8_t *src) {
    if (s->across.length == 1) {
        memcpy(dst, src, s->width);
        return;
    }
    uint8_t *now = s->line[0], *next = s->line[1];
    size_t reach = 1, n = s->padded;
    memset(now, s->neutral, s->across.before);
    memcpy(now + s->across.before, src, s->width);
    memset(now + s->across.before + s->width, s->neutral, n - s->across.before - s->width);
    for (; 2 * reach < s->across.length; reach *= 2) {
        n -= reach;
        s->extremum(next, now, now + reach, n);
        uint8_t *swap = now;
        now = next;
        next = swap;
    }
    s->extremum(dst, now, now + (s->across.length - reach), s->width);
}

// Row p of the image extended by the window: rows before and after it are neutral.
static void load_row(const sweep *s, uint8_t *dst, const uint8_t *src, ptrdiff_t stride, size_t p) {
    if (p < s->down.before || p - s->down.before >= s->height)
        memset(dst, s->neutral, s->width);
    else
        sweep_across(s, dst, src + (ptrdiff_t)(p - s->down.before) * stride);
}

// One erosion or dilation. dst may be src: a row is written only after it has been loaded, and
// rows are loaded once.
static void run(const sweep *s, const uint8_t *src, ptrdiff_t src_stride, uint8_t *dst,
                ptrdiff_t dst_stride) {
    const size_t k = s->down.length, width = s->width;
    uint8_t *tail = s->blocks, *fresh = s->blocks + k * width;
    for (size_t i = 0; i < k; i++) load_row(s, tail + i * width, src, src_stride, i);
    for (size_t y = 0; y < s->height; y += k) {
        for (size_t i = k - 1; i-- > 0;)
            s->extremum(tail + i * width, tail + i * width, tail + (i + 1) * width, width);
        memcpy(dst + (ptrdiff_t)y * dst_stride, tail, width);
        for (size_t i = 1; i < k && y + i < s->height; i++) {
            uint8_t *row = fresh + (i - 1) * width;
            load_row(s, row, src, src_stride, y + k + i - 1);
            if (i == 2)
                s->extremum(s->head, fresh, row, width);
            else if (i > 2)
                s->extremum(s->head, s->head, row, width);
            s->extremum(dst + (ptrdiff_t)(y + i) * dst_stride, tail + i * width,
                        i == 1 ? fresh : s->head, width);
        }
        if (y + k < s->height)
            load_row(s, fresh + (k - 1) * width, src, src_stride, y + 2 * k - 1);
        uint8_t *swap = tail;
        tail = fresh;
        fresh = swap;
    }
}

ce_status ce_morph_open_u8(const uint8_t *src, ptrdiff_t src_stride, uint8_t *dst,
                           ptrdiff_t dst_stride, size_t height, size_t width, size_t kernel_rows,
                           size_t kernel_cols) {
    if (height == 0 || width == 0 || kernel_rows == 0 || kernel_cols == 0) return CE_EMPTY;
    if (height > INT32_MAX || width > INT32_MAX) return CE_TOO_LARGE;

    const ce_morph_rows *kernels = ce_active_morph();
    sweep s = {.height = height,
               .width = width,
               .down = make_window(kernel_rows, height),
               .across = make_window(kernel_cols, width)};
    s.padded = width + s.across.length - 1;
    // Both windows are clamped: at most (4 * height + 5) * width bytes.
    if (2 * s.down.length + 1 > (SIZE_MAX - 2 * s.padded) / width) return CE_NO_MEMORY;
    uint8_t *scratch = malloc(2 * s.padded + (2 * s.down.length + 1) * width);
    if (scratch == NULL) return CE_NO_MEMORY;
    s.line[0] = scratch;
    s.line[1] = s.line[0] + s.padded;
    s.blocks = s.line[1] + s.padded;
    s.head = s.blocks + 2 * s.down.length * width;

    s.extremum = kernels->min_row;
    s.neutral = 255;
    run(&s, src, src_stride, dst, dst_stride);
    s.extremum = kernels->max_row;
    s.neutral = 0;
    run(&s, dst, dst_stride, dst, dst_stride);

    free(scratch);
    return CE_OK;
}
