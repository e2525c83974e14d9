# SPDX-License-Identifier: Apache-2.0
"""Which variant of the kernels runs, and what happens when there is none."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import covid_edge
from covid_edge import _kernels, imgproc

IMAGE_OPERATIONS = {"area_reduce", "clahe", "morph_open", "resize"}
OPERATIONS = IMAGE_OPERATIONS | {"product"}


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_operation_has_a_variant_that_runs_here():
    active = imgproc.kernel_variants()
    assert set(active) == OPERATIONS
    assert set(active.values()) <= set(imgproc.simd_variants())


def test_portable_is_always_there_and_the_last_choice():
    assert imgproc.simd_variants()[-1] == "portable"


@pytest.mark.parametrize("name", imgproc.simd_variants())
def test_the_environment_forces_a_variant(name):
    done = python(
        "from covid_edge import imgproc; print(*imgproc.kernel_variants().values())",
        COVID_EDGE_SIMD=name,
    )
    # An operation that the variant lacks comes from a later one, never from a better one.
    order = imgproc.simd_variants()
    assert set(done.stdout.split()) <= set(order[order.index(name) :])
    assert name in done.stdout.split()


def test_an_unknown_variant_is_an_error_that_lists_what_there_is():
    done = python("import covid_edge.imgproc", COVID_EDGE_SIMD="avx1024")
    assert done.returncode != 0
    assert "COVID_EDGE_SIMD=avx1024 names no variant" in done.stderr
    assert ", ".join(imgproc.simd_variants()) in done.stderr


def test_a_missing_extension_says_how_to_build_it():
    # None in sys.modules makes the import fail as a missing file does.
    done = python(
        "import sys; sys.modules['covid_edge._kernels'] = None; import covid_edge.imgproc"
    )
    assert done.returncode != 0
    assert "python setup.py build_ext --inplace" in done.stderr
    assert "ImportError" in done.stderr.splitlines()[-1]


def test_the_stub_names_what_the_extension_holds():
    stub = Path(covid_edge.__file__).with_name("_kernels.pyi").read_text()
    promised = {node.name for node in ast.parse(stub).body if isinstance(node, ast.FunctionDef)}
    present = {name for name, value in vars(_kernels).items() if callable(value)}
    assert promised == {name for name in present if not name.startswith("_")}
    assert set(imgproc.__all__) == IMAGE_OPERATIONS | {
        "clahe_open_resize",
        "kernel_variants",
        "simd_variants",
    }
