// SPDX-License-Identifier: Apache-2.0
// The parts of CLAHE that work through grey levels. Plain loops: every variant compiles them for
// its own instruction set, and a compiler vectorises all but the running sum.

#ifndef CE_CLAHE_TABLES_H
#define CE_CLAHE_TABLES_H

#include <string.h>

#include "rows.h"

#if defined(__GNUC__)
#define CE_ALWAYS_INLINE inline __attribute__((always_inline))
#else
#define CE_ALWAYS_INLINE inline
#endif

// Add up the sets of counters and clear all but the first, which gets the sums; cut what exceeds
// the limit, and return how much that is.
static CE_ALWAYS_INLINE uint32_t ce_sum_and_cut(int32_t *counts, size_t levels, size_t sets,
                                                int32_t limit) {
    const size_t stride = CE_SET_STRIDE(levels);
    uint32_t excess = 0;
    for (size_t v = 0; v < levels; v++) {
        int32_t count = counts[v];
        for (size_t set = 1; set < sets; set++) {
            count += counts[set * stride + v];
            counts[set * stride + v] = 0;
        }
        const int32_t kept = count < limit ? count : limit;
        excess += (uint32_t)(count - kept);
        counts[v] = kept;
    }
    return excess;
}

// Spread the excess. Levels from `levels` to `all` - 1 are counted nowhere and their tables never
// read, so that they only take their share away.
static CE_ALWAYS_INLINE void ce_spread(int32_t *counts, size_t levels, size_t all,
                                       uint32_t excess) {
    const int32_t share = (int32_t)(excess / all);
    const size_t rest = excess % all;
    if (share > 0)
        for (size_t v = 0; v < levels; v++) counts[v] += share;
    if (rest == 0) return;
    const size_t step = all / rest;  // rest < all, so at least 1
    for (size_t i = 0; i < rest && i * step < levels; i++) counts[i * step]++;
}

// Adding 1.5 * 2^23 leaves no bits for a fraction, so the addition itself rounds, half to even,
// into the low bits.
#define CE_ROUNDING 12582912.0f

static CE_ALWAYS_INLINE uint16_t ce_rounded(float value) {
    const float sum = value + CE_ROUNDING;
    uint32_t bits;
    memcpy(&bits, &sum, sizeof bits);
    return (uint16_t)bits;
}

// The table, from level `first` on; `below`: how many pixels lie below it.
static CE_ALWAYS_INLINE void ce_equalise(uint16_t *table, const int32_t *counts, size_t first,
                                         size_t levels, int32_t below, float scale) {
    for (size_t v = first; v < levels; v++) {
        below += counts[v];
        table[v] = ce_rounded((float)below * scale);
    }
}

#endif
