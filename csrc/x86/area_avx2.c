// SPDX-License-Identifier: Apache-2.0
// Rows are weighed two at a time, so that one vpmaddwd multiplies eight pixels of each and adds
// them in pairs:
//
//     a0 b0 | a1 b1 | a2 b2 | …      pixels of rows a and b, as words
//     wa wb | wa wb | wa wb | …      their weights, below 2^15

#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))

#include <immintrin.h>
#include <string.h>

#include "../rows.h"

#define AVX2 __attribute__((target("avx2")))

enum { OUT = 16, COLUMNS = CE_AREA_LIGHT_IN, STEP = CE_AREA_LIGHT_OUT };

static inline AVX2 __m256i load(const void *at) { return _mm256_loadu_si256(at); }

static AVX2 void halve_row(uint8_t *dst, const uint8_t *src, ptrdiff_t stride, size_t n) {
    ce_resize_rows_avx2.halve_row(dst, src, src + stride, n);
}

// Of 32 columns in four rows, eight rounded means as 32-bit integers.
static inline AVX2 __m256i means(const uint8_t *src, ptrdiff_t stride) {
    const __m256i ones = _mm256_set1_epi8(1);
    const __m256i pairs = _mm256_add_epi16(
        _mm256_add_epi16(_mm256_maddubs_epi16(load(src), ones),
                         _mm256_maddubs_epi16(load(src + stride), ones)),
        _mm256_add_epi16(_mm256_maddubs_epi16(load(src + 2 * stride), ones),
                         _mm256_maddubs_epi16(load(src + 3 * stride), ones)));
    const __m256i sums = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    return _mm256_srli_epi32(_mm256_add_epi32(sums, _mm256_set1_epi32(8)), 4);
}

static AVX2 void quarter_row(uint8_t *dst, const uint8_t *src, ptrdiff_t stride, size_t n) {
    if (n < OUT) {
        ce_area_rows_portable.quarter_row(dst, src, stride, n);
        return;
    }
    // The last sixteen overlap those before.
    for (size_t i = 0; i < n; i += OUT) {
        if (i + OUT > n) i = n - OUT;
        const uint8_t *from = src + 4 * i;
        const __m256i words = _mm256_packus_epi32(means(from, stride), means(from + 32, stride));
        const __m256i ordered = _mm256_permute4x64_epi64(words, _MM_SHUFFLE(3, 1, 2, 0));
        _mm_storeu_si128((void *)(dst + i),
                         _mm_packus_epi16(_mm256_castsi256_si128(ordered),
                                          _mm256_extracti128_si256(ordered, 1)));
    }
}

// The weights of two rows. After an odd last row, there is another of weight 0.
static inline AVX2 __m256i pair_at(const uint16_t *weights) {
    uint32_t pair;
    memcpy(&pair, weights, sizeof pair);
    return _mm256_set1_epi32((int)pair);
}

static inline AVX2 __m256i plus(__m256i sums, __m256i pixels, __m256i pair) {
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pixels, pair));
}

static AVX2 void weigh_rows(uint32_t *sums, const uint8_t *const *rows, const uint16_t *weights,
                            size_t count, size_t n) {
    if (n < COLUMNS) {
        ce_area_rows_portable.weigh_rows(sums, rows, weights, count, n);
        return;
    }
    const __m256i zero = _mm256_setzero_si256();
    for (size_t i = 0; i < n; i += COLUMNS) {
        if (i + COLUMNS > n) i = n - COLUMNS;
        // Of columns 0 to 3 and 16 to 19, 4 to 7 and 20 to 23, …
        __m256i s0 = zero, s1 = zero, s2 = zero, s3 = zero;
        for (size_t r = 0; r < count; r += 2) {
            const __m256i pair = pair_at(weights + r);
            const __m256i a = load(rows[r] + i), b = load(rows[r + 1] + i);
            const __m256i low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b);
            s0 = plus(s0, _mm256_unpacklo_epi8(low, zero), pair);
            s1 = plus(s1, _mm256_unpackhi_epi8(low, zero), pair);
            s2 = plus(s2, _mm256_unpacklo_epi8(high, zero), pair);
            s3 = plus(s3, _mm256_unpackhi_epi8(high, zero), pair);
        }
        _mm256_storeu_si256((void *)(sums + i), _mm256_permute2x128_si256(s0, s1, 0x20));
        _mm256_storeu_si256((void *)(sums + i + 8), _mm256_permute2x128_si256(s2, s3, 0x20));
        _mm256_storeu_si256((void *)(sums + i + 16), _mm256_permute2x128_si256(s0, s1, 0x31));
        _mm256_storeu_si256((void *)(sums + i + 24), _mm256_permute2x128_si256(s2, s3, 0x31));
    }
}

