# SPDX-License-Identifier: Apache-2.0
"""Groups of slices as studies, and what rules make of them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from conftest import TOY
from covid_edge.bundle import Bundle
from covid_edge.files import Slice
from covid_edge.predictor import Latency, Prediction, Source
from covid_edge.study import sum_up
from covid_edge_convert.data import Scans
from covid_edge_convert.document import Document
from covid_edge_convert.results import _studies
from covid_edge_convert.studies import DEVICE, RULES, gather, rule_figures, study_figures

BUNDLE = Bundle.load(TOY)
MODEL = BUNDLE.modalities["ct"].models[0]


def answer(probability: float, **changes) -> Prediction:
    """An answer on a CT slice, by the toy bundle."""
    labels = MODEL.possible(probability, "balanced")
    return replace(
        Prediction(
            file="a",
            status="ok",
            modality="ct",
            label=labels[0],
            labels=labels,
            probability=probability,
            threshold=MODEL.threshold("balanced"),
            operating_point="balanced",
            network={"file": MODEL.file.path.name, "device": "cpu"},
            refusal=None,
            reason=None,
            dicom=None,
            latency_ms=Latency(0, 0, 0, 0),
            bundle={},
            source=Source("a"),
        ),
        **changes,
    )


def table(*rows: tuple[str, bool, str]) -> Scans:
    """CT slices of ``test``: (group, covid, source) each."""
    groups, covid, sources = zip(*rows)
    label = np.where(covid, "covid", "non-covid")
    names = np.array([f"{k}.png" for k in range(len(rows))])
    ct, test = np.full(len(rows), "ct"), np.full(len(rows), "test")
    return Scans(None, names, ct, label, np.array(sources), np.array(groups), test)


FOUR = table(
    *[("p", True, "a")] * 2, *[("q", False, "a")] * 3, *[("r", True, "b")] * 2, ("s", True, "b")
)
SAID = [answer(p) for p in (0.9, 0.4, 0.1, 0.2, 0.6, 0.3, 0.2, 0.9)]


def test_a_study_is_a_group_of_several_slices():
    studies = gather(FOUR, SAID, "test")
    assert [len(odds) for odds in studies.odds] == [2, 3, 2]
    assert studies.covid.tolist() == [True, False, True]
    assert studies.source.tolist() == ["a", "a", "b"]
    assert studies.odds[0] == pytest.approx([math.log(9), math.log(2 / 3)])
    assert len(gather(FOUR, SAID, "val")) == 0


def test_slices_that_the_device_does_not_count_are_left_out():
    refused = answer(0.5, status="refused", refusal="blurred")
    forced = answer(0.5, refusal="turned-180")
    other = answer(0.5, modality="xray")
    said = [SAID[0], refused, SAID[2], forced, SAID[4], SAID[5], other, SAID[7]]
    assert [len(odds) for odds in gather(FOUR, said, "test").odds] == [2]


def test_groups_of_both_labels_are_counted_and_left_out():
    mixed = table(*[("p", True, "a")] * 2, ("q", True, "a"), ("q", False, "a"))
    studies = gather(mixed, SAID[:4], "test")
    assert (len(studies), studies.mixed) == (1, 1)


def test_every_rule_says_covid_of_slices_that_all_show_it_and_not_of_slices_that_do_not():
    odds = np.array([0.1, 2.0, 0.5, 1.0])
    for name, rule in RULES.items():
        assert rule(odds) >= 0 > rule(-odds), name


def test_the_rules_by_hand():
    odds = np.array([-3.0, -1.0, -1.0, 1.0, 2.0, 4.0])
    found = {name: float(rule(odds)) for name, rule in RULES.items()}
    assert list(found.values()) == pytest.approx([2 / 6, 0, 3, 0, 4])


def test_the_first_rule_is_what_the_device_does():
    slices = [
        replace(one, source=Source("a", series=Slice(1, number, 3)))
        for number, one in enumerate(SAID[2:5], 1)
    ]
    *_, together = sum_up(slices, BUNDLE)
    (odds,) = [odds for odds in gather(FOUR, SAID, "test").odds if len(odds) == 3]
    assert math.log(together.probability / (1 - together.probability)) == pytest.approx(
        RULES[DEVICE](odds)
    )


def test_the_figures_of_a_rule():
    figures = rule_figures(gather(FOUR, SAID, "test"), MODEL)
    assert figures[DEVICE]["accuracy"][0] == pytest.approx(2 / 3, abs=1e-4)  # r is missed
    assert figures["maximum"]["accuracy"][0] == pytest.approx(1 / 3, abs=1e-4)  # q is taken for it
    assert figures[DEVICE]["auc"][0] == 0.5  # p is above q, r just below


def test_the_figures_of_the_devices_rule_whole_per_source_and_beside_slices():
    found = study_figures(gather(FOUR, SAID, "test"), MODEL)
    assert list(found["figures"]) == ["all", "a", "b", "alone"]
    assert found["figures"]["a"]["accuracy"][0] == 1.0
    assert found["figures"]["b"]["accuracy"][0] == 0.0
    alone = found["figures"]["alone"]
    assert (alone["scans"], alone["groups"], found["slices"]) == (7, 3, 7)
    assert alone["accuracy"][0] == pytest.approx(3 / 7, abs=1e-4)
    assert found["sets"]["coverage"] == pytest.approx(2 / 3, abs=1e-4)


@pytest.mark.parametrize("split", ["test", "val"])
def test_the_report_tells_it_or_that_there_is_nothing_to_tell(split):
    studies = gather(FOUR, SAID, split)
    document = Document("")
    _studies(document, rule_figures(studies, MODEL), study_figures(studies, MODEL), MODEL)
    text = document.markdown("")
    assert ("| CT studies | 3 | 3 | 0.667 [" in text) == (split == "test")
    assert ("No group of test has several CT slices" in text) == (split == "val")
