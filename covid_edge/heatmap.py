# SPDX-License-Identifier: Apache-2.0
"""Why a network answers as it does: what each place of a scan adds to the log-odds of COVID-19.

The last feature maps of the encoders are further outputs of the network's own file. From there to
the logit there are a mean, dense layers and LeakyReLUs, so the logit's gradient is exact and cheap:
the layers' sums tell the slopes, and the weights are read out of the file.

References
----------
Selvaraju et al., "Grad-CAM", ICCV 2017.
"""

from __future__ import annotations

import functools
import os
import struct
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from . import _kernels
from .errors import CovidEdgeError, UsageError

if TYPE_CHECKING:
    from PIL import Image, ImageFont

    from .bundle import HeadLayer, HeadPlan
    from .interpreter import Interpreter

__all__ = ["GRID", "contributions", "draw", "make_folder", "overlay", "write"]

#: Rows and columns of a map: the least that both 7x7 and 4x4 cells divide.
GRID = 28

_BLOCK = 64  # rows of weights that become float32 at a time: they stay in the processor's cache

_FOR, _AGAINST = (255, 48, 0), (0, 96, 255)
_OPACITY = 0.6  # of the strongest place
_FONT, _SMALLEST_FONT = 14, 9  # pixels


def contributions(
    network: Interpreter, plan: HeadPlan, log_odds: float, scale: float
) -> np.ndarray:
    """Return what each place added to the answer that the network gave last.

    This is Grad-CAM of both encoders without its rectification: each cell of a feature map, times
    the logit's gradient in it, laid over the same grid and summed. What no place can be credited
    with (the layers' biases) is spread evenly, so that all cells together are the log-odds.

    Parameters
    ----------
    network : Interpreter
        It has just run.
    plan : HeadPlan
        Of the network's file.
    log_odds : float
        Of COVID-19, as calibrated: log(p / (1 - p)).
    scale : float
        Of the calibration: log-odds for one unit of the network's logit.

    Returns
    -------
    ndarray of float32, shape (GRID, GRID)
        Log-odds, over the whole scan from its top left corner; positive speaks for COVID-19. Their
        sum is `log_odds`.

    Raises
    ------
    ValueError
        The plan is not that of the file.
    """
    gradient = _backward(network, plan.head, np.full(1, scale, np.float32))
    total = np.zeros((GRID, GRID), np.float32)
    for branch in plan.branches:
        width = network.stored(branch.layers[-1].weights).shape[0] if branch.layers else None
        mine, gradient = np.split(gradient, [width or gradient.size])
        cells = network.values(branch.map)[0]  # (rows, columns, channels)
        total += _spread(cells @ (_backward(network, branch.layers, mine)))
    return total + np.float32((log_odds - total.sum(dtype=np.float64)) / total.size)


def _backward(
    network: Interpreter, layers: Sequence[HeadLayer], gradient: np.ndarray
) -> np.ndarray:
    """Return the gradient in what enters `layers`, from that in what leaves them."""
    for layer in reversed(layers):
        if layer.scale is not None:
            gradient = gradient * network.values(layer.scale).ravel()
        if layer.sum is not None:
            slopes = np.array([layer.slope, 1], np.float32)
            gradient = gradient * slopes[network.is_positive(layer.sum).ravel().view(np.uint8)]
        weights = network.stored(layer.weights)
        gradient = _times(gradient * network.scales(layer.weights), weights)
    return gradient


