# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import platform

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covid_edge import _kernels, imgproc
from covid_edge.imgproc import clahe
from reference.clahe import clahe as reference_clahe
from reference.images import images, pairs, picture, thorough

clip_limits = st.one_of(
    st.just(0), st.floats(0, 8), st.floats(8, 1e4), st.sampled_from([1e-300, 1.0, 4.0, 40.0, 1e300])
)

# OpenCV's Arm builds fuse multiply and add, which changes the last bit of some pixels.
like_opencv = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="OpenCV gives these bits on x86 only"
)


def opencv_clahe(image, clip_limit, tile_grid):
    rows, columns = tile_grid
    return cv2.createCLAHE(clip_limit, (columns, rows)).apply(image)


@st.composite
def tilings(draw):
    """Draw an image and a grid of tiles whose sides a vector kernel may care about.

    They are powers of two up to 256 or near a multiple of 8, and may not divide the image.
    """
    powers = st.integers(0, 8).map(lambda n: 2**n)
    near_8 = st.integers(0, 8).flatmap(lambda n: st.integers(max(8 * n - 1, 1), 8 * n + 1))
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    extra = st.one_of(st.just(0), st.integers(0, 3))
    height = rows * draw(st.one_of(powers, near_8)) + draw(extra)
    width = columns * draw(st.one_of(powers, near_8)) + draw(extra)
    content = draw(st.sampled_from(("constant", "noise", "faint noise", "gradient", "two levels")))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return picture(content, height, width, rng), (rows, columns)


@pytest.fixture(scope="module")
def force():
    """Return a function that forces a variant of the kernels; undone after the module."""
    before = imgproc.kernel_variants()["clahe"]
    yield _kernels.select_variant
    _kernels.select_variant(before)


@like_opencv
@thorough
@given(images(largest=64), clip_limits, pairs(largest=12))
def test_it_is_opencv_to_the_bit(image, clip_limit, tile_grid):
    expected = opencv_clahe(image, clip_limit, tile_grid)
    np.testing.assert_array_equal(clahe(image, clip_limit, tile_grid), expected)


@like_opencv
@thorough
@given(tilings(), clip_limits)
def test_it_is_opencv_to_the_bit_for_any_tiling(image_and_grid, clip_limit):
    image, tile_grid = image_and_grid
    expected = opencv_clahe(image, clip_limit, tile_grid)
    np.testing.assert_array_equal(clahe(image, clip_limit, tile_grid), expected)


@thorough
@given(tilings(), clip_limits)
def test_every_variant_gives_the_same_pixels(force, image_and_grid, clip_limit):
    image, tile_grid = image_and_grid
    force("portable")
    expected = clahe(image, clip_limit, tile_grid)
    for name in imgproc.simd_variants():
        force(name)
        np.testing.assert_array_equal(clahe(image, clip_limit, tile_grid), expected, err_msg=name)


@thorough
@given(tilings(), st.integers(1, 40), st.integers(1, 40))
def test_nothing_around_the_output_is_written(image_and_grid, margin_y, margin_x):
    image, tile_grid = image_and_grid
    height, width = image.shape
    frame = np.full((height + 2 * margin_y, width + 2 * margin_x), 99, np.uint8)
    inside = frame[margin_y : margin_y + height, margin_x : margin_x + width]
    clahe(image, 4.0, tile_grid, out=inside)
    np.testing.assert_array_equal(inside, clahe(image, 4.0, tile_grid))
    inside[:] = 99
    assert (frame == 99).all()


@thorough
@given(tilings(), st.sampled_from([2, 3, 8, 64, 1000]))
def test_threads_do_not_change_a_pixel(image_and_grid, threads):
    image, tile_grid = image_and_grid
    expected = clahe(image, 4.0, tile_grid)
    np.testing.assert_array_equal(clahe(image, 4.0, tile_grid, threads=threads), expected)


