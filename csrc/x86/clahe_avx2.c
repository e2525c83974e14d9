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
#include <string.h>

#include "../rows.h"

#define AVX2 __attribute__((target("avx2,bmi2")))

enum { STEP = 8 };  // pixels, in each of two rows that share the weights of their columns

typedef struct {
    __m256 of[4];  // for columns 0 1, 2 3, 4 5, 6 7
} weights;

static inline AVX2 weights load_weights(const ce_quad *across) {
    const weights w = {{_mm256_loadu_ps(across[0]), _mm256_loadu_ps(across[2]),
                        _mm256_loadu_ps(across[4]), _mm256_loadu_ps(across[6])}};
    return w;
}

// at: where the quads of two pixels lie in the table, in bytes.
static inline AVX2 __m256 look_up(const ce_quad *table, size_t at0, size_t at1) {
    const char *quads = (const char *)table;
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_load_ps((const float *)(quads + at0))),
                                _mm_load_ps((const float *)(quads + at1)), 1);
}

// In each half: the sums of neighbours in a, then those in b.
static inline AVX2 __m256 pair_sums(__m256 a, __m256 b) {
    return _mm256_add_ps(_mm256_shuffle_ps(a, b, _MM_SHUFFLE(2, 0, 2, 0)),
                         _mm256_shuffle_ps(a, b, _MM_SHUFFLE(3, 1, 3, 1)));
}

// The conversion rounds half to even, unless somebody has changed the rounding of all arithmetic.
static inline AVX2 __m256i combine(__m256 p01, __m256 p23, __m256 p45, __m256 p67, weights across,
                                   __m256 down) {
    const __m256 low = pair_sums(_mm256_mul_ps(p01, across.of[0]), _mm256_mul_ps(p23, across.of[1]));
    const __m256 high =
        pair_sums(_mm256_mul_ps(p45, across.of[2]), _mm256_mul_ps(p67, across.of[3]));
    return _mm256_cvtps_epi32(pair_sums(_mm256_mul_ps(low, down), _mm256_mul_ps(high, down)));
}

// Eight pixels are loaded as one integer, since loads are what there is most of. Level i times the
// size of a quad is one rotation and one mask away.
enum { QUAD_BITS = 4, QUADS_OF_A_BYTE = 255 << QUAD_BITS };

static inline AVX2 __m256i eight_u8(const uint8_t *src, const ce_quad *table, weights across,
                                    __m256 down) {
    uint64_t levels;
    memcpy(&levels, src, sizeof levels);
#define AT(i) ((size_t)__rorq(levels, (8 * (i) + 64 - QUAD_BITS) % 64) & QUADS_OF_A_BYTE)
    return combine(look_up(table, AT(0), AT(1)), look_up(table, AT(2), AT(3)),
                   look_up(table, AT(4), AT(5)), look_up(table, AT(6), AT(7)), across, down);
#undef AT
}

static inline AVX2 __m256i eight_u16(const uint16_t *src, const ce_quad *table, weights across,
                                     __m256 down) {
#define AT(i) ((size_t)src[i] << QUAD_BITS)
    return combine(look_up(table, AT(0), AT(1)), look_up(table, AT(2), AT(3)),
                   look_up(table, AT(4), AT(5)), look_up(table, AT(6), AT(7)), across, down);
#undef AT
}

static inline AVX2 void step_u8(uint8_t *const dst[2], const uint8_t *const src[2], size_t x,
                                const ce_quad *table, const ce_quad *across,
                                const __m256 down[2]) {
    const weights w = load_weights(across + x);
    // Both rows together: even pixels in the lower half, odd ones in the upper, 16 bits each.
    const __m256i both = _mm256_packs_epi32(eight_u8(src[0] + x, table, w, down[0]),
                                            eight_u8(src[1] + x, table, w, down[1]));
    const __m128i even = _mm256_castsi256_si128(both), odd = _mm256_extracti128_si256(both, 1);
    const __m128i pixels = _mm_or_si128(even, _mm_slli_epi16(odd, 8));
    _mm_storel_pd((double *)(dst[0] + x), _mm_castsi128_pd(pixels));
    _mm_storeh_pd((double *)(dst[1] + x), _mm_castsi128_pd(pixels));
}

static inline AVX2 void step_u16(uint16_t *const dst[2], const uint16_t *const src[2], size_t x,
                                 const ce_quad *table, const ce_quad *across,
                                 const __m256 down[2]) {
    const weights w = load_weights(across + x);
    const __m256i both = _mm256_packus_epi32(eight_u16(src[0] + x, table, w, down[0]),
                                             eight_u16(src[1] + x, table, w, down[1]));
    const __m128i even = _mm256_castsi256_si128(both), odd = _mm256_extracti128_si256(both, 1);
    _mm_storeu_si128((__m128i *)(dst[0] + x), _mm_unpacklo_epi16(even, odd));
    _mm_storeu_si128((__m128i *)(dst[1] + x), _mm_unpackhi_epi16(even, odd));
}

// A last step that is not full is moved back over pixels that are done, and a last row that is
// alone is done as two.
#define BLEND(TYPE, step, otherwise)                                                               \
    if (width < STEP) {                                                                            \
        otherwise(dst, dst_stride, src, src_stride, height, width, table, across, down);           \
        return;                                                                                    \
    }                                                                                              \
    for (size_t y = 0; y < height; y += 2) {                                                       \
        const size_t rows[2] = {y, y + 1 < height ? y + 1 : y};                                    \
        TYPE *to[2];                                                                               \
        const TYPE *from[2];                                                                       \
        __m256 of_rows[2];                                                                         \
        for (size_t i = 0; i < 2; i++) {                                                           \
            to[i] = (TYPE *)((char *)dst + (ptrdiff_t)rows[i] * dst_stride);                       \
            from[i] = (const TYPE *)((const char *)src + (ptrdiff_t)rows[i] * src_stride);         \
            of_rows[i] = _mm256_broadcast_ps((const __m128 *)down[rows[i]]);                       \
        }                                                                                          \
        size_t x = 0;                                                                              \
        for (; x + STEP <= width; x += STEP) step(to, from, x, table, across, of_rows);            \
        if (x < width) step(to, from, width - STEP, table, across, of_rows);                       \
    }

static AVX2 void blend_u8(uint8_t *dst, ptrdiff_t dst_stride, const uint8_t *src,
                          ptrdiff_t src_stride, size_t height, size_t width, const ce_quad *table,
                          const ce_quad *across, const ce_quad *down) {
    BLEND(uint8_t, step_u8, ce_clahe_rows_portable.blend_u8)
}

static AVX2 void blend_u16(uint16_t *dst, ptrdiff_t dst_stride, const uint16_t *src,
                           ptrdiff_t src_stride, size_t height, size_t width, const ce_quad *table,
                           const ce_quad *across, const ce_quad *down) {
    BLEND(uint16_t, step_u16, ce_clahe_rows_portable.blend_u16)
}

const ce_clahe_rows ce_clahe_rows_avx2 = {"avx2", blend_u8, blend_u16};

#else
typedef int ce_no_clahe_avx2;  // a translation unit holds at least one declaration
#endif
