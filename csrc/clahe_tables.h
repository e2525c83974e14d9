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

// Add up the sets, cut what exceeds the limit and count it.
static CE_ALWAYS_INLINE uint32_t ce_sum_and_cut(int32_t *restrict counts,
                                                const int32_t *restrict more, size_t levels,
                                                size_t sets, int32_t limit) {
    uint32_t excess = 0;
    for (size_t v = 0; v < levels; v++) {
        int32_t count = counts[v];
        for (size_t set = 1; set < sets; set++) count += more[(set - 1) * levels + v];
        const int32_t kept = count < limit ? count : limit;
        excess += (uint32_t)(count - kept);
        counts[v] = kept;
    }
    return excess;
}

// Four at a time, so that one addition in four waits for the one before.
static CE_ALWAYS_INLINE void ce_running_sum(int32_t *counts, size_t levels) {
    int32_t below = 0;
    size_t v = 0;
    for (; v + 4 <= levels; v += 4) {
        const int32_t one = counts[v], two = one + counts[v + 1], three = two + counts[v + 2],
                      four = three + counts[v + 3];
        counts[v] = below + one;
        counts[v + 1] = below + two;
        counts[v + 2] = below + three;
        counts[v + 3] = below + four;
        below += four;
    }
    for (size_t rest = levels % 4; rest > 0; rest--, v++) counts[v] = below += counts[v];
}

// Adding 1.5 * 2^23 leaves no bits for a fraction, so the addition itself rounds, half to even.
static CE_ALWAYS_INLINE uint16_t ce_rounded(float value) {
    const float sum = value + 12582912.0f;
    uint32_t bits;
    memcpy(&bits, &sum, sizeof bits);
    return (uint16_t)bits;
}

// Levels from `levels` to `all` - 1 are counted nowhere and their tables never read, so that they
// only take their share of the excess away.
static CE_ALWAYS_INLINE void ce_make_table(uint16_t *restrict table, int32_t *restrict counts,
                                           size_t levels, size_t sets, size_t all, int32_t limit,
                                           float scale) {
    const uint32_t excess = ce_sum_and_cut(counts, counts + levels, levels, sets, limit);
    const int32_t share = (int32_t)(excess / all);
    const size_t rest = excess % all;
    if (rest > 0) {
        const size_t step = all / rest;  // rest < all, so at least 1
        for (size_t i = 0; i < rest && i * step < levels; i++) counts[i * step]++;
    }
    if (share > 0)
        for (size_t v = 0; v < levels; v++) counts[v] += share;
    ce_running_sum(counts, levels);
    for (size_t v = 0; v < levels; v++) table[v] = ce_rounded((float)counts[v] * scale);
}

#endif
