# SPDX-License-Identifier: Apache-2.0
import io

import numpy as np
import pytest
from PIL import Image

from covid_edge.scan import read_scan
from covid_edge_convert.evaluate import encoded
from covid_edge_convert.robustness import VERSIONS, resized


@pytest.mark.parametrize("longer", [640, 1280, 100])
def test_a_resized_scan_keeps_its_proportions(longer):
    assert resized(np.zeros((300, 450), np.uint8), longer).shape == (round(longer / 1.5), longer)


def test_versions_are_files_of_the_sizes_that_they_are_called_by():
    scan = np.random.default_rng(0).integers(0, 256, (300, 450), np.uint8)
    sizes = {name: Image.open(io.BytesIO(make(scan))).size for name, make in VERSIONS.items()}
    assert [max(size) for size in sizes.values()] == [640, 1280, 2560, 450]


def test_the_device_reads_an_encoded_picture_as_it_was(tmp_path):
    scan = np.random.default_rng(0).integers(0, 256, (33, 47), np.uint8)
    (tmp_path / "scan").write_bytes(encoded(scan))
    np.testing.assert_array_equal(read_scan(tmp_path / "scan").pixels, scan)
