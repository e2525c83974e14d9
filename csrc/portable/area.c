// SPDX-License-Identifier: Apache-2.0

#include "../rows.h"

static void halve_row(uint8_t *dst, const uint8_t *src, ptrdiff_t stride, size_t n) {
    ce_resize_rows_portable.halve_row(dst, src, src + stride, n);
}

static void quarter_row(uint8_t *restrict dst, const uint8_t *restrict src, ptrdiff_t stride,
                        size_t n) {
    for (size_t i = 0; i < n; i++) {
        unsigned sum = 8;
        for (ptrdiff_t row = 0; row < 4; row++) {
            const uint8_t *four = src + row * stride + 4 * i;
            sum += four[0] + four[1] + four[2] + four[3];
        }
        dst[i] = (uint8_t)(sum >> 4);
    }
}

static void weigh_rows(uint32_t *restrict sums, const uint8_t *const *rows,
                       const uint16_t *weights, size_t count, size_t n) {
    for (size_t r = 0; r < count; r++) {
        const uint8_t *restrict row = rows[r];
        const uint32_t weight = weights[r];
        if (r == 0)
            for (size_t i = 0; i < n; i++) sums[i] = row[i] * weight;
        else
            for (size_t i = 0; i < n; i++) sums[i] += row[i] * weight;
    }
}

static void across_row(uint8_t *dst, size_t n, const uint32_t *sums, uint64_t *below, size_t n_in,
                       const ce_area_columns *columns) {
    below[0] = 0;
    for (size_t i = 0; i < n_in; i++) below[i + 1] = below[i] + sums[i];

    const double inverse = 1.0 / (double)columns->area;
    const uint64_t half = columns->area / 2;
    uint64_t start = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t end = columns->ends[i];
        const uint64_t integral =
            columns->units * below[end] + (uint64_t)columns->rests[i] * sums[end];
        // With another 1/2, the quotient is at least 1 / (2 * area) from any whole number, that is
        // 2^-31; float64 errs by less than 2^-43.
        const int64_t rounded_up = (int64_t)(integral - start + half);
        dst[i] = (uint8_t)(((double)rounded_up + 0.5) * inverse);
        start = integral;
    }
}

// Row by row as the compiler likes it; windows would be slower than integrals.
const ce_area_rows ce_area_rows_portable = {"portable", halve_row,  quarter_row, weigh_rows,
                                            across_row, NULL, NULL};
