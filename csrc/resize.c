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

#include "ce_kernels.h"
#include "rows.h"

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

static ptrdiff_t clamped(ptrdiff_t i, size_t n) {
    return i < 0 ? 0 : i < (ptrdiff_t)n ? i : (ptrdiff_t)n - 1;
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

static void halve(const ce_resize_rows *kernels, const uint8_t *src, ptrdiff_t src_stride,
                  uint8_t *dst, ptrdiff_t dst_stride, size_t height, size_t width) {
    for (size_t y = 0; y < height; y++) {
        const uint8_t *up = src + 2 * (ptrdiff_t)y * src_stride;
        kernels->halve_row(dst + (ptrdiff_t)y * dst_stride, up, up + src_stride, width);
    }
}

ce_status ce_resize_u8(const uint8_t *src, ptrdiff_t src_stride, size_t src_height,
                       size_t src_width, uint8_t *dst, ptrdiff_t dst_stride, size_t dst_height,
                       size_t dst_width) {
    if (src_height == 0 || src_width == 0 || dst_height == 0 || dst_width == 0) return CE_EMPTY;
    if (src_height > INT32_MAX || src_width > INT32_MAX || dst_height > INT32_MAX ||
        dst_width > INT32_MAX)
        return CE_TOO_LARGE;

    const ce_resize_rows *kernels = ce_active_resize();
    if (src_height == 2 * dst_height && src_width == 2 * dst_width) {
        halve(kernels, src, src_stride, dst, dst_stride, dst_height, dst_width);
        return CE_OK;
    }

    if (src_height == dst_height && src_width == dst_width) {
        // Every weight is 0 or CE_WEIGHT_ONE.
        for (size_t y = 0; y < dst_height; y++)
            memcpy(dst + (ptrdiff_t)y * dst_stride, src + (ptrdiff_t)y * src_stride, dst_width);
        return CE_OK;
    }

    uint32_t *at = malloc(dst_width * sizeof *at);
    ce_weights *across = malloc(dst_width * sizeof *across);
    int16_t *lanes = malloc(2 * dst_width * sizeof *lanes);
    if (at == NULL || across == NULL || lanes == NULL) {
        free(lanes);
        free(across);
        free(at);
        return CE_NO_MEMORY;
    }
    int16_t *up = lanes, *down = lanes + dst_width;
    ptrdiff_t up_row = -1, down_row = -1;  // which input rows they hold

    plan_across(at, across, dst_width, src_width);
    uint8_t pair[2];  // for an input of one column: that pixel twice

    const double scale = 1.0 / ((double)dst_height / (double)src_height);
    for (size_t y = 0; y < dst_height; y++) {
        const position p = locate(y, scale);
        const ptrdiff_t rows[2] = {clamped(p.at, src_height), clamped(p.at + 1, src_height)};
        // Positions only grow: the upper row is often the lower one of the line before.
        if (rows[0] != up_row && rows[0] == down_row) {
            int16_t *swap = up;
            up = down;
            down = swap;
            up_row = down_row;
            down_row = -1;
        }
        for (int r = 0; r < 2; r++) {
            ptrdiff_t *held = r == 0 ? &up_row : &down_row;
            if (*held == rows[r]) continue;
            const uint8_t *row = src + rows[r] * src_stride;
            if (src_width == 1) {
                pair[0] = pair[1] = row[0];
                row = pair;
            }
            kernels->across_row(r == 0 ? up : down, row, dst_width, at, across);
            *held = rows[r];
        }
        const ce_weights w = weights(p.fraction);
        kernels->down_row(dst + (ptrdiff_t)y * dst_stride, up, down, dst_width, w.left, w.right);
    }
    free(lanes);
    free(across);
    free(at);
    return CE_OK;
}
