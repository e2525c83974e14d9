# SPDX-License-Identifier: Apache-2.0
"""The shipped int8 networks against their fp32 files in the same interpreter, one thread each."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from covid_edge.bundle import Bundle
from covid_edge.interpreter import Interpreter

ROOT = Path(__file__).parent.parent
FP32 = Path(os.environ.get("COVID_EDGE_FP32", ROOT / "work/mmtl/adversarial/models"))


@pytest.mark.parametrize("modality", ["xray", "ct"])
def test_inference_int8_against_fp32(versus, modality):
    twin = FP32 / f"{modality}.fp32.tflite"
    if not twin.is_file():
        pytest.skip(f"{twin} is not there: make it with covid-edge-convert quantize")
    entry = Bundle.load().modalities[modality]
    int8, fp32 = Interpreter(entry.model.path), Interpreter(twin)
    pixels = np.random.default_rng(0).integers(0, 256, entry.preprocess.size, dtype=np.uint8)
    versus(lambda: int8.run(pixels), lambda: fp32.run(pixels), "fp32")
