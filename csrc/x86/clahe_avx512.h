// SPDX-License-Identifier: Apache-2.0
// uint8 with AVX-512, whose 32 registers have room for the tables of four tiles. 64 pixels are 16
// columns of four rows, a row to a 128-bit lane, so that the weights of a column are broadcast and
// those of a row are constant. That suits cells of any width from 16 on.
//
// Who includes this defines AVX512, the target of its functions, and the two functions that look
// levels up, which are all in which the variants differ.

#ifndef CE_CLAHE_AVX512_H
#define CE_CLAHE_AVX512_H

#include <immintrin.h>

#include "../clahe_tables.h"
#include "../rows.h"

enum { COLUMNS = 16, ROWS = 4, LEVELS = 256 };

// A byte a level of each of the four tiles.
typedef struct {
    __m512i of[4 * LEVELS / 64];
} tables;

// What the tiles hold for each pixel, bytes: left right, left right, … of columns 0 to 7 of each
// lane, then of columns 8 to 15.
typedef struct {
    __m512i up[2], down[2];
} looked_up;

// The tables, each byte with `flip` exclusive-or'd.
static inline AVX512 tables load_tables(const ce_cell *cell, int8_t flip);
static inline AVX512 looked_up look_up(const tables *t, __m512i levels);

static inline AVX512 __m512i load_rows(const uint8_t *const src[ROWS], size_t x) {
    __m512i rows = _mm512_castsi128_si512(_mm_loadu_si128((const void *)(src[0] + x)));
    rows = _mm512_inserti32x4(rows, _mm_loadu_si128((const void *)(src[1] + x)), 1);
    rows = _mm512_inserti32x4(rows, _mm_loadu_si128((const void *)(src[2] + x)), 2);
    return _mm512_inserti32x4(rows, _mm_loadu_si128((const void *)(src[3] + x)), 3);
}

static inline AVX512 void store_rows(uint8_t *const dst[ROWS], size_t x, __m512i rows) {
    _mm_storeu_si128((void *)(dst[0] + x), _mm512_castsi512_si128(rows));
    _mm_storeu_si128((void *)(dst[1] + x), _mm512_extracti32x4_epi32(rows, 1));
    _mm_storeu_si128((void *)(dst[2] + x), _mm512_extracti32x4_epi32(rows, 2));
    _mm_storeu_si128((void *)(dst[3] + x), _mm512_extracti32x4_epi32(rows, 3));
}

// In float32, columns 0 to 3 of each lane, then 4 to 7, …
typedef struct {
    float left[COLUMNS], right[COLUMNS];
} real_columns;

static AVX512 void real_weights(real_columns *columns, const ce_quad *across) {
    for (size_t i = 0; i < COLUMNS; i++) {
        columns->left[i] = across[i][0];
        columns->right[i] = across[i][1];
    }
}

// Columns 4 * part to 4 * part + 3 of each lane, of the left or the right tiles.
static inline AVX512 __m512 part_of(const __m512i pairs[2], int part, int right) {
    const int first = 8 * (part % 2) + right;
    const __m512i none = _mm512_set1_epi32((int)0x80808000);
    const __m512i columns = _mm512_set4_epi32(first + 6, first + 4, first + 2, first);
    return _mm512_cvtepi32_ps(
        _mm512_shuffle_epi8(pairs[part / 2], _mm512_or_si512(none, columns)));
}

static inline AVX512 __m512 four_floats(const float *at) {
    return _mm512_broadcast_f32x4(_mm_loadu_ps(at));
}

static inline AVX512 __m512i blended_part(const looked_up *found, const real_columns *columns,
                                          __m512 top, __m512 bottom, int part) {
    const __m512 left = four_floats(columns->left + 4 * part);
    const __m512 right = four_floats(columns->right + 4 * part);
    const __m512 up = _mm512_add_ps(_mm512_mul_ps(part_of(found->up, part, 0), left),
                                    _mm512_mul_ps(part_of(found->up, part, 1), right));
    const __m512 down = _mm512_add_ps(_mm512_mul_ps(part_of(found->down, part, 0), left),
                                      _mm512_mul_ps(part_of(found->down, part, 1), right));
    return _mm512_cvtps_epi32(
        _mm512_add_ps(_mm512_mul_ps(up, top), _mm512_mul_ps(down, bottom)));
}

