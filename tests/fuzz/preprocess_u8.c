// SPDX-License-Identifier: Apache-2.0
// In one call, and for the same bytes in three.

#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"

typedef struct {
    ce_preprocessing steps;
    ce_status *status;
} setting;

static ce_status at_once(const picture *src, const picture *dst, const void *parameters) {
    const setting *s = parameters;
    return *s->status = ce_preprocess_u8(src->pixels, src->stride, src->height, src->row_bytes,
                                         dst->pixels, dst->stride, &s->steps);
}

static ce_status in_steps(const picture *src, const picture *dst, const void *parameters) {
    const setting *s = parameters;
    const ce_preprocessing *p = &s->steps;
    picture equal = make_picture(src->height, src->row_bytes, 0, 0);
    picture open = make_picture(src->height, src->row_bytes, 0, 0);
    const picture *last = src;
    ce_status status = CE_OK;
    if (p->grid_rows > 0) {
        status = ce_clahe_u8(last->pixels, last->stride, equal.pixels, equal.stride, last->height,
                             last->row_bytes, p->clip_limit, p->grid_rows, p->grid_cols, 1);
        last = &equal;
    }
    if (status == CE_OK && p->kernel_rows > 0) {
        status = ce_morph_open_u8(last->pixels, last->stride, open.pixels, open.stride,
                                  last->height, last->row_bytes, p->kernel_rows, p->kernel_cols);
        last = &open;
    }
    if (status == CE_OK)
        status = ce_resize_u8(last->pixels, last->stride, last->height, last->row_bytes,
                              dst->pixels, dst->stride, dst->height, dst->row_bytes);
    release_picture(&open);
    release_picture(&equal);
    return *s->status = status;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    input in = {bytes, n};
    setting s = {.status = &(ce_status){CE_OK}};
    ce_preprocessing *p = &s.steps;
    p->clip_limit = (double)take(&in, 0, 4096) / 64;
    if (take(&in, 0, 3) > 0) p->grid_rows = take_side(&in), p->grid_cols = take_side(&in);
    if (take(&in, 0, 3) > 0) p->kernel_rows = take_side(&in), p->kernel_cols = take_side(&in);
    p->height = take_length(&in), p->width = take_length(&in);
    const size_t gap = take(&in, 0, 5);
    const int upside_down = (int)take(&in, 0, 1);
    picture src = take_picture(&in, 8);
    const uint64_t fused =
        in_every_variant("at once", at_once, &s, &src, p->height, p->width, gap, upside_down);
    if (*s.status == CE_OK) {
        const uint64_t expected =
            in_every_variant("in steps", in_steps, &s, &src, p->height, p->width, gap, upside_down);
        if (fused != expected) {
            fprintf(stderr, "one call gives other pixels than three\n");
            abort();
        }
    }
    release_picture(&src);
    return 0;
}
