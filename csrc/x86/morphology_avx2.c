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
    static inline AVX2 void extremum##_four_row_##pixel(                                          \
        pixel##_pixel *to, const pixel##_pixel *p, const pixel##_pixel *q, const pixel##_pixel *r,\
        const pixel##_pixel *s, size_t n) {                                                       \
        enum { LANES = VECTOR / sizeof(pixel##_pixel) };                                          \
        if (n < LANES) {                                                                          \
            for (size_t i = 0; i < n; i++) {                                                      \
                const pixel##_pixel left = EXTREMUM(p[i], q[i]), right = EXTREMUM(r[i], s[i]);    \
                to[i] = EXTREMUM(left, right);                                                    \
            }                                                                                     \
            return;                                                                               \
        }                                                                                         \
        for (size_t i = 0;; i += LANES) {                                                         \
            if (i + LANES > n) i = n - LANES;                                                     \
            const __m256i left = VEXTREMUM(load(p + i), load(q + i));                             \
            const __m256i right = VEXTREMUM(load(r + i), load(s + i));                            \
            _mm256_storeu_si256((void *)(to + i), VEXTREMUM(left, right));                        \
            if (i + LANES == n) return;                                                           \
        }                                                                                         \
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
        if (length <= 3 * reach && n >= LANES) {                                                                \
            for (size_t i = 0;; i += LANES) {                                                     \
                if (i + LANES > n) i = n - LANES;                                                 \
                const __m256i left = VEXTREMUM(load(p + i), load(q + i));                         \
                _mm256_storeu_si256((void *)(to + i), VEXTREMUM(left, load(s + i)));              \
                if (i + LANES == n) return;                                                       \
            }                                                                                     \
        }                                                                                         \
        extremum##_four_row_##pixel(to, p, q, r, s, n);                                           \
    }                                                                                             \
                                                                                                  \
    static AVX2 void extremum##_square_row_##pixel(void *dst, const void *a, const void *b,       \
                                                   size_t n) {                                    \
        const pixel##_pixel *p = a, *q = b;                                                       \
        extremum##_four_row_##pixel(dst, p, p + 1, q, q + 1, n);                                  \
    }

typedef uint8_t u8_pixel;
typedef uint16_t u16_pixel;

DEFINE_ROWS(min, u8, LESS, _mm256_min_epu8)
DEFINE_ROWS(max, u8, MORE, _mm256_max_epu8)
DEFINE_ROWS(min, u16, LESS, _mm256_min_epu16)
DEFINE_ROWS(max, u16, MORE, _mm256_max_epu16)

const ce_morph_rows ce_morph_rows_avx2 = {
    .name = "avx2",
    .u8 = {{min_pair_row_u8, min_window_row_u8, min_square_row_u8},
           {max_pair_row_u8, max_window_row_u8, max_square_row_u8}},
    .u16 = {{min_pair_row_u16, min_window_row_u16, min_square_row_u16},
            {max_pair_row_u16, max_window_row_u16, max_square_row_u16}},
};

#endif
