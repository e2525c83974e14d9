# SPDX-License-Identifier: Apache-2.0
"""The shipped bundles on the data set's test split say what their own cards and references say."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from conftest import ROOT, shipped_bundle
from covid_edge import Predictor
from covid_edge.bundle import Bundle, Modality, Model
from covid_edge.interpreter import Interpreter
from covid_edge.preprocess import preprocess
from covid_edge.scan import read_scan

DATA = Path(os.environ.get("COVID_EDGE_DATA", ROOT.parent / "shared" / "data"))


def area_under_roc(covid: np.ndarray, score: np.ndarray) -> float:
    """Share of (COVID, other) pairs in the right order; a tie counts half."""
    difference = score[covid][:, None] - score[~covid][None, :]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


@pytest.fixture(scope="module", params=["mmtl", "lite"])
def shipped(request):
    return shipped_bundle(request.param)


@pytest.fixture(scope="module")
def manifest():
    path = DATA / "manifest.csv"
    if not path.is_file():
        pytest.skip(f"no scans at {DATA}: name a folder with manifest.csv in COVID_EDGE_DATA")
    with open(path, newline="", encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream) if row["split"] == "test"]


@pytest.fixture(scope="module")
def answers(shipped, manifest):
    # The card's figures are of all that are routed.
    predictor = Predictor(shipped, threads=2, force=True)
    return {row["file"]: predictor.predict(DATA / row["file"]) for row in manifest}


@pytest.mark.parametrize(("modality", "least"), [("xray", 0.90), ("ct", 0.75)])
def test_auc_and_accuracy_are_what_the_card_says(shipped, manifest, answers, modality, least):
    rows = [r for r in manifest if r["modality"] == modality]
    rows = [r for r in rows if answers[r["file"]].modality == modality]
    covid = np.array([r["label"] == "covid" for r in rows])
    score = np.array([answers[r["file"]].probability for r in rows])
    auc = area_under_roc(covid, score)
    entry = json.loads((shipped / "bundle.json").read_text())["modalities"][modality]
    model = entry["models"][0]
    figures = model["metrics"]["test"]
    assert auc == pytest.approx(figures["auc"], abs=2e-3)
    called = score >= model["operating_points"]["balanced"]["value"]
    # A scan at the threshold may turn with the processor's rounding.
    assert np.mean(called == covid) == pytest.approx(figures["accuracy"], abs=1e-2)
    card = (shipped / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert all(f"{figures[name]:.4f}" in card for name in ("auc", "accuracy"))
    assert auc >= least


@pytest.mark.parametrize("modality", ["xray", "ct"])
def test_the_router_sends_chest_scans_to_their_modality(shipped, manifest, answers, modality):
    given = [r["file"] for r in manifest if r["modality"] == modality]
    assert np.mean([answers[name].modality == modality for name in given]) >= 0.99


def test_the_router_refuses_what_is_no_chest_scan(shipped, manifest, answers):
    given = [r["file"] for r in manifest if r["modality"] == "other"]
    assert np.mean([answers[name].status == "refused" for name in given]) >= 0.95


def reference(shipped: Path, modality: str) -> list[dict[str, str]]:
    with open(shipped / "reference.csv", newline="", encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream) if row["modality"] == modality]


def logit(network: Interpreter, entry: Modality, path: Path) -> float:
    return entry.logit(network, preprocess(read_scan(path).pixels, entry.preprocess))


@pytest.mark.parametrize("modality", ["xray", "ct"])
def test_logits_on_scans_are_those_that_were_shipped_as_reference(shipped, manifest, modality):
    entry = Bundle.load(shipped).modalities[modality]
    network = Interpreter(entry.model("cpu-int8").file.path)
    rows = [row for row in reference(shipped, modality) if row["label"] != "drawn"]
    paths = [DATA / row["file"] for row in rows[::10]]
    logits = [logit(network, entry, path) for path in paths]
    expected = np.array([float(row["int8_logit"]) for row in rows[::10]])
    # int8 kernels round differently between processors: nearly all equal, the rest close.
    assert np.quantile(np.abs(np.array(logits) - expected), 0.9) <= 0.1 * expected.std()


@pytest.mark.parametrize("modality", ["xray", "ct"])
def test_the_logit_on_the_example_is_near_the_one_that_was_shipped(shipped, modality):
    entry = Bundle.load(shipped).modalities[modality]
    rows = reference(shipped, modality)
    (drawn,) = [row for row in rows if row["label"] == "drawn"]
    network = Interpreter(entry.model("cpu-int8").file.path)
    spread = np.std([float(row["int8_logit"]) for row in rows])
    assert logit(network, entry, ROOT / drawn["file"]) == pytest.approx(
        float(drawn["int8_logit"]), abs=0.2 * spread
    )


def int8(shipped: Path, modality: str) -> Model:
    return Bundle.load(shipped).modalities[modality].model("cpu-int8")


def probabilities(model: Model, rows: list[dict[str, str]]) -> np.ndarray:
    logits = np.array([float(row["int8_logit"]) for row in rows])
    return 1 / (1 + np.exp(-(model.calibration.scale * logits + model.calibration.bias)))


@pytest.mark.parametrize("modality", ["xray", "ct"])
def test_probabilities_are_near_the_share_of_covid(shipped, modality):
    model = int8(shipped, modality)
    rows = [row for row in reference(shipped, modality) if row["label"] != "drawn"]
    covid = np.array([row["label"] == "covid" for row in rows])
    said = probabilities(model, rows)
    error = 0.0  # expected calibration error, 15 bins of equal width
    for k in range(15):
        inside = (said >= k / 15) & (said < (k + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(covid[inside].mean() - said[inside].mean())
    assert error <= 0.05


@pytest.mark.parametrize("modality", ["xray", "ct"])
def test_conformal_sets_keep_their_promise_within_two_points(shipped, modality):
    model = int8(shipped, modality)
    rows = [row for row in reference(shipped, modality) if row["label"] != "drawn"]
    sets = [model.possible(p, "conformal") for p in probabilities(model, rows).tolist()]
    kept = [row["label"] in labels for row, labels in zip(rows, sets)]
    assert np.mean(kept) >= 1 - model.conformal.alpha - 0.02


def test_int8_keeps_the_labels_and_the_auc_of_full_precision(shipped):
    same = []
    for modality in ("xray", "ct"):
        model = int8(shipped, modality)
        rows = [row for row in reference(shipped, modality) if row["label"] != "drawn"]
        covid = np.array([row["label"] == "covid" for row in rows])
        logits = {k: np.array([float(r[f"{k}_logit"]) for r in rows]) for k in ("fp32", "int8")}
        fp32_auc, int8_auc = (area_under_roc(covid, values) for values in logits.values())
        int8_says = probabilities(model, rows) >= model.balanced.value
        same += list(int8_says == [row["fp32_says"] == "covid" for row in rows])
        assert fp32_auc - int8_auc <= 0.01
    assert np.mean(same) >= 0.98


@pytest.mark.parametrize("modality", ["xray", "ct"])
def test_lite_is_a_tenth_of_mmtl_and_within_a_point_and_a_half_of_its_accuracy(lite, modality):
    students, whole = (
        Bundle.load(name).extra["modalities"][modality]["models"][0] for name in ("lite", "mmtl")
    )
    accuracy = [model["metrics"]["test"]["accuracy"] for model in (students, whole)]
    assert accuracy[0] >= accuracy[1] - 0.015
    assert students["bytes"] <= min(6_000_000, whole["bytes"] / 10)
