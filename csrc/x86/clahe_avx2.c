// SPDX-License-Identifier: Apache-2.0
// A pixel costs one look-up of four floats, and gathers are slow on most processors, so that its
// level goes through an integer register. Eight pixels, two to a register:
//
//     a = ul ur dl dr | ul ur dl dr      pixels 0 | 1, times l r l r | l r l r
//     b                                  pixels 2 | 3
//     pair_sums(a, b) = u d u d | u d u d       pixels 0 2 | 1 3, times t b t b | t b t b
//     pair_sums(those, those of pixels 4 to 7) = pixels 0 2 4 6 | 1 3 5 7
//
// From the load of a level to the store of its pixel takes longer than a processor can look ahead.
// Each step therefore begins some pixels and finishes those that the step before began.

#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))

#include <immintrin.h>
#include <string.h>

#include "../clahe_tables.h"
#include "../rows.h"

#define AVX2 __attribute__((target("avx2,bmi2")))

// Level i of those in an integer, times the size of a quad: one rotation and one mask.
enum { QUAD_BITS = 4 };

static inline AVX2 uint64_t rotated(uint64_t value, unsigned bits) {
    return value >> bits % 64 | value << (64 - bits) % 64;
}

static inline AVX2 size_t quad_u8(uint64_t levels, unsigned i) {
    return rotated(levels, 8 * i + 64 - QUAD_BITS) & 0xFF << QUAD_BITS;
}

static inline AVX2 size_t quad_u16(uint64_t levels, unsigned i) {
    return rotated(levels, 16 * i + 64 - QUAD_BITS) & 0xFFFF << QUAD_BITS;
}

// at: where the quads of two pixels lie in the table, in bytes.
static inline AVX2 __m256 look_up(const ce_quad *table, size_t at0, size_t at1) {
    const char *quads = (const char *)table;
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_load_ps((const float *)(quads + at0))),
                                _mm_load_ps((const float *)(quads + at1)), 1);
}

// In each half: the sums of neighbours in a, then those in b.
static inline AVX2 __m256 pair_sums(__m256 a, __m256 b) {
    return _mm256_add_ps(_mm256_shuffle_ps(a, b, _MM_SHUFFLE(2, 0, 2, 0)),
                         _mm256_shuffle_ps(a, b, _MM_SHUFFLE(3, 1, 3, 1)));
}

// Eight pixels of each of two rows, which share the weights of their columns, half done: weighted
// and added from left to right.
enum { STEP = 8 };

typedef struct {
    __m256 of[4];  // the upper row, pixels 0 to 3 and 4 to 7; the lower row
} half_done;

static inline AVX2 half_done begin_u8(const uint8_t *const src[2], size_t x, const ce_quad *table,
                                      const ce_quad *across) {
    half_done sums;
    for (size_t row = 0; row < 2; row++) {
        uint64_t levels;
        memcpy(&levels, src[row] + x, sizeof levels);
        for (unsigned i = 0; i < 2; i++) {
            const __m256 left = look_up(table, quad_u8(levels, 4 * i), quad_u8(levels, 4 * i + 1));
            const __m256 right =
                look_up(table, quad_u8(levels, 4 * i + 2), quad_u8(levels, 4 * i + 3));
            sums.of[2 * row + i] =
                pair_sums(_mm256_mul_ps(left, _mm256_loadu_ps(across[x + 4 * i])),
                          _mm256_mul_ps(right, _mm256_loadu_ps(across[x + 4 * i + 2])));
        }
    }
    return sums;
}

static inline AVX2 half_done begin_u16(const uint16_t *const src[2], size_t x,
                                       const ce_quad *table, const ce_quad *across) {
    half_done sums;
    for (size_t row = 0; row < 2; row++)
        for (unsigned i = 0; i < 2; i++) {
            uint64_t levels;
            memcpy(&levels, src[row] + x + 4 * i, sizeof levels);
            const __m256 left = look_up(table, quad_u16(levels, 0), quad_u16(levels, 1));
            const __m256 right = look_up(table, quad_u16(levels, 2), quad_u16(levels, 3));
            sums.of[2 * row + i] =
                pair_sums(_mm256_mul_ps(left, _mm256_loadu_ps(across[x + 4 * i])),
                          _mm256_mul_ps(right, _mm256_loadu_ps(across[x + 4 * i + 2])));
        }
    return sums;
}

