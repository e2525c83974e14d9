# SPDX-License-Identifier: Apache-2.0
"""A whole process, from nothing to the answer, against importing NumPy and the interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parent.parent / "examples"
IMPORTS = [sys.executable, "-c", "import numpy, ai_edge_litert.interpreter"]


def run(command: list[str], **environment: str) -> None:
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **environment})


def peak_mb(command: list[str], **environment: str) -> float:
    """Peak resident memory of a process, MB (2**20 bytes)."""
    child = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return usage.ru_maxrss / 1024


@pytest.fixture(params=["xray", "ct"])
def predict(request, tmp_path) -> list[str]:
    """A command that answers on a PNG of 1024x1024."""
    path = tmp_path / "scan.png"
    with Image.open(EXAMPLES / f"{request.param}.png") as image:
        Image.fromarray(np.asarray(image.convert("L").resize((1024, 1024)))).save(path)
    return [sys.executable, "-m", "covid_edge", "predict", str(path)]


memory = pytest.mark.skipif(
    not hasattr(os, "wait4"), reason="this system does not say a child's memory"
)


@memory
def test_predict_process(versus, benchmark, predict, tmp_path):
    cache = {"COVID_EDGE_CACHE": str(tmp_path / "cache")}
    run(predict, **cache)  # writes it
    versus(lambda: run(predict, **cache), lambda: run(IMPORTS), "imports")
    benchmark.extra_info["peak_mb"] = peak_mb(predict, **cache)


@memory
def test_predict_process_with_its_weights_kept(versus, benchmark, predict, tmp_path):
    kept, none = {"COVID_EDGE_CACHE": str(tmp_path / "cache")}, {"COVID_EDGE_CACHE": ""}
    run(predict, **kept)
    versus(lambda: run(predict, **kept), lambda: run(predict, **none), "packed anew")
    benchmark.extra_info["peak_mb"] = peak_mb(predict, **kept)
    benchmark.extra_info["peak_mb_without"] = peak_mb(predict, **none)
