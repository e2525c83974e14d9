# SPDX-License-Identifier: Apache-2.0
"""Fixtures that tests of the device share.

The toy bundle (``toy_bundle/make.py`` says how its networks answer) is steered by brightness: a
flat picture of :data:`DARK` is an X-ray to it (of :data:`DOUBTFUL` one that may show COVID or not),
:data:`MIDDLE` a CT, :data:`BRIGHT` neither.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
TOY = Path(__file__).parent / "toy_bundle"
EXAMPLES = ROOT / "examples"
MODELS = ROOT / "covid_edge" / "models"

DARK, DOUBTFUL, MIDDLE, BRIGHT = 30, 36, 128, 230


def pytest_configure(config: pytest.Config) -> None:
    """Give each of several test processes one thread: together they have no more cores than one."""
    if config.getoption("numprocesses", None):
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
            os.environ.setdefault(name, "1")


def pytest_report_header() -> str:
    from covid_edge import __version__
    from covid_edge.interpreter import runtime, runtime_version

    package, _ = runtime()
    return f"covid-edge {__version__}, {package} {runtime_version(package)}, numpy {np.__version__}"


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Packed weights are kept among the tests' own files."""
    os.environ["COVID_EDGE_CACHE"] = str(tmp_path_factory.mktemp("cache") / "covid-edge")


@pytest.fixture(autouse=True)
def _pipes_break_with_an_error() -> Iterator[None]:
    """`covid_edge.cli.main` lets a broken pipe end the process; here it would end the tests."""
    kept = signal.getsignal(signal.SIGPIPE) if hasattr(signal, "SIGPIPE") else None
    yield
    if kept is not None:
        signal.signal(signal.SIGPIPE, kept)


@pytest.fixture
def toy() -> Path:
    """The toy bundle, not to be written to."""
    return TOY


@pytest.fixture
def toy_copy(tmp_path: Path) -> Path:
    """A copy of the toy bundle to damage."""
    folder = tmp_path / "bundle"
    shutil.copytree(TOY, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__", "types"))
    return folder


@pytest.fixture(scope="session")
def shipped() -> Path:
    """The bundle that covid-edge takes unless told otherwise."""
    return shipped_bundle("mmtl")


@pytest.fixture(scope="session")
def lite() -> Path:
    """The bundle of students."""
    return shipped_bundle("lite")


@pytest.fixture(scope="session", params=["mmtl", "lite"])
def each_shipped(request: pytest.FixtureRequest) -> Path:
    """Every bundle that ships, in turn."""
    return shipped_bundle(request.param)


def shipped_bundle(name: str) -> Path:
    """Folder of a bundle that ships; skips what asks where there is none."""
    if not (MODELS / name / "bundle.json").exists():
        pytest.skip(f"this checkout has no covid_edge/models/{name} yet")
    return MODELS / name


@pytest.fixture
def flat(tmp_path: Path) -> Callable[..., Path]:
    """Write a picture of one brightness and return its path."""

    def write(name: str, brightness: int, size: tuple[int, int] = (64, 64)) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, brightness).save(path)
        return path

    return write


@pytest.fixture(scope="session")
def run() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``covid-edge`` as its users do and return what came out."""

    def call(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "covid_edge", *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, **options
        )

    return call
