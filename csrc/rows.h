// SPDX-License-Identifier: Apache-2.0
// Row kernels: what a variant provides and the drivers call. They trust their arguments: the
// drivers have checked them. Every variant of a kernel gives the same bytes.

#ifndef CE_ROWS_H
#define CE_ROWS_H

#include <stddef.h>
#include <stdint.h>

enum { CE_GREY_LEVELS = 256 };

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

// Of a pixel and of the next one; the sum is CE_WEIGHT_ONE.
typedef struct {
    int16_t left, right;
} ce_weights;

typedef struct {
    const char *name;

    // counts[v] += how many of src[0..n) equal v.
    void (*histogram_row)(uint32_t counts[CE_GREY_LEVELS], const uint8_t *src, size_t n);

    // dst[i] = (ul * left[i] + ur * right[i]) * top + (dl * left[i] + dr * right[i]) * bottom
    // in float32, each product and sum rounded on its own, then rounded to an integer, ties to
    // even. ul, ur, dl, dr are the bytes of tables[src[i]], lowest first: what the tiles up left,
    // up right, down left and down right make of that level.
    void (*blend_row)(uint8_t *dst, const uint8_t *src, size_t n,
                      const uint32_t tables[CE_GREY_LEVELS], const float *left, const float *right,
                      float top, float bottom);
} ce_clahe_rows;

// Extremum, minimum or maximum, of pixels of one type; n counts pixels.

// dst[i] = extremum of a[i] and b[i]. dst may be a; no other overlap.
typedef void (*ce_pair_row)(void *dst, const void *a, const void *b, size_t n);

// dst[i] = extremum of src[i], src[i + reach], src[i + 2 * reach] … as far as these stay below
// i + length - reach, and of src[i + length - reach] itself: the extremum of a window of `length`,
// if src holds those of windows of `reach`. reach < length <= 4 * reach; no overlap.
typedef void (*ce_window_row)(void *dst, const void *src, size_t reach, size_t length, size_t n);

typedef struct {
    struct {
        ce_pair_row pair_row;
        ce_window_row window_row;
    } min, max;
} ce_extrema;

typedef struct {
    const char *name;
    ce_extrema u8, u16;
} ce_morph_rows;

typedef struct {
    const char *name;

    // dst[i] = (src[at[i]] * w[i].left + src[at[i] + 1] * w[i].right) >> CE_HALF_BITS.
    // at does not decrease; no pixel past src[at[n - 1] + 1] is read.
    void (*across_row)(int16_t *dst, const uint8_t *src, size_t n, const uint32_t *at,
                       const ce_weights *w);

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
extern const ce_morph_rows ce_morph_rows_portable;
extern const ce_resize_rows ce_resize_rows_portable;

extern const ce_morph_rows ce_morph_rows_avx2;
extern const ce_resize_rows ce_resize_rows_avx2;

extern const ce_morph_rows ce_morph_rows_neon;
extern const ce_resize_rows ce_resize_rows_neon;

#endif
