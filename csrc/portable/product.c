// SPDX-License-Identifier: Apache-2.0

#include "../rows.h"

static void add_rows(float *restrict product, const float *vector, const int8_t *restrict matrix,
                     size_t n) {
    const float a = vector[0], b = vector[1], c = vector[2], d = vector[3];
    for (size_t j = 0; j < n; j++) {
        const int8_t *column = matrix + j;
        product[j] = product[j] + a * (float)column[0] + b * (float)column[n] +
                     c * (float)column[2 * n] + d * (float)column[3 * n];
    }
}

const ce_product_rows ce_product_rows_portable = {"portable", add_rows};
