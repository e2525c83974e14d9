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
    }

typedef uint8_t u8_pixel;
typedef uint16_t u16_pixel;

DEFINE_ROWS(min, u8, LESS)
DEFINE_ROWS(max, u8, MORE)
DEFINE_ROWS(min, u16, LESS)
DEFINE_ROWS(max, u16, MORE)

#define DEFINE_OPEN_2X2(pixel)                                                                    \
    static void open_2x2_rows_##pixel(void *dst, ptrdiff_t stride, const uint8_t *const *src,     \
                                      size_t rows, size_t n) {                                    \
        for (size_t row = 0; row < rows; row++) {                                                 \
            const pixel##_pixel *p = (const void *)src[row], *q = (const void *)src[row + 1],     \
                                *r = (const void *)src[row + 2];                                  \
            pixel##_pixel *restrict to = (void *)((uint8_t *)dst + (ptrdiff_t)row * stride);      \
            for (size_t i = 0; i < n; i++) {                                                      \
                const pixel##_pixel up0 = LESS(p[i], q[i]), up1 = LESS(p[i + 1], q[i + 1]),       \
                                    up2 = LESS(p[i + 2], q[i + 2]);                               \
                const pixel##_pixel down0 = LESS(q[i], r[i]), down1 = LESS(q[i + 1], r[i + 1]),   \
                                    down2 = LESS(q[i + 2], r[i + 2]);                             \
                const pixel##_pixel up_left = LESS(up0, up1), up_right = LESS(up1, up2);          \
                const pixel##_pixel down_left = LESS(down0, down1);                               \
                const pixel##_pixel down_right = LESS(down1, down2);                              \
                const pixel##_pixel up = MORE(up_left, up_right);                                 \
                const pixel##_pixel down = MORE(down_left, down_right);                           \
                to[i] = MORE(up, down);                                                           \
            }                                                                                     \
        }                                                                                         \
    }

DEFINE_OPEN_2X2(u8)
DEFINE_OPEN_2X2(u16)

const ce_morph_rows ce_morph_rows_portable = {
    .name = "portable",
    .u8 = {{min_pair_row_u8, min_window_row_u8},
           {max_pair_row_u8, max_window_row_u8},
           open_2x2_rows_u8},
    .u16 = {{min_pair_row_u16, min_window_row_u16},
            {max_pair_row_u16, max_window_row_u16},
            open_2x2_rows_u16},
};
