// SPDX-License-Identifier: Apache-2.0
// What a fuzzer's bytes mean: numbers first, then pixels.

#ifndef FUZZ_H
#define FUZZ_H

#include <stdint.h>
#include <string.h>

#include "../vectors/every_variant.h"

typedef struct {
    const uint8_t *bytes;
    size_t left;
} input;

// What is missing at the end reads as 0.
static inline void take_bytes(input *in, void *to, size_t n) {
    const size_t there = n < in->left ? n : in->left;
    memset(to, 0, n);
    memcpy(to, in->bytes, there);
    in->bytes += there;
    in->left -= there;
}

static inline size_t take(input *in, size_t least, size_t most) {
    uint16_t number;
    take_bytes(in, &number, sizeof number);
    return least + number % (most - least + 1);
}

// A grid, a kernel: mostly small, some larger than the image, some at the ends of the range.
static inline size_t take_side(input *in) {
    static const size_t ends[] = {0, INT32_MAX, (size_t)INT32_MAX + 1, SIZE_MAX};
    const size_t kind = take(in, 0, 31);
    return kind < 4 ? ends[kind] : take(in, 1, kind < 6 ? 100 : 6);
}

// Small most of the time: sizes around the widths of vectors are what matters.
static inline size_t take_length(input *in) {
    return take(in, 0, 15) == 0 ? take(in, 1, 600) : take(in, 1, 70);
}

// The pixels, of so many bits, are what is left of the input, again and again.
static inline picture take_picture(input *in, unsigned bits) {
    const size_t bytes = bits > 8 ? 2 : 1;
    const size_t height = take_length(in), width = take_length(in);
    const size_t gap = bytes * take(in, 0, 5);
    picture image = make_picture(height, bytes * width, gap, (int)take(in, 0, 1));
    for (size_t y = 0, at = 0; y < height; y++) {
        uint8_t *row = image.pixels + (ptrdiff_t)y * image.stride;
        for (size_t i = 0; i < image.row_bytes; i++, at++) {
            row[i] = in->left > 0 ? in->bytes[at % in->left] : 0;
            if (i % 2 == 1 && bytes == 2) row[i] &= (uint8_t)((1u << (bits - 8)) - 1);
        }
    }
    return image;
}

#endif
