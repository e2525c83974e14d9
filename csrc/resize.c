// SPDX-License-Identifier: Apache-2.0
// Bilinear resize in fixed point.
//
// Source: cv2.resize(INTER_LINEAR) of OpenCV 4 and 5 for 8-bit images, x86. The rules that decide
// a byte:
//
// - Exactly half in both directions: the mean of 2x2 pixels, halves up.
// - Otherwise pixel i of the output lies at (i + 1/2) * scale - 1/2 of the input, computed in
//   float64 with scale = 1 / (out / in), rounded to float32, then split into floor and fraction.
// - Weights are the fraction f and 1 - f times 2^11, rounded half to even.
// - Across, a position off the image is moved onto its edge pixel, with the whole weight there.
//   Down, the fraction stays as it is and only the rows are clamped; after the truncations below,
//   two parts of one row may make less than the whole.
// - Rows are weighted across first, without rounding; then down, each product cut to its high
//   bits on its own (rows.h), the sum rounded.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "resize.h"

// Between which two pixels an output pixel lies, and their weights.
typedef struct {
    ptrdiff_t at;  // the first of the two; -1 to n - 1
    float fraction;
} position;

static position locate(size_t i, double scale) {
    const float at = (float)(((double)i + 0.5) * scale - 0.5);
    // The floor: at is never below -1/2, and a conversion cuts towards zero.
    const ptrdiff_t below = (ptrdiff_t)at - (at < 0);
    return (position){below, at - (float)below};
}

static int16_t weight(float fraction) {
    return (int16_t)lrintf(fraction * (float)CE_WEIGHT_ONE);
}

static ce_weights weights(float fraction) {
    return (ce_weights){weight(1.0f - fraction), weight(fraction)};
}

static size_t clamped(ptrdiff_t i, size_t n) {
    return i < 0 ? 0 : (size_t)i < n ? (size_t)i : n - 1;
}

static void plan_across(uint32_t *at, ce_weights *w, size_t out, size_t in) {
    const double scale = 1.0 / ((double)out / (double)in);
    for (size_t i = 0; i < out; i++) {
        const position p = locate(i, scale);
        if (p.at < 0) {
            at[i] = 0, w[i] = (ce_weights){CE_WEIGHT_ONE, 0};
        } else if (p.at >= (ptrdiff_t)in - 1) {
            // The last pixel, as the right one of a pair: nothing past the end is read.
            at[i] = in > 1 ? (uint32_t)in - 2 : 0, w[i] = (ce_weights){0, CE_WEIGHT_ONE};
        } else {
            at[i] = (uint32_t)p.at, w[i] = weights(p.fraction);
        }
    }
}

static void plan_down(ce_pair *rows, ce_weights *w, size_t out, size_t in) {
    const double scale = 1.0 / ((double)out / (double)in);
    for (size_t i = 0; i < out; i++) {
        const position p = locate(i, scale);
        rows[i] = (ce_pair){clamped(p.at, in), clamped(p.at + 1, in)};
        w[i] = weights(p.fraction);
    }
}

ce_status ce_resize_begin(ce_resize *r, size_t src_height, size_t src_width, size_t height,
                          size_t width) {
    *r = (ce_resize){.height = height, .width = width, .single = src_width == 1};
    if (src_height == 0 || src_width == 0 || height == 0 || width == 0) return CE_EMPTY;
    if (src_height > INT32_MAX || src_width > INT32_MAX || height > INT32_MAX || width > INT32_MAX)
        return CE_TOO_LARGE;
    r->kind = src_height == height && src_width == width           ? CE_COPY
              : src_height == 2 * height && src_width == 2 * width ? CE_HALVE
                                                                   : CE_INTERPOLATE;
    if (r->kind != CE_INTERPOLATE) return CE_OK;
    r->at = malloc(width * sizeof *r->at);
    r->across = malloc(width * sizeof *r->across);
    r->rows = malloc(height * sizeof *r->rows);
    r->down = malloc(height * sizeof *r->down);
    if (r->at == NULL || r->across == NULL || r->rows == NULL || r->down == NULL)
        return CE_NO_MEMORY;
    plan_across(r->at, r->across, width, src_width);
    plan_down(r->rows, r->down, height, src_height);
    return CE_OK;
}

