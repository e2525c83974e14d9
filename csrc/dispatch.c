// SPDX-License-Identifier: Apache-2.0
// Which variant of the row kernels runs: one table, best first.

#include <string.h>

#include "ce_kernels.h"
#include "cpu.h"
#include "rows.h"

typedef struct {
    const char *name;
    unsigned needs;  // CE_CPU_ bits
    // An operation that a variant does not have is NULL and comes from the next one down.
    const ce_clahe_rows *clahe;
    const ce_morph_rows *morph;
    const ce_resize_rows *resize;
    const ce_area_rows *area;
    const ce_product_rows *product;
} ce_variant;

// The last one needs nothing and has everything.
static const ce_variant variants[] = {
#if defined(__GNUC__) && (defined(__x86_64__) || defined(__i386__))
    {"avx512", CE_CPU_AVX512VBMI, &ce_clahe_rows_avx512, NULL, &ce_resize_rows_avx512, NULL,
     NULL},
    {"avx512bw", CE_CPU_AVX512BW, &ce_clahe_rows_avx512bw, NULL, NULL, NULL, NULL},
    {"avx2", CE_CPU_AVX2, &ce_clahe_rows_avx2, &ce_morph_rows_avx2, &ce_resize_rows_avx2,
     &ce_area_rows_avx2, &ce_product_rows_avx2},
#endif
#if defined(__aarch64__)
    {"neon", CE_CPU_NEON, &ce_clahe_rows_neon, &ce_morph_rows_neon, &ce_resize_rows_neon,
     &ce_area_rows_neon, NULL},
#endif
    {"portable", 0, &ce_clahe_rows_portable, &ce_morph_rows_portable, &ce_resize_rows_portable,
     &ce_area_rows_portable, &ce_product_rows_portable},
};

enum { VARIANT_COUNT = sizeof variants / sizeof variants[0] };

// Portable until ce_select_variant is called, so that no call is needed for a right answer.
static const ce_clahe_rows *active_clahe = &ce_clahe_rows_portable;
static const ce_morph_rows *active_morph = &ce_morph_rows_portable;
static const ce_resize_rows *active_resize = &ce_resize_rows_portable;
static const ce_area_rows *active_area = &ce_area_rows_portable;
static const ce_product_rows *active_product = &ce_product_rows_portable;

static int runs_here(const ce_variant *variant) {
    return (variant->needs & ~ce_cpu_features()) == 0;
}

const char *ce_variant_name(size_t index) {
    for (size_t v = 0; v < VARIANT_COUNT; v++)
        if (runs_here(&variants[v]) && index-- == 0) return variants[v].name;
    return NULL;
}

ce_status ce_select_variant(const char *name) {
    size_t first = 0;
    if (name != NULL && *name != '\0')
        while (first < VARIANT_COUNT && strcmp(variants[first].name, name) != 0) first++;
    if (first == VARIANT_COUNT || (first > 0 && !runs_here(&variants[first])))
        return CE_UNKNOWN_VARIANT;

    // From the last to the first: what is better overwrites what is worse.
    for (size_t v = VARIANT_COUNT; v-- > first;) {
        if (!runs_here(&variants[v])) continue;
        if (variants[v].clahe != NULL) active_clahe = variants[v].clahe;
        if (variants[v].morph != NULL) active_morph = variants[v].morph;
        if (variants[v].resize != NULL) active_resize = variants[v].resize;
        if (variants[v].area != NULL) active_area = variants[v].area;
        if (variants[v].product != NULL) active_product = variants[v].product;
    }
    return CE_OK;
}

const ce_clahe_rows *ce_active_clahe(void) { return active_clahe; }
const ce_morph_rows *ce_active_morph(void) { return active_morph; }
const ce_resize_rows *ce_active_resize(void) { return active_resize; }
const ce_area_rows *ce_active_area(void) { return active_area; }
const ce_product_rows *ce_active_product(void) { return active_product; }

const char *ce_clahe_variant(void) { return active_clahe->name; }
const char *ce_morph_variant(void) { return active_morph->name; }
const char *ce_resize_variant(void) { return active_resize->name; }
const char *ce_area_variant(void) { return active_area->name; }
const char *ce_product_variant(void) { return active_product->name; }

const char *ce_status_message(ce_status status) {
    switch (status) {
    case CE_OK: return "no error";
    case CE_EMPTY: return "a side of the image, the tile grid or the kernel is 0";
    case CE_TOO_LARGE: return "a side or a tile holds more pixels than the arithmetic can count";
    case CE_BAD_CLIP_LIMIT: return "the clip limit must be finite and not negative";
    case CE_NO_MEMORY: return "not enough memory";
    case CE_UNKNOWN_VARIANT: return "no such variant of the kernels on this machine";
    case CE_BAD_BITS: return "16-bit pixels have from 10 to 16 bits";
    case CE_BAD_LEVEL: return "a pixel does not fit the number of bits";
    case CE_NOT_SMALLER: return "the reduced image has a side longer than the image";
    }
    return "unknown status";
}