static inline AVX512 __m512i blended_real(looked_up found, const real_columns *columns,
                                          __m512 down) {
    const __m512 top = _mm512_moveldup_ps(down), bottom = _mm512_movehdup_ps(down);
    const __m512i low =
        _mm512_packs_epi32(blended_part(&found, columns, top, bottom, 0),
                           blended_part(&found, columns, top, bottom, 1));
    const __m512i high =
        _mm512_packs_epi32(blended_part(&found, columns, top, bottom, 2),
                           blended_part(&found, columns, top, bottom, 3));
    return _mm512_packus_epi16(low, high);
}

// As in clahe_avx2.c: where the sides of a tile are powers of two up to 256, integers do. Tables
// have 128 taken off, so that they are signed bytes; weights are unsigned ones:
//
//     bytes of a lane    ul ur, ul ur, …    columns 0 1 …, times and added in pairs: u, u, …
//     words              u d, u d, …        columns 0 1 2 3 | 4 5 6 7 | …, times and added
//
// A weight of 256, whose partner is 0, is no byte. There the left tables stand in for the right
// ones, and 255 + 1 weigh as much.
typedef struct {
    uint8_t weights[2][COLUMNS];  // left, right for each column, eight columns each
    __mmask64 whole[2];           // in each lane of pairs: the right ones where the left weigh 256
} dyadic_columns;

enum { MIDDLE = 128 };

static AVX512 void dyadic_weights(dyadic_columns *columns, const ce_quad *across, float side) {
    // l, r of eight columns out of l, r, l, r of four and four more.
    const __m512i pairs =
        _mm512_setr_epi32(0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29);
    for (size_t i = 0; i < 2; i++) {
        const float *quads = across[8 * i];
        const __m512 weights = _mm512_permutex2var_ps(_mm512_loadu_ps(quads), pairs,
                                                      _mm512_loadu_ps(quads + COLUMNS));
        const __m512i integers = _mm512_cvtps_epi32(_mm512_mul_ps(weights, _mm512_set1_ps(side)));
        const __mmask16 left = _mm512_cmpeq_epi32_mask(integers, _mm512_set1_epi32(256));
        const __mmask16 right = (__mmask16)(left << 1);
        const __m128i bytes = _mm512_cvtusepi32_epi8(integers);
        _mm_storeu_si128((void *)columns->weights[i], _mm_mask_set1_epi8(bytes, right, 1));
        columns->whole[i] = right * UINT64_C(0x0001000100010001);
    }
}

static inline AVX512 __m512i rounded(__m512i sums, __m512i down, __m512 rounding) {
    const __m512 exact = _mm512_cvtepi32_ps(_mm512_madd_epi16(sums, down));
    return _mm512_castps_si512(_mm512_add_ps(exact, rounding));
}

// Eight columns of each lane, times their weights and added: words.
static inline AVX512 __m512i sums_across(__m512i pairs, const dyadic_columns *columns, int half) {
    const __mmask64 whole = columns->whole[half];
    if (whole != 0) pairs = _mm512_mask_mov_epi8(pairs, whole, _mm512_slli_epi16(pairs, 8));
    const __m128i weights = _mm_loadu_si128((const void *)columns->weights[half]);
    return _mm512_maddubs_epi16(_mm512_broadcast_i32x4(weights), pairs);
}

static inline AVX512 __m512i blended_dyadic(looked_up found, const dyadic_columns *columns,
                                            __m512i down, __m512 rounding) {
    const __m512i up_low = sums_across(found.up[0], columns, 0);
    const __m512i up_high = sums_across(found.up[1], columns, 1);
    const __m512i down_low = sums_across(found.down[0], columns, 0);
    const __m512i down_high = sums_across(found.down[1], columns, 1);
    // Each pixel the low half of its 32 bits: columns 0 to 3 of each lane, 4 to 7, …
    const __m512i a = rounded(_mm512_unpacklo_epi16(up_low, down_low), down, rounding);
    const __m512i b = rounded(_mm512_unpackhi_epi16(up_low, down_low), down, rounding);
    const __m512i c = rounded(_mm512_unpacklo_epi16(up_high, down_high), down, rounding);
    const __m512i d = rounded(_mm512_unpackhi_epi16(up_high, down_high), down, rounding);
    const __mmask32 odd = 0xAAAAAAAA;
    const __m512i ab = _mm512_mask_mov_epi16(a, odd, _mm512_slli_epi32(b, 16));
    const __m512i cd = _mm512_mask_mov_epi16(c, odd, _mm512_slli_epi32(d, 16));
    const __m512i order = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15));
    return _mm512_shuffle_epi8(_mm512_packus_epi16(ab, cd), order);
}

