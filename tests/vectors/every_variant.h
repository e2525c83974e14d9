// SPDX-License-Identifier: Apache-2.0
// Runs an entry point in every variant of the kernels and watches all memory around its images.

#ifndef EVERY_VARIANT_H
#define EVERY_VARIANT_H

#include <stddef.h>
#include <stdint.h>

#include "ce_kernels.h"

// An image in memory of its own. Nothing is left between its last byte and memory that may not be
// touched: an unmapped page, or what AddressSanitizer poisons.
typedef struct {
    uint8_t *pixels;  // the first row
    ptrdiff_t stride;
    size_t height, row_bytes;
    uint8_t *memory;  // all of it, for release_picture
    size_t memory_bytes;
} picture;

// gap: bytes between two rows, which are nobody's pixels. upside_down: the stride is negative.
// Ends the program if there is no memory, as everything here does when something is wrong.
picture make_picture(size_t height, size_t row_bytes, size_t gap, int upside_down);
void release_picture(picture *image);

typedef ce_status (*operation)(const picture *src, const picture *dst, const void *parameters);

// Run the operation on src in every variant and return a hash of its status and pixels. Aborts with
// a message that says `what` if a variant differs from portable, or if a byte was changed that is
// not a pixel of the output.
uint64_t in_every_variant(const char *what, operation run, const void *parameters,
                          const picture *src, size_t height, size_t row_bytes, size_t gap,
                          int upside_down);

// FNV-1a of n bytes, going on from `hash`; HASH_START begins.
#define HASH_START UINT64_C(0xcbf29ce484222325)
uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t n);

#endif
