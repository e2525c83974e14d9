# SPDX-License-Identifier: Apache-2.0
"""The fused preprocessing: the pixels of its three steps, one after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from covid_edge import imgproc
from reference.images import thorough

sides = st.integers(1, 90)
small = st.integers(1, 9)


def in_steps(image, size, clip_limit, tile_grid, ksize):
    if clip_limit is not None:
        image = imgproc.clahe(image, clip_limit, tile_grid)
    if ksize is not None:
        image = imgproc.morph_open(image, ksize)
    return imgproc.resize(image, size)


@thorough
@given(
    shape=st.tuples(sides, sides),
    size=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    clip_limit=st.none() | st.floats(0, 40),
    tile_grid=st.tuples(small, small),
    ksize=st.none() | st.tuples(st.integers(1, 100), small) | st.tuples(small, small),
    seed=st.integers(0, 2**32 - 1),
)
@example((90, 90), (7, 9), 4.0, (8, 8), (2, 2), 0)  # few rows and columns are looked at
@example((90, 90), (7, 9), 4.0, (8, 8), None, 0)
@example((64, 64), (32, 32), 4.0, (8, 8), (2, 2), 0)  # exactly half: all are
@example((90, 1), (7, 9), 4.0, (8, 8), (3, 3), 0)
def test_it_is_clahe_then_opening_then_resize(shape, size, clip_limit, tile_grid, ksize, seed):
    image = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    expected = in_steps(image, size, clip_limit, tile_grid, ksize)
    fused = imgproc.clahe_open_resize(image, size, clip_limit, tile_grid, ksize)
    assert np.array_equal(fused, expected)


@pytest.mark.parametrize("side", [448, 640, 1000, 2048])
@pytest.mark.parametrize("ksize", [None, (2, 2), (3, 5)])
def test_scans_of_real_sizes(side, ksize):
    image = np.random.default_rng(side).integers(0, 256, (side, side + 13), dtype=np.uint8)
    expected = in_steps(image, (224, 224), 4.0, (8, 8), ksize)
    assert np.array_equal(imgproc.clahe_open_resize(image, (224, 224), ksize=ksize), expected)


def test_strides_of_any_sign_and_pixels_apart():
    image = np.random.default_rng(0).integers(0, 256, (90, 120), dtype=np.uint8)
    for view in (image[::-1, ::-1], image[::3, ::2], image.T):
        fused = imgproc.clahe_open_resize(view, (20, 24), ksize=(2, 2))
        assert np.array_equal(fused, in_steps(view, (20, 24), 4.0, (8, 8), (2, 2)))


def test_out_is_filled_and_nothing_beside_it():
    image = np.random.default_rng(0).integers(0, 256, (90, 120), dtype=np.uint8)
    frame = np.full((24, 40), 77, np.uint8)
    out = frame[2:22, 8:32]
    assert imgproc.clahe_open_resize(image, (20, 24), out=out) is out
    assert np.array_equal(out, in_steps(image, (20, 24), 4.0, (8, 8), None))
    out[:] = 77
    assert (frame == 77).all()
