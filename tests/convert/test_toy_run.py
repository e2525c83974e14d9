# SPDX-License-Identifier: Apache-2.0
"""All stages on drawn scans, through quantisation, to a bundle that the device answers with."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from PIL import Image

from covid_edge import Predictor
from covid_edge.bundle import Bundle
from covid_edge.errors import UsageError
from covid_edge_convert import systems
from covid_edge_convert.bundle import write_bundle
from covid_edge_convert.data import DataError, load_pixels
from covid_edge_convert.drift import DriftError
from covid_edge_convert.quantize import representative_rows, run_model
from covid_edge_convert.recipes import RecipeError
from covid_edge_convert.runs import RunFolder
from covid_edge_convert.train import train
from drawn import drawn_scan


def tensor_types(path) -> set[int]:
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    return {tensor.type for graph in model.subgraphs for tensor in graph.tensors}


@pytest.mark.parametrize("modality", ["xray", "ct"])
def test_the_trained_networks_know_the_drawn_patches(toy_run, modality):
    assert toy_run.figures[modality]["test"]["auc"] > 0.9


@pytest.mark.parametrize("modality", ["xray", "ct"])
def test_the_fp32_file_gives_the_keras_models_logits(toy_run, modality):
    table = toy_run.scans.select(modality=modality, split="test")
    spec = toy_run.recipe.spec(modality)
    pixels = load_pixels(table, spec)
    model = systems.fused(modality, toy_run.recipe, toy_run.run)
    expected = [float(model(image[None, ..., None].astype(np.float32))[0, 0]) for image in pixels]
    logits = run_model(toy_run.run.models / f"{modality}.fp32.tflite", pixels)[:, 0]
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["xray", "ct", "router"])
def test_the_int8_files_hold_no_float_tensor(toy_run, name):
    floats = {schema.TensorType.FLOAT32, schema.TensorType.FLOAT16, schema.TensorType.FLOAT64}
    assert not tensor_types(toy_run.run.models / f"{name}.int8.tflite") & floats


@pytest.mark.parametrize("modality", ["xray", "ct"])
def test_int8_agrees_with_fp32_on_all_scans_but_one(toy_run, modality):
    entry = json.loads((toy_run.bundle / "bundle.json").read_text())["modalities"][modality]
    (model,) = entry["models"]
    assert model["target"] == "cpu-int8"
    assert model["drift"]["label_agreement"] >= 1 - 1 / model["drift"]["scans"]
    assert model["drift"]["logit_correlation"] > 0.99


def test_the_router_tells_the_drawn_modalities_apart(toy_run):
    for modality in ("xray", "ct"):
        test = toy_run.figures[modality]["test"]
        assert test["not_answered"] <= 0.1 * test["given"]
    assert toy_run.figures["other"]["test"]["refused_share"] >= 0.9


def test_the_router_file_is_tiny(toy_run):
    assert (toy_run.bundle / "router.int8.tflite").stat().st_size <= 300_000


def test_the_bundle_is_one_that_the_device_verifies_and_answers_with(toy_run):
    bundle = Bundle.load(toy_run.bundle)
    for file in bundle.files.values():
        file.verify()
    scan = toy_run.scans.select(modality="ct", split="test").file[0]
    assert Predictor(bundle).predict(toy_run.scans.root / scan).status == "ok"


def test_reference_logits_cover_the_test_split(toy_run):
    rows = list(csv.DictReader((toy_run.bundle / "reference.csv").read_text().splitlines()))
    expected = toy_run.scans.where(
        (toy_run.scans.split == "test") & (toy_run.scans.modality != "other")
    )
    assert {row["file"] for row in rows} == set(expected.file)


def test_the_model_card_says_what_bundle_json_says(toy_run):
    card = (toy_run.bundle / "MODEL_CARD.md").read_text()
    auc = toy_run.figures["xray"]["test"]["auc"]
    assert f"{auc:.4f}" in card
    assert "Of CT they also see the mirror image" in card
    assert "not a medical device" in card


def test_the_model_card_says_what_is_left_without_lungs(toy_run):
    entry = json.loads((toy_run.bundle / "bundle.json").read_text())["modalities"]["ct"]
    left = entry["shortcuts"]["auc"]["lungs blacked out"]["all"][0]
    assert left < entry["shortcuts"]["auc"]["as it is"]["all"][0]
    assert f"lungs blacked out {left:.3f}" in (toy_run.bundle / "MODEL_CARD.md").read_text()


def test_the_model_card_says_how_answers_are_made(toy_run):
    card = (toy_run.bundle / "MODEL_CARD.md").read_text()
    test = toy_run.figures["xray"]["test"]
    for name in ("ece", "ece_by_chance", "coverage", "uncertain"):
        assert f"{test[name]:.4f}" in card
    sensitive = test["operating_points"]["sensitive"]
    assert f"| sensitive | {sensitive['threshold']:.4f} |" in card
    assert "at least 90% of each class keep their true label" in card


def test_figures_are_at_the_balanced_threshold_and_leave_no_uncertain_scan_out(toy_run):
    test = toy_run.figures["ct"]["test"]
    # Eight scans of a class in val promise nothing at 10 %: the device calls all of it uncertain.
    assert (test["uncertain"], test["coverage"], test["wrong_when_certain"]) == (1, 1, None)
    assert test["scans"] == test["given"] - test["not_answered"]
    assert test["accuracy"] == test["operating_points"]["balanced"]["accuracy"]


def test_representative_scans_are_training_scans_of_every_cell(toy_run):
    table = toy_run.scans.select(modality="xray")
    chosen = table.where(representative_rows(table, 9))
    assert set(chosen.split) == {"train"}
    assert sorted(np.unique(chosen.label, return_counts=True)[1]) == [3, 3, 3]


def test_a_finished_run_does_nothing_more(toy_run):
    stamp = toy_run.run.head("ct").stat().st_mtime_ns
    train(toy_run.scans, toy_run.recipe, toy_run.run, verbose=0)
    assert toy_run.run.head("ct").stat().st_mtime_ns == stamp


def test_a_run_begun_with_another_recipe_is_refused(toy_run):
    with pytest.raises(RecipeError, match="begun with another recipe"):
        train(toy_run.scans, dataclasses.replace(toy_run.recipe, seed=9), toy_run.run)


def test_a_run_begun_with_other_scans_is_refused(toy_run):
    fewer = toy_run.scans.where(np.arange(len(toy_run.scans) - 1))
    with pytest.raises(DataError, match="not the scans that"):
        train(fewer, toy_run.recipe, toy_run.run)


def rewrite(toy_run, folder, **changes):
    bundling = {"name": "toy", "version": "2", "allow_drift": True, **changes}
    return write_bundle(toy_run.scans, toy_run.recipe, toy_run.run, folder, **bundling)


def test_a_bundle_replaces_the_one_that_was_there(toy_run, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(toy_run.bundle, folder)
    rewrite(toy_run, folder)
    assert Bundle.load(folder).version == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_larger_alpha_makes_the_device_decide(toy_run, tmp_path):
    figures = rewrite(toy_run, tmp_path / "bundle", alpha=0.3)
    assert Bundle.load(tmp_path / "bundle").modalities["ct"].models[0].conformal.alpha == 0.3
    assert figures["ct"]["test"]["uncertain"] < 1
    card = (tmp_path / "bundle" / "MODEL_CARD.md").read_text()
    assert "at least 70% of each class keep their true label" in card


def test_each_file_of_several_is_calibrated_and_measured_by_itself(toy_run, tmp_path):
    rewrite(toy_run, tmp_path / "bundle", targets=("cpu-int8", "fp32"))
    bundle = Bundle.load(tmp_path / "bundle")
    for name, modality in bundle.modalities.items():
        int8, fp32 = modality.models
        assert (int8.target, fp32.target) == ("cpu-int8", "fp32")
        assert int8.calibration.scale != fp32.calibration.scale
        assert (
            fp32.file.path.read_bytes() == (toy_run.run.models / f"{name}.fp32.tflite").read_bytes()
        )
        for entry in bundle.extra["modalities"][name]["models"]:
            scan = toy_run.scans.select(modality=name, split="test").file[0]
            answer = Predictor(bundle.only(entry["target"])).predict(toy_run.scans.root / scan)
            assert answer.network["file"] == entry["file"]
            assert entry["metrics"]["test"]["auc"] > 0.9
        assert f"`{name}.fp32.tflite` (fp32), calibrated by itself" in (
            tmp_path / "bundle" / "MODEL_CARD.md"
        ).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (("gpu-fp16",), "quantize --target gpu-fp16"),
        (("cpu-int8", "cpu-int8"), "targets must be different ones of fp32, cpu-int8, gpu-fp16"),
        (("edgetpu", "cpu-int8"), "edgetpu cannot be the first target"),
        (("npu",), "targets must be"),
        ((), "targets must be"),
    ],
)
def test_targets_that_cannot_be_shipped(toy_run, tmp_path, targets, words):
    with pytest.raises(UsageError, match=words):
        rewrite(toy_run, tmp_path / "bundle", targets=targets)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("alpha", [0, 1, float("nan")])
def test_alpha_must_be_a_share(toy_run, tmp_path, alpha):
    with pytest.raises(UsageError, match="more than 0 and less than 1"):
        rewrite(toy_run, tmp_path / "bundle", alpha=alpha)


def test_a_folder_of_something_else_is_not_overwritten(toy_run, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="something else than a bundle"):
        rewrite(toy_run, tmp_path)
    assert (tmp_path / "thesis.txt").is_file()


def test_int8_that_drifts_is_not_shipped_and_the_old_bundle_stays(toy_run, tmp_path, monkeypatch):
    folder = tmp_path / "bundle"
    shutil.copytree(toy_run.bundle, folder)
    monkeypatch.setattr("covid_edge_convert.drift.over_budget", lambda *_: True)
    with pytest.raises(DriftError, match="int8 is too far from fp32 on the test split"):
        rewrite(toy_run, folder, allow_drift=False)
    assert Bundle.load(folder).version == "1"
    rewrite(toy_run, folder)
    assert Bundle.load(folder).version == "2"


def test_examples_join_the_reference(toy_run, tmp_path):
    for modality in ("xray", "ct"):
        scan = drawn_scan(modality, True, np.random.default_rng(0))
        Image.fromarray(scan).save(tmp_path / f"{modality}.png")
    rewrite(toy_run, tmp_path / "bundle", examples=tmp_path)
    rows = csv.DictReader((tmp_path / "bundle" / "reference.csv").read_text().splitlines())
    assert {"examples/xray.png", "examples/ct.png"} <= {row["file"] for row in rows}


def test_the_ablation_shares_all_but_what_mixing_changes(toy_run):
    plain = RunFolder(toy_run.run.root, adversarial=False)
    train(toy_run.scans, toy_run.recipe, plain, verbose=0)
    assert plain.task_specific("ct") == toy_run.run.task_specific("ct")
    assert plain.head("ct").is_file()
    assert not plain.generator.is_file()
    distances = json.loads((plain.mixing / "wasserstein.json").read_text())
    assert distances["before"] > 0
    assert distances["after"] > 0
