# SPDX-License-Identifier: Apache-2.0
"""CLAHE, one pixel at a time: for testing only.

Follows the description in K. Zuiderveld, Graphics Gems IV (1994), with the choices that OpenCV made
where it leaves them open. All arithmetic on pixels is float32, one rounding for each operation.
"""

from __future__ import annotations

import math

import numpy as np

ONE, HALF = np.float32(1), np.float32(0.5)


def clahe(
    image: np.ndarray, clip_limit: float, tile_grid: tuple[int, int], bits: int = 8
) -> np.ndarray:
    """Equalise an image of shape (rows, columns) and of 2**bits grey levels tile by tile."""
    rows, columns = tile_grid
    extended = extend(image, tile_grid)
    tile_height, tile_width = extended.shape[0] // rows, extended.shape[1] // columns
    tables = {}
    for i in range(rows):
        for j in range(columns):
            top, left = i * tile_height, j * tile_width
            tile = extended[top : top + tile_height, left : left + tile_width]
            tables[i, j] = equalising_table(tile, clip_limit, 2**bits)

    result = np.empty_like(image)
    for y, x in np.ndindex(image.shape):
        above, below, top, bottom = neighbours(y, tile_height, rows)
        before, after, left, right = neighbours(x, tile_width, columns)
        level = image[y, x]
        upper = tables[above, before][level] * left + tables[above, after][level] * right
        lower = tables[below, before][level] * left + tables[below, after][level] * right
        result[y, x] = np.rint(upper * top + lower * bottom)
    return result


def extend(image: np.ndarray, tile_grid: tuple[int, int]) -> np.ndarray:
    """Mirror the bottom and right so that both sides divide; both or neither are extended."""
    short = [tiles - side % tiles for side, tiles in zip(image.shape, tile_grid)]
    if short == list(tile_grid):
        return image
    return np.pad(image, [(0, short[0]), (0, short[1])], mode="reflect")


def equalising_table(tile: np.ndarray, clip_limit: float, levels: int) -> np.ndarray:
    """Return the new level for each old one, as float32 of whole numbers."""
    counts = np.bincount(tile.ravel(), minlength=levels)
    if clip_limit > 0:
        limit = math.trunc(clip_limit * tile.size / levels)
        limit = limit if 1 <= limit < 2**31 else 1
        excess = int(np.maximum(counts - limit, 0).sum())
        counts = np.minimum(counts, limit) + excess // levels
        rest = excess % levels
        for i in range(rest):
            counts[i * (levels // rest)] += 1
    scale = np.float32(levels - 1) / np.float32(tile.size)
    return np.rint(np.cumsum(counts).astype(np.float32) * scale)


def neighbours(position: int, tile: int, tiles: int) -> tuple[int, int, np.float32, np.float32]:
    """Return the two nearest tiles along one axis and their weights."""
    at = np.float32(position) * (ONE / np.float32(tile)) - HALF
    first = math.floor(at)
    weight = at - np.float32(first)
    return max(first, 0), min(first + 1, tiles - 1), ONE - weight, weight
