# SPDX-License-Identifier: Apache-2.0
"""What the kernel benchmarks measure: operations, their rivals, pictures.

One line of OPERATIONS is one row of every table. A rival takes the image and an output of the right
shape (which some have no use for) and returns a call without arguments.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from covid_edge import imgproc

SIDES = (224, 512, 1024, 2048, 4096)
CONTENTS = ("radiograph", "real scan", "constant", "noise")
DATA = Path(os.environ.get("COVID_EDGE_DATA", Path(__file__).parents[2] / "shared" / "data"))

Maker = Callable[[np.ndarray, np.ndarray], Callable[[], object]]


@dataclass(frozen=True)
class Operation:
    name: str
    ours: Maker
    opencv: Maker
    others: dict[str, Maker] = field(default_factory=dict)
    output: Callable[[int], int] = lambda side: side  # side of the result
    bits: int = 8
    passes: int = 1  # how often every pixel has to be read

    def image(self, content: str, side: int) -> np.ndarray:
        return picture(content, side, self.bits)

    def out(self, side: int) -> np.ndarray:
        shape = (self.output(side), self.output(side))
        return np.empty(shape, np.uint8 if self.bits == 8 else np.uint16)


@cache
def picture(content: str, side: int, bits: int) -> np.ndarray:
    """Return a square image, or raise LookupError if there is no real scan."""
    rng = np.random.default_rng(7)
    if content == "radiograph":  # smooth shapes with grain
        shapes = cv2.resize(
            rng.uniform(0.08, 0.92, (12, 12)), (side, side), interpolation=cv2.INTER_CUBIC
        )
        levels = shapes + rng.normal(0, 0.024, shapes.shape)
    elif content == "real scan":
        with Image.open(real_scan()) as scan:
            grey = scan.convert("L").resize((side, side), Image.Resampling.BICUBIC)
            levels = np.asarray(grey) / 255
    elif content == "constant":
        levels = np.full((side, side), 0.4)
    else:
        levels = rng.random((side, side))
    return (levels.clip(0, 1) * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def real_scan() -> Path:
    scans = sorted((DATA / "xray").glob("*.jpg")) if DATA.is_dir() else []
    if not scans:
        raise LookupError(f"no scans in {DATA}: COVID_EDGE_DATA may say where they are")
    return max(scans, key=lambda path: (path.stat().st_size, path.name))


def clahe_opencv(image, out):
    return partial(cv2.createCLAHE(4.0, (8, 8)).apply, image, out)


def clahe_kornia(image, out):
    from kornia_rs.imgproc import clahe

    return lambda: clahe(image[..., None], 4.0, (8, 8), out=out[..., None])


def clahe_skimage(image, out):
    from skimage.exposure import equalize_adapthist

    kernel = [side // 8 for side in image.shape]
    return lambda: equalize_adapthist(image, kernel, 4 / 256)


def opening(ksize: tuple[int, int], bits: int = 8) -> Operation:
    ones = np.ones(ksize, np.uint8)

    def kornia(image, out):
        from kornia_rs.imgproc import dilate, erode

        def call():
            return dilate(erode(image[..., None], "box", size=ksize), "box", size=ksize)

        return call

    def skimage(image, out):
        from skimage.morphology import footprint_rectangle, opening

        squares = footprint_rectangle(ksize, decomposition="separable")
        return lambda: opening(image, squares, out=out)

    return Operation(
        f"opening {ksize[0]}x{ksize[1]}" + (f", {bits} bits" if bits > 8 else ""),
        lambda image, out: lambda: imgproc.morph_open(image, ksize, out=out),
        lambda image, out: lambda: cv2.morphologyEx(image, cv2.MORPH_OPEN, ones, dst=out),
        {"scikit-image": skimage} | ({"kornia-rs": kornia} if bits == 8 else {}),
        bits=bits,
    )


def bilinear(name: str, output: Callable[[int], int]) -> Operation:
    def skimage(image, out):
        from skimage.transform import resize

        return lambda: resize(image, out.shape, order=1, anti_aliasing=False)

    return Operation(
        f"resize to {name}",
        lambda image, out: lambda: imgproc.resize(image, out.shape, out=out),
        lambda image, out: lambda: cv2.resize(image, out.shape[::-1], dst=out),
        {"scikit-image": skimage},
        output,
    )


def area(name: str, output: Callable[[int], int]) -> Operation:
    def skimage(image, out):
        from skimage.transform import resize_local_mean

        return lambda: resize_local_mean(image, out.shape)

    return Operation(
        f"area average to {name}",
        lambda image, out: lambda: imgproc.area_reduce(image, out.shape, out=out),
        lambda image, out: (
            lambda: cv2.resize(image, out.shape[::-1], dst=out, interpolation=cv2.INTER_AREA)
        ),
        {"scikit-image": skimage},
        output,
    )


OPERATIONS = (
    Operation(
        "CLAHE",
        lambda image, out: lambda: imgproc.clahe(image, out=out),
        clahe_opencv,
        {"kornia-rs": clahe_kornia, "scikit-image": clahe_skimage},
        passes=2,
    ),
    Operation(  # OpenCV knows 16 bits only, to which its pixels are not the same
        "CLAHE, 12 bits in 16",
        lambda image, out: lambda: imgproc.clahe(image, out=out, bits=12),
        clahe_opencv,
        bits=12,
        passes=2,
    ),
    opening((2, 2)),
    opening((3, 3)),
    opening((15, 15)),
    opening((3, 3), bits=16),
    opening((15, 15), bits=16),
    bilinear("224", lambda side: 224),
    bilinear("half", lambda side: side // 2),
    bilinear("five quarters", lambda side: side * 5 // 4),
    area("half", lambda side: side // 2),
    area("a quarter", lambda side: side // 4),
    area("two fifths", lambda side: side * 2 // 5),
)