// Rows y to y + 3 of an image, the last of which may come several times.
#define ROWS_AT(base, stride, y, height)                                       \
    {(base) + (ptrdiff_t)(y) * (stride),                                       \
     (base) + (ptrdiff_t)((y) + 1 < (height) ? (y) + 1 : (height)-1) * (stride), \
     (base) + (ptrdiff_t)((y) + 2 < (height) ? (y) + 2 : (height)-1) * (stride), \
     (base) + (ptrdiff_t)((y) + 3 < (height) ? (y) + 3 : (height)-1) * (stride)}

// Of the four rows: t, b, t, b, each row in its lane.
static inline AVX512 __m512 down_weights(const ce_cell *cell, size_t y) {
    __m512 weights = _mm512_setzero_ps();
    for (size_t i = 0; i < ROWS; i++) {
        const ce_quad *quad = cell->down + (y + i < cell->height ? y + i : cell->height - 1);
        weights = _mm512_mask_broadcast_f32x4(weights, (__mmask16)(15 << 4 * i),
                                              _mm_loadu_ps(*quad));
    }
    return weights;
}

enum { WIDEST = 1024 };

// Compiled for each of the two ways.
static CE_ALWAYS_INLINE AVX512 void blend(const ce_cell *cell, uint8_t *dst, ptrdiff_t dst_stride,
                                          const uint8_t *src, ptrdiff_t src_stride, int dyadic) {
    const size_t height = cell->height, last = cell->width - COLUMNS;
    union {
        dyadic_columns integers;
        real_columns floats;
    } columns[WIDEST / COLUMNS];
    // The last columns overlap those before.
    for (size_t b = 0, x = 0;; b++, x = COLUMNS * b < last ? COLUMNS * b : last) {
        if (dyadic)
            dyadic_weights(&columns[b].integers, cell->across + x, (float)(int)cell->tile_width);
        else
            real_weights(&columns[b].floats, cell->across + x);
        if (x == last) break;
    }
    const tables t = load_tables(cell, dyadic ? (int8_t)0x80 : 0);
    const float pixels = (float)(int)(cell->tile_width * cell->tile_height);
    const __m512 rounding = _mm512_set1_ps((CE_ROUNDING + MIDDLE) * pixels);
    const __m512 side = _mm512_set1_ps((float)(int)cell->tile_height);
#define BLENDED(found, block)                                               \
    (dyadic ? blended_dyadic(found, &columns[block].integers, down, rounding) \
            : blended_real(found, &columns[block].floats, weights))
    for (size_t y = 0; y < height; y += ROWS) {
        const uint8_t *const from[ROWS] = ROWS_AT(src, src_stride, y, height);
        uint8_t *const to[ROWS] = ROWS_AT(dst, dst_stride, y, height);
        const __m512 weights = down_weights(cell, y);
        const __m512i words = _mm512_cvtps_epi32(_mm512_mul_ps(weights, side));
        const __m512i down = _mm512_packs_epi32(words, words);
        // Each step looks up some pixels and blends those that the step before looked up.
        looked_up found = look_up(&t, load_rows(from, 0));
        size_t x = 0, b = 0;
        while (x < last) {
            const size_t ahead = x + COLUMNS < last ? x + COLUMNS : last;
            const looked_up found_ahead = look_up(&t, load_rows(from, ahead));
            store_rows(to, x, BLENDED(found, b));
            found = found_ahead;
            x = ahead;
            b++;
        }
        store_rows(to, x, BLENDED(found, b));
    }
#undef BLENDED
}

static AVX512 void blend_dyadic(const ce_cell *cell, uint8_t *dst, ptrdiff_t dst_stride,
                                const uint8_t *src, ptrdiff_t src_stride) {
    blend(cell, dst, dst_stride, src, src_stride, 1);
}

