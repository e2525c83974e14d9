# SPDX-License-Identifier: Apache-2.0
"""Pictures that stand in the page itself: the scan as a JPEG, its heatmap as a clear PNG."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin  # noqa: F401 (what `save` needs)

from ..errors import ScanError
from ..scan import read_scan

if TYPE_CHECKING:
    from ..predictor import Prediction
    from ..study import Study

__all__ = ["Picture", "colour_bar", "shown"]

#: Longer side (pixels) of a scan on the page: sharp on a phone, some 50 kB of JPEG.
SIDE = 640

#: Longer side (pixels) of a heatmap, which is smooth: the browser stretches it over the scan.
MAP_SIDE = 96

# From 0 to 1 at equal distances, dark violet to light yellow: lighter all the way, so that the
# order stays in grey print and to eyes that tell fewer colours apart.
_COLOURS = np.array(
    [(45, 11, 89), (120, 28, 109), (188, 55, 84), (237, 105, 37), (251, 180, 26), (252, 255, 164)]
)
_LEVELS = 64  # colours of a map; fewer levels make smaller files


@dataclass(frozen=True)
class Picture:
    """A picture as a ``data:`` address, and its size in pixels."""

    address: str
    width: int
    height: int


def shown(
    outcome: Prediction | ScanError | Study, window: tuple[float, float] | None = None
) -> tuple[Picture | None, Picture | None]:
    """Return the scan, by the window asked for, and its heatmap; each None if there is none.

    The scan is read again: no answer holds its pixels, which would be much to keep in flight. It
    may be gone by now, or lie elsewhere than an executor's machine saw it.
    """
    if isinstance(outcome, ScanError) or outcome.status == "series":
        return None, None
    try:
        pixels = read_scan(outcome.source.path, outcome.source.frame, window).pixels
    except ScanError:
        return None, None
    if outcome.heatmap is None:
        return _scan(pixels), None
    # What speaks for COVID and what speaks against it have both counted.
    counted = np.abs(outcome.heatmap)
    return _scan(pixels), _map(counted / max(counted.max(), 1e-6), pixels.shape)


@lru_cache(maxsize=1)
def colour_bar() -> Picture:
    """Return the colours of a heatmap from 0 to 1, left to right, for a black ground."""
    ramp = np.arange(_LEVELS, dtype=np.uint8)[np.newaxis]
    return _picture(_coloured(ramp), "PNG")


def _scan(pixels: np.ndarray) -> Picture:
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE))
    return _picture(image, "JPEG", quality=85)


def _map(heatmap: np.ndarray, shape: tuple[int, int]) -> Picture:
    """Colour a map of 0 to 1 that covers a scan of `shape`, the clearer the less there is."""
    scale = MAP_SIDE / max(shape)
    height, width = (max(1, round(scale * side)) for side in shape)
    smooth = Image.fromarray(np.asarray(heatmap, np.float32)).resize((width, height), Image.BICUBIC)
    levels = np.rint(np.clip(np.asarray(smooth), 0, 1) * (_LEVELS - 1)).astype(np.uint8)
    return _picture(_coloured(levels), "PNG", optimize=True)


def _coloured(levels: np.ndarray) -> Image.Image:
    """Return a palette picture whose colour and opacity rise with the level."""
    at = np.linspace(0, 1, _LEVELS)
    ends = np.linspace(0, 1, len(_COLOURS))
    palette = np.stack([np.interp(at, ends, channel) for channel in _COLOURS.T], axis=1)
    image = Image.fromarray(levels)
    image.putpalette(np.rint(palette).astype(np.uint8).tobytes())
    image.info["transparency"] = np.rint(255 * at).astype(np.uint8).tobytes()
    return image


def _picture(image: Image.Image, kind: str, **options: object) -> Picture:
    data = io.BytesIO()
    image.save(data, kind, **options)
    text = base64.b64encode(data.getvalue()).decode("ascii")
    return Picture(f"data:image/{kind.lower()};base64,{text}", *image.size)
