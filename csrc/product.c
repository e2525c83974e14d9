// SPDX-License-Identifier: Apache-2.0
// A row vector times a matrix of 8-bit weights, by which a gradient goes back through a dense
// layer. The rows are taken in order, and each product and each sum is rounded to float32, in any
// variant alike.

#include "ce_kernels.h"
#include "rows.h"

void ce_product_i8(float *product, const float *vector, const int8_t *matrix, size_t rows,
                   size_t cols) {
    const ce_product_rows *kernels = ce_active_product();
    for (size_t j = 0; j < cols; j++) product[j] = 0;
    for (; rows >= CE_PRODUCT_ROWS; rows -= CE_PRODUCT_ROWS) {
        kernels->add_rows(product, vector, matrix, cols);
        vector += CE_PRODUCT_ROWS;
        matrix += CE_PRODUCT_ROWS * cols;
    }
    for (; rows > 0; rows--, vector++, matrix += cols)
        for (size_t j = 0; j < cols; j++) product[j] += vector[0] * (float)matrix[j];
}