// A row as integers, in the order of the drawing. The conversion rounds half to even, unless
// somebody has changed the rounding of all arithmetic.
static inline AVX2 __m256i finish_row(__m256 low, __m256 high, __m256 down) {
    return _mm256_cvtps_epi32(pair_sums(_mm256_mul_ps(low, down), _mm256_mul_ps(high, down)));
}

static inline AVX2 void finish_u8(half_done sums, uint8_t *const dst[2], size_t x,
                                  const __m256 down[2]) {
    // Both rows together: even pixels in the lower half, odd ones in the upper, 16 bits each.
    const __m256i both = _mm256_packs_epi32(finish_row(sums.of[0], sums.of[1], down[0]),
                                            finish_row(sums.of[2], sums.of[3], down[1]));
    const __m128i even = _mm256_castsi256_si128(both), odd = _mm256_extracti128_si256(both, 1);
    const __m128i pixels = _mm_or_si128(even, _mm_slli_epi16(odd, 8));
    _mm_storel_epi64((__m128i *)(dst[0] + x), pixels);
    _mm_storel_epi64((__m128i *)(dst[1] + x), _mm_unpackhi_epi64(pixels, pixels));
}

static inline AVX2 void finish_u16(half_done sums, uint16_t *const dst[2], size_t x,
                                   const __m256 down[2]) {
    const __m256i both = _mm256_packus_epi32(finish_row(sums.of[0], sums.of[1], down[0]),
                                             finish_row(sums.of[2], sums.of[3], down[1]));
    const __m128i even = _mm256_castsi256_si128(both), odd = _mm256_extracti128_si256(both, 1);
    _mm_storeu_si128((__m128i *)(dst[0] + x), _mm_unpacklo_epi16(even, odd));
    _mm_storeu_si128((__m128i *)(dst[1] + x), _mm_unpackhi_epi16(even, odd));
}

// Level by level, the tables of four tiles side by side: 16-bit integers of two levels to a
// register, four registers.
static inline AVX2 void join_eight(__m128i quads[4], const uint16_t *const tables[4], size_t v) {
    __m128i of[4];
    for (size_t i = 0; i < 4; i++) of[i] = _mm_loadu_si128((const __m128i *)(tables[i] + v));
    const __m128i up_low = _mm_unpacklo_epi16(of[0], of[1]);
    const __m128i up_high = _mm_unpackhi_epi16(of[0], of[1]);
    const __m128i down_low = _mm_unpacklo_epi16(of[2], of[3]);
    const __m128i down_high = _mm_unpackhi_epi16(of[2], of[3]);
    quads[0] = _mm_unpacklo_epi32(up_low, down_low);
    quads[1] = _mm_unpackhi_epi32(up_low, down_low);
    quads[2] = _mm_unpacklo_epi32(up_high, down_high);
    quads[3] = _mm_unpackhi_epi32(up_high, down_high);
}

static AVX2 void join(const ce_cell *cell) {
    size_t v = 0;
    for (; v + 8 <= cell->levels; v += 8) {
        __m128i quads[4];
        join_eight(quads, cell->tables, v);
        for (size_t i = 0; i < 4; i++)
            _mm256_store_ps(cell->scratch[v + 2 * i],
                            _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(quads[i])));
    }
    for (; v < cell->levels; v++)
        for (size_t tile = 0; tile < 4; tile++) cell->scratch[v][tile] = cell->tables[tile][v];
}

// Pixel x after `x`, of steps that cover 0..last + the length of one; the last is moved back over
// pixels that are done.
static inline AVX2 size_t next(size_t x, size_t step, size_t last) {
    return x + step < last ? x + step : last;
}

