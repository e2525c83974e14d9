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


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


def peak_mb(command: list[str]) -> float:
    """Peak resident memory of a process, MB (2**20 bytes)."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return usage.ru_maxrss / 1024


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="this system does not say a child's memory")
@pytest.mark.parametrize("name", ["xray", "ct"])
def test_predict_process(versus, benchmark, tmp_path, name):
    path = tmp_path / "scan.png"
    with Image.open(EXAMPLES / f"{name}.png") as image:
        Image.fromarray(np.asarray(image.convert("L").resize((1024, 1024)))).save(path)
    predict = [sys.executable, "-m", "covid_edge", "predict", str(path)]
    versus(lambda: run(predict), lambda: run(IMPORTS), "imports")
    benchmark.extra_info["peak_mb"] = peak_mb(predict)
