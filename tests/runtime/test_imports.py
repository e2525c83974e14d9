# SPDX-License-Identifier: Apache-2.0
"""Who may import whom (design: the device is light, and its parts do not know each other)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from conftest import EXAMPLES, TOY

HEAVY = {"tensorflow", "keras", "cv2", "matplotlib", "pydicom", "sklearn", "scipy", "skimage"}

PREDICTOR = {
    "errors",
    "files",
    "scan",
    "bundle",
    "preprocess",
    "imgproc",
    "_kernels",
    "interpreter",
    "delegates",
    "quality",
}

# Every module of the package that importing the one on the left may pull in.
ALLOWED = {
    "errors": set(),
    "delegates": {"errors"},
    "files": {"errors", "scan"},
    "scan": {"errors"},
    "dicom": {"errors", "scan"},
    "interpreter": {"errors"},
    "weight_cache": {"errors", "bundle", "preprocess", "imgproc", "_kernels", "interpreter"},
    "imgproc": {"errors", "_kernels"},
    "preprocess": {"errors", "imgproc", "_kernels"},
    "bundle": {"errors", "preprocess", "imgproc", "_kernels"},
    "heatmap": {"errors", "_kernels"},
    "series": set(),
    "study": {"errors", "bundle", "preprocess", "imgproc", "_kernels"},
    "quality": set(),
    "report": {"errors", "delegates"},
    "cli": {"errors", "delegates", "report"},
    "predictor": PREDICTOR,
    "many": {"predictor", *PREDICTOR},
    "cluster": {"errors"},
    "outfile": {"errors", "files", "scan"},
    "table": {"errors", "files", "scan", "outfile", "report", "delegates"},
    "page": {
        "errors",
        "files",
        "outfile",
        "report",
        "delegates",
        "scan",
        "page.pictures",
        "page.sections",
    },
    "bench": {"predictor", *PREDICTOR},
}


def loaded_by(code: str) -> set[str]:
    """Return the names of all modules that a fresh Python holds after `code`."""
    code += "\nimport sys\nprint('\\n'.join(sys.modules))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.split())


@pytest.mark.parametrize("name", ALLOWED)
def test_a_module_imports_only_what_it_may(name):
    loaded = loaded_by(f"import covid_edge.{name}")
    ours = {module.split(".", 1)[1] for module in loaded if module.startswith("covid_edge.")}
    assert ours - {name} <= ALLOWED[name]
    assert not HEAVY & loaded


def test_the_package_alone_imports_nothing():
    loaded = loaded_by("import covid_edge; covid_edge.__version__")
    assert not {"numpy", "PIL", "click"} & loaded
    assert not [module for module in loaded if module.startswith("covid_edge.")]


def test_help_needs_neither_numpy_nor_a_decoder():
    assert not {"numpy", "PIL", "ai_edge_litert"} & loaded_by("import covid_edge.cli")


def test_a_prediction_loads_nothing_heavy_and_one_decoder():
    arguments = ["predict", "--bundle", str(TOY), str(EXAMPLES / "xray.png")]
    code = f"from covid_edge.cli import main; assert main({arguments}) == 0"
    loaded = loaded_by(code)
    assert not HEAVY & loaded
    unneeded = {
        "covid_edge_convert",
        "covid_edge.dicom",
        "covid_edge.bench",
        "importlib.metadata",
        "asyncio",
    }
    assert not unneeded & loaded
    assert not {"covid_edge.outfile", "covid_edge.table", "covid_edge.page"} & loaded
    assert not {"covid_edge.series", "covid_edge.study"} & loaded
    assert not {"covid_edge.dicom", "covid_edge.many", "concurrent.futures", "distributed"} & loaded
    plugins = {name for name in loaded if name.startswith("PIL.") and name.endswith("Plugin")}
    assert plugins == {"PIL.PngImagePlugin"}