// A last row that is alone is done as two. The sums begun are `scale` times too large.
#define BLEND(TYPE, table, across, scale, begin, finish)                                           \
    const size_t height = cell->height, last = cell->width - STEP;                                 \
    for (size_t y = 0; y < height; y += 2) {                                                       \
        TYPE *to[2];                                                                               \
        const TYPE *from[2];                                                                       \
        __m256 down[2];                                                                            \
        for (size_t i = 0; i < 2; i++) {                                                           \
            const size_t row = y + i < height ? y + i : y;                                         \
            to[i] = (TYPE *)((char *)dst + (ptrdiff_t)row * dst_stride);                           \
            from[i] = (const TYPE *)((const char *)src + (ptrdiff_t)row * src_stride);             \
            down[i] = _mm256_mul_ps(_mm256_broadcast_ps((const __m128 *)cell->down[row]),          \
                                    _mm256_set1_ps(1.0f / (scale)));                               \
        }                                                                                          \
        half_done sums = begin(from, 0, table, across);                                            \
        size_t x = 0;                                                                              \
        while (x < last) {                                                                         \
            const size_t ahead = next(x, STEP, last);                                              \
            const half_done sums_ahead = begin(from, ahead, table, across);                        \
            finish(sums, to, x, down);                                                             \
            sums = sums_ahead;                                                                     \
            x = ahead;                                                                             \
        }                                                                                          \
        finish(sums, to, x, down);                                                                 \
    }

// Where the sides of a tile are powers of two up to 256, all numbers on the way have at most 24
// bits, so that nothing is rounded but the result and integers do as well: 16-bit ones, with 128
// taken off the levels, since a weight may be 256. Sixteen pixels, four to a register:
//
//     a = ul ur dl dr, ul ur dl dr | …    pixels 0 1 | 2 3, times and added in pairs: u d, u d | …
//     b                                   pixels 4 5 | 6 7
//     pack(a, b) = u d, u d, u d, u d | …  pixels 0 1 4 5 | 2 3 6 7
typedef int16_t integers[4];

enum { DYADIC_STEP = 16, MIDDLE = 128 };

static inline AVX2 __m128i two_quads(const integers *table, size_t v0, size_t v1) {
    const __m128i first = _mm_loadl_epi64((const __m128i *)table[v0]);
    return _mm_castpd_si128(_mm_loadh_pd(_mm_castsi128_pd(first), (const double *)table[v1]));
}

// Of four pixels, which have these levels: u d, u d | u d, u d.
static inline AVX2 __m256i four_sums(const integers *table, size_t v0, size_t v1, size_t v2,
                                     size_t v3, const integers *across) {
    const __m256i left = _mm256_castsi128_si256(two_quads(table, v0, v1));
    return _mm256_madd_epi16(_mm256_inserti128_si256(left, two_quads(table, v2, v3), 1),
                             _mm256_loadu_si256((const __m256i *)across));
}

// Levels are loaded in twos: fewer loads than one by one, fewer shifts than out of a long integer.
static inline unsigned two_levels(const uint8_t *src) {
    uint16_t levels;
    memcpy(&levels, src, sizeof levels);
    return levels;
}

static inline AVX2 __m256i four_dyadic(const uint8_t *src, const integers *table,
                                       const integers *across) {
    const unsigned left = two_levels(src), right = two_levels(src + 2);
    return four_sums(table, left & 255, left >> 8, right & 255, right >> 8, across);
}

typedef struct {
    __m256i low, high;  // eight pixels each
} dyadic_sums;

static inline AVX2 dyadic_sums begin_dyadic(const uint8_t *src, size_t x, const integers *table,
                                            const integers *across) {
    src += x, across += x;
    return (dyadic_sums){_mm256_packs_epi32(four_dyadic(src, table, across),
                                            four_dyadic(src + 4, table, across + 4)),
                         _mm256_packs_epi32(four_dyadic(src + 8, table, across + 8),
                                            four_dyadic(src + 12, table, across + 12))};
}

// Pixels in the order of the drawing, each the low byte of its 32 bits. The addition leaves no bits
// for a fraction (clahe_tables.h): it divides by the pixels of a tile, and rounds.
static inline AVX2 __m256i rounded(__m256i sums, __m256i down, __m256 rounding) {
    const __m256 exact = _mm256_cvtepi32_ps(_mm256_madd_epi16(sums, down));
    return _mm256_castps_si256(_mm256_add_ps(exact, rounding));
}

