# SPDX-License-Identifier: Apache-2.0
"""Limits by which the device refuses scans: learned, written, measured."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from covid_edge import quality
from covid_edge.bundle import Bundle
from covid_edge.errors import UsageError
from covid_edge.predictor import Predictor
from covid_edge_convert.checks import (
    NOTICED,
    add_checks,
    blurred,
    clipped,
    faded,
    learn_turns,
    rates,
    try_mirrored,
    turned,
)
from covid_edge_convert.explain import explain
from drawn import drawn_scan

rng = np.random.default_rng(5)
SCANS = np.stack([drawn_scan("xray", k % 2 == 0, rng) for k in range(60)])


def test_turns_are_learned_from_upright_scans():
    weights = np.float32(learn_turns(SCANS[:40]))
    assert weights.shape == (4, 257)
    for turn in (1, 2, 3):
        found = [quality.turns(one, weights) for one in turned(SCANS[40:], turn)]
        assert np.mean([way == turn and margin > 0 for way, margin in found]) > 0.9
    assert np.mean([quality.turns(one, weights)[1] > 0 for one in SCANS[40:]]) < 0.1


def test_each_way_of_spoiling_a_scan_spoils_what_is_measured():
    scan = SCANS[0]
    assert quality.contrast(faded(scan)) < 0.1 * quality.contrast(scan)
    assert quality.extremes(clipped(scan)) > 2 * quality.extremes(scan)
    assert quality.sharpness(blurred(scan)) < 0.5 * quality.sharpness(scan)


def test_rates_at_a_limit_and_along_the_curve():
    good, bad = np.arange(100.0), np.arange(90.0, 190.0)
    found = rates(good, bad, limit=97.5)
    assert found["noticed"] == 0.92
    assert found["good_refused"] == 0.02
    # Of 100 spoiled scans 90 score 100 or more, 95 score 95 or more, 98 score 92 or more.
    assert found["good_refused_at"] == {"0.9": 0.0, "0.95": 0.05, "0.98": 0.08}
    assert found["auc"] == pytest.approx(1 - 0.5 * 0.1 * 0.1)


def test_along_the_curve_equal_scores_are_refused_together():
    found = rates(np.array([0.0, 1.0, 1.0, 1.0]), np.array([1.0, 1.0]), limit=1.0)
    assert found["noticed"] == 0
    assert set(found["good_refused_at"].values()) == {0.75}


def test_what_looks_the_same_in_a_mirror_is_not_told():
    symmetric = SCANS // 2 + SCANS[:, :, ::-1] // 2
    found = try_mirrored({"train": symmetric[:30], "val": symmetric[30:45], "test": symmetric[45:]})
    assert found["auc"] == 0.5


def test_what_lies_on_one_side_is_told_in_a_mirror():
    marked = SCANS.copy()
    marked[:, :, :20] = 0
    found = try_mirrored({"train": marked[:30], "val": marked[30:45], "test": marked[45:]})
    assert found["noticed"] == 1


def test_a_bundle_without_maps_is_told_to_be_explained_first(toy_run):
    with pytest.raises(UsageError, match="run covid-edge-convert explain"):
        add_checks(toy_run.scans, toy_run.bundle)


def test_a_bundle_is_given_limits_that_its_good_scans_keep(toy_run, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(toy_run.bundle, folder)
    explain(folder)
    figures = add_checks(toy_run.scans, folder)
    bundle = Bundle.load(folder)
    for name, modality in bundle.modalities.items():
        assert modality.checks is not None
        assert modality.models[0].familiar is not None
        refused = {**figures[name]["refused"]["val"]}
        assert refused.pop("scans") == len(toy_run.scans.select(modality=name, split="val"))
        assert set(refused) <= {"not-a-chest-scan", "turned-90", "turned-180"}
        codes = {one["code"] for one in figures[name]["noticed"].values()}
        assert codes == set(quality.CODES) - {"too-small", "not-a-chest-scan"}
        for one in figures[name]["noticed"].values():
            shares = [one["good_refused_at"][str(share)] for share in NOTICED]
            assert shares == sorted(shares)
    assert "## Refusals" in (folder / "MODEL_CARD.md").read_text()

    good = toy_run.scans.select(modality="ct", split="val")
    heatmap = Predictor(bundle, modality="ct", heatmap=True, force=True)
    assert heatmap.predict(good.root / good.file[0]).heatmap.shape == (28, 28)
