// SPDX-License-Identifier: Apache-2.0

#include "../rows.h"

// dst may be a, which cannot be said with restrict; ivdep says that no iteration needs another's
// result, which is what the compiler has to know.
#if defined(__GNUC__) && !defined(__clang__)
#define INDEPENDENT _Pragma("GCC ivdep")
#elif defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT
#endif

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

#define LESS(a, b) ((a) < (b) ? (a) : (b))
#define MORE(a, b) ((a) > (b) ? (a) : (b))

#define DEFINE_ROWS(extremum, pixel, EXTREMUM)                                                    \
    static void extremum##_pair_row_##pixel(void *dst, const void *a, const void *b, size_t n) {  \
        pixel##_pixel *to = dst;                                                                  \
        const pixel##_pixel *p = a, *q = b;                                                       \
        INDEPENDENT                                                                               \
        for (size_t i = 0; i < n; i++) to[i] = EXTREMUM(p[i], q[i]);                              \
    }                                                                                             \
                                                                                                  \
    static void extremum##_window_row_##pixel(void *restrict dst, const void *restrict src,       \
                                              size_t reach, size_t length, size_t n) {            \
        const size_t last = length - reach;                                                       \
        pixel##_pixel *restrict to = dst;                                                         \
        const pixel##_pixel *restrict p = src, *q = p + smaller(reach, last),                     \
                                      *r = p + smaller(2 * reach, last), *s = p + last;           \
        if (length <= 2 * reach)                                                                  \
            for (size_t i = 0; i < n; i++) to[i] = EXTREMUM(p[i], q[i]);                          \
        else if (length <= 3 * reach)                                                             \
            for (size_t i = 0; i < n; i++) {                                                      \
                const pixel##_pixel left = EXTREMUM(p[i], q[i]);                                  \
                to[i] = EXTREMUM(left, s[i]);                                                     \
            }                                                                                     \
        else                                                                                      \
            for (size_t i = 0; i < n; i++) {                                                      \
                const pixel##_pixel left = EXTREMUM(p[i], q[i]), right = EXTREMUM(r[i], s[i]);    \
                to[i] = EXTREMUM(left, right);                                                    \
            }                                                                                     \
    }                                                                                             \
                                                                                                  \
    static void extremum##_square_row_##pixel(void *restrict dst, const void *a, const void *b,   \
                                              size_t n) {                                         \
        pixel##_pixel *restrict to = dst;                                                         \
        const pixel##_pixel *p = a, *q = b;                                                       \
        for (size_t i = 0; i < n; i++) {                                                          \
            const pixel##_pixel up = EXTREMUM(p[i], p[i + 1]), down = EXTREMUM(q[i], q[i + 1]);   \
            to[i] = EXTREMUM(up, down);                                                           \
        }                                                                                         \
    }

typedef uint8_t u8_pixel;
typedef uint16_t u16_pixel;

DEFINE_ROWS(min, u8, LESS)
DEFINE_ROWS(max, u8, MORE)
DEFINE_ROWS(min, u16, LESS)
DEFINE_ROWS(max, u16, MORE)

const ce_morph_rows ce_morph_rows_portable = {
    .name = "portable",
    .u8 = {{min_pair_row_u8, min_window_row_u8, min_square_row_u8},
           {max_pair_row_u8, max_window_row_u8, max_square_row_u8}},
    .u16 = {{min_pair_row_u16, min_window_row_u16, min_square_row_u16},
            {max_pair_row_u16, max_window_row_u16, max_square_row_u16}},
};
