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
    static inline void extremum##_four_row_u##bits(                                                \
        uint##bits##_t *to, const uint##bits##_t *p, const uint##bits##_t *q,                      \
        const uint##bits##_t *r, const uint##bits##_t *s, size_t n) {                              \
        enum { LANES = 128 / bits };                                                               \
        for (size_t i = 0; i < n; i += LANES) {                                                    \
            if (i + LANES > n) i = n - LANES;                                                      \
            vst1q_u##bits(to + i, v##extremum##q_u##bits(                                          \
                                      v##extremum##q_u##bits(vld1q_u##bits(p + i),                 \
                                                             vld1q_u##bits(q + i)),                \
                                      v##extremum##q_u##bits(vld1q_u##bits(r + i),                 \
                                                             vld1q_u##bits(s + i))));              \
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
        extremum##_four_row_u##bits(to, p, q, r, s, n);                                            \
    }                                                                                              \
                                                                                                   \
    static void extremum##_square_row_u##bits(void *dst, const void *a, const void *b, size_t n) { \
        enum { LANES = 128 / bits };                                                               \
        const uint##bits##_t *p = a, *q = b;                                                       \
        if (n < LANES)                                                                             \
            ce_morph_rows_portable.u##bits.extremum.square_row(dst, a, b, n);                      \
        else                                                                                       \
            extremum##_four_row_u##bits(dst, p, p + 1, q, q + 1, n);                               \
    }

DEFINE_ROWS(min, 8)
DEFINE_ROWS(max, 8)
DEFINE_ROWS(min, 16)
DEFINE_ROWS(max, 16)

const ce_morph_rows ce_morph_rows_neon = {
    .name = "neon",
    .u8 = {{min_pair_row_u8, min_window_row_u8, min_square_row_u8},
           {max_pair_row_u8, max_window_row_u8, max_square_row_u8}},
    .u16 = {{min_pair_row_u16, min_window_row_u16, min_square_row_u16},
            {max_pair_row_u16, max_window_row_u16, max_square_row_u16}},
};

#endif
