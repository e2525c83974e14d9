# SPDX-License-Identifier: Apache-2.0
"""CLAHE of 16-bit pixels, of which 10 to 16 bits are in use."""

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
from reference.images import drawn

clip_limits = st.one_of(
    st.just(0), st.floats(0, 8), st.floats(8, 1e4), st.sampled_from([1e-300, 4.0, 40.0, 1e300])
)

# OpenCV's Arm builds fuse multiply and add, which changes the last bit of some pixels.
like_opencv = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="OpenCV gives these bits on x86 only"
)


@st.composite
def scans(draw, bits, largest=64, tiles=4):
    """Draw an image of so many bits and a grid."""
    shape = draw(st.tuples(st.integers(1, largest), st.integers(1, largest)))
    grid = draw(st.tuples(st.integers(1, tiles), st.integers(1, tiles)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    low, high = sorted(rng.integers(0, 2**bits, 2))
    noise = rng.integers(low, high + 1, shape)
    content = draw(st.sampled_from(("noise", "full range", "constant", "two levels")))
    if content == "full range":
        noise = rng.integers(0, 2**bits, shape)
    elif content == "constant":
        noise[:] = high
    elif content == "two levels":
        noise = np.where(rng.random(shape) < 0.5, low, high)
    return noise.astype(np.uint16), grid


def opencv_clahe(image, clip_limit, tile_grid):
    rows, columns = tile_grid
    return cv2.createCLAHE(clip_limit, (columns, rows)).apply(image)


@pytest.fixture(scope="module")
def force():
    """Return a function that forces a variant of the kernels; undone after the module."""
    before = imgproc.kernel_variants()["clahe"]
    yield _kernels.select_variant
    _kernels.select_variant(before)


@like_opencv
@drawn(2000)
@given(scans(bits=16), clip_limits)
def test_16_bits_are_opencv_to_the_bit(scan, clip_limit):
    image, grid = scan
    expected = opencv_clahe(image, clip_limit, grid)
    np.testing.assert_array_equal(clahe(image, clip_limit, grid), expected)


@pytest.mark.parametrize("bits", range(10, 17))
@drawn(100)
@given(st.data(), clip_limits)
def test_any_bits_are_the_reference_to_the_bit(bits, data, clip_limit):
    image, grid = data.draw(scans(bits, largest=12, tiles=3))
    expected = reference_clahe(image, clip_limit, grid, bits)
    np.testing.assert_array_equal(clahe(image, clip_limit, grid, bits=bits), expected)


@drawn(1000)
@given(scans(bits=12, largest=200), clip_limits)
def test_every_variant_gives_the_same_pixels(force, scan, clip_limit):
    image, grid = scan
    force("portable")
    expected = clahe(image, clip_limit, grid, bits=12)
    for name in imgproc.simd_variants():
        force(name)
        pixels = clahe(image, clip_limit, grid, bits=12)
        np.testing.assert_array_equal(pixels, expected, err_msg=name)


@pytest.mark.parametrize("bits", [12, 15, 16])
@pytest.mark.parametrize("tile_width", [2, 8, 64, 256, 512])
def test_tiles_as_wide_as_a_power_of_two_are_the_reference_to_the_bit(force, tile_width, bits):
    # Such widths have a faster way, but not for all bits.
    rng = np.random.default_rng(tile_width)
    image = rng.integers(0, 2**bits, (21, 3 * tile_width)).astype(np.uint16)
    expected = reference_clahe(image, 4.0, (3, 3), bits)
    for name in imgproc.simd_variants():
        force(name)
        pixels = clahe(image, 4.0, (3, 3), bits=bits)
        np.testing.assert_array_equal(pixels, expected, err_msg=name)


@drawn(500)
@given(scans(bits=12), st.integers(1, 40), st.integers(1, 40))
def test_nothing_around_the_output_is_written(scan, margin_y, margin_x):
    image, grid = scan
    height, width = image.shape
    frame = np.full((height + 2 * margin_y, width + 2 * margin_x), 60000, np.uint16)
    inside = frame[margin_y : margin_y + height, margin_x : margin_x + width]
    clahe(image, 4.0, grid, out=inside, bits=12)
    np.testing.assert_array_equal(inside, clahe(image, 4.0, grid, bits=12))
    inside[:] = 60000
    assert (frame == 60000).all()


@drawn(300)
@given(scans(bits=12), st.sampled_from([2, 3, 8, 1000]))
def test_threads_do_not_change_a_pixel(scan, threads):
    image, grid = scan
    expected = clahe(image, 4.0, grid, bits=12)
    np.testing.assert_array_equal(clahe(image, 4.0, grid, bits=12, threads=threads), expected)


def test_the_result_has_the_range_of_its_bits():
    # Three levels in one tile: level n becomes (n + 1) * 1023 / 3, or (n + 1) * 4095 / 3.
    image = np.arange(3, dtype=np.uint16)[None]
    assert clahe(image, 0, (1, 1), bits=10).tolist() == [[341, 682, 1023]]
    assert clahe(image, 0, (1, 1), bits=12).tolist() == [[1365, 2730, 4095]]


def test_all_16_bits_are_in_use_unless_said_otherwise():
    image = np.arange(3, dtype=np.uint16)[None]
    assert clahe(image, 0, (1, 1)).tolist() == [[21845, 43690, 65535]]


def test_the_excess_is_spread_over_all_levels_of_the_bits():
    # 16 pixels of level 700; the limit, 16 / 1024, counts as 1, so 15 are cut. One each goes to the
    # levels 0, 68, 136, …, 952: up to 700 there are 12 pixels, and 12 * 1023 / 16 = 767.25.
    assert (clahe(np.full((4, 4), 700, np.uint16), 1.0, (1, 1), bits=10) == 767).all()


def test_a_pixel_of_more_bits_is_refused():
    image = np.zeros((40, 50), np.uint16)
    image[31, 7] = 4096
    with pytest.raises(
        ValueError, match="^pixels of 12 bits must be below 4096, but the largest is 4096$"
    ):
        clahe(image, bits=12)
    image[31, 7] = 4095
    clahe(image, bits=12)


@pytest.mark.parametrize("bits", [8, 9, 17, 0, -1, 2**70])
def test_bits_out_of_range_are_refused(bits):
    with pytest.raises(ValueError, match=f"bits must be from 10 to 16 .* uint16, not {bits}"):
        clahe(np.zeros((4, 4), np.uint16), bits=bits)


LAYOUTS = {
    "every second column": lambda big: big[:20, 0:60:2],
    "every second row": lambda big: big[0:40:2, :30],
    "upside down": lambda big: big[19::-1, :30],
    "mirrored": lambda big: big[:20, 29::-1],
    "transposed": lambda big: big[:30, :20].T,
    "one row repeated": lambda big: np.broadcast_to(big[:1, :30], (20, 30)),
    "between two pixels": lambda big: np.frombuffer(big.tobytes(), np.uint16, 600, 1).reshape(
        20, 30
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_strides_give_the_same_pixels(layout):
    big = np.random.default_rng(4).integers(0, 4096, (64, 64), dtype=np.uint16)
    view = LAYOUTS[layout](big)
    np.testing.assert_array_equal(clahe(view), clahe(view.copy()))


def test_out_over_the_input_is_refused():
    sheet = np.zeros((20, 60), np.uint16)
    with pytest.raises(ValueError, match="^out must not share memory with image$"):
        clahe(sheet[:, :30], out=sheet[:, 29:59])


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.zeros((20, 30), np.uint8), TypeError, "out must be uint16, not uint8"),
        (np.zeros((20, 60), np.uint16)[:, ::2], ValueError, r"not strides \(120, 4\)"),
        (
            np.frombuffer(bytearray(1201), np.uint16, 600, 1).reshape(20, 30),
            ValueError,
            "out must be aligned",
        ),
    ],
)
def test_a_wrong_out_is_refused(out, error, message):
    with pytest.raises(error, match=message):
        clahe(np.zeros((20, 30), np.uint16), out=out)


def test_the_other_byte_order_is_refused():
    with pytest.raises(TypeError, match="image must be uint8 or uint16, not >u2"):
        clahe(np.zeros((4, 4), np.dtype(np.uint16).newbyteorder(">")))
