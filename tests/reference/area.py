# SPDX-License-Identifier: Apache-2.0
"""Exact area averaging, from the definition: for testing only."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np


def area_reduce(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Reduce a uint8 image of shape (rows, columns) to `size`; means are rounded, halves up."""
    height, width = image.shape
    pixels = image.tolist()
    down, across = overlaps(size[0], height).tolist(), overlaps(size[1], width).tolist()
    result = np.empty(size, np.uint8)
    for y, x in np.ndindex(*size):
        total = sum(
            pixels[row][column] * down[y][row] * across[x][column]
            for row, column in np.ndindex(height, width)
        )
        result[y, x] = floor(Fraction(total, height * width) + Fraction(1, 2))
    return result


def overlaps(out: int, side: int) -> np.ndarray:
    """Return by how much the output pixels (rows) cover the input pixels (columns).

    A whole axis is `out * side` long, so that all overlaps are whole numbers.
    """
    begin, end = (np.arange(out)[:, None] + edge for edge in (0, 1))
    left, right = (np.arange(side)[None] + edge for edge in (0, 1))
    return np.maximum(np.minimum(end * side, right * out) - np.maximum(begin * side, left * out), 0)