@thorough
@given(images(largest=8), clip_limits, pairs(largest=4))
def test_it_is_the_reference_to_the_bit(image, clip_limit, tile_grid):
    expected = reference_clahe(image, clip_limit, tile_grid)
    np.testing.assert_array_equal(clahe(image, clip_limit, tile_grid), expected)


@like_opencv
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (299, 401), (512, 512), (1023, 777)])
@pytest.mark.parametrize("tile_grid", [(1, 1), (8, 8), (5, 16), (40, 3)])
def test_it_is_opencv_on_whole_scans(shape, tile_grid):
    image = np.random.default_rng(1).normal(120, 30, shape).clip(0, 255).astype(np.uint8)
    np.testing.assert_array_equal(clahe(image, 4.0, tile_grid), opencv_clahe(image, 4.0, tile_grid))


@like_opencv
def test_there_may_be_more_tiles_than_pixels():
    image = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    np.testing.assert_array_equal(clahe(image, 2.0, (50, 70)), opencv_clahe(image, 2.0, (50, 70)))


def test_halves_are_rounded_to_even():
    # Six levels in one tile: level n becomes (n + 1) * 255 / 6 = 42.5, 85, 127.5, 170, 212.5, 255.
    image = np.arange(6, dtype=np.uint8)[None]
    assert clahe(image, 0, (1, 1)).tolist() == [[42, 85, 128, 170, 212, 255]]


def test_a_limit_of_0_clips_nothing():
    # All pixels have level 7, so everything up to 7 is everything: 255.
    assert (clahe(np.full((4, 4), 7, np.uint8), 0, (1, 1)) == 255).all()


def test_the_excess_is_spread_with_a_stride():
    # 16 pixels of level 7; the limit, 16 / 256, counts as 1, so 15 are cut. None go to all levels,
    # one each to the levels 0, 17, 34, …: up to 7 there are 2 pixels, and 2 * 255 / 16 = 31.875.
    assert (clahe(np.full((4, 4), 7, np.uint8), 1.0, (1, 1)) == 32).all()


def test_a_side_that_divides_is_extended_with_the_other():
    # Width 1 does not divide by 2, so height 2, which does, becomes 4: each tile holds both levels.
    # Tiles of one pixel would give 255 everywhere.
    image = np.array([[10], [20]], np.uint8)
    assert clahe(image, 0, (2, 2)).tolist() == [[128], [255]]


def test_a_limit_past_32_bits_counts_as_1():
    # OpenCV converts it to an int, which x86 answers with the least one.
    image = np.random.default_rng(2).integers(0, 90, (64, 64), dtype=np.uint8)
    largest = (2**31 - 1) * 256 / image.size
    assert np.array_equal(clahe(image, largest, (1, 1)), clahe(image, 0, (1, 1)))
    assert np.array_equal(clahe(image, largest + 1, (1, 1)), clahe(image, 1e-9, (1, 1)))


def test_there_may_be_more_threads_than_rows():
    image = np.arange(30, dtype=np.uint8).reshape(3, 10)
    np.testing.assert_array_equal(clahe(image, threads=8), clahe(image))


@pytest.mark.parametrize("threads", [0, -1])
def test_fewer_than_one_thread_is_refused(threads):
    with pytest.raises(ValueError, match=f"threads must be at least 1, not {threads}"):
        clahe(np.zeros((4, 4), np.uint8), threads=threads)


@pytest.mark.parametrize("name", ["threads", "bits"])
@pytest.mark.parametrize("value", [1.0, "8", [8]])
def test_a_keyword_that_is_no_integer_is_refused(name, value):
    with pytest.raises(TypeError, match=f"{name} must be an integer, not"):
        clahe(np.zeros((4, 4), np.uint8), **{name: value})


def test_uint8_has_8_bits():
    image = np.random.default_rng(3).integers(0, 256, (20, 30), dtype=np.uint8)
    np.testing.assert_array_equal(clahe(image, bits=8), clahe(image))
    with pytest.raises(ValueError, match="bits must be 8 for an image of uint8, not 10"):
        clahe(image, bits=10)
