// SPDX-License-Identifier: Apache-2.0
// CLAHE in its two halves, for who wants to blend less than the whole image: the tables of all
// tiles, from every pixel; then the blend, at any choice of rows and columns.

#ifndef CE_CLAHE_H
#define CE_CLAHE_H

#include "ce_kernels.h"
#include "rows.h"

// Pixels of uint8_t, or of uint16_t where more than 8 bits are in use.
typedef struct {
    const void *pixels;
    ptrdiff_t stride;  // bytes
    size_t height, width;
} ce_image;

typedef struct {
    unsigned bits;      // a pixel is below 2^bits: 8 (uint8_t), or 10 to 16 (uint16_t)
    size_t levels;      // the tables end at the largest level of the image
    size_t rows, cols;  // of the grid
    size_t tile_height, tile_width;    // in pixels
    size_t extra_height, extra_width;  // mirrored pixels beyond the image
    uint16_t *tables;                  // rows * cols * levels
} ce_clahe;

// Measure the image. The result is to be freed if the status is CE_OK.
ce_status ce_clahe_begin(ce_clahe *clahe, ce_image image, unsigned bits, double clip_limit,
                         size_t grid_rows, size_t grid_cols, size_t threads);
void ce_clahe_end(ce_clahe *clahe);

// Positions begin..end-1 of an axis lie between the centres of the same two tiles.
typedef struct {
    size_t begin, end;
    size_t first, second;  // tiles
    ce_quad *weights;      // for each position: first, second, first, second
} ce_span;

// Rows or columns of the image that a blend is asked for.
typedef struct {
    size_t count, spans;
    ce_span *span;
    void *memory;  // of the weights
} ce_axis;

// at: count positions along an axis of so many tiles of so many pixels; they had better not
// decrease, since each turn costs a span, a table. NULL: 0, 1, … count-1. count is at least 1.
// To be freed whatever the status.
ce_status ce_axis_begin(ce_axis *axis, const size_t *at, size_t count, size_t tile, size_t tiles);
void ce_axis_end(ce_axis *axis);

// Blend the image of down->count rows and across->count columns whose pixels lie at the positions
// of those axes in the image that was measured. src and dst do not overlap.
ce_status ce_clahe_blend(const ce_clahe *clahe, const ce_axis *down, const ce_axis *across,
                         const void *src, ptrdiff_t src_stride, void *dst, ptrdiff_t dst_stride,
                         size_t threads);

#endif
