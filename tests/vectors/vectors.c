// SPDX-License-Identifier: Apache-2.0
// Test vectors of the kernels, for machines without Python: every operation in every variant on
// images of many sizes. Prints one line for each operation, setting and kind of image: a hash of
// all its results. vectors.txt beside this file is what it prints, on any machine.
//
//     cc -O3 -std=c11 -ffp-contract=off -Icsrc/include -o vectors tests/vectors/*.c csrc/*.c
//         csrc/*/*.c -lm
//     ./vectors | diff - tests/vectors/vectors.txt
//
// With an argument it also prints each case, to find the first that differs between two machines.

#include <stdio.h>
#include <string.h>

#include "every_variant.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

// Around the widths of vectors: 8, 16, 32 and 64 lanes, once and more.
static const size_t widths[] = {1,  2,  3,  7,  8,  9,  15,  16,  17,  23,  31,  32,
                                33, 47, 48, 63, 64, 65, 100, 127, 128, 129, 200, 257};
static const size_t heights[] = {1, 2, 3, 8, 17, 30};

// And a few as scans are, once each.
static const size_t scans[][2] = {{512, 512}, {299, 401}, {224, 1023}};

enum content { CONSTANT, NOISE, FAINT_NOISE, GRADIENT, TWO_LEVELS, CONTENTS };
static const char *const content_names[CONTENTS] = {"constant", "noise", "faint-noise", "gradient",
                                                    "two-levels"};

