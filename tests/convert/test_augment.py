# SPDX-License-Identifier: Apache-2.0
"""Views that differ outside the lungs, and views without lungs."""

import numpy as np
import pytest

from covid_edge_convert.augment import on_other_ground, without_lungs
from drawn import drawn_scan, ellipse

LUNGS = ellipse(0.3, 0.45, 0.16, 0.32) | ellipse(0.7, 0.45, 0.16, 0.32)
DEEP = ellipse(0.3, 0.45, 0.08, 0.16) | ellipse(0.7, 0.45, 0.08, 0.16)
FAR = ~(ellipse(0.3, 0.45, 0.3, 0.5) | ellipse(0.7, 0.45, 0.3, 0.5))


@pytest.fixture
def scan() -> np.ndarray:
    return drawn_scan("xray", True, np.random.default_rng(0))


def test_lungs_on_other_ground_keep_their_pixels_and_lose_their_frame(scan):
    other = np.full_like(scan, 20)
    view = on_other_ground(scan, LUNGS, other, LUNGS, np.random.default_rng(1))
    assert view.dtype == np.uint8
    assert np.abs(view[DEEP].astype(int) - scan[DEEP]).mean() < 3
    assert np.abs(view[FAR].astype(int) - 20).max() <= 2


def test_the_other_scans_own_lungs_are_not_in_the_view(scan):
    """Where only the other scan has lungs, what surrounds them goes on."""
    other = np.where(ellipse(0.5, 0.8, 0.2, 0.15), 250, 60).astype(np.uint8)
    hidden = ellipse(0.5, 0.8, 0.2, 0.15)
    view = on_other_ground(scan, LUNGS & ~hidden, other, hidden, np.random.default_rng(1))
    assert view[ellipse(0.5, 0.85, 0.05, 0.05)].max() < 100


def test_without_lungs_only_the_lungs_change_and_nothing_of_them_is_left(scan):
    noisy = scan.copy()
    noisy[LUNGS] = np.random.default_rng(2).integers(0, 256, LUNGS.sum())
    for seed in range(12):
        view = without_lungs(noisy, LUNGS, np.random.default_rng(seed))
        assert np.array_equal(view[~LUNGS], noisy[~LUNGS])
        assert np.abs(np.diff(view.astype(int), axis=1))[DEEP[:, 1:]].max() <= 8
