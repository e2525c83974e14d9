# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import platform
from functools import partial

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covid_edge.imgproc import resize
from reference.images import (
    assert_it_writes_out_and_nothing_else,
    images,
    pairs,
    quick,
    thorough,
    views,
)
from reference.resize import resize as reference_resize

# OpenCV's Arm builds take another road for grey images, up to 2 levels away.
like_opencv = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="OpenCV gives these bits on x86 only"
)


def opencv_resize(image, size):
    image = np.ascontiguousarray(image)
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR).reshape(size)


@like_opencv
@thorough
@given(views(largest=150), pairs(largest=130))
def test_it_is_opencv_to_the_bit(image, size):
    np.testing.assert_array_equal(resize(image, size), opencv_resize(image, size))


@thorough
@given(images(largest=10), pairs(largest=10))
def test_it_is_the_reference_to_the_bit(image, size):
    np.testing.assert_array_equal(resize(image, size), reference_resize(image, size))


@like_opencv
@pytest.mark.parametrize("shape", [(1, 1), (1, 448), (448, 1), (448, 448), (449, 447), (1023, 777)])
@pytest.mark.parametrize("size", [(1, 1), (224, 224), (96, 96), (224, 1), (1, 224), (500, 600)])
def test_it_is_opencv_on_whole_scans(shape, size):
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(resize(image, size), opencv_resize(image, size))


@thorough
@given(images(largest=30))
def test_the_same_size_changes_nothing(image):
    np.testing.assert_array_equal(resize(image, image.shape), image)


@thorough
@given(pairs(largest=70), st.integers(0, 2**32 - 1))
def test_half_the_size_is_opencv_to_the_bit(size, seed):
    shape = (2 * size[0], 2 * size[1])
    image = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(resize(image, size), opencv_resize(image, size))


@quick
@given(pairs(largest=80), pairs(largest=80))
def test_it_writes_out_and_nothing_else(shape, size):
    image = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    assert_it_writes_out_and_nothing_else(partial(resize, image, size), size, np.uint8)


def test_half_the_size_is_the_mean_of_four_with_halves_up():
    image = np.array([[0, 1, 0, 0], [0, 1, 0, 1]], np.uint8)
    assert resize(image, (1, 2)).tolist() == [[1, 0]]  # 2 / 4 and 1 / 4


def test_half_the_width_alone_is_weighted_in_fixed_point():
    # Halfway between 0 and 255, 127.5: 255 * 1024 >> 4 = 16320, * 2048 >> 16 = 510, (510 + 2) >> 2.
    assert resize(np.array([[0, 255]], np.uint8), (1, 1)).tolist() == [[128]]


def test_one_pixel_fills_any_size():
    assert (resize(np.array([[201]], np.uint8), (5, 7)) == 201).all()
