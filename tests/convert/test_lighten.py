# SPDX-License-Identifier: Apache-2.0
"""An EfficientNet-Lite out of a full EfficientNet that was itself made of one."""

import numpy as np
import pytest

from covid_edge_convert.backbones import build_encoder
from covid_edge_convert.imagenet import ImageNetError, start_from_imagenet
from covid_edge_convert.lighten import lighten


def test_what_imagenet_poured_into_the_full_network_comes_back_out_of_it():
    full, lite, expected = (
        build_encoder(name) for name in ("EfficientNetB0", *["EfficientNetLite0"] * 2)
    )
    try:
        start_from_imagenet(full)
        start_from_imagenet(expected)
    except ImageNetError as error:
        pytest.skip(str(error))
    scans = np.random.default_rng(0).integers(0, 256, (4, 64, 64), dtype=np.uint8)
    lighten(lite, full, scans)
    x = scans[..., None].astype(np.float32)
    given, wanted = lite.predict(x, verbose=0), expected.predict(x, verbose=0)
    np.testing.assert_allclose(given, wanted, atol=1e-3 * np.abs(wanted).max())
