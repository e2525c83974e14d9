// SPDX-License-Identifier: Apache-2.0

#include "fuzz.h"

static ce_status reduce(const picture *src, const picture *dst, const void *parameters) {
    (void)parameters;
    return ce_area_reduce_u8(src->pixels, src->stride, src->height, src->row_bytes, dst->pixels,
                             dst->stride, dst->height, dst->row_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    input in = {bytes, n};
    const size_t ratio = take(&in, 0, 7);  // 2 and 4 have kernels of their own
    size_t height = take_length(&in), width = take_length(&in);
    const size_t gap = take(&in, 0, 5);
    const int upside_down = (int)take(&in, 0, 1);
    picture src = take_picture(&in, 8);
    if (ratio > 0 && src.height % ratio == 0 && src.row_bytes % ratio == 0) {
        height = src.height / ratio;
        width = src.row_bytes / ratio;
    }
    in_every_variant("area", reduce, NULL, &src, height, width, gap, upside_down);
    release_picture(&src);
    return 0;
}
