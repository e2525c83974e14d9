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

static void weigh_light_rows(int16_t *sums, const uint8_t *const *rows, const uint16_t *weights,
                             size_t count, size_t n) {
    for (size_t i = 0; i < n; i += 2 * STEP) {
        if (i + 2 * STEP > n) i = n - 2 * STEP;
        uint16x8_t low = vdupq_n_u16(0), high = low;
        for (size_t r = 0; r < count; r++) {
            const uint8x16_t pixels = vld1q_u8(rows[r] + i);
            const uint8x16_t weight = vdupq_n_u8((uint8_t)weights[r]);
            low = vmlal_u8(low, vget_low_u8(pixels), vget_low_u8(weight));
            high = vmlal_high_u8(high, pixels, weight);
        }
        vst1q_s16(sums + i, vreinterpretq_s16_u16(low));
        vst1q_s16(sums + i + STEP, vreinterpretq_s16_u16(high));
    }
}

// In four parts, what output i is the sum of.
static inline int32x4_t parts(const int16_t *sums, const ce_area_columns *columns, size_t i) {
    const int16x8_t window = vld1q_s16(sums + columns->starts[i]);
    const int16x8_t weights = vld1q_s16(columns->light_weights + CE_AREA_WINDOW * i);
    return vmlal_high_s16(vmull_s16(vget_low_s16(window), vget_low_s16(weights)), window, weights);
}

static inline uint16x4_t quotients(uint32x4_t sums, const ce_area_columns *columns) {
    const uint32x2_t inverse = vdup_n_u32(columns->inverse);
    const int64x2_t shift = vdupq_n_s64(-(int64_t)columns->shift);
    const uint64x2_t low = vshlq_u64(vmull_u32(vget_low_u32(sums), inverse), shift);
    const uint64x2_t high = vshlq_u64(vmull_u32(vget_high_u32(sums), inverse), shift);
    return vmovn_u32(vcombine_u32(vmovn_u64(low), vmovn_u64(high)));
}

static inline uint16x4_t means(const int16_t *sums, const ce_area_columns *columns, size_t i) {
    const int32x4_t added = vpaddq_s32(
        vpaddq_s32(parts(sums, columns, i), parts(sums, columns, i + 1)),
        vpaddq_s32(parts(sums, columns, i + 2), parts(sums, columns, i + 3)));
    const uint32x4_t half = vdupq_n_u32(columns->area / 2);
    return quotients(vaddq_u32(vreinterpretq_u32_s32(added), half), columns);
}

static void across_light_row(uint8_t *dst, size_t n, const int16_t *sums,
                             const ce_area_columns *columns) {
    const ce_area_columns c = *columns;  // which no store to dst can change
    for (size_t i = 0; i < n; i += STEP) {
        if (i + STEP > n) i = n - STEP;
        vst1_u8(dst + i,
                vmovn_u16(vcombine_u16(means(sums, &c, i), means(sums, &c, i + STEP / 2))));
    }
}

const ce_area_rows ce_area_rows_neon = {
    "neon", halve_row, quarter_row, weigh_rows, across_row, weigh_light_rows, across_light_row,
};

#endif
