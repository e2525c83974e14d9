// SPDX-License-Identifier: Apache-2.0

#include "../rows.h"

static void across_row(int16_t *restrict dst, const uint8_t *restrict src, size_t n,
                       const uint32_t *restrict at, const ce_weights *restrict w) {
    for (size_t i = 0; i < n; i++)
        dst[i] = (int16_t)((src[at[i]] * w[i].left + src[at[i] + 1] * w[i].right) >> CE_HALF_BITS);
}

static void across_rows(int16_t *const *dst, const uint8_t *const *src, size_t rows, size_t n,
                        const uint32_t *at, const ce_weights *w) {
    for (size_t row = 0; row < rows; row++) across_row(dst[row], src[row], n, at, w);
}

static void down_row(uint8_t *restrict dst, const int16_t *restrict up,
                     const int16_t *restrict down, size_t n, int16_t top, int16_t bottom) {
    const int half = 1 << (CE_LAST_BITS - 1);
    for (size_t i = 0; i < n; i++) {
        const int16_t above = (int16_t)((up[i] * top) >> CE_PRODUCT_BITS);
        const int16_t below = (int16_t)((down[i] * bottom) >> CE_PRODUCT_BITS);
        dst[i] = (uint8_t)((above + below + half) >> CE_LAST_BITS);
    }
}

static void halve_row(uint8_t *restrict dst, const uint8_t *restrict up,
                      const uint8_t *restrict down, size_t n) {
    for (size_t i = 0; i < n; i++)
        dst[i] = (uint8_t)((up[2 * i] + up[2 * i + 1] + down[2 * i] + down[2 * i + 1] + 2) >> 2);
}

const ce_resize_rows ce_resize_rows_portable = {"portable", across_rows, down_row, halve_row};
