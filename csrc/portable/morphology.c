// SPDX-License-Identifier: Apache-2.0

#include "../rows.h"

// dst may be a, which cannot be said with restrict; ivdep says that no iteration needs another's
// result, which is what the compiler has to know.
#if defined(__GNUC__) && !defined(__clang__)
#define INDEPENDENT _Pragma("GCC ivdep")
#elif defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT
#endif

static void min_row(uint8_t *dst, const uint8_t *a, const uint8_t *b, size_t n) {
    INDEPENDENT
    for (size_t i = 0; i < n; i++) dst[i] = a[i] < b[i] ? a[i] : b[i];
}

static void max_row(uint8_t *dst, const uint8_t *a, const uint8_t *b, size_t n) {
    INDEPENDENT
    for (size_t i = 0; i < n; i++) dst[i] = a[i] > b[i] ? a[i] : b[i];
}

const ce_morph_rows ce_morph_rows_portable = {"portable", min_row, max_row};
