# SPDX-License-Identifier: Apache-2.0
"""CLAHE, opening and resize of grey images, in C, with the pixels of OpenCV to the bit.

Arguments are checked here, once. The environment variable COVID_EDGE_SIMD, read when this module
is imported, forces one variant of the kernels (:func:`simd_variants`); all give the same pixels.
"""

from __future__ import annotations

import math
import os
from numbers import Real
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import UsageError

try:
    from . import _kernels
except ImportError as error:
    raise ImportError(
        f"The C kernels of covid-edge cannot be loaded ({error}). Build them with "
        "`pip install .`, or in a source tree with `python setup.py build_ext --inplace`."
    ) from error

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "area_reduce",
    "clahe",
    "clahe_open_resize",
    "kernel_variants",
    "morph_open",
    "resize",
    "simd_variants",
]

LARGEST_SIDE = 2**31 - 1  # the kernels count in 32-bit integers, as OpenCV does
LARGEST_AREA_SIDE = 2**15 - 1  # of an image to reduce: weights have 15 bits


def clahe(
    image: NDArray[Any],
    clip_limit: float = 4.0,
    tile_grid: tuple[int, int] = (8, 8),
    out: NDArray[Any] | None = None,
    *,
    bits: int | None = None,
    threads: int = 1,
) -> NDArray[Any]:
    """Equalise contrast tile by tile, within a limit (CLAHE).

    Parameters
    ----------
    image : ndarray of uint8 or uint16, shape (H, W)
        Grey image, any strides.
    clip_limit : float
        Most pixels of one grey level in a tile, in multiples of their mean number; 0 sets no
        limit.
    tile_grid : tuple of int
        Tiles (down, across). There may be more tiles than pixels.
    out : ndarray like `image`, shape (H, W), optional
        Where to put the result. Rows must be contiguous; must not share memory with `image`.
    bits : int, optional
        Bits of a pixel that are in use: there are ``2**bits`` grey levels, and the result has the
        same range. 8 for uint8; 10 to 16 for uint16, by default 16. Most scanners write 12.
    threads : int
        How many threads may share the work; they last for the call. The pixels do not depend on
        it.

    Returns
    -------
    ndarray like `image`, shape (H, W)
        `out` if it was given. For all bits of the type, equals ``cv2.createCLAHE(clip_limit,
        (across, down)).apply(image)`` of OpenCV 4 and 5 on x86, which knows no other bits.

    Raises
    ------
    TypeError, ValueError
        An argument is not of the kind or in the range given above, or a pixel has more bits.
    MemoryError
        The tables, 2 bytes for each grey level of each tile, do not fit.

    References
    ----------
    .. [1] K. Zuiderveld, "Contrast Limited Adaptive Histogram Equalization", Graphics Gems IV,
       Academic Press, 1994, pp. 474-485.
    """
    _check_image(image, np.uint8, np.uint16)
    limit = _checked_clip_limit(clip_limit)
    rows, columns = _checked_pair("tile_grid", tile_grid, "tiles (down, across)")
    bits = _checked_bits(bits, image.dtype)
    threads = _checked_threads(threads)
    out = _checked_out(out, image.shape, image)
    source = _adjacent(image)
    if image.dtype == np.uint8:
        _kernels.clahe_u8(source, out, limit, rows, columns, threads)
        return out
    try:
        _kernels.clahe_u16(source, out, bits, limit, rows, columns, threads)
    except ValueError:
        if (largest := int(image.max())) < 2**bits:
            raise
        raise ValueError(
            f"pixels of {bits} bits must be below {2**bits}, but the largest is {largest}"
        ) from None
    return out