static AVX512 void blend_u8(const ce_cell *cell, uint8_t *dst, ptrdiff_t dst_stride,
                            const uint8_t *src, ptrdiff_t src_stride) {
    if (cell->width < COLUMNS || cell->width > WIDEST)
        ce_clahe_rows_avx2.blend_u8(cell, dst, dst_stride, src, src_stride);
    else if (ce_is_dyadic(cell))
        blend_dyadic(cell, dst, dst_stride, src, src_stride);
    else
        blend(cell, dst, dst_stride, src, src_stride, 0);
}

static void blend_u16(const ce_cell *cell, uint16_t *dst, ptrdiff_t dst_stride,
                      const uint16_t *src, ptrdiff_t src_stride) {
    ce_clahe_rows_avx2.blend_u16(cell, dst, dst_stride, src, src_stride);
}

// As in clahe_avx2.c, sixteen levels at a time.
static AVX512 void equalise(uint16_t *table, int32_t *counts, size_t levels, size_t all,
                            uint32_t excess, float scale) {
    const int32_t share = (int32_t)(excess / all), rest = (int32_t)(excess % all);
    const float per_step = rest > 0 ? 1.0f / (float)(int)(all / (size_t)rest) : 0.0f;
    const __m512i count =
        _mm512_setr_epi32(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
    const __m512i ends = _mm512_setr_epi32(0, 0, 0, 0, 3, 3, 3, 3, 0, 0, 0, 0, 11, 11, 11, 11);
    __m512i below = _mm512_add_epi32(_mm512_mullo_epi32(count, _mm512_set1_epi32(share)),
                                     _mm512_set1_epi32(1));
    __m512 level = _mm512_sub_ps(_mm512_cvtepi32_ps(count), _mm512_set1_ps(0.5f));
    for (size_t v = 0; v < levels; v += 16) {
        // Running sums in each lane, then over two lanes, then over all four.
        __m512i sums = _mm512_loadu_si512(counts + v);
        _mm512_storeu_si512(counts + v, _mm512_setzero_si512());
        sums = _mm512_add_epi32(sums, _mm512_bslli_epi128(sums, 4));
        sums = _mm512_add_epi32(sums, _mm512_bslli_epi128(sums, 8));
        sums = _mm512_mask_add_epi32(sums, 0xF0F0, sums, _mm512_permutexvar_epi32(ends, sums));
        sums = _mm512_mask_add_epi32(
            sums, 0xFF00, sums, _mm512_permutexvar_epi32(_mm512_set1_epi32(7), sums));
        const __m512i all_sixteen =
            _mm512_add_epi32(_mm512_permutexvar_epi32(_mm512_set1_epi32(15), sums),
                             _mm512_set1_epi32(16 * share));
        const __m512i steps =
            _mm512_cvttps_epi32(_mm512_mul_ps(level, _mm512_set1_ps(per_step)));
        sums = _mm512_add_epi32(sums, _mm512_min_epi32(steps, _mm512_set1_epi32(rest - 1)));
        level = _mm512_add_ps(level, _mm512_set1_ps(16));
        sums = _mm512_add_epi32(sums, below);
        below = _mm512_add_epi32(below, all_sixteen);
        const __m512i levels_16 = _mm512_cvtps_epi32(
            _mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(scale)));
        const __mmask16 wanted =
            (__mmask16)(levels - v < 16 ? (1u << (levels - v)) - 1 : 0xFFFF);
        // Not in one instruction, whose store MemorySanitizer does not see.
        _mm256_mask_storeu_epi16(table + v, wanted, _mm512_cvtusepi32_epi16(levels_16));
    }
}

static AVX512 void make_table(uint16_t *table, int32_t *counts, size_t levels, size_t sets,
                              size_t all, int32_t limit, float scale) {
    if (sets == CE_SETS_U8) {
        const uint32_t excess = ce_sum_and_cut(counts, LEVELS, CE_SETS_U8, limit);
        equalise(table, counts, LEVELS, all, excess, scale);
    } else {
        const uint32_t excess = ce_sum_and_cut(counts, levels, CE_SETS_U16, limit);
        equalise(table, counts, levels, all, excess, scale);
    }
}

#endif