static inline AVX2 void finish_dyadic(dyadic_sums sums, uint8_t *dst, __m256i down,
                                      __m256 rounding) {
    const __m256i low = rounded(sums.low, down, rounding);
    const __m256i high = _mm256_slli_epi32(rounded(sums.high, down, rounding), 16);
    // 0 8 1 9 4 12 5 13 | 2 10 3 11 6 14 7 15, every other byte
    const __m256i both = _mm256_blend_epi16(low, high, 0xAA);
    const __m256i order = _mm256_setr_epi8(
        0, 4, -1, -1, 8, 12, -1, -1, 2, 6, -1, -1, 10, 14, -1, -1,
        -1, -1, 0, 4, -1, -1, 8, 12, -1, -1, 2, 6, -1, -1, 10, 14);
    const __m256i parts = _mm256_shuffle_epi8(both, order);
    _mm_storeu_si128((__m128i *)dst, _mm_or_si128(_mm256_castsi256_si128(parts),
                                                  _mm256_extracti128_si256(parts, 1)));
}

static AVX2 void join_integers(integers *table, const ce_cell *cell, int16_t middle) {
    size_t v = 0;
    for (; v + 8 <= cell->levels; v += 8) {
        __m128i quads[4];
        join_eight(quads, cell->tables, v);
        for (size_t i = 0; i < 4; i++)
            _mm_store_si128((__m128i *)table[v + 2 * i],
                            _mm_sub_epi16(quads[i], _mm_set1_epi16(middle)));
    }
    for (; v < cell->levels; v++)
        for (size_t tile = 0; tile < 4; tile++)
            table[v][tile] = (int16_t)(cell->tables[tile][v] - middle);
}

// Weights as integers: times the side of a tile.
static inline AVX2 __m128i scaled_weights(const ce_quad weights, __m128 side) {
    const __m128i words = _mm_cvtps_epi32(_mm_mul_ps(_mm_loadu_ps(weights), side));
    return _mm_packs_epi32(words, words);
}

static AVX2 void scale_across(integers *across, const ce_cell *cell) {
    const float width = (float)(int)cell->tile_width;
    const ce_quad *weights = cell->across;
    size_t x = 0;
    for (; x + 4 <= cell->width; x += 4) {
        const __m256 low = _mm256_loadu_ps(weights[x]), high = _mm256_loadu_ps(weights[x + 2]);
        const __m256i words = _mm256_packs_epi32(
            _mm256_cvtps_epi32(_mm256_mul_ps(low, _mm256_set1_ps(width))),
            _mm256_cvtps_epi32(_mm256_mul_ps(high, _mm256_set1_ps(width))));
        _mm256_storeu_si256((__m256i *)across[x],
                            _mm256_permute4x64_epi64(words, _MM_SHUFFLE(3, 1, 2, 0)));
    }
    for (; x < cell->width; x++)
        _mm_storel_epi64((__m128i *)across[x], scaled_weights(weights[x], _mm_set1_ps(width)));
}

// Two rows take turns, so that a step of one is finished while the next of the other is begun.
static AVX2 void dyadic_rows(uint8_t *const dst[2], const uint8_t *const src[2], size_t width,
                             const integers *table, const integers *across, const __m256i down[2],
                             __m256 rounding) {
    uint8_t *const to = dst[0], *const to_lower = dst[1];
    const uint8_t *const from = src[0], *const from_lower = src[1];
    dyadic_sums upper = begin_dyadic(from, 0, table, across), lower;
    size_t x = 0;
    for (; x + 2 * DYADIC_STEP <= width; x += DYADIC_STEP) {
        lower = begin_dyadic(from_lower, x, table, across);
        finish_dyadic(upper, to + x, down[0], rounding);
        upper = begin_dyadic(from, x + DYADIC_STEP, table, across);
        finish_dyadic(lower, to_lower + x, down[1], rounding);
    }
    lower = begin_dyadic(from_lower, x, table, across);
    finish_dyadic(upper, to + x, down[0], rounding);
    finish_dyadic(lower, to_lower + x, down[1], rounding);
    if (x + DYADIC_STEP == width) return;
    x = width - DYADIC_STEP;  // the rest, along with pixels that are done
    upper = begin_dyadic(from, x, table, across);
    lower = begin_dyadic(from_lower, x, table, across);
    finish_dyadic(upper, to + x, down[0], rounding);
    finish_dyadic(lower, to_lower + x, down[1], rounding);
}

