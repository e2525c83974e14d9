# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from covid_edge.preprocess import PreprocessSpec, preprocess
from covid_edge.scan import read_scan
from covid_edge_convert.data import (
    DataError,
    Scans,
    balanced_weights,
    halve,
    load_pixels,
    load_scans,
)
from drawn import write_folder_form, write_manifest_form


def table(**columns) -> Scans:
    """A table without files, for what needs none."""
    count = len(next(iter(columns.values())))
    names = ("file", "modality", "label", "source", "group", "split")
    return Scans(None, *(np.array(columns.get(name, [""] * count)) for name in names))


def test_manifest_form_is_read_row_by_row(tmp_path):
    scans = load_scans(write_manifest_form(tmp_path, per_cell=2))
    assert len(scans) == 6 * 4
    assert set(scans.modality) == {"xray", "ct", "other"}
    assert len(scans.select(modality="ct", split="train")) == 4


def test_folder_form_gets_a_validation_part_out_of_its_training_scans_only(tmp_path):
    scans = load_scans(write_folder_form(tmp_path))
    assert len(scans) == 2 * 2 * 2 * 8
    assert sum(scans.split == "val") == 4
    assert all("_Train/" in name for name in scans.file[scans.split == "val"])
    assert all("_Test/" in name for name in scans.file[scans.split == "test"])


def test_folder_form_is_split_the_same_way_for_the_same_seed(tmp_path):
    root = write_folder_form(tmp_path)
    assert (load_scans(root, 3).split == load_scans(root, 3).split).all()


def test_a_folder_of_neither_form_is_said_to_be_so(tmp_path):
    with pytest.raises(DataError, match="neither manifest.csv nor X_Ray_Train/"):
        load_scans(tmp_path)


def test_a_manifest_row_without_its_file_is_named_by_line(tmp_path):
    root = write_manifest_form(tmp_path, per_cell=2)
    (root / "xray" / "covid-train-0.png").unlink()
    with pytest.raises(DataError, match=r"line 2: xray/covid-train-0.png is not there"):
        load_scans(root)


def test_pixels_are_what_the_device_would_feed_its_network(tmp_path):
    scans = load_scans(write_manifest_form(tmp_path, per_cell=2)).select(modality="ct")
    spec = PreprocessSpec(open_ksize=(2, 2), size=(64, 64))
    pixels = load_pixels(scans, spec, tmp_path / "cache")
    for name, seen in zip(scans.file, pixels):
        np.testing.assert_array_equal(preprocess(read_scan(tmp_path / name).pixels, spec), seen)


def test_cached_pixels_are_not_computed_again(tmp_path, monkeypatch):
    scans = load_scans(write_manifest_form(tmp_path, per_cell=2)).select(modality="xray")
    spec = PreprocessSpec(size=(64, 64))
    first = load_pixels(scans, spec, tmp_path / "cache")
    monkeypatch.setattr("covid_edge_convert.data.preprocess", None)
    np.testing.assert_array_equal(load_pixels(scans, spec, tmp_path / "cache"), first)


def test_halving_takes_the_rounded_mean_of_each_block():
    block = np.array([[[1, 2], [3, 4]]], np.uint8)  # mean 2.5
    assert halve(block).tolist() == [[[3]]]


def test_weights_leave_no_label_to_be_guessed_from_a_source():
    scans = table(
        modality=["ct"] * 8,
        label=["covid"] * 5 + ["non-covid"] + ["covid", "non-covid"],
        source=["a"] * 6 + ["b"] * 2,
    )
    weights = balanced_weights(scans)
    assert weights[:5].sum() == pytest.approx(weights[5], rel=1e-5)
    assert weights[6] == weights[7]
    assert weights.mean() == pytest.approx(1.0)


def test_a_very_rare_label_is_weighed_up_only_so_far():
    scans = table(modality=["ct"] * 21, label=["covid"] * 20 + ["non-covid"], source=["a"] * 21)
    weights = balanced_weights(scans)
    assert weights[20] / weights[0] == pytest.approx(3.0 / (21 / 40))
