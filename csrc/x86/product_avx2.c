// SPDX-License-Identifier: Apache-2.0
// As fast as memory gives the matrix: of the rows that come next, each line is asked for ahead.

#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))

#include <immintrin.h>

#include "../rows.h"

#define AVX2 __attribute__((target("avx2")))

enum { STEP = 8, LINE = 64 };  // columns; bytes

static inline AVX2 __m256 plus_row(__m256 sums, __m256 factor, const int8_t *row) {
    const __m256i weights = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)row));
    return _mm256_add_ps(sums, _mm256_mul_ps(factor, _mm256_cvtepi32_ps(weights)));
}

static AVX2 void add_rows(float *product, const float *vector, const int8_t *matrix, size_t n) {
    __m256 factors[CE_PRODUCT_ROWS];
    for (size_t i = 0; i < CE_PRODUCT_ROWS; i++) factors[i] = _mm256_set1_ps(vector[i]);
    size_t j = 0;
    for (; j + STEP <= n; j += STEP) {
        // By numbers, as there need not be any more rows.
        if (j % LINE == 0)
            for (size_t i = 0; i < CE_PRODUCT_ROWS; i++)
                _mm_prefetch((const char *)((uintptr_t)matrix + (CE_PRODUCT_ROWS + i) * n + j),
                             _MM_HINT_T0);
        __m256 sums = _mm256_loadu_ps(product + j);
        for (size_t i = 0; i < CE_PRODUCT_ROWS; i++)
            sums = plus_row(sums, factors[i], matrix + i * n + j);
        _mm256_storeu_ps(product + j, sums);
    }
    for (; j < n; j++)
        for (size_t i = 0; i < CE_PRODUCT_ROWS; i++)
            product[j] += vector[i] * (float)matrix[i * n + j];
}

const ce_product_rows ce_product_rows_avx2 = {"avx2", add_rows};

#else
typedef int ce_no_product_avx2;  // a translation unit holds at least one declaration
#endif
