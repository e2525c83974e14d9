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

// Four numbers for a pixel between four tiles: up left, up right, down left, down right.
typedef float ce_quad[4];

// Counters of grey levels come in sets, so that equal neighbours need not wait for one another.
// The many counters of uint16 are worth two: more take longer to sum than they save. Sets start a
// little more than a power of two apart: a processor that compares the low bits of addresses would
// take the same level in two sets for one counter.
enum { CE_SETS_U8 = 8, CE_SETS_U16 = 2 };
#define CE_SET_STRIDE(levels) ((levels) + 16)

// The pixels between the centres of four tiles. One of level v becomes
//   (ul * l + ur * r) * t + (dl * l + dr * r) * b
// in float32, each product and sum rounded on its own, then rounded to an integer, ties to even,
// where ul, ur, dl, dr are what the tables of the tiles hold for v. That is never below 0, and
// never rounds to more than the largest of the four.
typedef struct {
    size_t height, width;           // pixels
    const uint16_t *tables[4];      // of the tiles up left, up right, down left, down right
    size_t levels;                  // in a table; every pixel is below
    const ce_quad *across;          // l, r, l, r for each column
    const ce_quad *down;            // t, b, t, b for each row
    size_t tile_height, tile_width; // l, r (t, b) are float32 of multiples of 1 / tile_width
                                    // (1 / tile_height) if that is a power of two
    ce_quad *scratch;               // levels of them, at the start of a line of cache
} ce_cell;

// Where the sides of a tile are powers of two up to 256, no number on the way to a pixel of 8 bits
// has more than 24, so that nothing is rounded but the result, and integers do as well.
enum { CE_LARGEST_DYADIC = 256 };

static inline int ce_is_dyadic_side(size_t tile) {
    // The weights of a tile of 1 are halves.
    return tile >= 2 && tile <= CE_LARGEST_DYADIC && (tile & (tile - 1)) == 0;
}

static inline int ce_is_dyadic(const ce_cell *cell) {
    return ce_is_dyadic_side(cell->tile_height) && ce_is_dyadic_side(cell->tile_width) &&
           cell->width <= CE_LARGEST_DYADIC;
}

// Of a pixel and of the next one; the sum is CE_WEIGHT_ONE.
typedef struct {
    int16_t left, right;
} ce_weights;

typedef struct {
    const char *name;

    // Turn the counts of a tile into its table. counts: `sets` sets of `levels` counters
    // (CE_SETS_U8 of 256, or CE_SETS_U16), CE_SET_STRIDE(levels) apart, to be added up and left
    // at 0. `all` levels share what exceeds the limit, but those from `levels` on are counted
    // nowhere and not asked for.
    void (*make_table)(uint16_t *table, int32_t *counts, size_t levels, size_t sets, size_t all,
                       int32_t limit, float scale);

    // Blend a cell. Strides are in bytes.
    void (*blend_u8)(const ce_cell *cell, uint8_t *dst, ptrdiff_t dst_stride, const uint8_t *src,
                     ptrdiff_t src_stride);
    void (*blend_u16)(const ce_cell *cell, uint16_t *dst, ptrdiff_t dst_stride,
                      const uint16_t *src, ptrdiff_t src_stride);
} ce_clahe_rows;

// Extremum, minimum or maximum, of pixels of one type; n counts pixels.

// dst[i] = extremum of a[i] and b[i]. dst may be a; no other overlap.
typedef void (*ce_pair_row)(void *dst, const void *a, const void *b, size_t n);

// dst[i] = extremum of src[i], src[i + reach], src[i + 2 * reach] … as far as these stay below
// i + length - reach, and of src[i + length - reach] itself: the extremum of a window of `length`,
// if src holds those of windows of `reach`. reach < length <= 4 * reach; no overlap.
typedef void (*ce_window_row)(void *dst, const void *src, size_t reach, size_t length, size_t n);

// Pixel j of row i of dst = the maximum of the minima of the four 2x2 squares of pixels in columns
// j to j + 2 of src[i], src[i + 1], src[i + 2]. Rows of dst are stride bytes apart; no overlap.
typedef void (*ce_open_2x2_rows)(void *dst, ptrdiff_t stride, const uint8_t *const *src,
                                 size_t rows, size_t n);

typedef struct {
    struct {
        ce_pair_row pair_row;
        ce_window_row window_row;
    } min, max;
    ce_open_2x2_rows open_2x2_rows;
} ce_extrema;

typedef struct {
    const char *name;
    ce_extrema u8, u16;
} ce_morph_rows;

typedef struct {
    const char *name;

    // Of so many rows: dst[i] = (src[at[i]] * w[i].left + src[at[i] + 1] * w[i].right) >>
    // CE_HALF_BITS. at does not decrease; no pixel past src[at[n - 1] + 1] is read.
    void (*across_rows)(int16_t *const *dst, const uint8_t *const *src, size_t rows, size_t n,
                        const uint32_t *at, const ce_weights *w);

    // dst[i] = (hi(up[i] * top) + hi(down[i] * bottom) + 2) >> 2, hi(p) = p >> CE_PRODUCT_BITS.
    void (*down_row)(uint8_t *dst, const int16_t *up, const int16_t *down, size_t n, int16_t top,
                     int16_t bottom);

    // dst[i] = rounded mean of the 2x2 pixels at up[2 * i], down[2 * i]; halves go up.
    void (*halve_row)(uint8_t *dst, const uint8_t *up, const uint8_t *down, size_t n);
} ce_resize_rows;

