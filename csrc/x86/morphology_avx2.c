// SPDX-License-Identifier: Apache-2.0
// vpminub, vpmaxub, vpminuw and vpmaxuw, 32 bytes at a time.

#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))

#include <immintrin.h>

#include "../rows.h"

#define AVX2 __attribute__((target("avx2")))

enum { VECTOR = 32 };

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

static inline AVX2 __m256i load(const void *at) { return _mm256_loadu_si256(at); }

#define LESS(a, b) ((a) < (b) ? (a) : (b))
#define MORE(a, b) ((a) > (b) ? (a) : (b))

// The last vector of a row overlaps the one before it. A pixel may so be computed twice, in
// pair_row from the result of the first time (dst may be a), which gives the same: the extremum of
// b with what already has b in it. Rows shorter than a vector go pixel by pixel.
#define DEFINE_ROWS(extremum, pixel, EXTREMUM, VEXTREMUM)                                         \
    static AVX2 void extremum##_pair_row_##pixel(void *dst, const void *a, const void *b,       \
                                                   size_t n) {                                    \
        enum { LANES = VECTOR / sizeof(pixel##_pixel) };                                          \
        pixel##_pixel *to = dst;                                                                  \
        const pixel##_pixel *p = a, *q = b;                                                       \
        if (n < LANES) {                                                                          \
            for (size_t i = 0; i < n; i++) to[i] = EXTREMUM(p[i], q[i]);                          \
            return;                                                                               \
        }                                                                                         \
        for (size_t i = 0; i + LANES < n; i += LANES)                                             \
            _mm256_storeu_si256((void *)(to + i), VEXTREMUM(load(p + i), load(q + i)));           \
        const size_t i = n - LANES;                                                               \
        _mm256_storeu_si256((void *)(to + i), VEXTREMUM(load(p + i), load(q + i)));               \
    }                                                                                             \
                                                                                                  \
    static AVX2 void extremum##_window_row_##pixel(void *dst, const void *src, size_t reach,    \
                                                     size_t length, size_t n) {                   \
        enum { LANES = VECTOR / sizeof(pixel##_pixel) };                                          \
        const size_t last = length - reach;                                                       \
        pixel##_pixel *to = dst;                                                                  \
        const pixel##_pixel *p = src, *q = p + smaller(reach, last),                              \
                            *r = p + smaller(2 * reach, last), *s = p + last;                     \
        if (length <= 2 * reach) {                                                                \
            extremum##_pair_row_##pixel(dst, p, q, n);                                            \
            return;                                                                               \
        }                                                                                         \
        if (n < LANES) {                                                                          \
            for (size_t i = 0; i < n; i++) {                                                      \
                const pixel##_pixel left = EXTREMUM(p[i], q[i]), right = EXTREMUM(r[i], s[i]);    \
                to[i] = EXTREMUM(left, right);                                                    \
            }                                                                                     \
            return;                                                                               \
        }                                                                                         \
        if (length <= 3 * reach) {                                                                \
            for (size_t i = 0;; i += LANES) {                                                     \
                if (i + LANES > n) i = n - LANES;                                                 \
                const __m256i left = VEXTREMUM(load(p + i), load(q + i));                         \
                _mm256_storeu_si256((void *)(to + i), VEXTREMUM(left, load(s + i)));              \
                if (i + LANES == n) return;                                                       \
            }                                                                                     \
        }                                                                                         \
        for (size_t i = 0;; i += LANES) {                                                         \
            if (i + LANES > n) i = n - LANES;                                                     \
            const __m256i left = VEXTREMUM(load(p + i), load(q + i));                             \
            const __m256i right = VEXTREMUM(load(r + i), load(s + i));                            \
            _mm256_storeu_si256((void *)(to + i), VEXTREMUM(left, right));                        \
            if (i + LANES == n) return;                                                           \
        }                                                                                         \
    }

typedef uint8_t u8_pixel;
typedef uint16_t u16_pixel;

DEFINE_ROWS(min, u8, LESS, _mm256_min_epu8)
DEFINE_ROWS(max, u8, MORE, _mm256_max_epu8)
DEFINE_ROWS(min, u16, LESS, _mm256_min_epu16)
DEFINE_ROWS(max, u16, MORE, _mm256_max_epu16)

// Down a strip of columns: each row is read once, and the minima and maxima that the next row needs
// stay in registers.
#define DEFINE_OPEN_2X2(pixel, bits)                                                              \
    static inline AVX2 void pair_minima_##pixel(__m256i minima[2], const pixel##_pixel *src) {    \
        const __m256i middle = load(src + 1);                                                     \
        minima[0] = _mm256_min_epu##bits(load(src), middle);                                      \
        minima[1] = _mm256_min_epu##bits(middle, load(src + 2));                                  \
    }                                                                                             \
                                                                                                  \
    static AVX2 void open_2x2_rows_##pixel(void *dst, ptrdiff_t stride,                           \
                                           const uint8_t *const *src, size_t rows, size_t n) {    \
        enum { LANES = VECTOR / sizeof(pixel##_pixel) };                                          \
        if (n < LANES) {                                                                          \
            ce_morph_rows_portable.pixel.open_2x2_rows(dst, stride, src, rows, n);                \
            return;                                                                               \
        }                                                                                         \
        for (size_t i = 0; i < n; i += LANES) {                                                   \
            if (i + LANES > n) i = n - LANES;                                                     \
            uint8_t *to = (uint8_t *)((pixel##_pixel *)dst + i);                                  \
            __m256i above[2], upper = _mm256_setzero_si256();                                     \
            pair_minima_##pixel(above, (const pixel##_pixel *)(const void *)src[0] + i);          \
            for (size_t row = 1; row < rows + 2; row++) {                                         \
                __m256i here[2];                                                                  \
                pair_minima_##pixel(here, (const pixel##_pixel *)(const void *)src[row] + i);     \
                const __m256i lower =                                                             \
                    _mm256_max_epu##bits(_mm256_min_epu##bits(above[0], here[0]),                 \
                                         _mm256_min_epu##bits(above[1], here[1]));                \
                if (row > 1) {                                                                    \
                    _mm256_storeu_si256((void *)to, _mm256_max_epu##bits(upper, lower));          \
                    to += stride;                                                                 \
                }                                                                                 \
                upper = lower;                                                                    \
                above[0] = here[0];                                                               \
                above[1] = here[1];                                                               \
            }                                                                                     \
        }                                                                                         \
    }

DEFINE_OPEN_2X2(u8, 8)
DEFINE_OPEN_2X2(u16, 16)

const ce_morph_rows ce_morph_rows_avx2 = {
    .name = "avx2",
    .u8 = {{min_pair_row_u8, min_window_row_u8},
           {max_pair_row_u8, max_window_row_u8},
           open_2x2_rows_u8},
    .u16 = {{min_pair_row_u16, min_window_row_u16},
            {max_pair_row_u16, max_window_row_u16},
            open_2x2_rows_u16},
};

#endif
