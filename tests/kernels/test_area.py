# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from functools import partial

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covid_edge.imgproc import area_reduce, resize
from reference.area import area_reduce as reference_reduce
from reference.area import overlaps
from reference.images import (
    assert_it_writes_out_and_nothing_else,
    images,
    pairs,
    quick,
    thorough,
    views,
)


@st.composite
def reductions(draw: st.DrawFn, pictures: st.SearchStrategy) -> tuple[np.ndarray, tuple[int, int]]:
    """Draw an image and a size that it can be reduced to."""
    image = draw(pictures)
    height, width = image.shape
    return image, (draw(st.integers(1, height)), draw(st.integers(1, width)))


def in_whole_numbers(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Weigh all pixels in units: as exact as the reference, and fast."""
    # float64 holds the sums exactly and is multiplied by BLAS, whose threads a small one waits for.
    dtype = float if image.size > 10**5 else int
    down, across = (overlaps(out, side).astype(dtype) for out, side in zip(size, image.shape))
    sums = (down @ image.astype(dtype) @ across.T).astype(int)
    area = image.shape[0] * image.shape[1]
    return ((2 * sums + area) // (2 * area)).astype(np.uint8)


def opencv_area(image, size):
    image = np.ascontiguousarray(image)
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA).reshape(size)


@thorough
@given(reductions(images(largest=12)))
def test_it_is_the_reference_to_the_bit(case):
    image, size = case
    np.testing.assert_array_equal(area_reduce(image, size), reference_reduce(image, size))


@thorough
@given(reductions(views(largest=150)))
def test_it_is_exact_at_any_size(case):
    image, size = case
    np.testing.assert_array_equal(area_reduce(image, size), in_whole_numbers(image, size))


@quick
@given(reductions(images(largest=100)))
def test_opencv_is_at_most_one_level_away(case):
    image, size = case
    far = area_reduce(image, size).astype(int) - opencv_area(image, size)
    assert np.abs(far).max() <= 1


@quick
@given(pairs(largest=30), pairs(largest=9), st.integers(0, 2**32 - 1))
def test_whole_ratios_are_opencv_but_for_exact_halves(size, ratios, seed):
    (height, width), (down, across) = size, ratios
    blocks = np.random.default_rng(seed).integers(0, 256, (height, down, width, across), np.uint8)
    image = blocks.reshape(height * down, width * across)
    halves = 2 * blocks.sum((1, 3), dtype=int) % (2 * down * across) == down * across
    ours, theirs = area_reduce(image, size), opencv_area(image, size)
    np.testing.assert_array_equal(np.where(halves, 0, ours), np.where(halves, 0, theirs))


@quick
@given(pairs(largest=70), st.integers(0, 2**32 - 1))
def test_half_the_size_is_opencv_and_resize_to_the_bit(size, seed):
    shape = (2 * size[0], 2 * size[1])
    image = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(area_reduce(image, size), opencv_area(image, size))
    np.testing.assert_array_equal(area_reduce(image, size), resize(image, size))


@quick
@given(pairs(largest=70), st.integers(0, 2**32 - 1))
def test_a_quarter_of_the_size_is_exact(size, seed):
    shape = (4 * size[0], 4 * size[1])
    image = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(area_reduce(image, size), in_whole_numbers(image, size))


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((2048, 2048), (640, 640)),  # 16 units by 16: sums of rows fit 15 bits
        ((384, 40), (381, 37)),  # 128 units: they just do
        ((387, 40), (384, 37)),  # 129: they do not
        ((90, 90), (12, 12)),  # an output pixel covers 8 inputs a side
        ((90, 85), (12, 10)),  # 9
        ((2000, 85), (900, 10)),
        ((1023, 777), (640, 640)),
        ((2048, 2048), (900, 901)),
        ((4001, 4003), (640, 641)),  # no whole inverse of the area is near enough
        ((4099, 4111), (5, 13)),  # coprime sides: more than 2^24 square units, past 32-bit sums
        ((32767, 2), (33, 1)),
        ((3, 32767), (2, 41)),
    ],
)
def test_it_is_exact_on_whole_scans(shape, size):
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(area_reduce(image, size), in_whole_numbers(image, size))


@quick
@given(pairs(largest=80), st.floats(0.01, 1), st.floats(0.01, 1))
def test_it_writes_out_and_nothing_else(shape, down, across):
    size = (max(1, int(down * shape[0])), max(1, int(across * shape[1])))
    image = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    assert_it_writes_out_and_nothing_else(partial(area_reduce, image, size), size, np.uint8)


@pytest.mark.parametrize("level", [0, 1, 254, 255])
@pytest.mark.parametrize("size", [(1, 1), (1, 700), (699, 3), (350, 350), (175, 175), (700, 700)])
def test_one_level_stays_that_level(level, size):
    assert (area_reduce(np.full((700, 700), level, np.uint8), size) == level).all()


def test_the_largest_image_sums_without_overflow():
    white = np.broadcast_to(np.uint8(255), (32767, 32767))
    assert area_reduce(np.ascontiguousarray(white[:, :40]), (1, 39)).tolist() == [[255] * 39]
    assert area_reduce(white, (1, 2), out=np.zeros((1, 2), np.uint8)).tolist() == [[255, 255]]


def test_halves_are_rounded_up():
    assert area_reduce(np.array([[0, 1]], np.uint8), (1, 1)).tolist() == [[1]]
    assert area_reduce(np.array([[1, 2]], np.uint8), (1, 1)).tolist() == [[2]]


def test_a_pixel_across_the_border_is_shared():
    # Three pixels to two: each gets one and a half, (10 + 40 / 2) / 1.5 and (40 / 2 + 100) / 1.5.
    assert area_reduce(np.array([[10, 40, 100]], np.uint8), (1, 2)).tolist() == [[20, 80]]


@quick
@given(images(largest=30))
def test_the_same_size_changes_nothing(image):
    np.testing.assert_array_equal(area_reduce(image, image.shape), image)


@pytest.mark.parametrize("size", [(4, 4), (3, 5), (4, 5)])
def test_it_enlarges_nothing(size):
    with pytest.raises(ValueError, match=r"^size must be at most the image's \(3, 4\), not"):
        area_reduce(np.zeros((3, 4), np.uint8), size)


@pytest.mark.parametrize("shape", [(32768, 1), (1, 32768)])
def test_a_side_past_15_bits_is_refused(shape):
    with pytest.raises(ValueError, match=r"^image sides must be at most 32767, not \("):
        area_reduce(np.zeros(shape, np.uint8), (1, 1))
