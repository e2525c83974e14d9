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

static uint8_t pixel(enum content content, size_t y, size_t x, uint32_t random) {
    switch (content) {
    case CONSTANT: return 93;
    case NOISE: return (uint8_t)(random >> 11);
    case FAINT_NOISE: return (uint8_t)(120 + (random >> 11) % 21);
    case GRADIENT: return (uint8_t)(3 * y + 5 * x);
    default: return random >> 30 == 0 ? 255 : 2;
    }
}

static void fill(const picture *image, enum content content) {
    uint32_t state = (uint32_t)(image->height * 65537 + image->row_bytes);
    for (size_t y = 0; y < image->height; y++) {
        uint8_t *row = image->pixels + (ptrdiff_t)y * image->stride;
        for (size_t x = 0; x < image->row_bytes; x++)
            row[x] = pixel(content, y, x, next_random(&state));
    }
}

// What is done: `shape` below is that of the output; resize starts from `scale` times it, or from
// the shape itself if rows x cols give the output.
typedef struct {
    const char *name;
    operation run;
    size_t rows, cols;  // tile grid, kernel, size of the output
    double limit;       // of CLAHE
    size_t scale;       // of resize
} setting;

static ce_status clahe(const picture *src, const picture *dst, const void *parameters) {
    const setting *s = parameters;
    return ce_clahe_u8(src->pixels, src->stride, dst->pixels, dst->stride, src->height,
                       src->row_bytes, s->limit, s->rows, s->cols);
}

static ce_status morph_open(const picture *src, const picture *dst, const void *parameters) {
    const setting *s = parameters;
    return ce_morph_open_u8(src->pixels, src->stride, dst->pixels, dst->stride, src->height,
                            src->row_bytes, s->rows, s->cols);
}

static ce_status resize(const picture *src, const picture *dst, const void *parameters) {
    (void)parameters;
    return ce_resize_u8(src->pixels, src->stride, src->height, src->row_bytes, dst->pixels,
                        dst->stride, dst->height, dst->row_bytes);
}

static const setting settings[] = {
    {"clahe", clahe, 1, 1, 0},       {"clahe", clahe, 2, 2, 2.5},
    {"clahe", clahe, 8, 8, 4},       {"clahe", clahe, 5, 16, 4},
    {"clahe", clahe, 3, 1, 40},      {"clahe", clahe, 1, 7, 1e300},
    {"clahe", clahe, 0, 8, 4},       {"open", morph_open, 1, 1},
    {"open", morph_open, 1, 2},      {"open", morph_open, 2, 1},
    {"open", morph_open, 2, 2},      {"open", morph_open, 3, 3},
    {"open", morph_open, 4, 6},      {"open", morph_open, 1, 15},
    {"open", morph_open, 15, 1},     {"open", morph_open, 15, 15},
    {"open", morph_open, 7, 64},     {"open", morph_open, 101, 300},
    {"resize", resize, .scale = 1},  {"resize", resize, .scale = 2},
    {"resize", resize, .scale = 3},  {"resize", resize, 1, 1},
    {"resize", resize, 1, 224},      {"resize", resize, 224, 1},
    {"resize", resize, 45, 67},      {"resize", resize, 224, 224},
    {"resize", resize, 300, 517},
};

static void label(char *text, size_t size, const setting *s, enum content content) {
    char scale[32] = "", limit[32] = "";
    if (s->run == clahe) snprintf(limit, sizeof limit, " limit %g", s->limit);
    if (s->scale > 0)
        snprintf(scale, sizeof scale, "1/%zu", s->scale);
    else
        snprintf(scale, sizeof scale, "%zux%zu", s->rows, s->cols);
    snprintf(text, size, "%s %s%s %s", s->name, scale, limit, content_names[content]);
}

static uint64_t run_case(const setting *s, enum content content, size_t height, size_t width,
                         unsigned layout, int every) {
    char what[160];
    label(what, sizeof what, s, content);
    const size_t used = strlen(what);
    const size_t scale = s->scale > 0 ? s->scale : 1;
    const size_t src_height = scale * height, src_width = scale * width;
    const int sized = s->run == resize && s->scale == 0;
    snprintf(what + used, sizeof what - used, " %zux%zu layout %u", src_height, src_width, layout);

    const size_t gaps[] = {0, 1, 13};
    picture src = make_picture(src_height, src_width, gaps[layout % 3], layout / 3 % 2);
    fill(&src, content);
    const uint64_t hash =
        in_every_variant(what, s->run, s, &src, sized ? s->rows : height, sized ? s->cols : width,
                         gaps[layout / 2 % 3], layout / 2 % 2);
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
