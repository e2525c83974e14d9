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

__all__ = ["clahe", "kernel_variants", "morph_open", "resize", "simd_variants"]

LARGEST_SIDE = 2**31 - 1  # the kernels count in 32-bit integers, as OpenCV does


def clahe(
    image: NDArray[np.uint8],
    clip_limit: float = 4.0,
    tile_grid: tuple[int, int] = (8, 8),
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Equalise contrast tile by tile, within a limit (CLAHE).

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W)
        Grey image, any strides.
    clip_limit : float
        Most pixels of one grey level in a tile, in multiples of their mean number; 0 sets no
        limit.
    tile_grid : tuple of int
        Tiles (down, across). There may be more tiles than pixels.
    out : ndarray of uint8, shape (H, W), optional
        Where to put the result. Rows must be contiguous; must not share memory with `image`.

    Returns
    -------
    ndarray of uint8, shape (H, W)
        `out` if it was given. Equals ``cv2.createCLAHE(clip_limit, (across, down)).apply(image)``
        of OpenCV 4 and 5 on x86.

    Raises
    ------
    TypeError, ValueError
        An argument is not of the kind or in the range given above.
    MemoryError
        The tables, 256 bytes for each tile, do not fit.

    References
    ----------
    .. [1] K. Zuiderveld, "Contrast Limited Adaptive Histogram Equalization", Graphics Gems IV,
       Academic Press, 1994, pp. 474-485.
    """
    _check_image(image, np.uint8)
    limit = _checked_clip_limit(clip_limit)
    rows, columns = _checked_pair("tile_grid", tile_grid, "tiles (down, across)")
    out = _checked_out(out, image.shape, image)
    _kernels.clahe(_adjacent(image), out, limit, rows, columns)
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


def kernel_variants() -> dict[str, str]:
    """Return the variant of the C kernels in use for each operation."""
    return _kernels.active_variants()


def simd_variants() -> tuple[str, ...]:
    """Return the variants of the C kernels that this machine can run, best first."""
    return _kernels.available_variants()


def _check_image(image: Any, *dtypes: type[np.generic]) -> None:
    allowed = " or ".join(dtype.__name__ for dtype in dtypes)
    if not isinstance(image, np.ndarray):
        raise TypeError(f"image must be a NumPy array of {allowed}, not {type(image).__name__}")
    if image.dtype not in dtypes:
        raise TypeError(f"image must be {allowed}, not {image.dtype}")
    if image.ndim != 2:
        raise ValueError(f"image must be 2-D (rows, columns), not of shape {image.shape}")
    if image.size == 0:
        raise ValueError(f"image must have at least one pixel, not shape {image.shape}")
    if max(image.shape) > LARGEST_SIDE:
        raise ValueError(f"image sides must be at most {LARGEST_SIDE}, not {image.shape}")


def _adjacent(image: NDArray[Any]) -> NDArray[Any]:
    # The kernels take rows any number of bytes apart, but the pixels of a row next to each other.
    return image if image.strides[1] == image.itemsize else np.ascontiguousarray(image)


def _checked_clip_limit(clip_limit: Any) -> float:
    if isinstance(clip_limit, (bool, np.bool_)) or not isinstance(clip_limit, Real):
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


def _checked_out(out: Any, shape: tuple[int, ...], image: NDArray[Any]) -> NDArray[Any]:
    if out is None:
        return np.empty(shape, image.dtype)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a NumPy array of {image.dtype}, not {type(out).__name__}")
    if out.dtype != image.dtype:
        raise TypeError(f"out must be {image.dtype}, not {out.dtype}")
    if out.shape != shape:
        raise ValueError(f"out must have shape {tuple(shape)}, not {out.shape}")
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