// Marsaglia's xorshift: the same numbers everywhere.
static uint32_t next_random(uint32_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

// A pixel of so many bits.
static uint16_t pixel(enum content content, unsigned bits, size_t y, size_t x, uint32_t random) {
    const unsigned all = (1u << bits) - 1, noise = random >> 11;
    switch (content) {
    case CONSTANT: return (uint16_t)(93 << (bits - 8));
    case NOISE: return (uint16_t)(noise & all);
    case FAINT_NOISE: return (uint16_t)(120 + noise % 21);
    case GRADIENT: return (uint16_t)((3 * y + 5 * x) & all);
    default: return (uint16_t)(random >> 30 == 0 ? all : 2);
    }
}

static void fill(const picture *image, unsigned bits, enum content content) {
    const size_t bytes = bits > 8 ? 2 : 1;
    uint32_t state = (uint32_t)(image->height * 65537 + image->row_bytes);
    for (size_t y = 0; y < image->height; y++) {
        uint8_t *row = image->pixels + (ptrdiff_t)y * image->stride;
        for (size_t x = 0; x < image->row_bytes / bytes; x++) {
            const uint16_t value = pixel(content, bits, y, x, next_random(&state));
            if (bytes == 1)
                row[x] = (uint8_t)value;
            else
                memcpy(row + 2 * x, &value, sizeof value);
        }
    }
}

// What is done. Sizes, widths and heights, are those of the result; an operation that makes another
// size of an image starts from `scale` times that, or from that if rows x cols are the result's.
typedef struct {
    const char *name;
    operation run;
    unsigned bits;
    size_t rows, cols;  // tile grid, kernel, size of the result
    size_t scale;
    double limit;  // of CLAHE
    size_t threads;
    size_t kernel_rows, kernel_cols;  // of the opening within preprocess
} setting;

static ce_status clahe_u8(const picture *src, const picture *dst, const void *parameters) {
    const setting *s = parameters;
    return ce_clahe_u8(src->pixels, src->stride, dst->pixels, dst->stride, src->height,
                       src->row_bytes, s->limit, s->rows, s->cols, s->threads);
}

static ce_status clahe_u16(const picture *src, const picture *dst, const void *parameters) {
    const setting *s = parameters;
    return ce_clahe_u16((const uint16_t *)src->pixels, src->stride, (uint16_t *)dst->pixels,
                        dst->stride, src->height, src->row_bytes / 2, s->bits, s->limit, s->rows,
                        s->cols, s->threads);
}

static ce_status open_u8(const picture *src, const picture *dst, const void *parameters) {
    const setting *s = parameters;
    return ce_morph_open_u8(src->pixels, src->stride, dst->pixels, dst->stride, src->height,
                            src->row_bytes, s->rows, s->cols);
}

static ce_status open_u16(const picture *src, const picture *dst, const void *parameters) {
    const setting *s = parameters;
    return ce_morph_open_u16((const uint16_t *)src->pixels, src->stride, (uint16_t *)dst->pixels,
                             dst->stride, src->height, src->row_bytes / 2, s->rows, s->cols);
}

static ce_status resize(const picture *src, const picture *dst, const void *parameters) {
    (void)parameters;
    return ce_resize_u8(src->pixels, src->stride, src->height, src->row_bytes, dst->pixels,
                        dst->stride, dst->height, dst->row_bytes);
}

static ce_status area(const picture *src, const picture *dst, const void *parameters) {
    (void)parameters;
    return ce_area_reduce_u8(src->pixels, src->stride, src->height, src->row_bytes, dst->pixels,
                             dst->stride, dst->height, dst->row_bytes);
}

static ce_status preprocess(const picture *src, const picture *dst, const void *parameters) {
    const setting *s = parameters;
    const ce_preprocessing steps = {s->limit, 8, 8, s->kernel_rows, s->kernel_cols, dst->height,
                                    dst->row_bytes};
    return ce_preprocess_u8(src->pixels, src->stride, src->height, src->row_bytes, dst->pixels,
                            dst->stride, &steps);
}

#define CLAHE(bits_, rows_, cols_, limit_, threads_)                              \
    {.name = "clahe", .run = bits_ > 8 ? clahe_u16 : clahe_u8, .bits = bits_,     \
     .rows = rows_, .cols = cols_, .limit = limit_, .threads = threads_}
#define OPEN(bits_, rows_, cols_)                                                 \
    {.name = "open", .run = bits_ > 8 ? open_u16 : open_u8, .bits = bits_,        \
     .rows = rows_, .cols = cols_}
#define SIZED(operation, rows_, cols_) \
    {.name = #operation, .run = operation, .bits = 8, .rows = rows_, .cols = cols_}
#define REDUCE(operation, scale_) {.name = #operation, .run = operation, .bits = 8, .scale = scale_}
#define PREPROCESS(rows_, cols_, kernel_rows_, kernel_cols_)                      \
    {.name = "preprocess", .run = preprocess, .bits = 8, .rows = rows_,           \
     .cols = cols_, .limit = 4, .kernel_rows = kernel_rows_, .kernel_cols = kernel_cols_}

static const setting settings[] = {
    CLAHE(8, 1, 1, 0, 1),     CLAHE(8, 2, 2, 2.5, 1),   CLAHE(8, 8, 8, 4, 1),
    CLAHE(8, 5, 16, 4, 3),    CLAHE(8, 3, 1, 40, 1),    CLAHE(8, 1, 7, 1e300, 1),
    CLAHE(8, 0, 8, 4, 1),     CLAHE(10, 8, 8, 4, 1),    CLAHE(12, 1, 1, 0, 1),
    CLAHE(12, 2, 3, 2.5, 1),  CLAHE(12, 8, 8, 40, 2),   CLAHE(16, 2, 2, 4, 1),
    CLAHE(17, 2, 2, 4, 1),
    OPEN(8, 1, 1),      OPEN(8, 1, 2),      OPEN(8, 2, 1),      OPEN(8, 2, 2),
    OPEN(8, 3, 3),      OPEN(8, 4, 6),      OPEN(8, 1, 15),     OPEN(8, 15, 1),
    OPEN(8, 15, 15),    OPEN(8, 7, 64),     OPEN(8, 101, 300),  OPEN(16, 2, 2),
    OPEN(16, 3, 3),     OPEN(16, 4, 6),     OPEN(16, 15, 15),   OPEN(16, 7, 64),
    OPEN(16, 101, 300),
    REDUCE(resize, 1),       REDUCE(resize, 2),       REDUCE(resize, 3),
    SIZED(resize, 1, 1),     SIZED(resize, 1, 224),   SIZED(resize, 224, 1),
    SIZED(resize, 45, 67),   SIZED(resize, 224, 224), SIZED(resize, 300, 517),
    REDUCE(area, 1),    REDUCE(area, 2),    REDUCE(area, 3),    REDUCE(area, 4),
    SIZED(area, 1, 1),  SIZED(area, 2, 3),  SIZED(area, 7, 19), SIZED(area, 1, 45),
    PREPROCESS(4, 30, 0, 0), PREPROCESS(4, 30, 2, 2), PREPROCESS(9, 20, 3, 5),
};

static void label(char *text, size_t size, const setting *s, enum content content) {
    char numbers[64], limit[32] = "", kernel[64] = "";
    if (s->limit > 0) snprintf(limit, sizeof limit, " limit %g", s->limit);
    if (s->kernel_rows > 0)
        snprintf(kernel, sizeof kernel, " open %zux%zu", s->kernel_rows, s->kernel_cols);
    if (s->scale > 0)
        snprintf(numbers, sizeof numbers, "1/%zu", s->scale);
    else
        snprintf(numbers, sizeof numbers, "%zux%zu", s->rows, s->cols);
    snprintf(text, size, "%s u%u %s%s%s %s", s->name, s->bits, numbers, limit, kernel,
             content_names[content]);
}

static uint64_t run_case(const setting *s, enum content content, size_t height, size_t width,
                         unsigned layout, int every) {
    const size_t bytes = s->bits > 8 ? 2 : 1, scale = s->scale > 0 ? s->scale : 1;
    const size_t src_height = scale * height, src_width = scale * width;
    const int resizes = s->run == resize || s->run == area || s->run == preprocess;
    const int sized = resizes && s->scale == 0;
    const size_t dst_height = sized ? s->rows : height, dst_width = sized ? s->cols : width;
    char what[160];
    label(what, sizeof what, s, content);
    const size_t used = strlen(what);
    snprintf(what + used, sizeof what - used, " %zux%zu layout %u", src_height, src_width, layout);

    const size_t gaps[] = {0, 1, 13};
    picture src =
        make_picture(src_height, bytes * src_width, bytes * gaps[layout % 3], layout / 3 % 2);
    fill(&src, s->bits > 16 ? 16 : s->bits, content);
    const uint64_t hash = in_every_variant(what, s->run, s, &src, dst_height, bytes * dst_width,
                                           bytes * gaps[layout / 2 % 3], layout / 2 % 2);
    release_picture(&src);
    if (every) printf("    %s %016llx\n", what, (unsigned long long)hash);
    return hash;
}

int main(int argc, char **argv) {
    (void)argv;
    const int every = argc > 1;
    unsigned layout = 0;  // goes round, as do sizes and contents, at another pace
    fputs("variants:", stderr);
    for (size_t v = 0; ce_variant_name(v) != NULL; v++) fprintf(stderr, " %s", ce_variant_name(v));
    fputs("\n", stderr);

    for (size_t i = 0; i < COUNT(settings); i++) {
        const setting *s = &settings[i];
        for (enum content content = 0; content < CONTENTS; content++) {
            uint64_t hash = HASH_START;
            for (size_t h = 0; h < COUNT(heights); h++)
                for (size_t w = 0; w < COUNT(widths); w++) {
                    // Every size with noise, each of the others with one more content.
                    if (content != NOISE && (h + w) % CONTENTS != (size_t)content) continue;
                    const uint64_t one =
                        run_case(s, content, heights[h], widths[w], layout++ % 7, every);
                    hash = hash_bytes(hash, &one, sizeof one);
                }
            for (size_t n = 0; n < COUNT(scans) && content == NOISE; n++) {
                const uint64_t one =
                    run_case(s, content, scans[n][0], scans[n][1], layout++ % 7, every);
                hash = hash_bytes(hash, &one, sizeof one);
            }
            char what[160];
            label(what, sizeof what, s, content);
            printf("%s %016llx\n", what, (unsigned long long)hash);
        }
    }
    return 0;
}