static AVX2 void blend_dyadic(const ce_cell *cell, uint8_t *dst, ptrdiff_t dst_stride,
                              const uint8_t *src, ptrdiff_t src_stride) {
    // 256 levels and at most 256 columns fill the scratch.
    integers *const table = (integers *)cell->scratch, *const across = table + cell->levels;
    join_integers(table, cell, MIDDLE);
    scale_across(across, cell);

    const float pixels = (float)(int)(cell->tile_width * cell->tile_height);
    const __m256 rounding = _mm256_set1_ps((CE_ROUNDING + MIDDLE) * pixels);
    const __m128 tile_height = _mm_set1_ps((float)(int)cell->tile_height);
    for (size_t y = 0; y < cell->height; y += 2) {
        const size_t lower = y + 1 < cell->height;  // a last row that is alone is done as two
        uint8_t *const to[2] = {dst, dst + (ptrdiff_t)lower * dst_stride};
        const uint8_t *const from[2] = {src, src + (ptrdiff_t)lower * src_stride};
        const __m256i down[2] = {
            _mm256_broadcastd_epi32(scaled_weights(cell->down[y], tile_height)),
            _mm256_broadcastd_epi32(scaled_weights(cell->down[y + lower], tile_height))};
        dyadic_rows(to, from, cell->width, (const integers *)table, (const integers *)across, down,
                    rounding);
        dst += 2 * dst_stride;
        src += 2 * src_stride;
    }
}

static AVX2 void blend_u8(const ce_cell *cell, uint8_t *dst, ptrdiff_t dst_stride,
                          const uint8_t *src, ptrdiff_t src_stride) {
    if (cell->width >= DYADIC_STEP && ce_is_dyadic(cell)) {
        blend_dyadic(cell, dst, dst_stride, src, src_stride);
        return;
    }
    if (cell->width < STEP) {
        ce_clahe_rows_portable.blend_u8(cell, dst, dst_stride, src, src_stride);
        return;
    }
    join(cell);
    BLEND(uint8_t, (const ce_quad *)cell->scratch, cell->across, 1.0f, begin_u8, finish_u8)
}

// Where the width of a tile is such a power of two, and levels have 15 bits, the sums from left to
// right are integers times 1 / width: exact in float32 too, so that the rest may be as ever.
static inline AVX2 half_done begin_dyadic_u16(const uint16_t *const src[2], size_t x,
                                              const integers *table, const integers *across) {
    half_done sums;
    for (size_t row = 0; row < 2; row++)
        for (unsigned i = 0; i < 2; i++) {
            const uint16_t *levels = src[row] + x + 4 * i;
            sums.of[2 * row + i] = _mm256_cvtepi32_ps(four_sums(
                table, levels[0], levels[1], levels[2], levels[3], across + x + 4 * i));
        }
    return sums;
}

static inline AVX2 void finish_dyadic_u16(half_done sums, uint16_t *const dst[2], size_t x,
                                          const __m256 down[2]) {
    // Both rows together: pixels 0 1 4 5 in the lower half, 2 3 6 7 in the upper.
    const __m256i both = _mm256_packus_epi32(finish_row(sums.of[0], sums.of[1], down[0]),
                                             finish_row(sums.of[2], sums.of[3], down[1]));
    const __m128i lower = _mm256_castsi256_si128(both), upper = _mm256_extracti128_si256(both, 1);
    _mm_storeu_si128((__m128i *)(dst[0] + x), _mm_unpacklo_epi32(lower, upper));
    _mm_storeu_si128((__m128i *)(dst[1] + x), _mm_unpackhi_epi32(lower, upper));
}

static int is_dyadic_u16(const ce_cell *cell) {
    uint16_t largest = 0;  // tables rise
    for (size_t i = 0; i < 4; i++) largest |= cell->tables[i][cell->levels - 1];
    return ce_is_dyadic_side(cell->tile_width) && cell->width <= CE_LARGEST_DYADIC &&
           largest <= INT16_MAX;
}

static AVX2 void blend_dyadic_u16(const ce_cell *cell, uint16_t *dst, ptrdiff_t dst_stride,
                                  const uint16_t *src, ptrdiff_t src_stride) {
    integers *const table = (integers *)cell->scratch, across[CE_LARGEST_DYADIC];
    join_integers(table, cell, 0);
    scale_across(across, cell);
    BLEND(uint16_t, (const integers *)table, (const integers *)across, (float)(int)cell->tile_width,
          begin_dyadic_u16, finish_dyadic_u16)
}

