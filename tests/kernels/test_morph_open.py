# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from functools import partial

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covid_edge.imgproc import morph_open
from reference.images import (
    assert_it_writes_out_and_nothing_else,
    deep,
    images,
    pairs,
    quick,
    thorough,
    views,
)
from reference.morphology import morph_open as reference_open


def opencv_open(image, ksize):
    image = np.ascontiguousarray(image)
    return cv2.morphologyEx(image, cv2.MORPH_OPEN, np.ones(ksize, np.uint8)).reshape(image.shape)


@thorough
@given(views(largest=100), pairs(largest=40))
def test_it_is_opencv_to_the_bit(image, ksize):
    np.testing.assert_array_equal(morph_open(image, ksize), opencv_open(image, ksize))


@thorough
@given(views(largest=100).map(deep), pairs(largest=40))
def test_it_is_opencv_to_the_bit_on_16_bits(image, ksize):
    np.testing.assert_array_equal(morph_open(image, ksize), opencv_open(image, ksize))


@quick
@given(images(largest=150), st.tuples(st.integers(1, 400), st.integers(1, 400)))
def test_a_rectangle_may_exceed_the_image(image, ksize):
    np.testing.assert_array_equal(morph_open(image, ksize), opencv_open(image, ksize))


@quick
@given(pairs(largest=80), pairs(largest=20), st.sampled_from([np.uint8, np.uint16]))
def test_it_writes_out_and_nothing_else(shape, ksize, dtype):
    image = np.random.default_rng(2).integers(0, 256, shape, dtype)
    kernel = partial(morph_open, image, ksize)
    assert_it_writes_out_and_nothing_else(kernel, shape, dtype)


@thorough
@given(images(largest=9), pairs(largest=12))
def test_it_is_the_reference_to_the_bit(image, ksize):
    np.testing.assert_array_equal(morph_open(image, ksize), reference_open(image, ksize))
    np.testing.assert_array_equal(
        morph_open(deep(image), ksize), reference_open(deep(image), ksize)
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (299, 401), (512, 512)])
@pytest.mark.parametrize("ksize", [(1, 1), (2, 2), (3, 3), (1, 15), (15, 1), (16, 9), (101, 64)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_it_is_opencv_on_whole_scans(shape, ksize, dtype):
    brightest = np.iinfo(dtype).max
    image = np.random.default_rng(1).normal(0.5, 0.2, shape).clip(0, 1) * brightest
    image = image.astype(dtype)
    np.testing.assert_array_equal(morph_open(image, ksize), opencv_open(image, ksize))


def test_a_rectangle_of_one_changes_nothing():
    image = np.random.default_rng(3).integers(0, 256, (20, 30), dtype=np.uint8)
    np.testing.assert_array_equal(morph_open(image, (1, 1)), image)


def test_a_bright_dot_smaller_than_the_rectangle_goes():
    image = np.zeros((5, 5), np.uint8)
    image[2, 2] = 255
    assert not morph_open(image, (2, 2)).any()


def test_an_even_side_moves_the_image_past_itself():
    # The window is this pixel and the one before it, for both steps: the erosion leaves the row as
    # it is, the dilation lets 9 grow to the right.
    assert morph_open(np.array([[9, 9, 0, 0]], np.uint8), (1, 2)).tolist() == [[9, 9, 9, 0]]


def test_a_rectangle_larger_than_any_memory_covers_the_image():
    image = np.array([[3, 200], [70, 40]], np.uint8)
    largest = 2**31 - 1
    assert morph_open(image, (largest, largest)).tolist() == [[3, 3], [3, 3]]


@thorough
@given(images(largest=20))
def test_odd_sides_never_exceed_the_image_and_twice_is_once(image):
    once = morph_open(image, (3, 5))
    assert (once <= image).all()
    np.testing.assert_array_equal(morph_open(once, (3, 5)), once)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("width", [1023, 1024, 2047, 2048, 2100])
def test_2x2_is_opencv_on_either_side_of_the_width_that_changes_its_way(dtype, width):
    image = np.random.default_rng(width).integers(0, 2**16, (7, width)).astype(dtype)
    kernel = np.ones((2, 2), np.uint8)
    expected = cv2.morphologyEx(image, cv2.MORPH_OPEN, kernel)
    np.testing.assert_array_equal(morph_open(image, (2, 2)), expected)
