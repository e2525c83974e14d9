# SPDX-License-Identifier: Apache-2.0
"""What every kernel takes, refuses and promises about its arguments."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from covid_edge import imgproc

KERNELS = {
    "clahe": imgproc.clahe,
    "morph_open": partial(imgproc.morph_open, ksize=(3, 2)),
    "resize": partial(imgproc.resize, size=(20, 30)),  # the size of the image below
    "area_reduce": partial(imgproc.area_reduce, size=(20, 30)),
}

LAYOUTS = {
    "every second column": lambda big: big[:20, 0:60:2],
    "every second row": lambda big: big[0:40:2, :30],
    "upside down": lambda big: big[19::-1, :30],
    "mirrored": lambda big: big[:20, 29::-1],
    "transposed": lambda big: big[:30, :20].T,
    "one row repeated": lambda big: np.broadcast_to(big[:1, :30], (20, 30)),
}


@pytest.fixture(params=KERNELS)
def kernel(request):
    return KERNELS[request.param]


@pytest.fixture
def big():
    return np.random.default_rng(4).integers(0, 256, (64, 64), dtype=np.uint8)


@pytest.fixture
def image(big):
    return big[:20, :30].copy()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_strides_give_the_same_pixels(kernel, big, layout):
    view = LAYOUTS[layout](big)
    np.testing.assert_array_equal(kernel(view), kernel(np.ascontiguousarray(view)))


def test_the_input_stays_as_it_was_and_may_be_read_only(kernel, image):
    before = image.copy()
    image.flags.writeable = False
    kernel(image)
    np.testing.assert_array_equal(image, before)


def test_out_is_filled_and_returned(kernel, image):
    out = np.zeros_like(image)
    assert kernel(image, out=out) is out
    np.testing.assert_array_equal(out, kernel(image))


def test_out_may_be_a_part_of_a_larger_array(kernel, image):
    frame = np.full((40, 50), 99, np.uint8)
    kernel(image, out=frame[10:30, 10:40])
    np.testing.assert_array_equal(frame[10:30, 10:40], kernel(image))
    frame[10:30, 10:40] = 99
    assert (frame == 99).all()


def test_input_and_out_may_be_interleaved_without_overlap(kernel):
    sheet = np.random.default_rng(5).integers(0, 256, (20, 60), dtype=np.uint8)
    expected = kernel(sheet[:, :30].copy())
    np.testing.assert_array_equal(kernel(sheet[:, :30], out=sheet[:, 30:]), expected)


@pytest.mark.parametrize("columns", [slice(0, 30), slice(29, 59)])
def test_out_over_the_input_is_refused(kernel, columns):
    sheet = np.zeros((20, 60), np.uint8)
    with pytest.raises(ValueError, match=r"^out must not share memory with image$"):
        kernel(sheet[:, :30], out=sheet[:, columns])


def test_out_over_a_strided_input_is_refused(kernel):
    sheet = np.zeros((20, 60), np.uint8)
    with pytest.raises(ValueError, match=r"^out must not share memory with image$"):
        kernel(sheet[:, ::2], out=sheet[:, :30])


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        ([[0]], TypeError, "out must be a NumPy array of uint8, not list"),
        (np.zeros((20, 30), np.int8), TypeError, "out must be uint8, not int8"),
        (np.zeros((30, 20), np.uint8), ValueError, r"out must have shape \(20, 30\), not \(30, 20"),
        (np.zeros((20, 30, 1), np.uint8), ValueError, r"out must have shape \(20, 30\), not"),
        (np.zeros((30, 20), np.uint8).T, ValueError, r"contiguous rows.*not strides \(1, 20\)"),
        (np.zeros((20, 60), np.uint8)[:, ::2], ValueError, r"not strides \(60, 2\)"),
        (np.zeros((20, 30), np.uint8)[::-1], ValueError, r"not strides \(-30, 1\)"),
        (np.broadcast_to(np.uint8(0), (20, 30)), ValueError, "out must be writable"),
    ],
)
def test_a_wrong_out_is_refused(kernel, image, out, error, message):
    with pytest.raises(error, match=message):
        kernel(image, out=out)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        ([[1, 2]], TypeError, "image must be a NumPy array of uint8.*, not list"),
        (None, TypeError, "image must be a NumPy array of uint8.*, not NoneType"),
        (np.zeros((2, 2)), TypeError, "image must be uint8.*, not float64"),
        (np.zeros((2, 2), bool), TypeError, "image must be uint8.*, not bool"),
        (np.zeros((2, 2), np.int16), TypeError, "image must be uint8.*, not int16"),
        (np.zeros(4, np.uint8), ValueError, r"image must be 2-D .*shape \(4,\)"),
        (np.zeros((2, 2, 3), np.uint8), ValueError, r"image must be 2-D .*shape \(2, 2, 3\)"),
        (np.zeros((0, 4), np.uint8), ValueError, r"at least one pixel, not shape \(0, 4\)"),
        (np.zeros((4, 0), np.uint8), ValueError, r"at least one pixel, not shape \(4, 0\)"),
    ],
)
def test_a_wrong_image_is_refused(kernel, image, error, message):
    with pytest.raises(error, match=message):
        kernel(image)


def test_a_side_past_32_bits_is_refused(kernel):
    line = np.broadcast_to(np.uint8(0), (1, 2**31))
    with pytest.raises(ValueError, match=r"sides must be at most \d+, not \(1, 2147483648"):
        kernel(line)


@pytest.mark.parametrize("function", [imgproc.resize, imgproc.area_reduce])
def test_resizing_takes_uint8_alone(function):
    with pytest.raises(TypeError, match=r"^image must be uint8, not uint16$"):
        function(np.zeros((2, 2), np.uint16), (1, 1))


def test_out_has_the_type_of_the_image():
    image = np.zeros((3, 4), np.uint16)
    assert imgproc.morph_open(image).dtype == np.uint16
    with pytest.raises(TypeError, match=r"^out must be uint16, not uint8$"):
        imgproc.morph_open(image, out=np.zeros((3, 4), np.uint8))
    with pytest.raises(ValueError, match="pixels of a row|contiguous rows"):
        imgproc.morph_open(image, out=np.zeros((3, 8), np.uint16)[:, ::2])


@pytest.mark.parametrize("limit", [float("nan"), float("inf"), -float("inf"), -1, -1e-300])
def test_a_clip_limit_out_of_range_is_refused(image, limit):
    with pytest.raises(ValueError, match=f"clip_limit must be finite and at least 0, not {limit}"):
        imgproc.clahe(image, limit)


@pytest.mark.parametrize("limit", [None, "4", True, 4j, [4.0]])
def test_a_clip_limit_that_is_no_number_is_refused(image, limit):
    with pytest.raises(TypeError, match="clip_limit must be a number, not"):
        imgproc.clahe(image, limit)


@pytest.mark.parametrize("limit", [4, np.float32(4), np.float64(4), np.int64(4)])
def test_a_clip_limit_may_be_any_real_number(image, limit):
    np.testing.assert_array_equal(imgproc.clahe(image, limit), imgproc.clahe(image, 4.0))


PAIRS = [
    ("clahe", "tile_grid"),
    ("morph_open", "ksize"),
    ("resize", "size"),
    ("area_reduce", "size"),
]


@pytest.mark.parametrize(("function", "name"), PAIRS)
@pytest.mark.parametrize("pair", [(0, 3), (3, 0), (-1, 3), (3, 2**31), (3, 2**70)])
def test_a_pair_out_of_range_is_refused(image, function, name, pair):
    with pytest.raises(ValueError, match=f"{name} must be from 1 to 2147483647 each, not"):
        getattr(imgproc, function)(image, **{name: pair})


@pytest.mark.parametrize(("function", "name"), PAIRS)
@pytest.mark.parametrize("pair", [3, None, (3,), (3, 3, 3), (3.0, 3), ("3", 3), "33", (3, None)])
def test_a_pair_that_is_not_two_integers_is_refused(image, function, name, pair):
    with pytest.raises(TypeError, match=f"{name} must be two integers, .*, not"):
        getattr(imgproc, function)(image, **{name: pair})


@pytest.mark.parametrize(("function", "name"), PAIRS)
def test_a_pair_may_be_any_two_integers(image, function, name):
    call = getattr(imgproc, function)
    expected = call(image, **{name: (3, 2)})
    np.testing.assert_array_equal(call(image, **{name: np.array([3, 2])}), expected)
    np.testing.assert_array_equal(call(image, **{name: [3, np.uint8(2)]}), expected)


def test_tables_that_cannot_fit_are_a_memory_error(image):
    with pytest.raises(MemoryError, match="not enough memory"):
        imgproc.clahe(image, 4.0, (2**31 - 1, 2**31 - 1))


def test_eight_threads_get_the_pixels_of_one(kernel):
    shape = (20, 30)
    sheets = np.random.default_rng(6).integers(0, 256, (64, *shape), dtype=np.uint8)
    expected = [kernel(sheet) for sheet in sheets]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            np.testing.assert_array_equal(list(pool.map(kernel, sheets)), expected)