void ce_resize_end(ce_resize *r) {
    free(r->at);
    free(r->across);
    free(r->rows);
    free(r->down);
}

// Rows of the result are made in batches: rows of the image that are weighted across together share
// the work on positions and weights. As these rows only grow, each is new or one of the last two.
enum { BATCH = 4, LANES = 2 * BATCH + 2 };

typedef struct {
    int16_t *lanes[LANES];  // that of the i-th row is i % LANES
    size_t held[LANES];     // which row of the image it holds
    size_t count;           // rows so far
} lane_ring;

// Which in the ring holds this row; one that is new is yet to be filled.
static size_t place_of(lane_ring *ring, size_t row) {
    for (size_t back = 1; back <= 2 && back <= ring->count; back++)
        if (ring->held[(ring->count - back) % LANES] == row) return ring->count - back;
    ring->held[ring->count % LANES] = row;
    return ring->count++;
}

static ce_status interpolate(const ce_resize *r, const uint8_t *src, ptrdiff_t src_stride,
                             uint8_t *dst, ptrdiff_t dst_stride) {
    const ce_resize_rows *kernels = ce_active_resize();
    if (r->width > SIZE_MAX / LANES / sizeof(int16_t)) return CE_NO_MEMORY;
    int16_t *memory = malloc(LANES * r->width * sizeof *memory);
    if (memory == NULL) return CE_NO_MEMORY;
    lane_ring ring = {.count = 0};
    for (size_t i = 0; i < LANES; i++) ring.lanes[i] = memory + i * r->width;

    for (size_t top = 0; top < r->height; top += BATCH) {
        const size_t batch = r->height - top < BATCH ? r->height - top : BATCH;
        size_t up[BATCH], down[BATCH], filled = ring.count, rows = 0;
        for (size_t i = 0; i < batch; i++) {
            up[i] = place_of(&ring, r->rows[top + i].first);
            down[i] = place_of(&ring, r->rows[top + i].second);
        }
        int16_t *to[2 * BATCH];
        const uint8_t *from[2 * BATCH];
        uint8_t pairs[2 * BATCH][2];  // for an image of one column: its pixels twice
        for (; filled < ring.count; filled++, rows++) {
            to[rows] = ring.lanes[filled % LANES];
            from[rows] = src + (ptrdiff_t)ring.held[filled % LANES] * src_stride;
            if (!r->single) continue;
            pairs[rows][0] = pairs[rows][1] = *from[rows];
            from[rows] = pairs[rows];
        }
        kernels->across_rows(to, from, rows, r->width, r->at, r->across);
        for (size_t i = 0; i < batch; i++)
            kernels->down_row(dst + (ptrdiff_t)(top + i) * dst_stride, ring.lanes[up[i] % LANES],
                              ring.lanes[down[i] % LANES], r->width, r->down[top + i].left,
                              r->down[top + i].right);
    }
    free(memory);
    return CE_OK;
}

ce_status ce_resize_run(const ce_resize *r, const uint8_t *src, ptrdiff_t src_stride, uint8_t *dst,
                        ptrdiff_t dst_stride) {
    if (r->kind == CE_INTERPOLATE) return interpolate(r, src, src_stride, dst, dst_stride);
    for (size_t y = 0; y < r->height; y++) {
        uint8_t *to = dst + (ptrdiff_t)y * dst_stride;
        if (r->kind == CE_COPY) {
            // Every weight would be 0 or CE_WEIGHT_ONE.
            memcpy(to, src + (ptrdiff_t)y * src_stride, r->width);
        } else {
            const uint8_t *up = src + 2 * (ptrdiff_t)y * src_stride;
            ce_active_resize()->halve_row(to, up, up + src_stride, r->width);
        }
    }
    return CE_OK;
}

ce_status ce_resize_u8(const uint8_t *src, ptrdiff_t src_stride, size_t src_height,
                       size_t src_width, uint8_t *dst, ptrdiff_t dst_stride, size_t dst_height,
                       size_t dst_width) {
    ce_resize r;
    ce_status status = ce_resize_begin(&r, src_height, src_width, dst_height, dst_width);
    if (status == CE_OK) status = ce_resize_run(&r, src, src_stride, dst, dst_stride);
    ce_resize_end(&r);
    return status;
}
