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
// Where an output pixel lies over few inputs, vectors take the overlaps as weights here too.
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

// The inputs that an output pixel covers.
static size_t first_covered(const axis *a, size_t out) {
    return out * a->out_units / a->in_units;
}
static size_t end_covered(const axis *a, size_t out) {
    return ((out + 1) * a->out_units - 1) / a->in_units + 1;
}

// Units of input pixel `in` that output pixel `out` covers.
static size_t overlap(const axis *a, size_t out, size_t in) {
    const size_t out_begin = out * a->out_units, out_end = out_begin + a->out_units;
    const size_t in_begin = in * a->in_units, in_end = in_begin + a->in_units;
    return (in_end < out_end ? in_end : out_end) - (in_begin > out_begin ? in_begin : out_begin);
}

// By the same whole ratio both ways, with a kernel of its own.
static void reduce_blocks(ce_block_row block_row, size_t ratio, const uint8_t *src,
                          ptrdiff_t src_stride, uint8_t *dst, ptrdiff_t dst_stride, size_t height,
                          size_t width) {
    for (size_t y = 0; y < height; y++)
        block_row(dst + (ptrdiff_t)y * dst_stride, src + (ptrdiff_t)(y * ratio) * src_stride,
                  src_stride, width);
}

// What an output row is computed from and in.
typedef struct {
    const uint8_t **rows;
    uint16_t *row_weights, *ends, *rests, *starts;
    uint32_t *sums, *weights;  // of light rows int16_t
    uint64_t *below;
} buffers;

static int allocate(buffers *b, size_t most_rows, size_t n_in, size_t n) {
    *b = (buffers){.rows = malloc(most_rows * sizeof *b->rows),
                   .row_weights = malloc(most_rows * sizeof *b->row_weights),
                   .ends = malloc(3 * n * sizeof *b->ends),
                   .sums = calloc(n_in + CE_AREA_WINDOW, sizeof *b->sums),
                   .weights = calloc(n, CE_AREA_WINDOW * sizeof *b->weights),
                   .below = malloc((n_in + 1) * sizeof *b->below)};
    if (!(b->rows && b->row_weights && b->ends && b->sums && b->weights && b->below)) return 0;
    b->rests = b->ends + n;
    b->starts = b->rests + n;
    return 1;
}

static void release(const buffers *b) {
    free(b->below);
    free(b->weights);
    free(b->sums);
    free(b->ends);
    free(b->row_weights);
    free((void *)b->rows);
}

// x / area = x / 2^shift * (inverse - excess / area), where excess < area. What is so added to the
// quotient stays below 1 / area, which no quotient is closer to the next whole number than, if x *
// excess < 2^shift.
static int find_inverse(ce_area_columns *columns) {
    const uint64_t area = columns->area;
    if (area >= 1u << 24) return 0;
    columns->shift = 31;
    while (area > UINT64_C(1) << (columns->shift - 31)) columns->shift++;
    const uint64_t power = UINT64_C(1) << columns->shift, inverse = (power + area - 1) / area;
    columns->inverse = (uint32_t)inverse;
    return 256 * area * (inverse * area - power) < power;
}

// Where no output pixel covers too many inputs for one, a window each.
static int find_windows(ce_area_columns *columns, buffers *b, const axis *a, size_t n, int light) {
    if (!find_inverse(columns)) return 0;
    for (size_t x = 0; x < n; x++) {
        const size_t start = first_covered(a, x), count = end_covered(a, x) - start;
        if (count > CE_AREA_WINDOW) return 0;
        b->starts[x] = (uint16_t)start;
        for (size_t k = 0; k < count; k++) {
            const size_t weight = overlap(a, x, start + k), at = CE_AREA_WINDOW * x + k;
            if (light)
                ((int16_t *)b->weights)[at] = (int16_t)weight;
            else
                b->weights[at] = (uint32_t)weight;
        }
    }
    columns->starts = b->starts;
    if (light)
        columns->light_weights = (const int16_t *)b->weights;
    else
        columns->weights = b->weights;
    return 1;
}

static ce_status reduce(const ce_area_rows *kernels, const uint8_t *src, ptrdiff_t src_stride,
                        size_t src_height, size_t src_width, uint8_t *dst, ptrdiff_t dst_stride,
                        size_t dst_height, size_t dst_width) {
    const axis down = make_axis(src_height, dst_height), across = make_axis(src_width, dst_width);
    buffers b;
    const int enough =
        allocate(&b, down.out_units / down.in_units + 3, src_width, dst_width);
    if (enough) {
        for (size_t x = 0; x < dst_width; x++) {
            b.ends[x] = (uint16_t)((x + 1) * across.out_units / across.in_units);
            b.rests[x] = (uint16_t)((x + 1) * across.out_units % across.in_units);
        }
        ce_area_columns columns = {.units = (uint32_t)across.in_units,
                                   .area = (uint32_t)(down.out_units * across.out_units),
                                   .ends = b.ends,
                                   .rests = b.rests};
        int light = kernels->weigh_light_rows != NULL && down.out_units <= CE_AREA_LIGHT &&
                    src_width >= CE_AREA_LIGHT_IN && dst_width >= CE_AREA_LIGHT_OUT;
        if (!find_windows(&columns, &b, &across, dst_width, light)) light = 0;
        for (size_t y = 0; y < dst_height; y++) {
            const size_t first = first_covered(&down, y), count = end_covered(&down, y) - first;
            for (size_t i = 0; i < count; i++) {
                b.rows[i] = src + (ptrdiff_t)(first + i) * src_stride;
                b.row_weights[i] = (uint16_t)overlap(&down, y, first + i);
            }
            b.rows[count] = b.rows[count - 1];
            b.row_weights[count] = 0;
            uint8_t *to = dst + (ptrdiff_t)y * dst_stride;
            if (light) {
                int16_t *sums = (int16_t *)b.sums;
                kernels->weigh_light_rows(sums, b.rows, b.row_weights, count, src_width);
                kernels->across_light_row(to, dst_width, sums, &columns);
            } else {
                kernels->weigh_rows(b.sums, b.rows, b.row_weights, count, src_width);
                kernels->across_row(to, dst_width, b.sums, b.below, src_width, &columns);
            }
        }
    }
    release(&b);
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
