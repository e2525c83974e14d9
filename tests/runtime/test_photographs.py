# SPDX-License-Identifier: Apache-2.0
"""The shipped router on real photographs (scikit-image's own)."""

from __future__ import annotations

import pytest
from PIL import Image

from covid_edge import Predictor

data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")


@pytest.mark.parametrize("name", ["astronaut", "camera", "coins", "page", "text", "moon"])
def test_a_photograph_is_refused(shipped, tmp_path, name):
    path = tmp_path / f"{name}.png"
    Image.fromarray(getattr(data, name)()).save(path)
    answer = Predictor(shipped).predict(path)
    assert (answer.status, answer.modality) == ("refused", None)
    assert "chest" in answer.reason