def morph_open(
    image: NDArray[Any],
    ksize: tuple[int, int] = (2, 2),
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Open: erode, then dilate, by a rectangle of ones.

    Parameters
    ----------
    image : ndarray of uint8 or uint16, shape (H, W)
        Grey image, any strides.
    ksize : tuple of int
        Height and width of the rectangle; may exceed the image. Its anchor is ``ksize // 2``, so
        that an even side shifts the result by one pixel.
    out : ndarray like `image`, shape (H, W), optional
        Where to put the result. Rows must be contiguous; must not share memory with `image`.

    Returns
    -------
    ndarray like `image`, shape (H, W)
        `out` if it was given. Equals ``cv2.morphologyEx(image, cv2.MORPH_OPEN, np.ones(ksize,
        np.uint8))``.

    Raises
    ------
    TypeError, ValueError
        An argument is not of the kind or in the range given above.
    MemoryError
        The scratch rows do not fit.

    References
    ----------
    .. [1] M. van Herk, "A fast algorithm for local minimum and maximum filters on rectangular and
       octagonal kernels", Pattern Recognition Letters 13 (7), 1992, pp. 517-521.
    """
    _check_image(image, np.uint8, np.uint16)
    rows, columns = _checked_pair("ksize", ksize, "sides (height, width)")
    out = _checked_out(out, image.shape, image)
    _kernels.morph_open(_adjacent(image), out, rows, columns)
    return out


def resize(
    image: NDArray[np.uint8],
    size: tuple[int, int],
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Resize by bilinear interpolation, without smoothing first.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W)
        Grey image, any strides.
    size : tuple of int
        Height and width of the result.
    out : ndarray of uint8, shape `size`, optional
        Where to put the result. Rows must be contiguous; must not share memory with `image`.

    Returns
    -------
    ndarray of uint8, shape `size`
        `out` if it was given. Equals ``cv2.resize(image, (width, height))`` of OpenCV 4 and 5 on
        x86.

    Raises
    ------
    TypeError, ValueError
        An argument is not of the kind or in the range given above.
    MemoryError
        The result or the scratch rows do not fit.
    """
    _check_image(image, np.uint8)
    size = _checked_pair("size", size, "sides (height, width)")
    out = _checked_out(out, size, image)
    _kernels.resize(_adjacent(image), out)
    return out


def area_reduce(
    image: NDArray[np.uint8],
    size: tuple[int, int],
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Reduce by exact area averaging.

    A pixel of the result is the mean of the part of the image that it covers; pixels at its border
    count by the fraction inside. The mean is exact, and rounded to the nearest level, halves up.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W)
        Grey image, any strides; H and W at most 32767.
    size : tuple of int
        Height and width of the result, at most H and W.
    out : ndarray of uint8, shape `size`, optional
        Where to put the result. Rows must be contiguous; must not share memory with `image`.

    Returns
    -------
    ndarray of uint8, shape `size`
        `out` if it was given. Equals ``cv2.resize(image, (width, height), interpolation=
        cv2.INTER_AREA)`` for exactly half the size. For other whole ratios OpenCV rounds exact
        halves to even, and for the rest it computes in float32; it is then at most 1 away.

    Raises
    ------
    TypeError, ValueError
        An argument is not of the kind or in the range given above.
    MemoryError
        The result or the scratch rows do not fit.
    """
    _check_image(image, np.uint8)
    if max(image.shape) > LARGEST_AREA_SIDE:
        raise ValueError(f"image sides must be at most {LARGEST_AREA_SIDE}, not {image.shape}")
    size = _checked_pair("size", size, "sides (height, width)")
    if size[0] > image.shape[0] or size[1] > image.shape[1]:
        raise ValueError(f"size must be at most the image's {image.shape}, not {size}")
    out = _checked_out(out, size, image)
    _kernels.area_reduce(_adjacent(image), out)
    return out


def clahe_open_resize(
    image: NDArray[np.uint8],
    size: tuple[int, int],
    clip_limit: float | None = 4.0,
    tile_grid: tuple[int, int] = (8, 8),
    ksize: tuple[int, int] | None = None,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Equalise, open and resize, as :func:`clahe`, :func:`morph_open` and :func:`resize` do.

    The result is theirs to the bit. The larger the image is against `size`, the more time is saved:
    after the histograms only those pixels are worked on that the resize looks at.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W)
        Grey image, any strides.
    size : tuple of int
        Height and width of the result.
    clip_limit : float or None
        As in :func:`clahe`; None leaves CLAHE out.
    tile_grid : tuple of int
        As in :func:`clahe`.
    ksize : tuple of int or None
        As in :func:`morph_open`; None leaves the opening out.
    out : ndarray of uint8, shape `size`, optional
        Where to put the result. Rows must be contiguous; must not share memory with `image`.

    Returns
    -------
    ndarray of uint8, shape `size`
        `out` if it was given.

    Raises
    ------
    TypeError, ValueError
        An argument is not of the kind or in the range given above.
    MemoryError
        The tables or the pixels in between do not fit.
    """
    _check_image(image, np.uint8)
    size = _checked_pair("size", size, "sides (height, width)")
    grid = kernel = (0, 0)  # what is left out
    limit = 0.0
    if clip_limit is not None:
        limit = _checked_clip_limit(clip_limit)
        grid = _checked_pair("tile_grid", tile_grid, "tiles (down, across)")
    if ksize is not None:
        kernel = _checked_pair("ksize", ksize, "sides (height, width)")
    out = _checked_out(out, size, image)
    _kernels.preprocess(_adjacent(image), out, limit, *grid, *kernel)
    return out


def kernel_variants() -> dict[str, str]:
    """Return the variant of the C kernels in use for each operation."""
    return _kernels.active_variants()


def simd_variants() -> tuple[str, ...]:
    """Return the variants of the C kernels that this machine can run, best first."""
    return _kernels.available_variants()


def _check_image(image: Any, *dtypes: type[np.generic]) -> None:
    if not isinstance(image, np.ndarray) or image.dtype not in dtypes:
        allowed = " or ".join(dtype.__name__ for dtype in dtypes)
        if not isinstance(image, np.ndarray):
            raise TypeError(f"image must be a NumPy array of {allowed}, not {type(image).__name__}")
        raise TypeError(f"image must be {allowed}, not {image.dtype}")
    if image.ndim != 2:
        raise ValueError(f"image must be 2-D (rows, columns), not of shape {image.shape}")
    if image.size == 0:
        raise ValueError(f"image must have at least one pixel, not shape {image.shape}")
    if max(image.shape) > LARGEST_SIDE:
        raise ValueError(f"image sides must be at most {LARGEST_SIDE}, not {image.shape}")


def _adjacent(image: NDArray[Any]) -> NDArray[Any]:
    # The kernels take rows any number of bytes apart, but the pixels of a row next to each other.
    adjacent = image.strides[1] == image.itemsize and image.flags.aligned
    return image if adjacent else np.array(image, order="C")


def _checked_clip_limit(clip_limit: Any) -> float:
    if type(clip_limit) is not float and (  # the question is slow for abstract numbers
        isinstance(clip_limit, (bool, np.bool_)) or not isinstance(clip_limit, Real)
    ):
        raise TypeError(f"clip_limit must be a number, not {clip_limit!r}")
    if not (math.isfinite(clip_limit) and clip_limit >= 0):
        raise ValueError(f"clip_limit must be finite and at least 0, not {clip_limit!r}")
    return float(clip_limit)


def _checked_pair(name: str, pair: Any, meaning: str) -> tuple[int, int]:
    try:
        first, second = pair
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be two integers, {meaning}, not {pair!r}") from None
    try:
        first, second = index(first), index(second)
    except TypeError:
        raise TypeError(f"{name} must be two integers, {meaning}, not {pair!r}") from None
    if not (1 <= first <= LARGEST_SIDE and 1 <= second <= LARGEST_SIDE):
        raise ValueError(f"{name} must be from 1 to {LARGEST_SIDE} each, not {pair!r}")
    return first, second


def _checked_bits(bits: Any, dtype: np.dtype) -> int:
    """Return how many bits of a pixel are in use, by default all."""
    container = 8 * dtype.itemsize
    if bits is None:
        return container
    bits = _checked_index("bits", bits)
    if not (10 <= bits <= 16 if container == 16 else bits == 8):
        allowed = "from 10 to 16" if container == 16 else "8"
        raise ValueError(f"bits must be {allowed} for an image of {dtype}, not {bits}")
    return bits


def _checked_threads(threads: Any) -> int:
    threads = _checked_index("threads", threads)
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    return min(threads, LARGEST_SIDE)


def _checked_index(name: str, value: Any) -> int:
    try:
        return index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {value!r}") from None


def _checked_out(out: Any, shape: tuple[int, ...], image: NDArray[Any]) -> NDArray[Any]:
    if out is None:
        return np.empty(shape, image.dtype)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a NumPy array of {image.dtype}, not {type(out).__name__}")
    if out.dtype != image.dtype:
        raise TypeError(f"out must be {image.dtype}, not {out.dtype}")
    if out.shape != shape:
        raise ValueError(f"out must have shape {tuple(shape)}, not {out.shape}")
    if not out.flags.aligned:
        raise ValueError("out must be aligned to its pixels")
    if not out.flags.writeable:
        raise ValueError("out must be writable, but it is read-only")
    height, width = shape
    if (width > 1 and out.strides[1] != out.itemsize) or (
        height > 1 and out.strides[0] < width * out.itemsize
    ):
        raise ValueError(
            f"out must have contiguous rows, one below the other, not strides {out.strides}"
        )
    if np.shares_memory(out, image):
        raise ValueError("out must not share memory with image")
    return out


def _select_variant(name: str) -> None:
    try:
        _kernels.select_variant(name)
    except ValueError:
        raise UsageError(
            f"COVID_EDGE_SIMD={name} names no variant of the kernels that runs on this machine; "
            f"there is: {', '.join(simd_variants())}."
        ) from None


_select_variant(os.environ.get("COVID_EDGE_SIMD", ""))
