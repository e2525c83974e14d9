# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn import metrics

from covid_edge_convert.bootstrap import auc, figures, interval, measure, resamples, roc


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 3)), min_size=2))
def test_the_auc_of_a_resample_is_scikit_learns_with_these_weights(scans):
    covid, score, weight = (np.array(column) for column in zip(*scans))
    value = auc(covid, score.astype(float), weight[None].astype(float))[0]
    drawn = weight > 0
    if len(np.unique(covid[drawn])) < 2:
        assert np.isnan(value)
    else:
        expected = metrics.roc_auc_score(covid, score, sample_weight=weight)
        assert value == pytest.approx(expected)


def test_the_area_under_the_curve_that_is_drawn_is_the_auc():
    rng = np.random.default_rng(0)
    covid = rng.random(200) < 0.5
    score = rng.normal(size=200) + covid
    grid = np.linspace(0, 1, 2001)
    curve = roc(covid, score, np.ones((1, 200)), grid)[0]
    assert metrics.auc(grid, curve) == pytest.approx(metrics.roc_auc_score(covid, score), abs=1e-3)


def test_without_groups_the_interval_of_an_accuracy_is_the_binomials():
    right = np.arange(400) < 320
    truth = np.arange(400) % 2 == 0
    called = np.where(right, truth, ~truth)
    value, low, high = measure(truth, called.astype(float), called, np.arange(400))["accuracy"]
    assert value == 0.8
    assert (low, high) == pytest.approx(np.array(binom.interval(0.95, 400, 0.8)) / 400, abs=0.008)


def test_a_group_is_drawn_whole_or_not_at_all():
    groups = np.array(["b", "a", "b", "c", "a", "b"])
    for row in resamples(groups, draws=50):
        assert len({*row[groups == "b"]}) == len({*row[groups == "a"]}) == 1


def test_the_first_resample_is_the_sample_itself():
    assert (resamples(np.arange(7), draws=3)[0] == 1).all()


def test_copies_of_a_scan_in_its_group_do_not_narrow_the_interval():
    rng = np.random.default_rng(1)
    covid = rng.random(60) < 0.5
    score = rng.normal(size=60) + covid
    groups = np.arange(60)
    one = measure(covid, score, score > 0.5, groups)
    five = measure(*(np.repeat(x, 5) for x in (covid, score, score > 0.5, groups)))
    assert five["scans"] == 5 * one["scans"]
    assert five["accuracy"] == one["accuracy"]
    assert five["auc"] == one["auc"]


def test_a_system_differs_from_itself_by_nothing():
    rng = np.random.default_rng(2)
    covid, score = rng.random(50) < 0.5, rng.random(50)
    weights = resamples(np.arange(50))
    values = figures(covid, score, score > 0.5, weights)["auc"]
    assert interval(values - values) == [0, 0, 0]


def test_what_one_class_or_one_group_does_not_define_is_none():
    alone = measure(np.ones(4, bool), np.arange(4.0), np.ones(4, bool), np.arange(4))
    assert alone["auc"] is None
    assert alone["specificity"] is None
    assert alone["sensitivity"] == [1, 1, 1]
    together = measure(np.arange(4) > 1, np.arange(4.0), np.arange(4) > 1, np.zeros(4))
    assert together["auc"] == [1, None, None]