// Of eight sums, even ones and odd ones apart, as products have 64 bits.
static inline AVX2 __m256i quotients(__m256i sums, const ce_area_columns *columns) {
    const __m256i inverse = _mm256_set1_epi32((int)columns->inverse);
    const __m128i shift = _mm_cvtsi32_si128((int)columns->shift);
    const __m256i x = _mm256_add_epi32(sums, _mm256_set1_epi32((int)(columns->area / 2)));
    const __m256i even = _mm256_srl_epi64(_mm256_mul_epu32(x, inverse), shift);
    const __m256i odd =
        _mm256_srl_epi64(_mm256_mul_epu32(_mm256_srli_epi64(x, 32), inverse), shift);
    return _mm256_or_si256(even, _mm256_slli_epi64(odd, 32));
}

static inline AVX2 __m256i products(const uint32_t *sums, const ce_area_columns *columns,
                                    size_t i) {
    return _mm256_mullo_epi32(load(sums + columns->starts[i]),
                              load(columns->weights + CE_AREA_WINDOW * i));
}

// Of outputs i to i + 3: what the lower and what the higher half of each window holds.
static inline AVX2 __m256i halves(const uint32_t *sums, const ce_area_columns *columns, size_t i) {
    return _mm256_hadd_epi32(
        _mm256_hadd_epi32(products(sums, columns, i), products(sums, columns, i + 1)),
        _mm256_hadd_epi32(products(sums, columns, i + 2), products(sums, columns, i + 3)));
}

static AVX2 void across_row(uint8_t *dst, size_t n, const uint32_t *sums, uint64_t *below,
                            size_t n_in, const ce_area_columns *columns) {
    if (n < STEP || columns->starts == NULL) {
        ce_area_rows_portable.across_row(dst, n, sums, below, n_in, columns);
        return;
    }
    const ce_area_columns c = *columns;  // which no store to dst can change
    for (size_t i = 0; i < n; i += STEP) {
        if (i + STEP > n) i = n - STEP;
        const __m256i a = halves(sums, &c, i), b = halves(sums, &c, i + 4);
        const __m256i q = quotients(_mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20),
                                                     _mm256_permute2x128_si256(a, b, 0x31)),
                                    &c);
        const __m128i words =
            _mm_packus_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
        _mm_storel_epi64((void *)(dst + i), _mm_packus_epi16(words, words));
    }
}

static AVX2 void weigh_light_rows(int16_t *sums, const uint8_t *const *rows,
                                  const uint16_t *weights, size_t count, size_t n) {
    for (size_t i = 0; i < n; i += COLUMNS) {
        if (i + COLUMNS > n) i = n - COLUMNS;
        __m256i low = _mm256_setzero_si256(), high = low;
        for (size_t r = 0; r < count; r += 2) {
            const __m256i pair = _mm256_set1_epi16((short)(weights[r] | weights[r + 1] << 8));
            const __m256i a = load(rows[r] + i), b = load(rows[r + 1] + i);
            low = _mm256_add_epi16(low, _mm256_maddubs_epi16(_mm256_unpacklo_epi8(a, b), pair));
            high = _mm256_add_epi16(high, _mm256_maddubs_epi16(_mm256_unpackhi_epi8(a, b), pair));
        }
        _mm256_storeu_si256((void *)(sums + i), _mm256_permute2x128_si256(low, high, 0x20));
        _mm256_storeu_si256((void *)(sums + i + COLUMNS / 2),
                            _mm256_permute2x128_si256(low, high, 0x31));
    }
}

// Of outputs i and i + 1, a half of the register each.
static inline AVX2 __m256i light_products(const int16_t *sums, const ce_area_columns *columns,
                                          size_t i) {
    const __m128i first = _mm_loadu_si128((const void *)(sums + columns->starts[i]));
    const __m128i second = _mm_loadu_si128((const void *)(sums + columns->starts[i + 1]));
    return _mm256_madd_epi16(_mm256_inserti128_si256(_mm256_castsi128_si256(first), second, 1),
                             load(columns->light_weights + CE_AREA_WINDOW * i));
}

static AVX2 void across_light_row(uint8_t *dst, size_t n, const int16_t *sums,
                                  const ce_area_columns *columns) {
    const ce_area_columns c = *columns;
    for (size_t i = 0; i < n; i += STEP) {
        if (i + STEP > n) i = n - STEP;
        // Outputs i, i + 2, i + 4, i + 6 in the lower half, the others in the upper one.
        const __m256i q = quotients(
            _mm256_hadd_epi32(_mm256_hadd_epi32(light_products(sums, &c, i),
                                                light_products(sums, &c, i + 2)),
                              _mm256_hadd_epi32(light_products(sums, &c, i + 4),
                                                light_products(sums, &c, i + 6))),
            &c);
        const __m128i words = _mm_or_si128(
            _mm256_castsi256_si128(q), _mm_slli_epi32(_mm256_extracti128_si256(q, 1), 16));
        _mm_storel_epi64((void *)(dst + i), _mm_packus_epi16(words, words));
    }
}

const ce_area_rows ce_area_rows_avx2 = {
    "avx2", halve_row, quarter_row, weigh_rows, across_row, weigh_light_rows, across_light_row,
};

#endif
