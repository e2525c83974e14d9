// SPDX-License-Identifier: Apache-2.0
// With VBMI: the table of a tile fits four registers, and a look-up of 64 pixels is four
// permutations: the low six bits of a level choose within a register, the high two among them.

#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")))

#include "clahe_avx512.h"

enum { REGISTERS = LEVELS / 64 };  // of a tile

static inline AVX512 tables load_tables(const ce_cell *cell, int8_t flip) {
    // A pack takes from both registers in turns, 8 bytes of each.
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    tables t;
    for (size_t i = 0; i < 4 * REGISTERS; i++) {
        const uint16_t *from = cell->tables[i / REGISTERS] + i % REGISTERS * 64;
        const __m512i bytes =
            _mm512_packus_epi16(_mm512_loadu_si512(from), _mm512_loadu_si512(from + 32));
        t.of[i] =
            _mm512_xor_si512(_mm512_permutexvar_epi64(order, bytes), _mm512_set1_epi8(flip));
    }
    return t;
}

static inline AVX512 looked_up look_up(const tables *t, __m512i levels) {
    const __mmask64 second_half = _mm512_movepi8_mask(levels);
    const __mmask64 odd_quarter = _mm512_movepi8_mask(_mm512_add_epi8(levels, levels));
    const __mmask64 last_quarter = _kand_mask64(second_half, odd_quarter);
    __m512i found[4];
    for (size_t i = 0; i < 4; i++) {
        const __m512i *of = t->of + i * REGISTERS;
        __m512i bytes = _mm512_permutexvar_epi8(levels, of[0]);
        bytes = _mm512_mask_permutexvar_epi8(bytes, odd_quarter, levels, of[1]);
        bytes = _mm512_mask_permutexvar_epi8(bytes, second_half, levels, of[2]);
        found[i] = _mm512_mask_permutexvar_epi8(bytes, last_quarter, levels, of[3]);
    }
    return (looked_up){
        {_mm512_unpacklo_epi8(found[0], found[1]), _mm512_unpackhi_epi8(found[0], found[1])},
        {_mm512_unpacklo_epi8(found[2], found[3]), _mm512_unpackhi_epi8(found[2], found[3])}};
}

const ce_clahe_rows ce_clahe_rows_avx512 = {"avx512", make_table, blend_u8, blend_u16};

#else
typedef int ce_no_clahe_avx512;  // a translation unit holds at least one declaration
#endif
