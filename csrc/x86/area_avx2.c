// SPDX-License-Identifier: Apache-2.0
// Rows are weighed two at a time, so that one vpmaddwd multiplies eight pixels of each and adds
// them in pairs:
//
//     a0 b0 | a1 b1 | a2 b2 | …      pixels of rows a and b, as words
//     wa wb | wa wb | wa wb | …      their weights, below 2^15

#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))

#include <immintrin.h>

#include "../rows.h"

#define AVX2 __attribute__((target("avx2")))

enum { OUT = 16, COLUMNS = 16, STEP = 8 };

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

static AVX2 void weigh_rows(uint32_t *sums, const uint8_t *const *rows, const uint16_t *weights,
                            size_t count, size_t n) {
    if (n < COLUMNS) {
        ce_area_rows_portable.weigh_rows(sums, rows, weights, count, n);
        return;
    }
    for (size_t i = 0; i < n; i += COLUMNS) {
        if (i + COLUMNS > n) i = n - COLUMNS;
        __m256i low = _mm256_setzero_si256(), high = low;
        for (size_t r = 0; r < count; r += 2) {
            // An odd last row is paired with itself, at weight 0.
            const int paired = r + 1 < count;
            const __m256i pair_weights =
                _mm256_set1_epi32(weights[r] | (paired ? weights[r + 1] << 16 : 0));
            const __m128i a = _mm_loadu_si128((const void *)(rows[r] + i));
            const __m128i b = _mm_loadu_si128((const void *)(rows[r + paired] + i));
            const __m256i left = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b));
            const __m256i right = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(a, b));
            low = _mm256_add_epi32(low, _mm256_madd_epi16(left, pair_weights));
            high = _mm256_add_epi32(high, _mm256_madd_epi16(right, pair_weights));
        }
        _mm256_storeu_si256((void *)(sums + i), low);
        _mm256_storeu_si256((void *)(sums + i + COLUMNS / 2), high);
    }
}

// below[i] = sums[0] + … + sums[i - 1], modulo 2^32, for i from 0 to n.
static AVX2 void add_up(uint32_t *below, const uint32_t *sums, size_t n) {
    __m256i carry = _mm256_setzero_si256();
    size_t i = 0;
    for (; i + STEP <= n; i += STEP) {
        __m256i s = load(sums + i);
        s = _mm256_add_epi32(s, _mm256_slli_si256(s, 4));
        s = _mm256_add_epi32(s, _mm256_slli_si256(s, 8));
        // What the low half adds up to, for all of the high half.
        const __m256i half = _mm256_permute2x128_si256(s, s, 0x08);
        s = _mm256_add_epi32(s, _mm256_shuffle_epi32(half, _MM_SHUFFLE(3, 3, 3, 3)));
        _mm256_storeu_si256((void *)(below + i + 1), _mm256_add_epi32(s, carry));
        // Apart from the sums just stored, so that one step waits for the last by an addition only.
        const __m256i total = _mm256_permutevar8x32_epi32(s, _mm256_set1_epi32(STEP - 1));
        carry = _mm256_add_epi32(carry, total);
    }
    below[0] = 0;
    for (; i < n; i++) below[i + 1] = below[i] + sums[i];
}

// The portable kernel says why this is the quotient. Unsigned integers go through signed ones.
static inline AVX2 __m128i quotients(__m128i sums, __m256d inverse) {
    const __m128i moved = _mm_xor_si128(sums, _mm_set1_epi32(INT32_MIN));
    const __m256d back = _mm256_set1_pd(-(double)INT32_MIN + 0.5);
    const __m256d centred = _mm256_add_pd(_mm256_cvtepi32_pd(moved), back);
    return _mm256_cvttpd_epi32(_mm256_mul_pd(centred, inverse));
}

static AVX2 void across_row(uint8_t *dst, size_t n, const uint32_t *sums, uint64_t *below,
                            size_t n_in, const ce_area_columns *columns) {
    // Integrals are needed modulo 2^32 only, if their differences are less than that: 256 * area.
    if (n < STEP || columns->area >= 1u << 24) {
        ce_area_rows_portable.across_row(dst, n, sums, below, n_in, columns);
        return;
    }
    uint32_t *below32 = (uint32_t *)below, *integrals = below32 + n_in + 1;
    add_up(below32, sums, n_in);
    // Gathers would be slower than these loads, on some processors by far.
    integrals[0] = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t end = columns->ends[i];
        integrals[i + 1] = columns->units * below32[end] + columns->rests[i] * sums[end];
    }
    const __m256d inverse = _mm256_set1_pd(1.0 / (double)columns->area);
    const __m256i half = _mm256_set1_epi32((int)(columns->area / 2));
    for (size_t i = 0; i < n; i += STEP) {
        if (i + STEP > n) i = n - STEP;
        const __m256i between = _mm256_sub_epi32(load(integrals + i + 1), load(integrals + i));
        const __m256i sum = _mm256_add_epi32(between, half);
        const __m128i mean = _mm_packus_epi32(
            quotients(_mm256_castsi256_si128(sum), inverse),
            quotients(_mm256_extracti128_si256(sum, 1), inverse));
        _mm_storel_epi64((void *)(dst + i), _mm_packus_epi16(mean, mean));
    }
}

const ce_area_rows ce_area_rows_avx2 = {"avx2", halve_row, quarter_row, weigh_rows, across_row};

#endif
