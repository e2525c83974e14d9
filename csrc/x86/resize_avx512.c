// SPDX-License-Identifier: Apache-2.0
// Across, sixteen output pixels of some rows at a time: where they read from at most 64 bytes, one
// permutation (AVX-512 VBMI) puts all their neighbours next to each other, as words:
//
//     src        | . a b . c d e . . … |
//     neighbours | a 0 b 0 | b 0 c 0 | d 0 e 0 | …      times left, right; the products added

#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))

#include <immintrin.h>

#include "../rows.h"

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi")))

enum { STEP = 16, WINDOW = 64 };

static AVX512 void across_rows(int16_t *const *dst, const uint8_t *const *src, size_t rows,
                               size_t n, const uint32_t *at, const ce_weights *w) {
    // The last sixteen overlap those before.
    for (size_t i = 0; i < n; i += STEP) {
        if (n >= STEP && i + STEP > n) i = n - STEP;
        if (n < STEP || at[i + STEP - 1] - at[i] > WINDOW - 2) {
            ce_resize_rows_avx2.across_rows(dst, src, rows, n, at, w);  // all of it
            return;
        }
        const __m512i weights = _mm512_loadu_si512(w + i);
        const uint32_t first = at[i], bytes = at[i + STEP - 1] + 2 - first;
        const __mmask64 readable = ~UINT64_C(0) >> (WINDOW - bytes);
        // Of each offset d the bytes d, none, d + 1, none.
        const __m512i offsets =
            _mm512_sub_epi32(_mm512_loadu_si512(at + i), _mm512_set1_epi32((int)first));
        const __m512i twice = _mm512_or_si512(offsets, _mm512_slli_epi32(offsets, 16));
        const __m512i order = _mm512_add_epi32(twice, _mm512_set1_epi32(1 << 16));
        const __mmask64 low_bytes = UINT64_C(0x5555555555555555);
        for (size_t row = 0; row < rows; row++) {
            const __m512i window = _mm512_maskz_loadu_epi8(readable, src[row] + first);
            const __m512i pairs = _mm512_maskz_permutexvar_epi8(low_bytes, order, window);
            const __m512i sums = _mm512_madd_epi16(pairs, weights);
            _mm256_storeu_si256((void *)(dst[row] + i),
                                _mm512_cvtepi32_epi16(_mm512_srai_epi32(sums, CE_HALF_BITS)));
        }
    }
}

static void down_row(uint8_t *dst, const int16_t *up, const int16_t *down, size_t n, int16_t top,
                     int16_t bottom) {
    ce_resize_rows_avx2.down_row(dst, up, down, n, top, bottom);
}

static void halve_row(uint8_t *dst, const uint8_t *up, const uint8_t *down, size_t n) {
    ce_resize_rows_avx2.halve_row(dst, up, down, n);
}

const ce_resize_rows ce_resize_rows_avx512 = {"avx512", across_rows, down_row, halve_row};

#else
typedef int ce_no_resize_avx512;  // a translation unit holds at least one declaration
#endif
