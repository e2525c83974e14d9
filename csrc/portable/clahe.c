// SPDX-License-Identifier: Apache-2.0

#include <string.h>

#include "../clahe_tables.h"
#include "../rows.h"

// In blocks: the look-ups are scalar, the arithmetic after them is what a compiler vectorises.
enum { BLOCK = 64 };

// What four tiles make of each level, side by side, so that a pixel costs one look-up: four bytes
// of an integer, the first tile lowest.
static void pack_u8(uint32_t *packed, const ce_cell *cell) {
    const uint16_t *const *t = cell->tables;
    for (size_t v = 0; v < cell->levels; v++)
        packed[v] = (uint32_t)t[0][v] | (uint32_t)t[1][v] << 8 | (uint32_t)t[2][v] << 16 |
                    (uint32_t)t[3][v] << 24;
}

static void blend_block_u8(uint8_t *restrict dst, const uint8_t *restrict src, size_t n,
                           const uint32_t *packed, const float *left, const float *right,
                           float top, float bottom) {
    uint32_t found[BLOCK], result[BLOCK];
    for (size_t i = 0; i < n; i++) found[i] = packed[src[i]];
    for (size_t i = 0; i < n; i++) {
        const float up_left = (float)(int32_t)(found[i] & 255);
        const float up_right = (float)(int32_t)(found[i] >> 8 & 255);
        const float down_left = (float)(int32_t)(found[i] >> 16 & 255);
        const float down_right = (float)(int32_t)(found[i] >> 24);
        const float sum = (up_left * left[i] + up_right * right[i]) * top +
                          (down_left * left[i] + down_right * right[i]) * bottom + CE_ROUNDING;
        memcpy(&result[i], &sum, sizeof sum);
    }
    for (size_t i = 0; i < n; i++) dst[i] = (uint8_t)result[i];
}

static void blend_u8(const ce_cell *cell, uint8_t *dst, ptrdiff_t dst_stride, const uint8_t *src,
                     ptrdiff_t src_stride) {
    uint32_t *packed = (uint32_t *)cell->scratch;
    pack_u8(packed, cell);
    for (size_t x = 0; x < cell->width; x += BLOCK) {
        const size_t n = cell->width - x < BLOCK ? cell->width - x : BLOCK;
        float left[BLOCK], right[BLOCK];
        for (size_t i = 0; i < n; i++) {
            left[i] = cell->across[x + i][0];
            right[i] = cell->across[x + i][1];
        }
        for (size_t y = 0; y < cell->height; y++)
            blend_block_u8(dst + (ptrdiff_t)y * dst_stride + x,
                           src + (ptrdiff_t)y * src_stride + x, n, packed, left, right,
                           cell->down[y][0], cell->down[y][1]);
    }
}

// The same for 16 bits, as floats.
static void pack_u16(ce_quad *packed, const ce_cell *cell) {
    for (size_t v = 0; v < cell->levels; v++)
        for (size_t tile = 0; tile < 4; tile++) packed[v][tile] = cell->tables[tile][v];
}

static void blend_row_u16(uint16_t *restrict dst, const uint16_t *restrict src, size_t n,
                          const ce_quad *packed, const ce_quad *across, float top, float bottom) {
    for (size_t x = 0; x < n; x += BLOCK) {
        const size_t block = n - x < BLOCK ? n - x : BLOCK;
        const float *weights = across[x];
        float product[4 * BLOCK];
        uint32_t result[BLOCK];
        for (size_t i = 0; i < block; i++)
            memcpy(product + 4 * i, packed[src[x + i]], sizeof *packed);
        for (size_t i = 0; i < 4 * block; i++) product[i] *= weights[i];
        for (size_t i = 0; i < block; i++) {
            const float *p = product + 4 * i;
            const float sum = (p[0] + p[1]) * top + (p[2] + p[3]) * bottom + CE_ROUNDING;
            memcpy(&result[i], &sum, sizeof sum);
        }
        for (size_t i = 0; i < block; i++) dst[x + i] = (uint16_t)result[i];
    }
}

static void blend_u16(const ce_cell *cell, uint16_t *dst, ptrdiff_t dst_stride,
                      const uint16_t *src, ptrdiff_t src_stride) {
    pack_u16(cell->scratch, cell);
    for (size_t y = 0; y < cell->height; y++)
        blend_row_u16((uint16_t *)((char *)dst + (ptrdiff_t)y * dst_stride),
                      (const uint16_t *)((const char *)src + (ptrdiff_t)y * src_stride),
                      cell->width, (const ce_quad *)cell->scratch, cell->across, cell->down[y][0],
                      cell->down[y][1]);
}

static void make_table(uint16_t *table, int32_t *counts, size_t levels, size_t sets, size_t all,
                       int32_t limit, float scale) {
    // The two cases apart, so that the compiler knows how many terms a sum has.
    const uint32_t excess = sets == CE_SETS_U8
                                ? ce_sum_and_cut(counts, 256, CE_SETS_U8, limit)
                                : ce_sum_and_cut(counts, levels, CE_SETS_U16, limit);
    ce_spread(counts, levels, all, excess);
    ce_equalise(table, counts, 0, levels, 0, scale);
    memset(counts, 0, levels * sizeof *counts);
}

const ce_clahe_rows ce_clahe_rows_portable = {"portable", make_table, blend_u8, blend_u16};
