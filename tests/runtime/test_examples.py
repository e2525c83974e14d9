# SPDX-License-Identifier: Apache-2.0
"""The example scans are what their script draws."""

from __future__ import annotations

import runpy
import sys

import numpy as np
import pytest

from conftest import EXAMPLES
from covid_edge.scan import read_scan


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    before = sys.argv
    sys.argv = ["draw_examples.py", str(folder)]
    try:
        runpy.run_path(str(EXAMPLES / "draw_examples.py"), run_name="__main__")
    finally:
        sys.argv = before
    return folder


@pytest.mark.parametrize(("name", "side"), [("xray.png", 512), ("ct.png", 400)])
def test_the_example_is_what_the_script_draws(drawn, name, side):
    kept, made = read_scan(EXAMPLES / name), read_scan(drawn / name)
    assert kept.pixels.shape == (side, side)
    # exp() differs by a bit between machines, which can move a pixel over a rounding edge.
    assert np.abs(kept.pixels.astype(int) - made.pixels).max() <= 1
