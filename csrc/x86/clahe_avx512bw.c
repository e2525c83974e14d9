// SPDX-License-Identifier: Apache-2.0
// Without VBMI: permutations of words. A word holds what two tiles, left and right, have for a
// level, and a look-up of 32 pixels in eight registers is four permutations of two registers each,
// one for each quarter of the levels, of which the high two bits of a level choose.

#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))

#include "clahe_avx512.h"

enum { REGISTERS = LEVELS / 32 };  // of two tiles

static inline AVX512 tables load_tables(const ce_cell *cell, int8_t flip) {
    tables t;
    for (size_t i = 0; i < 2 * REGISTERS; i++) {
        const uint16_t *const *sides = cell->tables + i / REGISTERS * 2;
        const size_t level = i % REGISTERS * 32;
        const __m512i left = _mm512_loadu_si512(sides[0] + level);
        const __m512i right = _mm512_slli_epi16(_mm512_loadu_si512(sides[1] + level), 8);
        t.of[i] = _mm512_xor_si512(_mm512_or_si512(left, right), _mm512_set1_epi8(flip));
    }
    return t;
}

static inline AVX512 __m512i look_up_words(const __m512i of[REGISTERS], __m512i levels) {
    const __mmask32 second_half = _mm512_movepi16_mask(_mm512_slli_epi16(levels, 8));
    const __mmask32 odd_quarter = _mm512_movepi16_mask(_mm512_slli_epi16(levels, 9));
    __m512i quarters[4];
    for (size_t i = 0; i < 4; i++)
        quarters[i] = _mm512_permutex2var_epi16(of[2 * i], levels, of[2 * i + 1]);
    return _mm512_mask_mov_epi16(
        _mm512_mask_mov_epi16(quarters[0], odd_quarter, quarters[1]), second_half,
        _mm512_mask_mov_epi16(quarters[2], odd_quarter, quarters[3]));
}

static inline AVX512 looked_up look_up(const tables *t, __m512i levels) {
    const __m512i low = _mm512_unpacklo_epi8(levels, _mm512_setzero_si512());
    const __m512i high = _mm512_unpackhi_epi8(levels, _mm512_setzero_si512());
    const __m512i *up = t->of, *down = t->of + REGISTERS;
    return (looked_up){{look_up_words(up, low), look_up_words(up, high)},
                       {look_up_words(down, low), look_up_words(down, high)}};
}

const ce_clahe_rows ce_clahe_rows_avx512bw = {"avx512bw", make_table, blend_u8, blend_u16};

#else
typedef int ce_no_clahe_avx512bw;  // a translation unit holds at least one declaration
#endif
