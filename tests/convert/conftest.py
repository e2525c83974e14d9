# SPDX-License-Identifier: Apache-2.0
"""One toy training run, shared by every test that needs something trained (about a minute)."""

from __future__ import annotations

import os

import pytest

for module in ("tensorflow", "keras", "sklearn", "scipy", "cv2"):
    pytest.importorskip(module, reason=f'{module} is not installed: pip install ".[convert]"')

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402

from covid_edge_convert.bundle import write_bundle  # noqa: E402
from covid_edge_convert.data import Scans, load_scans  # noqa: E402
from covid_edge_convert.recipes import PRESETS, Recipe  # noqa: E402
from covid_edge_convert.runs import RunFolder  # noqa: E402
from covid_edge_convert.targets import export  # noqa: E402
from covid_edge_convert.train import train  # noqa: E402
from drawn import write_manifest_form  # noqa: E402


@dataclass(frozen=True)
class ToyRun:
    scans: Scans
    recipe: Recipe
    run: RunFolder
    bundle: Path
    figures: dict


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory) -> ToyRun:
    """Every stage on drawn scans: trained, quantised, bundled.

    Whatever int8 drifts: of 16 test scans one is 6 %, and whether one turns is the processor's
    rounding. The refusal has tests of its own.
    """
    root = tmp_path_factory.mktemp("toy")
    scans, recipe = load_scans(write_manifest_form(root / "data")), PRESETS["toy"]
    run = RunFolder(root / "run")
    train(scans, recipe, run, verbose=0)
    export(scans, recipe, run, representative=32, allow={"drift"})
    figures = write_bundle(scans, recipe, run, root / "bundle", "toy", "1", allow_drift=True)
    return ToyRun(scans, recipe, run, root / "bundle", figures)
