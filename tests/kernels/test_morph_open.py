# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given

from covid_edge.imgproc import morph_open
from reference.images import images, pairs, thorough
from reference.morphology import morph_open as reference_open


def opencv_open(image, ksize):
    return cv2.morphologyEx(image, cv2.MORPH_OPEN, np.ones(ksize, np.uint8))


@thorough
@given(images(largest=64), pairs(largest=40))
def test_it_is_opencv_to_the_bit(image, ksize):
    np.testing.assert_array_equal(morph_open(image, ksize), opencv_open(image, ksize))


@thorough
@given(images(largest=9), pairs(largest=12))
def test_it_is_the_reference_to_the_bit(image, ksize):
    np.testing.assert_array_equal(morph_open(image, ksize), reference_open(image, ksize))


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (299, 401), (512, 512)])
@pytest.mark.parametrize("ksize", [(1, 1), (2, 2), (3, 3), (1, 15), (15, 1), (16, 9), (101, 64)])
def test_it_is_opencv_on_whole_scans(shape, ksize):
    image = np.random.default_rng(1).normal(120, 30, shape).clip(0, 255).astype(np.uint8)
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
