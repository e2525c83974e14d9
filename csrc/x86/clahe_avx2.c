// SPDX-License-Identifier: Apache-2.0
// A pixel costs one look-up of four floats, and gathers are slow on most processors, so that its
// level goes through an integer register. Eight pixels, two to a register:
//
//     a = ul ur dl dr | ul ur dl dr      pixels 0 | 1, times l r l r | l r l r
//     b                                  pixels 2 | 3
//     pair_sums(a, b) = u d u d | u d u d       pixels 0 2 | 1 3, times t b t b | t b t b
//     pair_sums(those, those of pixels 4 to 7) = pixels 0 2 4 6 | 1 3 5 7

#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))

#include <immintrin.h>

#include "../rows.h"

#define AVX2 __attribute__((target("avx2")))

enum { STEP = 16 };  // pixels

static inline AVX2 __m256 look_up(const ce_quad *table, size_t v0, size_t v1) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(table[v0])),
                                _mm_loadu_ps(table[v1]), 1);
}

// In each half: the sums of neighbours in a, then those in b.
static inline AVX2 __m256 pair_sums(__m256 a, __m256 b) {
    return _mm256_add_ps(_mm256_shuffle_ps(a, b, _MM_SHUFFLE(2, 0, 2, 0)),
                         _mm256_shuffle_ps(a, b, _MM_SHUFFLE(3, 1, 3, 1)));
}

// Eight pixels as integers in the order 0 2 4 6 1 3 5 7. The conversion rounds half to even, as
// every program does that leaves MXCSR alone.
#define EIGHT(table, src, across, down)                                                           \
    _mm256_cvtps_epi32(pair_sums(                                                                 \
        _mm256_mul_ps(pair_sums(TWO(table, src, across, 0), TWO(table, src, across, 2)), down),   \
        _mm256_mul_ps(pair_sums(TWO(table, src, across, 4), TWO(table, src, across, 6)), down)))
#define TWO(table, src, across, i)                                                                \
    _mm256_mul_ps(look_up(table, (src)[i], (src)[(i) + 1]), _mm256_loadu_ps((across)[i]))

static inline AVX2 void step_u8(uint8_t *dst, const uint8_t *src, const ce_quad *table,
                                const ce_quad *across, __m256 down) {
    const __m256i low = EIGHT(table, src, across, down);
    const __m256i high = EIGHT(table, src + 8, across + 8, down);
    // Even pixels in the lower half, odd ones in the upper, 16 bits each.
    const __m256i both = _mm256_packs_epi32(low, high);
    const __m128i even = _mm256_castsi256_si128(both), odd = _mm256_extracti128_si256(both, 1);
    _mm_storeu_si128((__m128i *)dst, _mm_or_si128(even, _mm_slli_epi16(odd, 8)));
}

static inline AVX2 void step_u16(uint16_t *dst, const uint16_t *src, const ce_quad *table,
                                 const ce_quad *across, __m256 down) {
    const __m256i low = EIGHT(table, src, across, down);
    const __m256i high = EIGHT(table, src + 8, across + 8, down);
    const __m256i both = _mm256_packus_epi32(low, high);
    const __m128i even = _mm256_castsi256_si128(both), odd = _mm256_extracti128_si256(both, 1);
    _mm_storeu_si128((__m128i *)dst, _mm_unpacklo_epi16(even, odd));
    _mm_storeu_si128((__m128i *)(dst + 8), _mm_unpackhi_epi16(even, odd));
}

// A last step that is not full is moved back over pixels that are done.
static AVX2 void blend_u8(uint8_t *dst, ptrdiff_t dst_stride, const uint8_t *src,
                          ptrdiff_t src_stride, size_t height, size_t width, const ce_quad *table,
                          const ce_quad *across, const ce_quad *down) {
    if (width < STEP) {
        ce_clahe_rows_portable.blend_u8(dst, dst_stride, src, src_stride, height, width, table,
                                        across, down);
        return;
    }
    for (size_t y = 0; y < height; y++, dst += dst_stride, src += src_stride) {
        const __m256 weights = _mm256_broadcast_ps((const __m128 *)down[y]);
        size_t x = 0;
        for (; x + STEP <= width; x += STEP)
            step_u8(dst + x, src + x, table, across + x, weights);
        x = width - STEP;
        if (width % STEP != 0) step_u8(dst + x, src + x, table, across + x, weights);
    }
}

static AVX2 void blend_u16(uint16_t *dst, ptrdiff_t dst_stride, const uint16_t *src,
                           ptrdiff_t src_stride, size_t height, size_t width, const ce_quad *table,
                           const ce_quad *across, const ce_quad *down) {
    if (width < STEP) {
        ce_clahe_rows_portable.blend_u16(dst, dst_stride, src, src_stride, height, width, table,
                                         across, down);
        return;
    }
    for (size_t y = 0; y < height; y++) {
        const __m256 weights = _mm256_broadcast_ps((const __m128 *)down[y]);
        size_t x = 0;
        for (; x + STEP <= width; x += STEP)
            step_u16(dst + x, src + x, table, across + x, weights);
        x = width - STEP;
        if (width % STEP != 0) step_u16(dst + x, src + x, table, across + x, weights);
        dst = (uint16_t *)((char *)dst + dst_stride);
        src = (const uint16_t *)((const char *)src + src_stride);
    }
}

const ce_clahe_rows ce_clahe_rows_avx2 = {"avx2", blend_u8, blend_u16};

#else
typedef int ce_no_clahe_avx2;  // a translation unit holds at least one declaration
#endif
