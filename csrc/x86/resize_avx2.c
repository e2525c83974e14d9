// SPDX-License-Identifier: Apache-2.0
// Across, eight output pixels of some rows at a time. Where four of them read from at most 16 bytes,
// one shuffle per half of a register puts their neighbours next to each other, as words:
//
//     src        | . a b . c d e . . |
//     neighbours | a 0 b 0 | b 0 c 0 | d 0 e 0 |      times left, right; the products added
//
// Where they lie further apart, pairs are loaded one by one; on many processors that is faster
// than a gather, and it reads no byte beyond them.

#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))

#include <immintrin.h>
#include <string.h>

#include "../rows.h"

#define AVX2 __attribute__((target("avx2")))

enum { STEP = 8, WINDOW = 16, BYTES = 32 };

// Whether four output pixels each read from one window; where one begins.
static inline int is_near(const uint32_t *at, size_t readable) {
    return at[3] - at[0] <= WINDOW - 2 && at[7] - at[4] <= WINDOW - 2 && readable >= WINDOW;
}

static inline uint32_t window(uint32_t at, size_t readable) {
    return at + WINDOW <= readable ? at : (uint32_t)(readable - WINDOW);
}

static inline AVX2 __m256i two_windows(const uint8_t *low, const uint8_t *high) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const void *)low)),
                                   _mm_loadu_si128((const void *)high), 1);
}

// Of each offset d in its window make the bytes d, "zero", d + 1, "zero".
static inline AVX2 __m256i order_of(const uint32_t *at, uint32_t low, uint32_t high) {
    const __m256i windows = _mm256_inserti128_si256(_mm256_set1_epi32((int)low),
                                                    _mm_set1_epi32((int)high), 1);
    const __m256i offset = _mm256_sub_epi32(_mm256_loadu_si256((const void *)at), windows);
    const __m256i twice = _mm256_or_si256(offset, _mm256_slli_epi32(offset, 16));
    return _mm256_add_epi32(twice, _mm256_set1_epi32((int)0x80018000));
}

static inline int pair(const uint8_t *src) {
    uint16_t both;
    memcpy(&both, src, sizeof both);
    return both;
}

static inline AVX2 __m256i far_pairs(const uint8_t *src, const uint32_t *at) {
    __m128i pairs = _mm_cvtsi32_si128(pair(src + at[0]));
    pairs = _mm_insert_epi16(pairs, pair(src + at[1]), 1);
    pairs = _mm_insert_epi16(pairs, pair(src + at[2]), 2);
    pairs = _mm_insert_epi16(pairs, pair(src + at[3]), 3);
    pairs = _mm_insert_epi16(pairs, pair(src + at[4]), 4);
    pairs = _mm_insert_epi16(pairs, pair(src + at[5]), 5);
    pairs = _mm_insert_epi16(pairs, pair(src + at[6]), 6);
    pairs = _mm_insert_epi16(pairs, pair(src + at[7]), 7);
    return _mm256_cvtepu8_epi16(pairs);
}

static inline AVX2 void weigh(int16_t *dst, __m256i pairs, __m256i weights) {
    const __m256i high = _mm256_srai_epi32(_mm256_madd_epi16(pairs, weights), CE_HALF_BITS);
    _mm_storeu_si128((void *)dst, _mm_packs_epi32(_mm256_castsi256_si128(high),
                                                  _mm256_extracti128_si256(high, 1)));
}

static AVX2 void across_rows(int16_t *const *dst, const uint8_t *const *src, size_t rows, size_t n,
                             const uint32_t *at, const ce_weights *w) {
    if (n < STEP) {
        ce_resize_rows_portable.across_rows(dst, src, rows, n, at, w);
        return;
    }
    const size_t readable = (size_t)at[n - 1] + 2;
    // The last eight overlap those before.
    for (size_t i = 0; i < n; i += STEP) {
        if (i + STEP > n) i = n - STEP;
        const __m256i weights = _mm256_loadu_si256((const void *)(w + i));
        if (is_near(at + i, readable)) {
            const uint32_t low = window(at[i], readable), high = window(at[i + 4], readable);
            const __m256i order = order_of(at + i, low, high);
            for (size_t row = 0; row < rows; row++) {
                const __m256i windows = two_windows(src[row] + low, src[row] + high);
                weigh(dst[row] + i, _mm256_shuffle_epi8(windows, order), weights);
            }
        } else {
            for (size_t row = 0; row < rows; row++)
                weigh(dst[row] + i, far_pairs(src[row], at + i), weights);
        }
    }
}

// Sixteen words; both factors are below 2^15, so that the signed high half is the one wanted.
static inline AVX2 __m256i weighted(const int16_t *up, const int16_t *down, __m256i top,
                                    __m256i bottom) {
    const __m256i above = _mm256_mulhi_epi16(_mm256_loadu_si256((const void *)up), top);
    const __m256i below = _mm256_mulhi_epi16(_mm256_loadu_si256((const void *)down), bottom);
    const __m256i half = _mm256_set1_epi16(1 << (CE_LAST_BITS - 1));
    return _mm256_srai_epi16(_mm256_add_epi16(_mm256_add_epi16(above, below), half), CE_LAST_BITS);
}

// Bytes of 32 words from 0 to 255, in their order.
static inline AVX2 void store_bytes(uint8_t *dst, __m256i first, __m256i second) {
    const __m256i packed = _mm256_packus_epi16(first, second);  // halves 0 2 | 1 3
    _mm256_storeu_si256((void *)dst, _mm256_permute4x64_epi64(packed, _MM_SHUFFLE(3, 1, 2, 0)));
}

static AVX2 void down_row(uint8_t *dst, const int16_t *up, const int16_t *down, size_t n,
                          int16_t top, int16_t bottom) {
    if (n < BYTES) {
        ce_resize_rows_portable.down_row(dst, up, down, n, top, bottom);
        return;
    }
    const __m256i t = _mm256_set1_epi16(top), b = _mm256_set1_epi16(bottom);
    for (size_t i = 0; i < n; i += BYTES) {
        if (i + BYTES > n) i = n - BYTES;
        store_bytes(dst + i, weighted(up + i, down + i, t, b),
                    weighted(up + i + BYTES / 2, down + i + BYTES / 2, t, b));
    }
}

static inline AVX2 __m256i means(const uint8_t *up, const uint8_t *down) {
    const __m256i ones = _mm256_set1_epi8(1);
    const __m256i above = _mm256_maddubs_epi16(_mm256_loadu_si256((const void *)up), ones);
    const __m256i below = _mm256_maddubs_epi16(_mm256_loadu_si256((const void *)down), ones);
    const __m256i sums = _mm256_add_epi16(_mm256_add_epi16(above, below), _mm256_set1_epi16(2));
    return _mm256_srli_epi16(sums, 2);
}

static AVX2 void halve_row(uint8_t *dst, const uint8_t *up, const uint8_t *down, size_t n) {
    if (n < BYTES) {
        ce_resize_rows_portable.halve_row(dst, up, down, n);
        return;
    }
    for (size_t i = 0; i < n; i += BYTES) {
        if (i + BYTES > n) i = n - BYTES;
        store_bytes(dst + i, means(up + 2 * i, down + 2 * i),
                    means(up + 2 * i + BYTES, down + 2 * i + BYTES));
    }
}

const ce_resize_rows ce_resize_rows_avx2 = {"avx2", across_rows, down_row, halve_row};

#endif
