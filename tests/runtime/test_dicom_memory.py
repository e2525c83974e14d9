# SPDX-License-Identifier: Apache-2.0
"""A picture of as many pixels as are read is answered on in memory that its file foretells."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from conftest import TOY
from dicoms import image, save

pytest.importorskip("resource", reason="peak memory is known on Unix alone")

# The first scan pays for what is imported and loaded.
CODE = """
import resource, sys
from covid_edge import Predictor

predictor = Predictor(sys.argv[1])
predictor.predict(sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
status = predictor.predict(sys.argv[3]).status
unit = 1 if sys.platform == "darwin" else 1024
print(status, unit * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


@pytest.mark.parametrize(
    ("side", "kind", "samples"),
    [(8000, np.uint16, 1), (4000, np.uint32, 1), (4000, np.uint8, 3)],
    ids=["64 megapixels of 16 bits", "32 bits", "colour"],
)
def test_peak_memory_is_a_small_multiple_of_the_stored_pixels(tmp_path, side, kind, samples):
    stored = np.zeros((side, side, samples), kind)
    stored[side // 8 : -side // 8] = np.arange(side, dtype=np.uint16)[:, None] // 32
    paths = []
    for name, pixels in (("small", stored[::50, ::50]), ("large", stored)):
        data = image(np.ascontiguousarray(pixels if samples > 1 else pixels[..., 0]))
        paths.append(save(tmp_path / f"{name}.dcm", data))
    command = [sys.executable, "-c", CODE, str(TOY), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    status, peak = done.stdout.split()
    assert status in ("ok", "refused")
    assert int(peak) < 3 * stored.nbytes
