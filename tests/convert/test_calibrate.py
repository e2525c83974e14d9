# SPDX-License-Identifier: Apache-2.0
"""Calibration, operating points and conformal sets, against what theory says they are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression

from conftest import TOY
from covid_edge.bundle import Bundle, Conformal, Threshold
from covid_edge_convert.calibrate import (
    CalibrationError,
    calibration_error,
    calibration_error_by_chance,
    calibration_figures,
    conformal,
    conformal_figures,
    covid_from,
    lower_bound,
    non_covid_to,
    operating_points,
    platt,
    probability,
    threshold_figures,
)

MODEL = Bundle.load(TOY).modalities["ct"].models[0]


def drawn(rng, n, share=0.4, apart=1.5):
    """(covid, logits) of n scans whose classes lie `apart` standard deviations from each other."""
    covid = rng.random(n) < share
    return covid, rng.normal(size=n) + apart * covid


def bounded(covid, scores, alpha):
    """The toy modality with conformal bounds set on these scans."""
    return MODEL._replace(conformal=Conformal(**conformal(covid, scores, alpha)))


# Platt scaling


def test_platt_scaling_is_a_logistic_curve_through_equally_weighing_classes():
    covid, logits = drawn(np.random.default_rng(0), 3000)
    fit = LogisticRegression(C=1e6, class_weight="balanced").fit(logits[:, None], covid)
    scale, bias = platt(logits, covid)
    assert scale == pytest.approx(fit.coef_[0, 0], abs=0.01)
    assert bias == pytest.approx(fit.intercept_[0], abs=0.01)


def test_platt_scaling_does_not_depend_on_the_share_of_covid():
    rng = np.random.default_rng(1)
    rare, common = (platt(*drawn(rng, 50_000, share)[::-1]) for share in (0.1, 0.7))
    # Normal classes 1.5 apart: P(covid) of an even mixture is sigmoid(1.5 x - 1.5² / 2).
    assert rare == pytest.approx((1.5, -1.125), abs=0.05)
    assert common == pytest.approx((1.5, -1.125), abs=0.05)


def test_platt_scaling_undoes_a_shift_and_a_stretch():
    covid, logits = drawn(np.random.default_rng(2), 300)
    before = probability(logits, *platt(logits, covid))
    after = probability(5 * logits + 3, *platt(5 * logits + 3, covid))
    np.testing.assert_allclose(after, before, atol=1e-3)


def test_classes_that_do_not_overlap_get_a_finite_scale():
    covid = np.repeat([True, False], 50)
    scale, bias = platt(np.where(covid, 1.0, -1.0), covid)
    # Platt's targets: 51/52 for COVID, 1/52 for the others.
    assert probability(np.float64(1), scale, bias) == pytest.approx(51 / 52, abs=1e-3)
    assert probability(np.float64(-1), scale, bias) == pytest.approx(1 / 52, abs=1e-3)


def test_logits_that_point_the_wrong_way_are_refused():
    covid, logits = drawn(np.random.default_rng(3), 300)
    with pytest.raises(CalibrationError, match="no better than chance"):
        platt(-logits, covid)


@pytest.mark.parametrize("covid", [np.ones(5), np.zeros(5)])
def test_one_class_alone_is_refused(covid):
    with pytest.raises(CalibrationError, match="one class only"):
        platt(np.arange(5.0), covid)


# Calibration error


def test_calibration_error_by_hand():
    covid = np.array([0, 1, 1, 1, 0])
    said = np.array([0.1, 0.3, 0.6, 0.8, 1.0])
    # Two bins: |1 - 0.4| over the first two scans, |2 - 2.4| over the other three; five scans.
    assert calibration_error(covid, said, bins=2) == pytest.approx((0.6 + 0.4) / 5)
    # The median, 0.6, begins the upper bin: the same scans.
    assert calibration_error(covid, said, bins=2, equal_mass=True) == pytest.approx(0.2)


@given(st.floats(0, 1), st.integers(0, 50), st.integers(0, 50), st.booleans())
def test_one_probability_for_all_errs_by_its_distance_from_the_share(said, covid, others, mass):
    if not (n := covid + others):
        return
    truth = np.repeat([1, 0], [covid, others])
    error = calibration_error(truth, np.full(n, said), equal_mass=mass)
    assert error == pytest.approx(abs(covid / n - said))


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_the_order_of_the_scans_does_not_matter(seed, mass):
    rng = np.random.default_rng(seed)
    covid, said = rng.random(40) < 0.5, rng.integers(0, 9, 40) / 8  # many equal ones
    order = rng.permutation(40)
    assert calibration_error(covid[order], said[order], equal_mass=mass) == pytest.approx(
        calibration_error(covid, said, equal_mass=mass)
    )


@pytest.mark.parametrize("mass", [False, True])
def test_true_probabilities_have_little_error_and_overconfident_ones_much(mass):
    rng = np.random.default_rng(4)
    said = rng.random(50_000)
    covid = rng.random(50_000) < said
    assert calibration_error(covid, said, equal_mass=mass) < 0.01
    sharpened = expit(3 * np.log(said / (1 - said)))
    assert calibration_error(covid, sharpened, equal_mass=mass) > 0.1


def test_the_error_by_chance_is_what_true_probabilities_show_and_falls_with_more_scans():
    rng = np.random.default_rng(5)
    few, many = rng.random(300), rng.random(30_000)
    seen = [calibration_error(rng.random(300) < few, few) for _ in range(300)]
    assert calibration_error_by_chance(few) == pytest.approx(np.mean(seen), abs=0.005)
    assert calibration_error_by_chance(many) < calibration_error_by_chance(few) / 5


# Order statistics


@pytest.mark.parametrize(
    ("n", "share", "bound"),
    [
        (9, 0.1, 1),  # 0.1 x 10: the smallest
        (8, 0.1, -math.inf),  # one score fewer bounds nothing
        (19, 0.1, 2),
        (39, 0.05, 2),
        (0, 0.5, -math.inf),
        (3, 0.99, 3),
    ],
)
def test_the_bound_is_this_order_statistic(n, share, bound):
    assert lower_bound(np.random.default_rng(0).permutation(n) + 1.0, share) == bound


scores = st.lists(st.floats(0, 1), min_size=1, max_size=60).map(np.array)
shares = st.floats(0.001, 0.999)


@given(scores, shares)
def test_at_most_the_share_of_the_scans_themselves_is_lost(of_class, share):
    assert np.mean(of_class < covid_from(of_class, share)) <= share * (1 + 1 / len(of_class))
    assert np.mean(of_class > non_covid_to(of_class, share)) <= share * (1 + 1 / len(of_class))


@given(scores, shares)
def test_rounding_never_excludes_more(of_class, share):
    exact = lower_bound(of_class, share)
    assert exact - 1.1e-6 <= covid_from(of_class, share) <= max(exact, 0) or exact == -math.inf
    assert 0 <= covid_from(of_class, share) <= 1
    assert 0 <= non_covid_to(of_class, share) <= 1


@given(scores, shares)
def test_the_bounds_are_mirror_images(of_class, share):
    mirrored = 1 - non_covid_to(1 - of_class, share)
    assert covid_from(of_class, share) == pytest.approx(mirrored, abs=2.1e-6)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
def test_a_further_scan_of_either_class_keeps_its_label_as_often_as_promised(alpha):
    rng = np.random.default_rng(6)
    trials, kept = 4000, {True: 0, False: 0}
    for _ in range(trials):
        covid, logits = drawn(rng, 120)
        modality = bounded(covid, expit(logits), alpha)
        for truth in (True, False):
            further = float(expit(rng.normal() + 1.5 * truth))
            kept[truth] += modality.labels[truth] in modality.possible(further, "conformal")
    least = binom.ppf(1e-6, trials, 1 - alpha)  # a true promise falls below once in a million
    assert min(kept.values()) >= least


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 80),
    st.floats(0.001, 0.999),
    st.floats(0.001, 0.999),
    st.floats(0, 1),
)
def test_bounds_exclude_more_as_alpha_grows(seed, n, first, second, said):
    rng = np.random.default_rng(seed)
    covid, said_of = rng.random(n) < 0.5, rng.random(n)
    strict, lax = (conformal(covid, said_of, alpha) for alpha in sorted((first, second)))
    assert strict["covid_from"] <= lax["covid_from"]
    assert strict["non_covid_to"] >= lax["non_covid_to"]
    # Sets nest, as long as the laxer bounds leave a label by themselves.
    if not lax["non_covid_to"] < said < lax["covid_from"]:
        larger, smaller = (
            MODEL._replace(conformal=Conformal(**bounds)).possible(said, "conformal")
            for bounds in (strict, lax)
        )
        assert set(smaller) <= set(larger)


def test_too_few_scans_leave_every_scan_uncertain():
    bounds = conformal(np.array([True] * 8 + [False] * 8), np.linspace(0.1, 0.9, 16), 0.1)
    assert (bounds["covid_from"], bounds["non_covid_to"]) == (0, 1)


# Operating points and figures


def test_the_sensitive_threshold_keeps_its_sensitivity_on_further_scans():
    rng = np.random.default_rng(7)
    found = []
    for _ in range(2000):
        covid, logits = drawn(rng, 150)
        threshold = operating_points(covid, expit(logits))["sensitive"]["value"]
        found.append(expit(rng.normal() + 1.5) >= threshold)
    assert sum(found) >= binom.ppf(1e-6, len(found), 0.95)


def test_half_is_where_balanced_accuracy_peaks_after_calibration():
    covid, logits = drawn(np.random.default_rng(8), 20_000, share=0.2)
    scaled = probability(logits, *platt(logits, covid))
    at = {
        threshold: threshold_figures(
            covid, scaled, MODEL._replace(balanced=Threshold(threshold, ""))
        )["balanced"]["balanced_accuracy"]
        for threshold in (0.2, 0.35, 0.5, 0.65, 0.8)
    }
    assert max(at, key=at.get) == 0.5


def test_figures_of_the_sets_by_hand():
    covid = np.array([True, True, True, False, False])
    said = np.array([0.9, 0.5, 0.1, 0.5, 0.2])  # the toy is uncertain from 0.45 to 0.55
    assert conformal_figures(covid, said, MODEL) == {
        "coverage": 0.8,
        "coverage_covid": 0.6667,
        "coverage_non_covid": 1.0,
        "uncertain": 0.4,
        "wrong_when_certain": 0.3333,
    }


def test_figures_of_the_thresholds_by_hand():
    covid = np.array([True, True, False, False])
    figures = threshold_figures(covid, np.array([0.5, 0.3, 0.4, 0.2]), MODEL)
    assert figures["balanced"] == {
        "threshold": 0.5,
        "accuracy": 0.75,
        "sensitivity": 0.5,
        "specificity": 1.0,
        "balanced_accuracy": 0.75,
    }
    assert (figures["sensitive"]["sensitivity"], figures["sensitive"]["specificity"]) == (1, 0.5)


def test_figures_that_the_scans_cannot_define_are_none():
    nothing = np.zeros(0, bool), np.zeros(0)
    assert set(conformal_figures(*nothing, MODEL).values()) == {None}
    assert set(calibration_figures(*nothing).values()) == {None}
    one_class = threshold_figures(np.array([True]), np.array([0.7]), MODEL)["balanced"]
    assert one_class["specificity"] is one_class["balanced_accuracy"] is None
