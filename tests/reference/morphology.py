# SPDX-License-Identifier: Apache-2.0
"""Opening by a rectangle of ones, from the definition: for testing only."""

from __future__ import annotations

import numpy as np


def morph_open(image: np.ndarray, ksize: tuple[int, int]) -> np.ndarray:
    """Erode, then dilate, a uint8 image of shape (rows, columns)."""
    return each_window(np.max, each_window(np.min, image, ksize), ksize)


def each_window(reduce, image: np.ndarray, ksize: tuple[int, int]) -> np.ndarray:
    """Reduce the part of the image that lies under the rectangle, for each place of its anchor."""
    result = np.empty_like(image)
    for y, x in np.ndindex(image.shape):
        top, left = y - ksize[0] // 2, x - ksize[1] // 2
        window = image[max(top, 0) : top + ksize[0], max(left, 0) : left + ksize[1]]
        result[y, x] = reduce(window)
    return result
