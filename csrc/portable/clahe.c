// SPDX-License-Identifier: Apache-2.0

#include <string.h>

#include "../clahe_tables.h"
#include "../rows.h"

// In blocks: the look-ups are scalar, the arithmetic after them is what a compiler vectorises.
enum { BLOCK = 64 };

// Adding 1.5 * 2^23 leaves no bits for a fraction: it rounds, half to even, into the low bits.
static const float ROUNDING = 12582912.0f;

// found and across hold four numbers for each of n pixels.
static void blend(uint32_t *result, const float *found, const float *across, size_t n, float top,
                  float bottom) {
    float product[4 * BLOCK];
    for (size_t i = 0; i < 4 * n; i++) product[i] = found[i] * across[i];
    for (size_t i = 0; i < n; i++) {
        const float *p = product + 4 * i;
        const float sum = (p[0] + p[1]) * top + (p[2] + p[3]) * bottom + ROUNDING;
        memcpy(&result[i], &sum, sizeof sum);
    }
}

static void blend_row_u8(uint8_t *restrict dst, const uint8_t *restrict src, size_t n,
                         const ce_quad *table, const ce_quad *across, const float *down) {
    for (size_t x = 0; x < n; x += BLOCK) {
        const size_t block = n - x < BLOCK ? n - x : BLOCK;
        float found[4 * BLOCK];
        uint32_t result[BLOCK];
        for (size_t i = 0; i < block; i++) memcpy(found + 4 * i, table[src[x + i]], sizeof *table);
        blend(result, found, across[x], block, down[0], down[1]);
        for (size_t i = 0; i < block; i++) dst[x + i] = (uint8_t)result[i];
    }
}

static void blend_row_u16(uint16_t *restrict dst, const uint16_t *restrict src, size_t n,
                          const ce_quad *table, const ce_quad *across, const float *down) {
    for (size_t x = 0; x < n; x += BLOCK) {
        const size_t block = n - x < BLOCK ? n - x : BLOCK;
        float found[4 * BLOCK];
        uint32_t result[BLOCK];
        for (size_t i = 0; i < block; i++) memcpy(found + 4 * i, table[src[x + i]], sizeof *table);
        blend(result, found, across[x], block, down[0], down[1]);
        for (size_t i = 0; i < block; i++) dst[x + i] = (uint16_t)result[i];
    }
}

// What the four tiles make of each level, side by side, so that a pixel costs one look-up.
static void join(const ce_cell *cell) {
    for (size_t v = 0; v < cell->levels; v++)
        for (size_t tile = 0; tile < 4; tile++) cell->scratch[v][tile] = cell->tables[tile][v];
}

static void blend_u8(const ce_cell *cell, uint8_t *dst, ptrdiff_t dst_stride, const uint8_t *src,
                     ptrdiff_t src_stride) {
    join(cell);
    for (size_t y = 0; y < cell->height; y++)
        blend_row_u8(dst + (ptrdiff_t)y * dst_stride, src + (ptrdiff_t)y * src_stride, cell->width,
                     (const ce_quad *)cell->scratch, cell->across, cell->down[y]);
}

static void blend_u16(const ce_cell *cell, uint16_t *dst, ptrdiff_t dst_stride,
                      const uint16_t *src, ptrdiff_t src_stride) {
    join(cell);
    for (size_t y = 0; y < cell->height; y++)
        blend_row_u16((uint16_t *)((char *)dst + (ptrdiff_t)y * dst_stride),
                      (const uint16_t *)((const char *)src + (ptrdiff_t)y * src_stride),
                      cell->width, (const ce_quad *)cell->scratch, cell->across, cell->down[y]);
}

static void make_table(uint16_t *table, int32_t *counts, size_t levels, size_t sets, size_t all,
                       int32_t limit, float scale) {
    // The two cases apart, so that the compiler knows how many terms a sum has.
    const uint32_t excess =
        sets == CE_SETS_U8 ? ce_sum_and_cut(counts, 256, CE_SETS_U8, limit)
                           : ce_sum_and_cut(counts, levels, CE_SETS_U16, limit);
    ce_spread(counts, levels, all, excess);
    ce_equalise(table, counts, 0, levels, 0, scale);
    memset(counts, 0, levels * sizeof *counts);
}

const ce_clahe_rows ce_clahe_rows_portable = {"portable", make_table, blend_u8, blend_u16};
