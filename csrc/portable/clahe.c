// SPDX-License-Identifier: Apache-2.0

#include <string.h>

#include "../rows.h"

static void histogram_row(uint32_t counts[CE_GREY_LEVELS], const uint8_t *src, size_t n) {
    for (size_t i = 0; i < n; i++) counts[src[i]]++;
}

enum { BLOCK = 64 };

static void blend_row(uint8_t *dst, const uint8_t *src, size_t n,
                      const uint32_t tables[CE_GREY_LEVELS], const float *left, const float *right,
                      float top, float bottom) {
    // In blocks: the look-ups are scalar, the arithmetic after them is what a compiler vectorises.
    while (n > 0) {
        const size_t block = n < BLOCK ? n : BLOCK;
        uint32_t found[BLOCK], result[BLOCK];
        for (size_t i = 0; i < block; i++) found[i] = tables[src[i]];
        for (size_t i = 0; i < block; i++) {
            const float up_left = (float)(int32_t)(found[i] & 255);
            const float up_right = (float)(int32_t)(found[i] >> 8 & 255);
            const float down_left = (float)(int32_t)(found[i] >> 16 & 255);
            const float down_right = (float)(int32_t)(found[i] >> 24);
            const float value = (up_left * left[i] + up_right * right[i]) * top +
                                (down_left * left[i] + down_right * right[i]) * bottom;
            // Adding 1.5 * 2^23 rounds half to even into the low bits. The weights sum to 1, so
            // the value is within one rounding error of 0..255 and needs no clamp.
            const float sum = value + 12582912.0f;
            memcpy(&result[i], &sum, sizeof sum);
        }
        for (size_t i = 0; i < block; i++) dst[i] = (uint8_t)result[i];
        dst += block, src += block, left += block, right += block, n -= block;
    }
}

const ce_clahe_rows ce_clahe_rows_portable = {"portable", histogram_row, blend_row};