def _times(vector: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return ``vector @ matrix`` in float32; `matrix` is of any type, and not copied whole."""
    product = np.zeros(matrix.shape[1], np.float32)
    if matrix.dtype == np.int8:
        _kernels.product(vector, matrix, product)
        return product
    block = np.empty((_BLOCK, matrix.shape[1]), np.float32)
    for row in range(0, len(matrix), _BLOCK):
        part = matrix[row : row + _BLOCK]
        block[: len(part)] = part
        product += vector[row : row + _BLOCK] @ block[: len(part)]
    return product


def _spread(cells: np.ndarray) -> np.ndarray:
    """Lay the cells of a mean over `GRID`, smoothly: (rows, columns) → (GRID, GRID)."""
    from PIL import Image

    grid = Image.fromarray(cells.astype(np.float32)).resize((GRID, GRID), Image.Resampling.BILINEAR)
    return np.asarray(grid) / np.float32(GRID * GRID)


def overlay(pixels: np.ndarray, heatmap: np.ndarray) -> Image.Image:
    """Return the scan with its heatmap over it: red speaks for COVID-19, blue against.

    The strongest place is the most opaque, whatever its strength; what adds nothing stays grey.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width)
    heatmap : ndarray of float32, shape (GRID, GRID)

    Returns
    -------
    PIL.Image.Image
        RGB, as large as the scan.
    """
    from PIL import Image

    scan = Image.fromarray(pixels)
    strength = heatmap / max(float(np.abs(heatmap).max()), np.finfo(np.float32).tiny)
    picture = scan.convert("RGB")
    for sign, colour in ((1, _FOR), (-1, _AGAINST)):
        opacity = (255 * _OPACITY * np.clip(sign * strength, 0, 1)).astype(np.uint8)
        mask = Image.fromarray(opacity).resize(scan.size, Image.Resampling.BILINEAR)
        picture.paste(colour, (0, 0, *scan.size), mask)
    return picture


def draw(pixels: np.ndarray, heatmap: np.ndarray, notice: str) -> Image.Image:
    """Return :func:`overlay` with a strip below it: the colour bar, and the notice.

    Parameters
    ----------
    pixels, heatmap
        As :func:`overlay` takes them.
    notice : str
        It is broken into as many lines as the scan's width needs.

    Returns
    -------
    PIL.Image.Image
        RGB, as wide as the scan; its upper rows are the overlay.
    """
    from PIL import Image

    picture = overlay(pixels, heatmap)
    strip = _strip(picture.width, notice)
    page = Image.new("RGB", (picture.width, picture.height + strip.height))
    page.paste(picture)
    page.paste(strip, (0, picture.height))
    return page


@functools.lru_cache(maxsize=8)  # scans of one unit or archive are often of one width
def _strip(width: int, notice: str) -> Image.Image:
    """Draw what stands below every scan of a width."""
    from PIL import Image, ImageDraw

    font = _font(max(_SMALLEST_FONT, _FONT * width // 640))
    words = ("against COVID", "for COVID")
    line = sum(font.getmetrics())
    lines = _wrap(notice, font, width - line)
    strip = Image.new("RGB", (width, line * (len(lines) + 3)))
    # The bar: the overlay's own colours over mid grey.
    ramp = np.tile(np.linspace(-1, 1, width, dtype=np.float32), (2, 1))
    strip.paste(overlay(np.full((line, width), 128, np.uint8), ramp))
    pen = ImageDraw.Draw(strip)
    pen.text((line // 2, line), words[0], "white", font)
    pen.text((width - line // 2, line), words[1], "white", font, anchor="ra")
    for number, text in enumerate(lines):
        pen.text((line // 2, line * (2 * number + 5) // 2), text, "white", font)
    return strip


@functools.lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Break a text such that, letters being of their mean width, lines fit."""
    from textwrap import wrap

    return wrap(text, max(1, int(len(text) * width / font.getlength(text)))) if text else []


def _png(picture: Image.Image) -> bytes:
    """Encode an RGB picture in half the time of Pillow, which tries every filter on each row."""
    width, height = picture.size
    rows = np.asarray(picture).reshape(height, 3 * width)
    filtered = np.empty((height, 1 + 3 * width), np.uint8)
    filtered[:, 0] = 2  # "Up": each row is stored as its difference from the one above
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(filtered, 1)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def make_folder(folder: str | os.PathLike[str]) -> None:
    """Make the folder that heatmaps are to be written to, if it is not there.

    Raises
    ------
    UsageError
        It cannot be made, or is none.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"heatmaps cannot be written to {os.fspath(folder)}: {error.strerror}; name a folder"
        ) from None


def write(picture: Image.Image, folder: str | os.PathLike[str], name: str) -> str:
    """Write a PNG, whole or not at all, over nothing that is there.

    Parameters
    ----------
    picture : PIL.Image.Image
    folder : str or path-like
    name : str
        The file is ``NAME.png``, or the first of ``NAME-2.png``, ``NAME-3.png``... that is free.

    Returns
    -------
    str
        The path.

    Raises
    ------
    CovidEdgeError
        It cannot be written.
    """
    path = os.path.join(folder, name + ".png")
    partial = None
    try:
        number = 1
        while True:
            try:
                # Its name is taken first, so that no other thread or process takes it meanwhile.
                with open(path, "xb"):
                    break
            except FileExistsError:
                number += 1
                path = os.path.join(folder, f"{name}-{number}.png")
        partial = path + ".part"
        with open(partial, "wb") as file:
            file.write(_png(picture))
        os.replace(partial, path)
    except OSError as error:
        if partial is not None:
            for leftover in (partial, path):
                if os.path.exists(leftover):
                    os.unlink(leftover)
        raise CovidEdgeError(f"{path} cannot be written: {error.strerror or error}") from None
    return path
