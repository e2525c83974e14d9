// SPDX-License-Identifier: Apache-2.0
// A picture is the matrix, its first bytes are the vector; each is a block of its own, which
// AddressSanitizer watches the ends of.

#include <stdlib.h>

#include "fuzz.h"

static ce_status multiply(const picture *src, const picture *dst, const void *parameters) {
    (void)parameters;
    const size_t rows = src->height, cols = src->row_bytes;
    float *vector = malloc(rows * sizeof *vector), *product = malloc(cols * sizeof *product);
    int8_t *matrix = malloc(rows * cols);
    if (!(vector && product && matrix)) abort();
    for (size_t y = 0; y < rows; y++) {
        const uint8_t *row = src->pixels + (ptrdiff_t)y * src->stride;
        memcpy(matrix + y * cols, row, cols);
        vector[y] = ((float)row[0] - 100) / 7;
    }
    ce_product_i8(product, vector, matrix, rows, cols);
    memcpy(dst->pixels, product, cols * sizeof *product);
    free(matrix);
    free(product);
    free(vector);
    return CE_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    input in = {bytes, n};
    picture src = take_picture(&in, 8);
    in_every_variant("product", multiply, NULL, &src, 1, src.row_bytes * sizeof(float), 0, 0);
    release_picture(&src);
    return 0;
}
