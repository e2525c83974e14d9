# SPDX-License-Identifier: Apache-2.0
"""The shipped bundle on the data set's test split says what its own card and reference say."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from conftest import ROOT
from covid_edge import Predictor
from covid_edge.bundle import Bundle
from covid_edge.interpreter import Interpreter
from covid_edge.preprocess import preprocess
from covid_edge.scan import read_scan

DATA = Path(os.environ.get("COVID_EDGE_DATA", ROOT.parent / "shared" / "data"))


def area_under_roc(covid: np.ndarray, score: np.ndarray) -> float:
    """Share of (COVID, other) pairs in the right order; a tie counts half."""
    difference = score[covid][:, None] - score[~covid][None, :]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


@pytest.fixture(scope="module")
def manifest():
    path = DATA / "manifest.csv"
    if not path.is_file():
        pytest.skip(f"no scans at {DATA}: name a folder with manifest.csv in COVID_EDGE_DATA")
    with open(path, newline="", encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream) if row["split"] == "test"]


@pytest.fixture(scope="module")
def answers(manifest):
    predictor = Predictor(threads=2)
    return {row["file"]: predictor.predict(DATA / row["file"]) for row in manifest}


@pytest.mark.parametrize(("modality", "least"), [("xray", 0.90), ("ct", 0.75)])
def test_auc_is_what_the_card_says(shipped, manifest, answers, modality, least):
    rows = [r for r in manifest if r["modality"] == modality]
    rows = [r for r in rows if answers[r["file"]].modality == modality]
    covid = np.array([r["label"] == "covid" for r in rows])
    score = np.array([answers[r["file"]].probability for r in rows])
    auc = area_under_roc(covid, score)
    figures = json.loads((shipped / "bundle.json").read_text())["modalities"][modality]["metrics"]
    assert auc == pytest.approx(figures["test"]["auc"], abs=2e-3)
    assert f"{figures['test']['auc']:.4f}" in (shipped / "MODEL_CARD.md").read_text()
    assert auc >= least


@pytest.mark.parametrize("modality", ["xray", "ct"])
def test_the_router_sends_chest_scans_to_their_modality(shipped, manifest, answers, modality):
    given = [r["file"] for r in manifest if r["modality"] == modality]
    assert np.mean([answers[name].modality == modality for name in given]) >= 0.99


def test_the_router_refuses_what_is_no_chest_scan(shipped, manifest, answers):
    given = [r["file"] for r in manifest if r["modality"] == "other"]
    assert np.mean([answers[name].status == "refused" for name in given]) >= 0.95


@pytest.mark.parametrize("modality", ["xray", "ct"])
def test_logits_are_those_that_were_shipped_as_reference(shipped, manifest, modality):
    entry = Bundle.load().modalities[modality]
    network = Interpreter(entry.model.path)
    with open(shipped / "reference.csv", newline="", encoding="utf-8") as stream:
        rows = [r for r in csv.DictReader(stream) if r["modality"] == modality][::10]
    logits = [
        float(network.run(preprocess(read_scan(DATA / r["file"]).pixels, entry.preprocess))[0])
        for r in rows
    ]
    expected = np.array([float(r["int8_logit"]) for r in rows])
    # int8 kernels round differently between processors: nearly all equal, the rest close.
    assert np.quantile(np.abs(logits - expected), 0.9) <= 0.05 * expected.std()


@pytest.mark.parametrize("modality", ["xray", "ct"])
def test_int8_keeps_the_labels_and_the_auc_of_full_precision(shipped, modality):
    drift = json.loads((shipped / "bundle.json").read_text())["modalities"][modality]["drift"]
    with open(shipped / "reference.csv", newline="", encoding="utf-8") as stream:
        rows = [r for r in csv.DictReader(stream) if r["modality"] == modality]
    covid = np.array([r["label"] == "covid" for r in rows])
    auc = {
        kind: area_under_roc(covid, np.array([float(r[f"{kind}_logit"]) for r in rows]))
        for kind in ("fp32", "int8")
    }
    assert drift["label_agreement"] >= 0.98
    assert auc["fp32"] - auc["int8"] <= 0.01
    assert auc["int8"] == pytest.approx(drift["auc_int8"], abs=1e-3)
