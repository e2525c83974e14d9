// SPDX-License-Identifier: Apache-2.0
// CLAHE, opening and resize in one call, with the bytes of the three calls.
//
// The tables of CLAHE come from every pixel. After that a resize that makes the image much smaller
// looks at few rows and columns (from 2048 to 224: at 448 of each). Those are gathered in a compact
// image, and only that one is blended, opened and resized. An opening by k rows looks at twice a
// window of x - k / 2 … x - k / 2 + k - 1 around each, so that those are gathered too. Where rows
// meet in the compact image that were no neighbours, the opening is wrong and never looked at.

#include <stdlib.h>
#include <string.h>

#include "clahe.h"
#include "resize.h"

// Rows or columns that are needed, in order.
typedef struct {
    size_t count;
    size_t *at;     // count of them
    size_t *index;  // the place in `at` of each that is needed; while choosing, whether it is
} choice;

static ce_status choice_begin(choice *c, size_t n) {
    *c = (choice){0, malloc(n * sizeof *c->at), calloc(n, sizeof *c->index)};
    return c->at != NULL && c->index != NULL ? CE_OK : CE_NO_MEMORY;
}

static void choice_end(choice *c) {
    free(c->at);
    free(c->index);
}

// Need position i of n, and what an opening by k looks at around it.
static void need(choice *c, size_t i, size_t n, size_t k) {
    const size_t before = k / 2 * 2, after = (k - 1 - k / 2) * 2;
    const size_t begin = i > before ? i - before : 0;
    const size_t end = after < n - 1 - i ? i + after + 1 : n;
    for (size_t p = begin; p < end; p++) c->index[p] = 1;
}

static void number(choice *c, size_t n) {
    for (size_t p = 0; p < n; p++) {
        if (!c->index[p]) continue;
        c->index[p] = c->count;
        c->at[c->count++] = p;
    }
}

static void choose_rows(choice *c, ce_resize *resize, size_t n, size_t k) {
    for (size_t i = 0; i < resize->height; i++) {
        need(c, resize->rows[i].first, n, k);
        need(c, resize->rows[i].second, n, k);
    }
    number(c, n);
    for (size_t i = 0; i < resize->height; i++) {
        ce_pair *row = &resize->rows[i];
        *row = (ce_pair){c->index[row->first], c->index[row->second]};
    }
}

static void choose_columns(choice *c, ce_resize *resize, size_t n, size_t k) {
    for (size_t i = 0; i < resize->width; i++) {
        need(c, resize->at[i], n, k);
        if (n > 1) need(c, resize->at[i] + 1, n, k);
    }
    size_t needed = 0;
    for (size_t p = 0; p < n; p++) needed += c->index[p];
    // Pixels are gathered one by one, which takes about as long as blending them.
    if (needed > n / 2)
        for (size_t p = 0; p < n; p++) c->index[p] = 1;
    number(c, n);
    for (size_t i = 0; i < resize->width; i++)
        resize->at[i] = (uint32_t)c->index[resize->at[i]];
}

static void gather(uint8_t *dst, const uint8_t *src, ptrdiff_t stride, const choice *rows,
                   const choice *cols, size_t width) {
    for (size_t y = 0; y < rows->count; y++, dst += cols->count) {
        const uint8_t *row = src + (ptrdiff_t)rows->at[y] * stride;
        if (cols->count == width)
            memcpy(dst, row, width);
        else
            for (size_t x = 0; x < cols->count; x++) dst[x] = row[cols->at[x]];
    }
}

static ce_status blend(const ce_clahe *clahe, const choice *rows, const choice *cols,
                       const uint8_t *src, ptrdiff_t stride, uint8_t *dst) {
    ce_axis down = {0}, across = {0};
    ce_status status =
        ce_axis_begin(&down, rows->at, rows->count, clahe->tile_height, clahe->rows);
    if (status == CE_OK)
        status = ce_axis_begin(&across, cols->at, cols->count, clahe->tile_width, clahe->cols);
    if (status == CE_OK)
        status =
            ce_clahe_blend(clahe, &down, &across, src, stride, dst, (ptrdiff_t)cols->count, 1);
    ce_axis_end(&across);
    ce_axis_end(&down);
    return status;
}

// What is left once it is known where the resize looks.
static ce_status run(const uint8_t *src, ptrdiff_t stride, size_t height, size_t width,
                     uint8_t *dst, ptrdiff_t dst_stride, const ce_preprocessing *p,
                     const ce_clahe *clahe, const ce_resize *resize, const choice *rows,
                     const choice *cols) {
    const size_t pixels = rows->count * cols->count;
    if (pixels > SIZE_MAX / 2) return CE_NO_MEMORY;
    uint8_t *buffers = malloc(2 * pixels), *next = buffers;
    if (buffers == NULL) return CE_NO_MEMORY;
    ce_status status = CE_OK;
    if (rows->count < height || cols->count < width) {
        gather(next, src, stride, rows, cols, width);
        src = next, stride = (ptrdiff_t)cols->count;
        next = buffers + pixels;
    }
    if (clahe != NULL) {
        status = blend(clahe, rows, cols, src, stride, next);
        src = next, stride = (ptrdiff_t)cols->count;
        next = next == buffers ? buffers + pixels : buffers;
    }
    if (status == CE_OK && p->kernel_rows > 0) {
        status = ce_morph_open_u8(src, stride, next, (ptrdiff_t)cols->count, rows->count,
                                  cols->count, p->kernel_rows, p->kernel_cols);
        src = next, stride = (ptrdiff_t)cols->count;
    }
    if (status == CE_OK) status = ce_resize_run(resize, src, stride, dst, dst_stride);
    free(buffers);
    return status;
}

ce_status ce_preprocess_u8(const uint8_t *src, ptrdiff_t src_stride, size_t height, size_t width,
                           uint8_t *dst, ptrdiff_t dst_stride, const ce_preprocessing *p) {
    if ((p->kernel_rows == 0) != (p->kernel_cols == 0)) return CE_EMPTY;
    const int equalise = p->grid_rows > 0 || p->grid_cols > 0, open = p->kernel_rows > 0;
    ce_resize resize;
    ce_clahe clahe;
    choice rows = {0}, cols = {0};
    ce_status status = ce_resize_begin(&resize, height, width, p->height, p->width);
    int measured = 0;
    if (status == CE_OK && !equalise && !open) {
        status = ce_resize_run(&resize, src, src_stride, dst, dst_stride);
        goto done;
    }
    if (status == CE_OK && equalise) {
        const ce_image image = {src, src_stride, height, width};
        status = ce_clahe_begin(&clahe, image, 8, p->clip_limit, p->grid_rows, p->grid_cols, 1);
        measured = status == CE_OK;
    }
    if (status == CE_OK) status = choice_begin(&rows, height);
    if (status == CE_OK) status = choice_begin(&cols, width);
    if (status == CE_OK) {
        if (resize.kind == CE_INTERPOLATE) {
            choose_rows(&rows, &resize, height, open ? p->kernel_rows : 1);
            choose_columns(&cols, &resize, width, open ? p->kernel_cols : 1);
        } else {
            for (size_t y = 0; y < height; y++) rows.index[y] = 1;
            for (size_t x = 0; x < width; x++) cols.index[x] = 1;
            number(&rows, height);
            number(&cols, width);
        }
        status = run(src, src_stride, height, width, dst, dst_stride, p, equalise ? &clahe : NULL,
                     &resize, &rows, &cols);
    }
done:
    choice_end(&cols);
    choice_end(&rows);
    if (measured) ce_clahe_end(&clahe);
    ce_resize_end(&resize);
    return status;
}
