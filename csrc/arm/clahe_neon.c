// SPDX-License-Identifier: Apache-2.0
// A pixel costs one look-up of four floats. Two pixels, then four:
//
//     a = ul ur dl dr, b = ul ur dl dr         times their columns' l r l r
//     faddp(a, b) = u d u d                    left to right; times the row's t b t b
//     faddp(those, those of two more) = four pixels
//
// Products and sums are rounded one by one: no fmla.

#if defined(__aarch64__)

#include <arm_neon.h>
#include <string.h>

#include "../clahe_tables.h"

enum { FOUR = 4, STEP = 8 };

// What the four tiles make of each level, side by side.
static void join(const ce_cell *cell) {
    size_t v = 0;
    for (; v + FOUR <= cell->levels; v += FOUR) {
        float32x4x4_t quads;
        for (size_t tile = 0; tile < 4; tile++)
            quads.val[tile] = vcvtq_f32_u32(vmovl_u16(vld1_u16(cell->tables[tile] + v)));
        vst4q_f32(cell->scratch[v], quads);
    }
    for (; v < cell->levels; v++)
        for (size_t tile = 0; tile < 4; tile++) cell->scratch[v][tile] = cell->tables[tile][v];
}

static inline float32x4_t two(const ce_quad *table, size_t level0, size_t level1,
                              const ce_quad *across) {
    return vpaddq_f32(vmulq_f32(vld1q_f32(table[level0]), vld1q_f32(across[0])),
                      vmulq_f32(vld1q_f32(table[level1]), vld1q_f32(across[1])));
}

// Four pixels, rounded half to even, as 16 bits each.
static inline uint16x4_t four(float32x4_t first, float32x4_t second, float32x4_t down) {
    const float32x4_t sums = vpaddq_f32(vmulq_f32(first, down), vmulq_f32(second, down));
    return vmovn_u32(vcvtnq_u32_f32(sums));
}

static inline uint16x8_t eight(const ce_quad *table, const size_t levels[STEP],
                               const ce_quad *across, float32x4_t down) {
    const float32x4_t a = two(table, levels[0], levels[1], across);
    const float32x4_t b = two(table, levels[2], levels[3], across + 2);
    const float32x4_t c = two(table, levels[4], levels[5], across + 4);
    const float32x4_t d = two(table, levels[6], levels[7], across + 6);
    return vcombine_u16(four(a, b, down), four(c, d, down));
}

static inline void step_u8(uint8_t *dst, const uint8_t *src, const ce_quad *table,
                           const ce_quad *across, float32x4_t down) {
    // One load of eight levels: loads are what there is most of.
    uint64_t all;
    memcpy(&all, src, sizeof all);
    size_t levels[STEP];
    for (size_t i = 0; i < STEP; i++) levels[i] = all >> 8 * i & 255;
    vst1_u8(dst, vmovn_u16(eight(table, levels, across, down)));
}

static inline void step_u16(uint16_t *dst, const uint16_t *src, const ce_quad *table,
                            const ce_quad *across, float32x4_t down) {
    size_t levels[STEP];
    for (size_t i = 0; i < STEP; i++) levels[i] = src[i];
    vst1q_u16(dst, eight(table, levels, across, down));
}

// The last step of a row is moved back over pixels that are done.
#define DEFINE_BLEND(bits)                                                                         \
    static void blend_u##bits(const ce_cell *cell, uint##bits##_t *dst, ptrdiff_t dst_stride,      \
                              const uint##bits##_t *src, ptrdiff_t src_stride) {                   \
        if (cell->width < STEP) {                                                                  \
            ce_clahe_rows_portable.blend_u##bits(cell, dst, dst_stride, src, src_stride);          \
            return;                                                                                \
        }                                                                                          \
        join(cell);                                                                                \
        const ce_quad *const table = (const ce_quad *)cell->scratch;                               \
        for (size_t y = 0; y < cell->height; y++) {                                                \
            uint##bits##_t *to = (uint##bits##_t *)((char *)dst + (ptrdiff_t)y * dst_stride);      \
            const uint##bits##_t *from =                                                           \
                (const uint##bits##_t *)((const char *)src + (ptrdiff_t)y * src_stride);           \
            const float32x4_t down = vld1q_f32(cell->down[y]);                                     \
            for (size_t x = 0; x < cell->width; x += STEP) {                                       \
                if (x + STEP > cell->width) x = cell->width - STEP;                                \
                step_u##bits(to + x, from + x, table, cell->across + x, down);                     \
            }                                                                                      \
        }                                                                                          \
    }

DEFINE_BLEND(8)
DEFINE_BLEND(16)

static void equalise(uint16_t *table, const int32_t *counts, size_t levels, float scale) {
    const int32x4_t zero = vdupq_n_s32(0);
    int32x4_t below = zero;
    size_t v = 0;
    for (; v + FOUR <= levels; v += FOUR) {
        int32x4_t sums = vld1q_s32(counts + v);
        sums = vaddq_s32(sums, vextq_s32(zero, sums, 3));
        sums = vaddq_s32(sums, vextq_s32(zero, sums, 2));
        sums = vaddq_s32(sums, below);
        below = vdupq_laneq_s32(sums, 3);
        const float32x4_t exact = vmulq_n_f32(vcvtq_f32_s32(sums), scale);
        vst1_u16(table + v, vmovn_u32(vcvtnq_u32_f32(exact)));
    }
    ce_equalise(table, counts, v, levels, vgetq_lane_s32(below, 0), scale);
}

static void make_table(uint16_t *table, int32_t *counts, size_t levels, size_t sets, size_t all,
                       int32_t limit, float scale) {
    // The two cases apart, so that the compiler knows how many terms a sum has.
    const uint32_t excess =
        sets == CE_SETS_U8 ? ce_sum_and_cut(counts, 256, CE_SETS_U8, limit)
                           : ce_sum_and_cut(counts, levels, CE_SETS_U16, limit);
    ce_spread(counts, levels, all, excess);
    equalise(table, counts, levels, scale);
    memset(counts, 0, levels * sizeof *counts);
}

const ce_clahe_rows ce_clahe_rows_neon = {"neon", make_table, blend_u8, blend_u16};

#endif