// dst[i] = rounded mean of a square of pixels whose upper left is src[side * i], halves up. Rows
// are stride bytes apart.
typedef void (*ce_block_row)(uint8_t *dst, const uint8_t *src, ptrdiff_t stride, size_t n);

enum {
    CE_AREA_WINDOW = 8,  // inputs that an output pixel may lie over, for the quick ways
    // Rows are light if their weights add up to so much at most, and have so many columns at least.
    CE_AREA_LIGHT = INT16_MAX / UINT8_MAX,
    CE_AREA_LIGHT_IN = 32,
    CE_AREA_LIGHT_OUT = 8,
};

// The columns of an output row. Output pixel i ends rests[i] units within input pixel ends[i],
// which is `units` long; the next one begins there. An output pixel has `area` square units.
typedef struct {
    uint32_t units, area;
    const uint16_t *ends, *rests;

    // The same by windows: output pixel i covers inputs starts[i] and after it, of which the one k
    // further on lies under it by weights[CE_AREA_WINDOW * i + k] units. Any x up to 256 * area,
    // divided by the area, is x * inverse >> shift, and inverse is below 2^32. Where a window is
    // too small, or there is no such inverse, starts is NULL.
    const uint16_t *starts;
    const uint32_t *weights;       // NULL for light rows
    const int16_t *light_weights;  // NULL for others
    uint32_t inverse, shift;
} ce_area_columns;

typedef struct {
    const char *name;
    ce_block_row halve_row;    // squares of 2
    ce_block_row quarter_row;  // squares of 4

    // sums[i] = rows[0][i] * weights[0] + … + rows[count - 1][i] * weights[count - 1]. The weights
    // add up to at most CE_AREA_LARGEST_SIDE, which is below 2^15. Another row follows, of weight
    // 0, for who takes them in pairs.
    void (*weigh_rows)(uint32_t *sums, const uint8_t *const *rows, const uint16_t *weights,
                       size_t count, size_t n);

    // dst[i] = rounded mean, halves up: what lies in sums[0..n_in) between the ends of output
    // pixels i - 1 and i, divided by the area. Another CE_AREA_WINDOW sums are 0; below is scratch,
    // n_in + 1 long.
    void (*across_row)(uint8_t *dst, size_t n, const uint32_t *sums, uint64_t *below, size_t n_in,
                       const ce_area_columns *columns);

    // The same of light rows, whose weights add up to CE_AREA_LIGHT at most, so that sums fit 15
    // bits, and whose columns have windows. NULL: the two above are as fast.
    void (*weigh_light_rows)(int16_t *sums, const uint8_t *const *rows, const uint16_t *weights,
                             size_t count, size_t n);
    void (*across_light_row)(uint8_t *dst, size_t n, const int16_t *sums,
                             const ce_area_columns *columns);
} ce_area_rows;

enum { CE_PRODUCT_ROWS = 4 };

typedef struct {
    const char *name;

    // Of a matrix of CE_PRODUCT_ROWS rows of n: product[j] = (((product[j] + vector[0] *
    // matrix[0][j]) + vector[1] * matrix[1][j]) + …, each step rounded.
    void (*add_rows)(float *product, const float *vector, const int8_t *matrix, size_t n);
} ce_product_rows;

// The rows in use (dispatch.c).
const ce_clahe_rows *ce_active_clahe(void);
const ce_morph_rows *ce_active_morph(void);
const ce_resize_rows *ce_active_resize(void);
const ce_area_rows *ce_active_area(void);
const ce_product_rows *ce_active_product(void);

extern const ce_clahe_rows ce_clahe_rows_portable;
extern const ce_clahe_rows ce_clahe_rows_avx2;
extern const ce_clahe_rows ce_clahe_rows_avx512bw;
extern const ce_clahe_rows ce_clahe_rows_avx512;
extern const ce_morph_rows ce_morph_rows_portable;
extern const ce_resize_rows ce_resize_rows_portable;
extern const ce_area_rows ce_area_rows_portable;
extern const ce_product_rows ce_product_rows_portable;

extern const ce_morph_rows ce_morph_rows_avx2;
extern const ce_resize_rows ce_resize_rows_avx2;
extern const ce_resize_rows ce_resize_rows_avx512;
extern const ce_area_rows ce_area_rows_avx2;
extern const ce_product_rows ce_product_rows_avx2;

extern const ce_clahe_rows ce_clahe_rows_neon;
extern const ce_morph_rows ce_morph_rows_neon;
extern const ce_resize_rows ce_resize_rows_neon;
extern const ce_area_rows ce_area_rows_neon;

#endif
