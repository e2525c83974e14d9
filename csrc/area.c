// SPDX-License-Identifier: Apache-2.0
// Reduction by exact area averaging.
//
// An output pixel is the mean of the part of the input that it covers: pixels at its border count
// by the fraction that lies inside. The rules that decide a byte:
//
// - Along an axis of `in` input and `out` output pixels, both divided by their greatest common
//   divisor, an input pixel is `out` units long and an output pixel `in` units. All overlaps are
//   whole numbers of units, so the weighted sums are exact, and so is the mean.
// - The mean is rounded to the nearest level, halves up, on every machine.
//
// Down, rows are added up with their overlaps as weights. Along the row of sums, what lies below an
// output pixel is the integral up to its end less the integral up to its start:
//
//     sums       |     s0    |     s1    |     s2    |      each `out` units long
//     output     |        0         |        1       |      each `in` units long
//     integral   0 ----------------> out * s0 + rest * s1
//
// cv2.resize(INTER_AREA) is the same for exactly half in both directions, where it computes in
// integers. For other whole ratios it differs in exact halves, which it rounds to even; else it
// weighs in float32, and the results are at most one level apart.

#include <stdlib.h>

#include "ce_kernels.h"
#include "rows.h"

static size_t common_divisor(size_t a, size_t b) {
    while (b != 0) {
        const size_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

// An axis in units: the lengths of an input and of an output pixel.
typedef struct {
    size_t in_units, out_units;
} axis;

static axis make_axis(size_t in, size_t out) {
    const size_t divisor = common_divisor(in, out);
    return (axis){out / divisor, in / divisor};
}

// The rows that output row y covers, and by how much. Returns their number.
static size_t covered_rows(const uint8_t **rows, uint16_t *weights, const axis *a, size_t y,
                           const uint8_t *src, ptrdiff_t src_stride) {
    const size_t begin = y * a->out_units, end = begin + a->out_units;
    size_t count = 0;
    for (size_t row = begin / a->in_units; row * a->in_units < end; row++) {
        const size_t row_begin = row * a->in_units, row_end = row_begin + a->in_units;
        const size_t from = row_begin > begin ? row_begin : begin;
        const size_t to = row_end < end ? row_end : end;
        rows[count] = src + (ptrdiff_t)row * src_stride;
        weights[count++] = (uint16_t)(to - from);
    }
    return count;
}

// By the same whole ratio both ways, with a kernel of its own.
static void reduce_blocks(ce_block_row block_row, size_t ratio, const uint8_t *src,
                          ptrdiff_t src_stride, uint8_t *dst, ptrdiff_t dst_stride, size_t height,
                          size_t width) {
    for (size_t y = 0; y < height; y++)
        block_row(dst + (ptrdiff_t)y * dst_stride, src + (ptrdiff_t)(y * ratio) * src_stride,
                  src_stride, width);
}

static ce_status reduce(const ce_area_rows *kernels, const uint8_t *src, ptrdiff_t src_stride,
                        size_t src_height, size_t src_width, uint8_t *dst, ptrdiff_t dst_stride,
                        size_t dst_height, size_t dst_width) {
    const axis down = make_axis(src_height, dst_height), across = make_axis(src_width, dst_width);
    const size_t most_rows = down.out_units / down.in_units + 2;
    const uint8_t **rows = malloc(most_rows * sizeof *rows);
    uint16_t *weights = malloc(most_rows * sizeof *weights);
    // One sum more, 0, for the integral at the end of the last pixel.
    uint32_t *sums = malloc((src_width + 1) * sizeof *sums);
    uint64_t *below = malloc((src_width + 1) * sizeof *below);
    uint16_t *ends = malloc(2 * dst_width * sizeof *ends);
    const int enough = rows && weights && sums && below && ends;
    if (enough) {
        uint16_t *rests = ends + dst_width;
        for (size_t x = 0; x < dst_width; x++) {
            ends[x] = (uint16_t)((x + 1) * across.out_units / across.in_units);
            rests[x] = (uint16_t)((x + 1) * across.out_units % across.in_units);
        }
        sums[src_width] = 0;
        const ce_area_columns columns = {(uint32_t)across.in_units,
                                         (uint32_t)(down.out_units * across.out_units), ends,
                                         rests};
        for (size_t y = 0; y < dst_height; y++) {
            const size_t count = covered_rows(rows, weights, &down, y, src, src_stride);
            kernels->weigh_rows(sums, rows, weights, count, src_width);
            kernels->across_row(dst + (ptrdiff_t)y * dst_stride, dst_width, sums, below, src_width,
                                &columns);
        }
    }
    free(ends);
    free(below);
    free(sums);
    free(weights);
    free((void *)rows);
    return enough ? CE_OK : CE_NO_MEMORY;
}

ce_status ce_area_reduce_u8(const uint8_t *src, ptrdiff_t src_stride, size_t src_height,
                            size_t src_width, uint8_t *dst, ptrdiff_t dst_stride,
                            size_t dst_height, size_t dst_width) {
    if (src_height == 0 || src_width == 0 || dst_height == 0 || dst_width == 0) return CE_EMPTY;
    if (src_height > CE_AREA_LARGEST_SIDE || src_width > CE_AREA_LARGEST_SIDE)
        return CE_TOO_LARGE;
    if (dst_height > src_height || dst_width > src_width) return CE_NOT_SMALLER;

    const ce_area_rows *kernels = ce_active_area();
    if (src_height == 2 * dst_height && src_width == 2 * dst_width)
        reduce_blocks(kernels->halve_row, 2, src, src_stride, dst, dst_stride, dst_height,
                      dst_width);
    else if (src_height == 4 * dst_height && src_width == 4 * dst_width)
        reduce_blocks(kernels->quarter_row, 4, src, src_stride, dst, dst_stride, dst_height,
                      dst_width);
    else
        return reduce(kernels, src, src_stride, src_height, src_width, dst, dst_stride, dst_height,
                      dst_width);
    return CE_OK;
}
