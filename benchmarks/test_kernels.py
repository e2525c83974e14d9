# SPDX-License-Identifier: Apache-2.0
"""Each kernel against OpenCV on one thread, both writing into memory that they are given."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from covid_edge import imgproc

SIDES = [512, 1024, 2048]


@pytest.fixture(autouse=True)
def one_thread():
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


@pytest.fixture(params=SIDES, ids=lambda side: f"{side}x{side}")
def image(request):
    """Smooth shapes with grain, as in a radiograph."""
    rng = np.random.default_rng(7)
    side = request.param
    shapes = cv2.resize(rng.uniform(20, 235, (12, 12)), (side, side), interpolation=cv2.INTER_CUBIC)
    return (shapes + rng.normal(0, 6, shapes.shape)).clip(0, 255).astype(np.uint8)


def test_clahe(versus, image):
    out = np.empty_like(image)
    opencv = cv2.createCLAHE(4.0, (8, 8))
    versus(lambda: imgproc.clahe(image, out=out), lambda: opencv.apply(image, out), "cv2")


@pytest.mark.parametrize("ksize", [(2, 2), (3, 3), (15, 15)], ids=lambda k: f"{k[0]}x{k[1]}")
def test_morph_open(versus, image, ksize):
    out = np.empty_like(image)
    ones = np.ones(ksize, np.uint8)
    versus(
        lambda: imgproc.morph_open(image, ksize, out=out),
        lambda: cv2.morphologyEx(image, cv2.MORPH_OPEN, ones, dst=out),
        "cv2",
    )


@pytest.mark.parametrize("size", ["224", "half", "five quarters"])
def test_resize(versus, image, size):
    side = {"224": 224, "half": len(image) // 2, "five quarters": len(image) * 5 // 4}[size]
    out = np.empty((side, side), np.uint8)
    versus(
        lambda: imgproc.resize(image, (side, side), out=out),
        lambda: cv2.resize(image, (side, side), dst=out),
        "cv2",
    )