static AVX2 void blend_u16(const ce_cell *cell, uint16_t *dst, ptrdiff_t dst_stride,
                           const uint16_t *src, ptrdiff_t src_stride) {
    if (cell->width < STEP) {
        ce_clahe_rows_portable.blend_u16(cell, dst, dst_stride, src, src_stride);
        return;
    }
    if (is_dyadic_u16(cell)) {
        blend_dyadic_u16(cell, dst, dst_stride, src, src_stride);
        return;
    }
    join(cell);
    BLEND(uint16_t, (const ce_quad *)cell->scratch, cell->across, 1.0f, begin_u16, finish_u16)
}

// The table, and the counters back at 0. The excess is not spread over the counters, which would
// have to wait for it, but added to their sums: up to level v it makes v + 1 shares, and one each
// of the remainder for levels 0, step, 2 step, … The product that counts those is at least
// 1/2 / step from an integer, which is more than its error: levels have 16 bits, floats 24.
static AVX2 void equalise(uint16_t *table, int32_t *counts, size_t levels, size_t all,
                          uint32_t excess, float scale) {
    const int32_t share = (int32_t)(excess / all), rest = (int32_t)(excess % all);
    const float per_step = rest > 0 ? 1.0f / (float)(int)(all / (size_t)rest) : 0.0f;
    const __m256i last = _mm256_set1_epi32(7);
    const __m256i count = _mm256_setr_epi32(1, 2, 3, 4, 5, 6, 7, 8);
    // The one of level 0 is in here already.
    __m256i below = _mm256_add_epi32(_mm256_mullo_epi32(count, _mm256_set1_epi32(share)),
                                     _mm256_set1_epi32(1));
    __m256 level = _mm256_sub_ps(_mm256_cvtepi32_ps(count), _mm256_set1_ps(0.5f));
    for (size_t v = 0; v < levels; v += 8) {
        // Running sums in each half, then over both. Only the last addition waits for the eight
        // levels before.
        __m256i sums = _mm256_loadu_si256((const __m256i *)(counts + v));
        _mm256_storeu_si256((__m256i *)(counts + v), _mm256_setzero_si256());
        sums = _mm256_add_epi32(sums, _mm256_slli_si256(sums, 4));
        sums = _mm256_add_epi32(sums, _mm256_slli_si256(sums, 8));
        const __m256i lower_half = _mm256_permute2x128_si256(sums, sums, 0x08);
        sums = _mm256_add_epi32(sums, _mm256_shuffle_epi32(lower_half, _MM_SHUFFLE(3, 3, 3, 3)));
        const __m256i all_eight = _mm256_add_epi32(_mm256_permutevar8x32_epi32(sums, last),
                                                   _mm256_set1_epi32(8 * share));
        const __m256i steps =
            _mm256_cvttps_epi32(_mm256_mul_ps(level, _mm256_set1_ps(per_step)));
        sums = _mm256_add_epi32(sums, _mm256_min_epi32(steps, _mm256_set1_epi32(rest - 1)));
        level = _mm256_add_ps(level, _mm256_set1_ps(8));
        sums = _mm256_add_epi32(sums, below);
        below = _mm256_add_epi32(below, all_eight);
        const __m256i levels_8 = _mm256_cvtps_epi32(
            _mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_set1_ps(scale)));
        const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(levels_8),
                                               _mm256_extracti128_si256(levels_8, 1));
        if (levels - v < 8) {
            memcpy(table + v, &words, (levels - v) * sizeof *table);
        } else {
            _mm_storeu_si128((__m128i *)(table + v), words);
        }
    }
}

static AVX2 void make_table(uint16_t *table, int32_t *counts, size_t levels, size_t sets,
                            size_t all, int32_t limit, float scale) {
    // The two cases apart, so that the compiler knows how many terms a sum has.
    if (sets == CE_SETS_U8) {
        const uint32_t excess = ce_sum_and_cut(counts, 256, CE_SETS_U8, limit);
        equalise(table, counts, 256, all, excess, scale);
    } else {
        const uint32_t excess = ce_sum_and_cut(counts, levels, CE_SETS_U16, limit);
        equalise(table, counts, levels, all, excess, scale);
    }
}

const ce_clahe_rows ce_clahe_rows_avx2 = {"avx2", make_table, blend_u8, blend_u16};

#else
typedef int ce_no_clahe_avx2;  // a translation unit holds at least one declaration
#endif
