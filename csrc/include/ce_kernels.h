// SPDX-License-Identifier: Apache-2.0
// Image kernels of covid-edge: the whole public interface.
//
// Images are grey, of 8 or 16 bits a pixel (_u8, _u16), row after row; strides are in bytes from
// one row to the next and may be negative, pixels within a row are adjacent. Input and output must
// not overlap, and the input must not change during a call. Every function is reentrant and keeps
// nothing between calls.

#ifndef CE_KERNELS_H
#define CE_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    CE_OK = 0,
    CE_EMPTY = 1,           // a side of an image, a tile grid or a kernel is 0
    CE_TOO_LARGE = 2,       // a side or a tile exceeds the arithmetic, in general 2^31 - 1
    CE_BAD_CLIP_LIMIT = 3,  // not finite, or negative
    CE_NO_MEMORY = 4,
    CE_UNKNOWN_VARIANT = 5,  // this build and this processor have no variant of that name
    CE_BAD_BITS = 6,         // not from 10 to 16
    CE_BAD_LEVEL = 7,        // a pixel is 2^bits or more
    CE_NOT_SMALLER = 8       // a reduction to more pixels
} ce_status;

// One sentence for a status, without a final stop. Never NULL.
const char *ce_status_message(ce_status status);

// Contrast-limited adaptive histogram equalisation (clahe.c). A clip limit of 0 clips nothing.
// threads: how many may work at a time, this one among them; more than 64 count as 64. They are
// made for the call, and the pixels do not depend on them.
ce_status ce_clahe_u8(const uint8_t *src, ptrdiff_t src_stride, uint8_t *dst, ptrdiff_t dst_stride,
                      size_t height, size_t width, double clip_limit, size_t grid_rows,
                      size_t grid_cols, size_t threads);

// The same for 16-bit pixels of which so many bits are in use, 10 to 16: 2^bits grey levels.
ce_status ce_clahe_u16(const uint16_t *src, ptrdiff_t src_stride, uint16_t *dst,
                       ptrdiff_t dst_stride, size_t height, size_t width, unsigned bits,
                       double clip_limit, size_t grid_rows, size_t grid_cols, size_t threads);

// Morphological opening by an all-ones rectangle (morphology.c).
ce_status ce_morph_open_u8(const uint8_t *src, ptrdiff_t src_stride, uint8_t *dst,
                           ptrdiff_t dst_stride, size_t height, size_t width, size_t kernel_rows,
                           size_t kernel_cols);
ce_status ce_morph_open_u16(const uint16_t *src, ptrdiff_t src_stride, uint16_t *dst,
                            ptrdiff_t dst_stride, size_t height, size_t width, size_t kernel_rows,
                            size_t kernel_cols);

// Bilinear resize, any size to any size (resize.c).
ce_status ce_resize_u8(const uint8_t *src, ptrdiff_t src_stride, size_t src_height,
                       size_t src_width, uint8_t *dst, ptrdiff_t dst_stride, size_t dst_height,
                       size_t dst_width);

// Reduction by exact area averaging, halves up (area.c). No side of the result may be longer than
// that of the image, and no side of the image longer than CE_AREA_LARGEST_SIDE: weights then fit
// 15 bits, and the sums of a column 32.
enum { CE_AREA_LARGEST_SIDE = 32767 };
ce_status ce_area_reduce_u8(const uint8_t *src, ptrdiff_t src_stride, size_t src_height,
                            size_t src_width, uint8_t *dst, ptrdiff_t dst_stride,
                            size_t dst_height, size_t dst_width);

// CLAHE, opening and resize, byte for byte as the calls above one after the other (preprocess.c).
typedef struct {
    double clip_limit;
    size_t grid_rows, grid_cols;      // both 0: no CLAHE
    size_t kernel_rows, kernel_cols;  // both 0: no opening
    size_t height, width;             // of the result
} ce_preprocessing;
ce_status ce_preprocess_u8(const uint8_t *src, ptrdiff_t src_stride, size_t height, size_t width,
                           uint8_t *dst, ptrdiff_t dst_stride, const ce_preprocessing *steps);

// product[j] = vector[0] * matrix[j] + vector[1] * matrix[cols + j] + …, in float32, summed in this
// order (product.c).
void ce_product_i8(float *product, const float *vector, const int8_t *matrix, size_t rows,
                   size_t cols);

// Variants of the row kernels, by instruction set. All of them give the same bytes.
//
// ce_variant_name(i): the i-th that runs on this processor, best first; NULL past the last.
// ce_select_variant(name): use that one and nothing better; NULL or "" takes the best again. Not
// to be called while another thread is inside a kernel.
const char *ce_variant_name(size_t index);
ce_status ce_select_variant(const char *name);

// Name of the variant in use for each operation (a variant need not have every operation).
const char *ce_clahe_variant(void);
const char *ce_morph_variant(void);
const char *ce_resize_variant(void);
const char *ce_area_variant(void);
const char *ce_product_variant(void);

#ifdef __cplusplus
}
#endif

#endif
