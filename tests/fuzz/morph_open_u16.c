// SPDX-License-Identifier: Apache-2.0

#include "fuzz.h"

typedef struct {
    size_t rows, cols;
} setting;

static ce_status morph_open(const picture *src, const picture *dst, const void *parameters) {
    const setting *s = parameters;
    return ce_morph_open_u16((const uint16_t *)src->pixels, src->stride, (uint16_t *)dst->pixels,
                             dst->stride, src->height, src->row_bytes / 2, s->rows, s->cols);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    input in = {bytes, n};
    setting s;
    s.rows = take_side(&in);
    s.cols = take_side(&in);
    const size_t gap = 2 * take(&in, 0, 5);
    const int upside_down = (int)take(&in, 0, 1);
    picture src = take_picture(&in, 16);
    in_every_variant("open", morph_open, &s, &src, src.height, src.row_bytes, gap, upside_down);
    release_picture(&src);
    return 0;
}
