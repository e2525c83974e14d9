# SPDX-License-Identifier: Apache-2.0
import csv
import json
import shutil

import numpy as np
import pytest

from covid_edge.bundle import Bundle
from covid_edge.errors import BundleError
from covid_edge_convert.comparisons import called_by_val, featured, joined, stage_figures
from covid_edge_convert.evidence import load_evidence


@pytest.fixture
def evidence(toy_run):
    return load_evidence(Bundle.load(toy_run.bundle))


def test_every_scan_that_is_measured_has_its_logits(toy_run, evidence):
    scans = toy_run.scans
    expected = scans.where((scans.split != "train") & (scans.modality != "other"))
    table, _ = joined(evidence, scans)
    assert sorted(table.file) == sorted(expected.file)
    assert (evidence.stages["split"] == table.split).all()


def test_the_logits_of_the_head_are_those_of_the_fp32_file(toy_run, evidence):
    rows = csv.DictReader((toy_run.bundle / "reference.csv").read_text().splitlines())
    # Of CT, the reference is the mean with the mirror image.
    reference = {r["file"]: float(r["fp32_logit"]) for r in rows if r["modality"] == "xray"}
    stages = evidence.stages
    head = dict(zip(stages["file"].tolist(), stages["head_adversarial"]))
    given = [head[name] for name in reference]
    np.testing.assert_allclose(given, list(reference.values()), atol=5e-3)


def test_a_stage_that_was_not_trained_has_no_logits(toy_run, evidence):
    trained = (toy_run.run.root / "non-adversarial").is_dir()
    assert trained or np.isnan(evidence.stages["head_non_adversarial"]).all()


def test_features_belong_to_the_scans_of_val_and_test(toy_run, evidence):
    table, _ = joined(evidence, toy_run.scans)
    rows = table.where(featured(table))
    assert {len(part) for part in evidence.features.values()} == {len(rows)}
    # The toy's task-specific features tell its drawn patches: so must their components, row by row.
    ct, covid = rows.modality == "ct", rows.covid == 1
    first = evidence.features["final"][:, 0]
    gap = abs(first[ct & covid].mean() - first[ct & ~covid].mean())
    assert gap > first[ct & covid].std()


def test_differences_are_taken_of_stages_that_are_there(toy_run, evidence):
    found = stage_figures(*joined(evidence, toy_run.scans), "head_adversarial")["ct"]["test"]
    assert found["stages"]["head_adversarial"]["auc"][0] > 0.9
    pairs = {(d["of"], d["minus"]) for d in found["differences"]}
    assert ("head_adversarial", "task_specific_encoder") in pairs


def test_evidence_that_was_changed_is_refused(toy_run, tmp_path):
    shutil.copytree(toy_run.bundle, tmp_path / "bundle")
    path = tmp_path / "bundle" / "stages.csv"
    path.write_text(path.read_text().replace("-", "+", 1))
    with pytest.raises(BundleError, match=r"stages\.csv is not the file"):
        load_evidence(Bundle.load(tmp_path / "bundle"))


def test_the_device_does_without_evidence(toy_run, tmp_path):
    shutil.copytree(toy_run.bundle, tmp_path / "bundle")
    manifest = json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    for entry in manifest["evidence"].values():
        (tmp_path / "bundle" / entry["file"]).unlink()
    assert Bundle.load(tmp_path / "bundle").name == "toy"


def test_scans_of_other_data_are_not_joined(toy_run, evidence):
    assert joined(evidence, toy_run.scans.select(modality="ct")) is None


def test_the_operating_point_of_val_gives_both_labels_the_same_weight():
    # 90 scans at -1 and 10 at +1, noise free: the even point is 0 though COVID is rare.
    val = np.r_[np.full(90, -1.0), np.full(10, 1.0)] + np.linspace(-1.5, 1.5, 100)[::-1]
    called = called_by_val(np.arange(100) >= 90, val, np.array([-3.0, 3.0]))
    assert called.tolist() == [False, True]


def test_labels_of_a_stage_that_val_ranks_the_wrong_way_are_not_turned_round():
    covid = np.arange(40) % 2 == 0
    score = np.where(covid, -1.0, 1.0) + np.linspace(-0.5, 0.5, 40)
    assert (called_by_val(covid, score, score) == (score >= 0)).all()
