// SPDX-License-Identifier: Apache-2.0
// Sums of neighbours by pairwise widening additions, weights by widening multiplications.

#if defined(__aarch64__)

#include <arm_neon.h>

#include "../rows.h"

enum { STEP = 8 };

static void halve_row(uint8_t *dst, const uint8_t *src, ptrdiff_t stride, size_t n) {
    ce_resize_rows_neon.halve_row(dst, src, src + stride, n);
}

// Of 16 columns in four rows, eight sums of two columns.
static inline uint16x8_t sums_of_pairs(const uint8_t *src, ptrdiff_t stride) {
    uint16x8_t sums = vpaddlq_u8(vld1q_u8(src));
    sums = vpadalq_u8(sums, vld1q_u8(src + stride));
    sums = vpadalq_u8(sums, vld1q_u8(src + 2 * stride));
    return vpadalq_u8(sums, vld1q_u8(src + 3 * stride));
}

static void quarter_row(uint8_t *dst, const uint8_t *src, ptrdiff_t stride, size_t n) {
    if (n < STEP) {
        ce_area_rows_portable.quarter_row(dst, src, stride, n);
        return;
    }
    // The last eight overlap those before.
    for (size_t i = 0; i < n; i += STEP) {
        if (i + STEP > n) i = n - STEP;
        const uint8_t *from = src + 4 * i;
        const uint16x8_t sums =
            vpaddq_u16(sums_of_pairs(from, stride), sums_of_pairs(from + 16, stride));
        vst1_u8(dst + i, vrshrn_n_u16(sums, 4));
    }
}

static void weigh_rows(uint32_t *sums, const uint8_t *const *rows, const uint16_t *weights,
                       size_t count, size_t n) {
    if (n < STEP) {
        ce_area_rows_portable.weigh_rows(sums, rows, weights, count, n);
        return;
    }
    for (size_t i = 0; i < n; i += STEP) {
        if (i + STEP > n) i = n - STEP;
        uint32x4_t low = vdupq_n_u32(0), high = low;
        for (size_t r = 0; r < count; r++) {
            const uint16x8_t pixels = vmovl_u8(vld1_u8(rows[r] + i));
            low = vmlal_n_u16(low, vget_low_u16(pixels), weights[r]);
            high = vmlal_high_n_u16(high, pixels, weights[r]);
        }
        vst1q_u32(sums + i, low);
        vst1q_u32(sums + i + STEP / 2, high);
    }
}

// A running sum over four lanes takes as long as four additions, and there is no gather.
static void across_row(uint8_t *dst, size_t n, const uint32_t *sums, uint64_t *below, size_t n_in,
                       const ce_area_columns *columns) {
    ce_area_rows_portable.across_row(dst, n, sums, below, n_in, columns);
}

const ce_area_rows ce_area_rows_neon = {"neon", halve_row, quarter_row, weigh_rows, across_row};

#endif
