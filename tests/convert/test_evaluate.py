# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from sklearn import metrics

from covid_edge_convert.evaluate import binary_metrics, platt, probability


@pytest.fixture
def answers():
    rng = np.random.default_rng(0)
    covid = rng.random(300) < 0.4
    logits = rng.normal(size=300) + 1.5 * covid
    return covid, logits


def test_figures_are_those_of_scikit_learn(answers):
    covid, logits = answers
    called = logits > 0.7
    figures = binary_metrics(covid, logits, called)
    assert figures["accuracy"] == round(metrics.accuracy_score(covid, called), 4)
    assert figures["auc"] == round(metrics.roc_auc_score(covid, logits), 4)
    assert figures["sensitivity"] == round(metrics.recall_score(covid, called), 4)
    assert figures["specificity"] == round(metrics.recall_score(~covid, ~called), 4)
    assert figures["f1"] == round(metrics.f1_score(covid, called), 4)


def test_figures_that_one_class_cannot_define_are_none():
    figures = binary_metrics(np.ones(3, bool), np.arange(3), np.array([True, True, False]))
    assert figures["auc"] is None
    assert figures["specificity"] is None
    assert figures["sensitivity"] == round(2 / 3, 4)


def test_platt_scaling_makes_the_mean_probability_the_share_of_covid(answers):
    covid, logits = answers
    scaled = probability(5 * logits + 3, *platt(5 * logits + 3, covid))
    assert scaled.mean() == pytest.approx(covid.mean(), abs=1e-3)


def test_logits_that_point_the_wrong_way_are_refused(answers):
    covid, logits = answers
    with pytest.raises(ValueError, match="no better than chance"):
        platt(-logits, covid)
