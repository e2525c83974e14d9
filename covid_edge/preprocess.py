# SPDX-License-Identifier: Apache-2.0
"""From a grey scan to the pixels that a network is given: reduction, CLAHE, opening, resize.

The workstation trains through this module and the device predicts through it, with the
:class:`PreprocessSpec` that travels in the bundle, so neither can drift from the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from . import imgproc

if TYPE_CHECKING:
    import numpy as np

__all__ = ["PreprocessSpec", "preprocess"]


@dataclass(frozen=True)
class PreprocessSpec:
    """What is done to a scan before a network sees it. Sizes are rows before columns.

    Parameters
    ----------
    max_side : int or None
        A scan whose longer side exceeds this many pixels is first reduced to it by area averaging,
        so that a scan gets the same answer at any resolution above; None leaves every scan as
        large as it is.
    clip_limit : float or None
        Clip limit of CLAHE, 0 or more; None leaves CLAHE out.
    tile_grid : tuple of int
        Tiles of CLAHE down and across.
    open_ksize : tuple of int or None
        Height and width of the rectangle of the morphological opening; None leaves it out.
    size : tuple of int
        Height and width of the result.

    Raises
    ------
    ValueError
        A value is not of these kinds.
    """

    max_side: int | None = None
    clip_limit: float | None = 4.0
    tile_grid: tuple[int, int] = (8, 8)
    open_ksize: tuple[int, int] | None = None
    size: tuple[int, int] = (224, 224)

    def __post_init__(self) -> None:
        side = self.max_side
        if side is not None and (isinstance(side, bool) or not isinstance(side, int) or side < 1):
            raise ValueError(f"max_side must be a whole number of at least 1, not {side!r}")
        limit = self.clip_limit
        if limit is not None:
            if isinstance(limit, bool) or not isinstance(limit, (int, float)):
                raise ValueError(f"clip_limit must be a number or None, not {limit!r}")
            if not (math.isfinite(limit) and limit >= 0):
                raise ValueError(f"clip_limit must be finite and not negative, not {limit!r}")
            object.__setattr__(self, "clip_limit", float(limit))
        for name in ("tile_grid", "open_ksize", "size"):
            pair = getattr(self, name)
            if pair is not None or name != "open_ksize":
                object.__setattr__(self, name, _pair(name, pair))

    def canonical_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the rows and columns to which a scan of `shape` is reduced before anything else.

        The shorter side keeps its proportion, rounded to the nearest whole number (halves up) and
        at least 1.
        """
        longer = max(shape)
        if self.max_side is None or longer <= self.max_side:
            return shape
        height, width = (max(1, (2 * n * self.max_side + longer) // (2 * longer)) for n in shape)
        return height, width

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> PreprocessSpec:
        """Read the form of bundle.json: every field, no other, nothing guessed.

        Raises
        ------
        ValueError
            A field is missing, unknown or of the wrong kind.
        """
        names = set(cls.__dataclass_fields__)
        if not isinstance(fields, Mapping) or set(fields) != names:
            found = sorted(fields) if isinstance(fields, Mapping) else fields
            raise ValueError(f"preprocess must hold {sorted(names)}, not {found!r}")
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Return the form of bundle.json: plain numbers, lists and None."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }


def _pair(name: str, value: Any) -> tuple[int, int]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"{name} must be two whole numbers, not {value!r}")
    if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in value):
        raise ValueError(f"{name} must be two whole numbers of at least 1, not {value!r}")
    return value[0], value[1]


def preprocess(
    pixels: np.ndarray, spec: PreprocessSpec, out: np.ndarray | None = None
) -> np.ndarray:
    """Reduce a large scan, then apply CLAHE, the opening and the bilinear resize, as `spec` asks.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (rows, columns)
        Grey scan.
    spec : PreprocessSpec
        What to do.
    out : ndarray of uint8, shape `spec.size`, optional
        Where to put the result.

    Returns
    -------
    ndarray of uint8, shape `spec.size`
        `out` if it was given.

    Raises
    ------
    TypeError, ValueError
        As the functions of :mod:`covid_edge.imgproc`.
    """
    canonical = spec.canonical_shape(pixels.shape)
    if canonical != pixels.shape:
        pixels = imgproc.area_reduce(pixels, canonical)
    return imgproc.clahe_open_resize(
        pixels, spec.size, spec.clip_limit, spec.tile_grid, spec.open_ksize, out
    )
