// SPDX-License-Identifier: Apache-2.0
// Row kernels: what a variant provides and the drivers call. They trust their arguments: the
// drivers have checked them. Every variant of a kernel gives the same bytes.

#ifndef CE_ROWS_H
#define CE_ROWS_H

#include <stddef.h>
#include <stdint.h>

// Resize weights have 11 bits. A sum of two weighted pixels is at most 255 * 2^11; without its
// low 4 bits it fits a signed 16-bit lane, and after the second weighting 2 * 11 - 4 bits are left
// to remove: 16 by keeping the high half of a product, 2 by a rounded shift.
enum {
    CE_WEIGHT_BITS = 11,
    CE_WEIGHT_ONE = 1 << CE_WEIGHT_BITS,
    CE_HALF_BITS = 4,
    CE_PRODUCT_BITS = 16,
    CE_LAST_BITS = 2
};

// Four numbers of the four tiles around a pixel: up left, up right, down left, down right.
typedef float ce_quad[4];

typedef struct {
    const char *name;

    // Every pixel of a cell, the rectangle between four tile centres. A pixel of level v becomes
    //   (ul * l + ur * r) * t + (dl * l + dr * r) * b
    // in float32, each product and sum rounded on its own, then rounded to an integer, ties to
    // even; it is never below 0 nor rounds to more than the largest level.
    // table[v] is ul, ur, dl, dr: what the four tiles make of that level, in whole numbers.
    // across[x] is l, r, l, r for a column, down[y] is t, b, t, b for a row. Strides in bytes.
    void (*blend_u8)(uint8_t *dst, ptrdiff_t dst_stride, const uint8_t *src, ptrdiff_t src_stride,
                     size_t height, size_t width, const ce_quad *table, const ce_quad *across,
                     const ce_quad *down);
    void (*blend_u16)(uint16_t *dst, ptrdiff_t dst_stride, const uint16_t *src,
                      ptrdiff_t src_stride, size_t height, size_t width, const ce_quad *table,
                      const ce_quad *across, const ce_quad *down);
} ce_clahe_rows;

// dst[i] = min or max of a[i] and b[i]. dst may be a; no other overlap.
typedef void (*ce_extremum_row)(uint8_t *dst, const uint8_t *a, const uint8_t *b, size_t n);

typedef struct {
    const char *name;
    ce_extremum_row min_row;
    ce_extremum_row max_row;
} ce_morph_rows;

typedef struct {
    const char *name;

    // dst[i] = (src[at[i]] * left[i] + src[at[i] + 1] * right[i]) >> CE_HALF_BITS.
    void (*across_row)(int16_t *dst, const uint8_t *src, size_t n, const uint32_t *at,
                       const int16_t *left, const int16_t *right);

    // dst[i] = (hi(up[i] * top) + hi(down[i] * bottom) + 2) >> 2, hi(p) = p >> CE_PRODUCT_BITS.
    void (*down_row)(uint8_t *dst, const int16_t *up, const int16_t *down, size_t n, int16_t top,
                     int16_t bottom);

    // dst[i] = rounded mean of the 2x2 pixels at up[2 * i], down[2 * i]; halves go up.
    void (*halve_row)(uint8_t *dst, const uint8_t *up, const uint8_t *down, size_t n);
} ce_resize_rows;

// The rows in use (dispatch.c).
const ce_clahe_rows *ce_active_clahe(void);
const ce_morph_rows *ce_active_morph(void);
const ce_resize_rows *ce_active_resize(void);

extern const ce_clahe_rows ce_clahe_rows_portable;
extern const ce_clahe_rows ce_clahe_rows_avx2;
extern const ce_morph_rows ce_morph_rows_portable;
extern const ce_resize_rows ce_resize_rows_portable;

#endif
