# SPDX-License-Identifier: Apache-2.0
import csv
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from covid_edge.bundle import Bundle
from covid_edge_convert import bundle
from covid_edge_convert.bundle import add_folds
from covid_edge_convert.data import DataError, Scans
from covid_edge_convert.evidence import load_evidence
from covid_edge_convert.protocols import image_level, leave_one_source_out, run_protocol


def table(*cells: tuple[str, str, str, int]) -> Scans:
    """Scans of (modality, source, label, how many), an eighth of them val, one in eight test."""
    columns = [(m, s, y) for m, s, y, count in cells for _ in range(count)]
    modality, source, label = (np.array(c) for c in zip(*columns))
    number = np.arange(len(source))
    split = np.array(["val", "test", *["train"] * 6])[number % 8]
    split[source == "elsewhere"] = "probe"
    names = np.array([f"{k}.png" for k in number])
    return Scans(Path("."), names, modality, label, source, names, split)


@pytest.fixture
def scans():
    return table(
        ("ct", "clinic", "covid", 40),
        ("ct", "clinic", "non-covid", 40),
        ("ct", "papers", "covid", 24),
        ("ct", "papers", "non-covid", 32),
        ("ct", "scraps", "covid", 8),
        ("xray", "c1", "covid", 32),
        ("xray", "c2", "covid", 16),
        ("xray", "c3", "covid", 24),
        ("xray", "n1", "normal", 16),
        ("xray", "n2", "pneumonia", 48),
        ("xray", "elsewhere", "covid", 8),
        ("xray", "elsewhere", "normal", 8),
    )


def test_a_held_out_source_is_tested_and_never_learned_from(scans):
    for modality in ("xray", "ct"):
        own = scans.select(modality=modality)
        for fold in leave_one_source_out(scans, modality, seed=0):
            held_out = np.isin(own.source, fold.name.split("+"))
            assert (fold.split[held_out] == "test").all()
            others = ~held_out & (own.source != "elsewhere")
            assert set(fold.split[others]) == {"train", "val"}


def test_sources_with_both_labels_are_held_out_alone_and_the_others_in_pairs(scans):
    assert [f.name for f in leave_one_source_out(scans, "ct", 0)] == ["clinic", "papers"]
    pairs = [f.name for f in leave_one_source_out(scans, "xray", 0)]
    assert pairs == ["c1+n2", "c3+n1", "c2+n2"]


@pytest.mark.parametrize("protocol", [image_level, leave_one_source_out])
def test_the_probe_takes_no_part(scans, protocol):
    own = scans.select(modality="xray")
    for fold in protocol(scans, "xray", 0):
        assert (fold.split[own.source == "elsewhere"] == "probe").all()
        assert "probe" not in fold.split[own.source != "elsewhere"]


def test_the_papers_protocol_draws_a_fifth_of_each_label_for_test(scans):
    (fold,) = image_level(scans, "ct", seed=3)
    covid = scans.select(modality="ct").covid == 1
    for label in (covid, ~covid):
        assert (fold.split[label] == "test").mean() == pytest.approx(0.2, abs=0.01)
        assert (fold.split[label] == "val").mean() == pytest.approx(0.1, abs=0.01)


def test_the_papers_protocol_is_drawn_by_its_seed(scans):
    (first,), (same,), (other,) = (image_level(scans, "ct", seed) for seed in (1, 1, 2))
    assert (first.split == same.split).all()
    assert (first.split != other.split).any()


def test_a_fold_is_trained_and_answers_its_val_and_test(toy_run):
    run = (toy_run.scans, toy_run.recipe, toy_run.run, "image-level", ("ct",), "32x2")
    (done,) = run_protocol(*run, verbose=0)
    (fold,) = csv.DictReader(done.read_text().splitlines())
    answers = list(csv.DictReader((done.parent / "logits.csv").read_text().splitlines()))
    assert fold["trained"] == "Tiny alone, 32x2"
    assert len(answers) == int(fold["val"]) + int(fold["test"])
    assert all(np.isfinite(float(row["logit"])) for row in answers)

    stamp = done.stat().st_mtime_ns
    assert run_protocol(*run, verbose=0) == [done]
    assert done.stat().st_mtime_ns == stamp


def test_folds_join_the_evidence_of_a_bundle(toy_run, tmp_path):
    run_protocol(
        toy_run.scans, toy_run.recipe, toy_run.run, "image-level", ("ct",), "32x2", verbose=0
    )
    shutil.copytree(toy_run.bundle, tmp_path / "bundle")
    add_folds(tmp_path / "bundle", toy_run.run)
    evidence = load_evidence(Bundle.load(tmp_path / "bundle"))
    assert ("image-level", "ct") in {(f["protocol"], f["modality"]) for f in evidence.folds}
    assert np.isfinite(evidence.protocols["logit"]).all()


def test_of_a_link_the_bundle_that_it_leads_to_is_given_them(toy_run, tmp_path):
    shutil.copytree(toy_run.bundle, tmp_path / "bundle")
    (tmp_path / "link").symlink_to(tmp_path / "bundle")
    add_folds(tmp_path / "link", toy_run.run)
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "link"]


def test_a_bundle_that_cannot_be_given_folds_stays_as_it_was(toy_run, tmp_path, monkeypatch):
    def written_in_part(run, folder):
        (folder / "folds.csv").write_text("half a li")
        raise OSError("no room")

    monkeypatch.setattr(bundle, "write_folds", written_in_part)
    folder = tmp_path / "bundle"
    shutil.copytree(toy_run.bundle, folder)
    before = Bundle.load(folder).sha256
    with pytest.raises(OSError, match="no room"):
        add_folds(folder, toy_run.run)
    assert Bundle.load(folder).sha256 == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_the_whole_system_is_trained_on_the_papers_split(toy_run):
    brief = dataclasses.replace(toy_run.recipe, module_epochs=1, game_epochs=1, router_epochs=1)
    options = {"schedule": "32x1", "whole": True, "verbose": 0}
    (done,) = run_protocol(toy_run.scans, brief, toy_run.run, "image-level", **options)
    folds = list(csv.DictReader(done.read_text().splitlines()))
    assert [(f["modality"], f["fold"]) for f in folds] == [
        ("xray", "random, whole"),
        ("ct", "random, whole"),
    ]
    answers = csv.DictReader((done.parent / "logits.csv").read_text().splitlines())
    assert {row["split"] for row in answers} == {"val", "test"}


def test_a_single_source_cannot_be_left_out(toy_run):
    with pytest.raises(DataError, match="no fold of leave-one-source-out"):
        run_protocol(toy_run.scans, toy_run.recipe, toy_run.run, "leave-one-source-out")
