# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Thin binding of csrc/: rows in, status out, no GIL inside.

Arguments are checked by covid_edge.imgproc. What matters for memory safety is checked here or in C:
rows are contiguous, the output has the shape of the input where it must.
"""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int8_t, uint8_t, uint16_t

cdef extern from "ce_kernels.h" nogil:
    ctypedef enum ce_status:
        CE_OK
        CE_NO_MEMORY
        CE_UNKNOWN_VARIANT

    const char *ce_status_message(ce_status status)
    ce_status ce_clahe_u8(const uint8_t *src, ptrdiff_t src_stride, uint8_t *dst,
                          ptrdiff_t dst_stride, size_t height, size_t width, double clip_limit,
                          size_t grid_rows, size_t grid_cols, size_t threads)
    ce_status ce_clahe_u16(const uint16_t *src, ptrdiff_t src_stride, uint16_t *dst,
                           ptrdiff_t dst_stride, size_t height, size_t width, unsigned bits,
                           double clip_limit, size_t grid_rows, size_t grid_cols, size_t threads)
    ce_status ce_morph_open_u8(const uint8_t *src, ptrdiff_t src_stride, uint8_t *dst,
                               ptrdiff_t dst_stride, size_t height, size_t width,
                               size_t kernel_rows, size_t kernel_cols)
    ce_status ce_morph_open_u16(const uint16_t *src, ptrdiff_t src_stride, uint16_t *dst,
                                ptrdiff_t dst_stride, size_t height, size_t width,
                                size_t kernel_rows, size_t kernel_cols)
    ce_status ce_resize_u8(const uint8_t *src, ptrdiff_t src_stride, size_t src_height,
                           size_t src_width, uint8_t *dst, ptrdiff_t dst_stride,
                           size_t dst_height, size_t dst_width)
    ce_status ce_area_reduce_u8(const uint8_t *src, ptrdiff_t src_stride, size_t src_height,
                                size_t src_width, uint8_t *dst, ptrdiff_t dst_stride,
                                size_t dst_height, size_t dst_width)
    ctypedef struct ce_preprocessing:
        double clip_limit
        size_t grid_rows
        size_t grid_cols
        size_t kernel_rows
        size_t kernel_cols
        size_t height
        size_t width
    ce_status ce_preprocess_u8(const uint8_t *src, ptrdiff_t src_stride, size_t height,
                               size_t width, uint8_t *dst, ptrdiff_t dst_stride,
                               const ce_preprocessing *steps)
    void ce_product_i8(float *product, const float *vector, const int8_t *matrix, size_t rows,
                       size_t cols)
    const char *ce_variant_name(size_t index)
    ce_status ce_select_variant(const char *name)
    const char *ce_clahe_variant()
    const char *ce_morph_variant()
    const char *ce_resize_variant()
    const char *ce_area_variant()
    const char *ce_product_variant()


cdef int check(ce_status status) except -1:
    if status == CE_OK:
        return 0
    if status == CE_NO_MEMORY:
        raise MemoryError(ce_status_message(status).decode())
    raise ValueError(ce_status_message(status).decode())


ctypedef fused level:
    uint8_t
    uint16_t


cdef int check_rows(const level[:, :] src, level[:, :] dst, bint same_shape) except -1:
    if src.shape[0] == 0 or src.shape[1] == 0 or dst.shape[0] == 0 or dst.shape[1] == 0:
        raise ValueError("an image is empty")
    cdef Py_ssize_t adjacent = sizeof(level)
    if ((src.shape[1] > 1 and src.strides[1] != adjacent)
            or (dst.shape[1] > 1 and dst.strides[1] != adjacent)):
        raise ValueError("the pixels of a row are not adjacent")
    if same_shape and (src.shape[0] != dst.shape[0] or src.shape[1] != dst.shape[1]):
        raise ValueError("input and output differ in shape")
    return 0


def clahe_u8(const uint8_t[:, :] src, uint8_t[:, :] dst, double clip_limit, size_t grid_rows,
             size_t grid_cols, size_t threads):
    cdef ce_status status
    check_rows(src, dst, True)
    with nogil:
        status = ce_clahe_u8(&src[0, 0], src.strides[0], &dst[0, 0], dst.strides[0], src.shape[0],
                             src.shape[1], clip_limit, grid_rows, grid_cols, threads)
    check(status)


def clahe_u16(const uint16_t[:, :] src, uint16_t[:, :] dst, unsigned bits, double clip_limit,
              size_t grid_rows, size_t grid_cols, size_t threads):
    cdef ce_status status
    check_rows(src, dst, True)
    with nogil:
        status = ce_clahe_u16(&src[0, 0], src.strides[0], &dst[0, 0], dst.strides[0],
                              src.shape[0], src.shape[1], bits, clip_limit, grid_rows, grid_cols,
                              threads)
    check(status)


def morph_open(const level[:, :] src, level[:, :] dst, size_t kernel_rows, size_t kernel_cols):
    cdef ce_status status
    check_rows(src, dst, True)
    with nogil:
        if level is uint8_t:
            status = ce_morph_open_u8(&src[0, 0], src.strides[0], &dst[0, 0], dst.strides[0],
                                      src.shape[0], src.shape[1], kernel_rows, kernel_cols)
        else:
            status = ce_morph_open_u16(&src[0, 0], src.strides[0], &dst[0, 0], dst.strides[0],
                                       src.shape[0], src.shape[1], kernel_rows, kernel_cols)
    check(status)


def resize(const uint8_t[:, :] src, uint8_t[:, :] dst):
    cdef ce_status status
    check_rows(src, dst, False)
    with nogil:
        status = ce_resize_u8(&src[0, 0], src.strides[0], src.shape[0], src.shape[1], &dst[0, 0],
                              dst.strides[0], dst.shape[0], dst.shape[1])
    check(status)


def area_reduce(const uint8_t[:, :] src, uint8_t[:, :] dst):
    cdef ce_status status
    check_rows(src, dst, False)
    with nogil:
        status = ce_area_reduce_u8(&src[0, 0], src.strides[0], src.shape[0], src.shape[1],
                                   &dst[0, 0], dst.strides[0], dst.shape[0], dst.shape[1])
    check(status)


def preprocess(const uint8_t[:, :] src, uint8_t[:, :] dst, double clip_limit, size_t grid_rows,
               size_t grid_cols, size_t kernel_rows, size_t kernel_cols):
    cdef ce_preprocessing steps
    cdef ce_status status
    check_rows(src, dst, False)
    steps.clip_limit = clip_limit
    steps.grid_rows, steps.grid_cols = grid_rows, grid_cols
    steps.kernel_rows, steps.kernel_cols = kernel_rows, kernel_cols
    steps.height, steps.width = dst.shape[0], dst.shape[1]
    with nogil:
        status = ce_preprocess_u8(&src[0, 0], src.strides[0], src.shape[0], src.shape[1],
                                  &dst[0, 0], dst.strides[0], &steps)
    check(status)


def product(const float[::1] vector, const int8_t[:, ::1] matrix, float[::1] out):
    if matrix.shape[0] != vector.shape[0] or matrix.shape[1] != out.shape[0]:
        raise ValueError("vector, matrix and output do not fit together")
    if matrix.size == 0:
        raise ValueError("the matrix is empty")
    with nogil:
        ce_product_i8(&out[0], &vector[0], &matrix[0, 0], matrix.shape[0], matrix.shape[1])


def available_variants():
    names = []
    while ce_variant_name(len(names)) != NULL:
        names.append(ce_variant_name(len(names)).decode())
    return tuple(names)


def select_variant(str name):
    check(ce_select_variant(name.encode()))


def active_variants():
    return {
        "area_reduce": ce_area_variant().decode(),
        "clahe": ce_clahe_variant().decode(),
        "morph_open": ce_morph_variant().decode(),
        "product": ce_product_variant().decode(),
        "resize": ce_resize_variant().decode(),
    }
