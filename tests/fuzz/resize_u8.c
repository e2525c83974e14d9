// SPDX-License-Identifier: Apache-2.0

#include "fuzz.h"

static ce_status resize(const picture *src, const picture *dst, const void *parameters) {
    (void)parameters;
    return ce_resize_u8(src->pixels, src->stride, src->height, src->row_bytes, dst->pixels,
                        dst->stride, dst->height, dst->row_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    input in = {bytes, n};
    const int halve = take(&in, 0, 7) == 0;
    size_t height = take_length(&in), width = take_length(&in);
    const size_t gap = take(&in, 0, 5);
    const int upside_down = (int)take(&in, 0, 1);
    picture src = take_picture(&in, 8);
    if (halve && src.height % 2 == 0 && src.row_bytes % 2 == 0) {
        height = src.height / 2;
        width = src.row_bytes / 2;
    }
    in_every_variant("resize", resize, NULL, &src, height, width, gap, upside_down);
    release_picture(&src);
    return 0;
}
