# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from sklearn import metrics

from covid_edge_convert.evaluate import binary_metrics


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
