// SPDX-License-Identifier: Apache-2.0

#include "fuzz.h"

typedef struct {
    double limit;
    unsigned bits;
    size_t rows, cols, threads;
} setting;

static ce_status clahe(const picture *src, const picture *dst, const void *parameters) {
    const setting *s = parameters;
    return ce_clahe_u16((const uint16_t *)src->pixels, src->stride, (uint16_t *)dst->pixels,
                        dst->stride, src->height, src->row_bytes / 2, s->bits, s->limit, s->rows,
                        s->cols, s->threads);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    input in = {bytes, n};
    setting s;
    if (take(&in, 0, 3) == 0)
        take_bytes(&in, &s.limit, sizeof s.limit);  // any double: NaN, infinities, negative ones
    else
        s.limit = (double)take(&in, 0, 4096) / 64;
    s.rows = take_side(&in);
    s.cols = take_side(&in);
    s.threads = take(&in, 0, 7) == 0 ? take(&in, 0, 4) : 1;
    const size_t gap = 2 * take(&in, 0, 5);
    const int upside_down = (int)take(&in, 0, 1);
    s.bits = 10;
    if (take(&in, 0, 15) == 0) {  // more levels take longer: in few tiles
        s.bits = (unsigned)take(&in, 9, 17);
        s.rows = take(&in, 1, 2);
        s.cols = take(&in, 1, 2);
    }
    // Some pixels are of more bits than is said.
    const unsigned bits = take(&in, 0, 31) == 0 || s.bits > 16 ? 16 : s.bits;
    picture src = take_picture(&in, bits);
    in_every_variant("clahe", clahe, &s, &src, src.height, src.row_bytes, gap, upside_down);
    release_picture(&src);
    return 0;
}
