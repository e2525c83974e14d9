// SPDX-License-Identifier: Apache-2.0
// umin and umax, 16 bytes at a time.

#if defined(__aarch64__)

#include <arm_neon.h>

#include "../rows.h"

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

// The last vector of a row overlaps the one before it. A pixel may so be computed twice, in
// pair_row from the result of the first time (dst may be a), which gives the same: the extremum of
// b with what already has b in it. Rows shorter than a vector go pixel by pixel.
#define DEFINE_ROWS(extremum, bits)                                                                \
    static void extremum##_pair_row_u##bits(void *dst, const void *a, const void *b, size_t n) {   \
        enum { LANES = 128 / bits };                                                               \
        uint##bits##_t *to = dst;                                                                  \
        const uint##bits##_t *p = a, *q = b;                                                       \
        if (n < LANES) {                                                                           \
            ce_morph_rows_portable.u##bits.extremum.pair_row(dst, a, b, n);                        \
            return;                                                                                \
        }                                                                                          \
        for (size_t i = 0; i < n; i += LANES) {                                                    \
            if (i + LANES > n) i = n - LANES;                                                      \
            vst1q_u##bits(to + i, v##extremum##q_u##bits(vld1q_u##bits(p + i),                     \
                                                         vld1q_u##bits(q + i)));                   \
        }                                                                                          \
    }                                                                                              \
                                                                                                   \
    static void extremum##_window_row_u##bits(void *dst, const void *src, size_t reach,            \
                                              size_t length, size_t n) {                           \
        enum { LANES = 128 / bits };                                                               \
        const size_t last = length - reach;                                                        \
        uint##bits##_t *to = dst;                                                                  \
        const uint##bits##_t *p = src, *q = p + smaller(reach, last),                              \
                             *r = p + smaller(2 * reach, last), *s = p + last;                     \
        if (length <= 2 * reach) {                                                                 \
            extremum##_pair_row_u##bits(dst, p, q, n);                                             \
            return;                                                                                \
        }                                                                                          \
        if (n < LANES) {                                                                           \
            ce_morph_rows_portable.u##bits.extremum.window_row(dst, src, reach, length, n);        \
            return;                                                                                \
        }                                                                                          \
        for (size_t i = 0; i < n; i += LANES) {                                                    \
            if (i + LANES > n) i = n - LANES;                                                      \
            vst1q_u##bits(to + i, v##extremum##q_u##bits(                                          \
                                      v##extremum##q_u##bits(vld1q_u##bits(p + i),                 \
                                                             vld1q_u##bits(q + i)),                \
                                      v##extremum##q_u##bits(vld1q_u##bits(r + i),                 \
                                                             vld1q_u##bits(s + i))));              \
        }                                                                                          \
    }

DEFINE_ROWS(min, 8)
DEFINE_ROWS(max, 8)
DEFINE_ROWS(min, 16)
DEFINE_ROWS(max, 16)

// Down a strip of columns: each row is read once, and the minima and maxima that the next row needs
// stay in registers.
#define DEFINE_OPEN_2X2(bits, type)                                                                \
    static inline void pair_minima_u##bits(type minima[2], const uint##bits##_t *src) {            \
        const type middle = vld1q_u##bits(src + 1);                                                \
        minima[0] = vminq_u##bits(vld1q_u##bits(src), middle);                                     \
        minima[1] = vminq_u##bits(middle, vld1q_u##bits(src + 2));                                 \
    }                                                                                              \
                                                                                                   \
    static void open_2x2_rows_u##bits(void *dst, ptrdiff_t stride, const uint8_t *const *src,      \
                                      size_t rows, size_t n) {                                     \
        enum { LANES = 128 / bits };                                                               \
        if (n < LANES) {                                                                           \
            ce_morph_rows_portable.u##bits.open_2x2_rows(dst, stride, src, rows, n);               \
            return;                                                                                \
        }                                                                                          \
        for (size_t i = 0; i < n; i += LANES) {                                                    \
            if (i + LANES > n) i = n - LANES;                                                      \
            uint8_t *to = (uint8_t *)((uint##bits##_t *)dst + i);                                  \
            type above[2], upper = vdupq_n_u##bits(0);                                             \
            pair_minima_u##bits(above, (const uint##bits##_t *)(const void *)src[0] + i);          \
            for (size_t row = 1; row < rows + 2; row++) {                                          \
                type here[2];                                                                      \
                pair_minima_u##bits(here, (const uint##bits##_t *)(const void *)src[row] + i);     \
                const type lower = vmaxq_u##bits(vminq_u##bits(above[0], here[0]),                 \
                                                 vminq_u##bits(above[1], here[1]));                \
                if (row > 1) {                                                                     \
                    vst1q_u##bits((uint##bits##_t *)(void *)to, vmaxq_u##bits(upper, lower));      \
                    to += stride;                                                                  \
                }                                                                                  \
                upper = lower;                                                                     \
                above[0] = here[0];                                                                \
                above[1] = here[1];                                                                \
            }                                                                                      \
        }                                                                                          \
    }

DEFINE_OPEN_2X2(8, uint8x16_t)
DEFINE_OPEN_2X2(16, uint16x8_t)

const ce_morph_rows ce_morph_rows_neon = {
    .name = "neon",
    .u8 = {{min_pair_row_u8, min_window_row_u8},
           {max_pair_row_u8, max_window_row_u8},
           open_2x2_rows_u8},
    .u16 = {{min_pair_row_u16, min_window_row_u16},
            {max_pair_row_u16, max_window_row_u16},
            open_2x2_rows_u16},
};

#endif
