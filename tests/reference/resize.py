# SPDX-License-Identifier: Apache-2.0
"""Bilinear resize in OpenCV's fixed point, one pixel at a time: for testing only."""

from __future__ import annotations

import math

import numpy as np

WEIGHT_ONE = 2**11


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a uint8 image of shape (rows, columns) to `size`, rows before columns."""
    height, width = image.shape
    pixels = image.astype(int)
    if (height, width) == (2 * size[0], 2 * size[1]):
        total = pixels[::2, ::2] + pixels[::2, 1::2] + pixels[1::2, ::2] + pixels[1::2, 1::2]
        return ((total + 2) // 4).astype(np.uint8)

    result = np.empty(size, np.uint8)
    for y, x in np.ndindex(*size):
        row, down = locate(y, size[0], height)
        column, across = locate(x, size[1], width)
        # Off the image, OpenCV moves the position in x, but keeps the fraction in y.
        if column < 0:
            column, across = 0, np.float32(0)
        if column >= width - 1:
            column, across = width - 1, np.float32(0)
        parts = 0
        for neighbour, weight in ((row, 1 - down), (row + 1, down)):
            line = pixels[min(max(neighbour, 0), height - 1)]
            next_column = min(column + 1, width - 1)
            blended = line[column] * fixed(1 - across) + line[next_column] * fixed(across)
            parts += (blended >> 4) * fixed(weight) >> 16
        result[y, x] = (parts + 2) >> 2
    return result


def locate(i: int, out: int, side: int) -> tuple[int, np.float32]:
    """Return the pixel before the centre of output pixel `i` and how far past it that lies."""
    at = np.float32((i + 0.5) * (1 / (out / side)) - 0.5)
    return math.floor(at), at - np.float32(math.floor(at))


def fixed(weight: np.float32) -> int:
    return int(np.rint(np.float32(weight) * np.float32(WEIGHT_ONE)))
