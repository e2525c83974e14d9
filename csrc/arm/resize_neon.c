// SPDX-License-Identifier: Apache-2.0
// Across, four output pixels of some rows at a time, if they read from at most 16 bytes: one table
// look-up puts their neighbours next to each other, as words.
//
//     src        | a . b c . d e . . |
//     neighbours | a 0 b 0 | b 0 c 0 | d 0 e 0 |      times left, right; added in pairs

#if defined(__aarch64__)

#include <arm_neon.h>

#include "../rows.h"

enum { FOUR = 4, WINDOW = 16, STEP = 8 };

static inline int is_near(const uint32_t *at, size_t readable) {
    return at[FOUR - 1] - at[0] <= WINDOW - 2 && (size_t)at[0] + WINDOW <= readable;
}

// Of each offset d in the window make the bytes d, none, d + 1, none; no byte reads as 0.
static inline uint8x16_t order_of(const uint32_t *at) {
    const uint32x4_t offset = vsubq_u32(vld1q_u32(at), vdupq_n_u32(at[0]));
    const uint32x4_t twice = vorrq_u32(offset, vshlq_n_u32(offset, 16));
    return vreinterpretq_u8_u32(vaddq_u32(twice, vdupq_n_u32(0xFF01FF00)));
}

static inline int16x4_t four(const uint8_t *window, uint8x16_t order, int16x8_t w) {
    const int16x8_t pairs = vreinterpretq_s16_u8(vqtbl1q_u8(vld1q_u8(window), order));
    const int32x4_t low = vmull_s16(vget_low_s16(pairs), vget_low_s16(w));
    return vshrn_n_s32(vpaddq_s32(low, vmull_high_s16(pairs, w)), CE_HALF_BITS);
}

static inline int16_t one(const uint8_t *src, ce_weights w) {
    return (int16_t)((src[0] * w.left + src[1] * w.right) >> CE_HALF_BITS);
}

static void across_rows(int16_t *const *dst, const uint8_t *const *src, size_t rows, size_t n,
                        const uint32_t *at, const ce_weights *weights) {
    if (n < FOUR) {
        ce_resize_rows_portable.across_rows(dst, src, rows, n, at, weights);
        return;
    }
    const size_t readable = (size_t)at[n - 1] + 2;
    // The last four overlap those before.
    for (size_t i = 0; i < n; i += FOUR) {
        if (i + FOUR > n) i = n - FOUR;
        if (is_near(at + i, readable)) {
            const uint8x16_t order = order_of(at + i);
            const int16x8_t w = vld1q_s16((const int16_t *)(weights + i));
            for (size_t row = 0; row < rows; row++)
                vst1_s16(dst[row] + i, four(src[row] + at[i], order, w));
        } else {
            for (size_t row = 0; row < rows; row++)
                for (size_t j = i; j < i + FOUR; j++)
                    dst[row][j] = one(src[row] + at[j], weights[j]);
        }
    }
}

// Eight words: hi(src * weight).
static inline int16x8_t weighted(const int16_t *src, int16_t weight) {
    const int16x8_t words = vld1q_s16(src);
    const int16x4_t low = vshrn_n_s32(vmull_n_s16(vget_low_s16(words), weight), CE_PRODUCT_BITS);
    return vshrn_high_n_s32(low, vmull_high_n_s16(words, weight), CE_PRODUCT_BITS);
}

static void down_row(uint8_t *dst, const int16_t *up, const int16_t *down, size_t n, int16_t top,
                     int16_t bottom) {
    if (n < STEP) {
        ce_resize_rows_portable.down_row(dst, up, down, n, top, bottom);
        return;
    }
    for (size_t i = 0; i < n; i += STEP) {
        if (i + STEP > n) i = n - STEP;
        const int16x8_t sum = vaddq_s16(weighted(up + i, top), weighted(down + i, bottom));
        vst1_u8(dst + i, vqrshrun_n_s16(sum, CE_LAST_BITS));
    }
}

static void halve_row(uint8_t *dst, const uint8_t *up, const uint8_t *down, size_t n) {
    if (n < STEP) {
        ce_resize_rows_portable.halve_row(dst, up, down, n);
        return;
    }
    for (size_t i = 0; i < n; i += STEP) {
        if (i + STEP > n) i = n - STEP;
        const uint16x8_t above = vpaddlq_u8(vld1q_u8(up + 2 * i));
        vst1_u8(dst + i, vrshrn_n_u16(vpadalq_u8(above, vld1q_u8(down + 2 * i)), 2));
    }
}

const ce_resize_rows ce_resize_rows_neon = {"neon", across_rows, down_row, halve_row};

#endif
