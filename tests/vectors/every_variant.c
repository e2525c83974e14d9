// SPDX-License-Identifier: Apache-2.0

#define _DEFAULT_SOURCE  // MAP_ANONYMOUS
#include "every_variant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1  // GCC says so itself
#endif
#endif

// What the bytes are that no kernel may write.
enum { CANARY = 0xA7 };

static void fail(const char *what, const char *variant, const char *trouble) {
    fprintf(stderr, "%s: %s: %s\n", what, variant, trouble);
    abort();
}

uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t n) {
    const uint8_t *byte = bytes;
    for (size_t i = 0; i < n; i++) hash = (hash ^ byte[i]) * UINT64_C(0x100000001b3);
    return hash;
}

#if defined(__SANITIZE_ADDRESS__)

static uint8_t *allocate(size_t bytes, uint8_t **memory, size_t *memory_bytes) {
    *memory = malloc(bytes);
    *memory_bytes = bytes;
    return *memory;
}

static void release(uint8_t *memory, size_t memory_bytes) {
    (void)memory_bytes;
    free(memory);
}

#else

// Whole pages, the last of which may not be touched; the bytes asked for end where it begins.
static uint8_t *allocate(size_t bytes, uint8_t **memory, size_t *memory_bytes) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t open = (bytes + page - 1) / page * page;
    *memory_bytes = open + page;
    *memory = mmap(NULL, *memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (*memory == MAP_FAILED || mprotect(*memory + open, page, PROT_NONE) != 0) return NULL;
    return *memory + open - bytes;
}

static void release(uint8_t *memory, size_t memory_bytes) { munmap(memory, memory_bytes); }

#endif

picture make_picture(size_t height, size_t row_bytes, size_t gap, int upside_down) {
    picture image = {.height = height, .row_bytes = row_bytes};
    const size_t pitch = row_bytes + gap, bytes = (height - 1) * pitch + row_bytes;
    uint8_t *first = allocate(bytes, &image.memory, &image.memory_bytes);
    if (first == NULL) fail("make_picture", "test", "no memory");
    memset(image.memory, CANARY, (size_t)(first - image.memory) + bytes);
    image.pixels = upside_down ? first + (height - 1) * pitch : first;
    image.stride = upside_down ? -(ptrdiff_t)pitch : (ptrdiff_t)pitch;
    return image;
}

void release_picture(picture *image) { release(image->memory, image->memory_bytes); }

static const uint8_t *row_of(const picture *image, size_t y) {
    return image->pixels + (ptrdiff_t)y * image->stride;
}

static const uint8_t *lowest(const picture *image) {
    return image->stride < 0 ? row_of(image, image->height - 1) : image->pixels;
}

static uint64_t hash_pixels(uint64_t hash, const picture *image) {
    for (size_t y = 0; y < image->height; y++)
        hash = hash_bytes(hash, row_of(image, y), image->row_bytes);
    return hash;
}

static int only_canaries(const uint8_t *begin, const uint8_t *end) {
    while (begin < end && *begin == CANARY) begin++;
    return begin == end;
}

// Before the image and between its rows; nothing comes after it.
static int canaries_live(const picture *image) {
    const size_t pitch = (size_t)(image->stride < 0 ? -image->stride : image->stride);
    const uint8_t *row = lowest(image);
    if (!only_canaries(image->memory, row)) return 0;
    for (size_t y = 1; y < image->height; y++, row += pitch)
        if (!only_canaries(row + image->row_bytes, row + pitch)) return 0;
    return 1;
}

static int same_pixels(const picture *a, const picture *b) {
    for (size_t y = 0; y < a->height; y++)
        if (memcmp(row_of(a, y), row_of(b, y), a->row_bytes) != 0) return 0;
    return 1;
}

static ce_status run_variant(const char *what, const char *variant, operation run,
                             const void *parameters, const picture *src, const picture *dst) {
    const uint64_t before = hash_pixels(HASH_START, src);
    if (ce_select_variant(variant) != CE_OK) fail(what, variant, "cannot be selected");
    const ce_status status = run(src, dst, parameters);
    if (!canaries_live(dst)) fail(what, variant, "wrote beside its output");
    if (!canaries_live(src) || hash_pixels(HASH_START, src) != before)
        fail(what, variant, "wrote to its input");
    return status;
}

uint64_t in_every_variant(const char *what, operation run, const void *parameters,
                          const picture *src, size_t height, size_t row_bytes, size_t gap,
                          int upside_down) {
    picture expected = make_picture(height, row_bytes, gap, upside_down);
    const ce_status status = run_variant(what, "portable", run, parameters, src, &expected);
    const char *variant;
    for (size_t v = 0; (variant = ce_variant_name(v)) != NULL; v++) {
        if (strcmp(variant, "portable") == 0) continue;
        picture found = make_picture(height, row_bytes, gap, upside_down);
        if (run_variant(what, variant, run, parameters, src, &found) != status)
            fail(what, variant, "gives another status");
        if (!same_pixels(&expected, &found)) fail(what, variant, "gives other pixels");
        release_picture(&found);
    }
    const uint8_t code = (uint8_t)status;
    const uint64_t hash = hash_pixels(hash_bytes(HASH_START, &code, 1), &expected);
    release_picture(&expected);
    return hash;
}
