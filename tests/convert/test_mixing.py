# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from scipy.linalg import sqrtm

from covid_edge_convert.mixing import wasserstein_distance


def test_a_cloud_is_no_distance_from_itself():
    cloud = np.random.default_rng(0).normal(size=(200, 5))
    assert wasserstein_distance(cloud, cloud) == pytest.approx(0, abs=1e-9)


def test_a_shifted_cloud_is_as_far_as_the_square_of_its_shift():
    cloud = np.random.default_rng(0).normal(size=(200, 3))
    assert wasserstein_distance(cloud, cloud + [3.0, 4.0, 0.0]) == pytest.approx(25.0)


def test_it_is_the_papers_formula_with_a_matrix_square_root():
    rng = np.random.default_rng(1)
    a = rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6))
    b = rng.normal(size=(250, 6)) @ rng.normal(size=(6, 6)) + 1
    c1, c2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(c1 + c2 - 2 * sqrtm(c1 @ c2).real)
    assert wasserstein_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_the_relative_distance_does_not_change_with_scale():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(100, 4)), rng.normal(size=(100, 4)) + 2
    small = wasserstein_distance(a / 10, b / 10, relative=True)
    assert small == pytest.approx(wasserstein_distance(a, b, relative=True))
