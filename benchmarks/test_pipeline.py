# SPDX-License-Identifier: Apache-2.0
"""Preprocessing against the same steps in OpenCV, and one whole answer by a warm Predictor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from covid_edge import Predictor
from covid_edge.bundle import Bundle
from covid_edge.preprocess import preprocess

EXAMPLES = Path(__file__).parent.parent / "examples"
SPECS = {name: modality.preprocess for name, modality in Bundle.load().modalities.items()}


@pytest.fixture(autouse=True)
def one_thread():
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


@pytest.fixture(params=[512, 1024, 2048], ids=lambda side: f"{side}x{side}")
def scan(request):
    """The example X-ray at this size, with its grain."""
    return example("xray", request.param)


def example(name: str, side: int) -> np.ndarray:
    path = EXAMPLES / f"{name}.png"
    with Image.open(path) as image:
        return np.asarray(image.convert("L").resize((side, side), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("reduced", [True, False], ids=["as shipped", "no reduction"])
@pytest.mark.parametrize("modality", SPECS)
def test_preprocess(versus, scan, modality, reduced):
    """Without the reduction of large scans, both do the same work to the bit."""
    spec = SPECS[modality] if reduced else replace(SPECS[modality], max_side=None)
    clahe = cv2.createCLAHE(spec.clip_limit, spec.tile_grid[::-1])
    out = np.empty(spec.size, np.uint8)

    def theirs():
        pixels = clahe.apply(scan)
        if spec.open_ksize:
            pixels = cv2.morphologyEx(pixels, cv2.MORPH_OPEN, np.ones(spec.open_ksize, np.uint8))
        return cv2.resize(pixels, spec.size[::-1], dst=out)

    versus(lambda: preprocess(scan, spec, out=out), theirs, "cv2")


@pytest.mark.parametrize("modality", SPECS)
def test_predict_warm(benchmark, tmp_path, modality):
    """From a 1024x1024 PNG on disk to the answer; everything loaded before."""
    path = tmp_path / "scan.png"
    Image.fromarray(example(modality, 1024)).save(path)
    predictor = Predictor(modality=modality)
    predictor.predict(path)
    benchmark.pedantic(predictor.predict, (path,), rounds=15, warmup_rounds=2)
    benchmark.extra_info.update(vars(predictor.predict(path).latency_ms))
