// SPDX-License-Identifier: Apache-2.0
// A resize in its two halves, for who has only the pixels that it looks at: where it looks, then
// the arithmetic.

#ifndef CE_RESIZE_H
#define CE_RESIZE_H

#include "ce_kernels.h"
#include "rows.h"

typedef struct {
    size_t first, second;
} ce_pair;

typedef struct {
    // CE_COPY and CE_HALVE look at every pixel; only CE_INTERPOLATE has the arrays below.
    enum { CE_COPY, CE_HALVE, CE_INTERPOLATE } kind;
    size_t height, width;  // of the result
    int single;            // the image has one column
    // Column i of the result lies between columns at[i] and at[i] + 1, which never decrease;
    // row i between rows[i].first and rows[i].second, the same at the edges.
    uint32_t *at;
    ce_weights *across;
    ce_pair *rows;
    ce_weights *down;
} ce_resize;

// To be freed whatever the status.
ce_status ce_resize_begin(ce_resize *resize, size_t src_height, size_t src_width, size_t height,
                          size_t width);
ce_status ce_resize_run(const ce_resize *resize, const uint8_t *src, ptrdiff_t src_stride,
                        uint8_t *dst, ptrdiff_t dst_stride);
void ce_resize_end(ce_resize *resize);

#endif
