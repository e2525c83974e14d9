# SPDX-License-Identifier: Apache-2.0
"""Every target of the toy run: what is written, how it answers, and when nothing is written."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from covid_edge import Predictor, delegates
from covid_edge.bundle import Bundle
from covid_edge.errors import UsageError
from covid_edge_convert import edgetpu, targets
from covid_edge_convert.bundle import write_bundle
from covid_edge_convert.data import MODALITIES, load_pixels
from covid_edge_convert.drift import BUDGET, DriftError
from covid_edge_convert.parts import run_parts
from covid_edge_convert.quantize import run_model
from covid_edge_convert.runs import RunFolder

PARTS = ("task_specific", "shared", "head")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Where the further targets go: the toy run's own folder keeps what a bundle is made of."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def run(toy_run, models):
    run = RunFolder(toy_run.run.root)
    run.models = models
    return run


@pytest.fixture(scope="module")
def exported(toy_run, run):
    """Both further targets, whatever they drift: eight test scans a class are few."""
    return targets.export(
        toy_run.scans, toy_run.recipe, run, ("gpu-fp16", "edgetpu"), 32, {"drift"}
    )


def files(models, modality):
    return {part: models / f"{modality}.edgetpu-{part}.tflite" for part in PARTS}


def test_the_default_is_what_a_bundle_is_made_of(toy_run):
    names = {path.name for path in toy_run.run.models.iterdir()}
    assert {f"{m}.{kind}.tflite" for m in MODALITIES for kind in ("fp32", "int8")} <= names
    assert {"router.int8.tflite", "cpu-int8.json"} <= names


def test_every_target_answers_as_full_precision_does(toy_run, models, exported):
    for modality in MODALITIES:
        table = toy_run.scans.select(modality=modality, split="test")
        pixels = load_pixels(table, toy_run.recipe.spec(modality))
        full = run_model(models / f"{modality}.fp32.tflite", pixels)[:, 0]
        half = run_model(models / f"{modality}.fp16.tflite", pixels)[:, 0]
        chip = run_parts(files(models, modality), pixels)[:, 0]
        np.testing.assert_allclose(half, full, atol=0.02 * np.ptp(full))
        assert np.corrcoef(chip, full)[0, 1] > 0.99


def test_float16_files_have_half_the_weights(models, exported):
    sizes = [(models / f"ct.{kind}.tflite").stat().st_size for kind in ("fp32", "fp16")]
    assert 0.45 < sizes[1] / sizes[0] < 0.55


def test_edge_tpu_files_map_whole_and_hold_integers_alone(models, exported):
    for modality in MODALITIES:
        for path in files(models, modality).values():
            assert edgetpu.check(path).on_cpu == ()
            model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
            types = {tensor.type for tensor in model.subgraphs[0].tensors}
            kinds = schema.TensorType
            assert types <= {kinds.INT8, kinds.UINT8, kinds.INT32}
        assert exported["edgetpu"][modality]["chip"]["on_cpu"] == []


def test_the_head_reads_the_encoders_bytes_as_they_are(models, exported):
    def details(part, which):
        runner = Interpreter(str(files(models, "xray")[part])).get_signature_runner()
        return getattr(runner, f"get_{which}_details")()

    head = details("head", "input")
    for role in ("task_specific", "shared"):
        (given,) = details(role, "output").values()
        taken = head[f"{role}_features"]
        assert (given["dtype"], taken["dtype"]) == (np.uint8, np.uint8)
        assert given["quantization"] == pytest.approx(taken["quantization"], rel=1e-6)


@pytest.fixture
def bundled(toy_run, run, models, exported, tmp_path):
    """Bundle with files for the chip, by a compiler that leaves them as they are."""
    shutil.copy(toy_run.run.models / "router.int8.tflite", models)
    for modality in MODALITIES:
        for path in files(models, modality).values():
            shutil.copy(path, path.with_name(f"{path.stem}_edgetpu.tflite"))
    write_bundle(
        toy_run.scans,
        toy_run.recipe,
        run,
        tmp_path / "bundle",
        "toy",
        "1",
        allow_drift=True,
        targets=("fp32", "edgetpu"),
    )
    return Bundle.load(tmp_path / "bundle")


def test_a_bundle_ships_what_the_chips_compiler_made(bundled):
    chip = bundled.modalities["ct"].model("edgetpu")
    assert chip.file.path.name == "ct.edgetpu-head_edgetpu.tflite"
    assert sorted(encoder.path.name for encoder in chip.encoders) == [
        "ct.edgetpu-shared_edgetpu.tflite",
        "ct.edgetpu-task_specific_edgetpu.tflite",
    ]
    card = (bundled.path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "`ct.edgetpu-head_edgetpu.tflite` (edgetpu), calibrated by itself, before it was" in card


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_device_answers_by_the_three_files(toy_run, models, bundled, monkeypatch, modality):
    # No chip is here: the CPU takes the files in its stead.
    monkeypatch.setitem(delegates._TARGETS, ("cpu", None), ("edgetpu",))
    device = Predictor(bundled, modality=modality, force=True)
    table = toy_run.scans.select(modality=modality, split="test")
    pixels = load_pixels(table, toy_run.recipe.spec(modality))
    calibration = device.models[modality].calibration
    logits = run_parts(files(models, modality), pixels)
    if modality == "ct":  # of which the toy's recipe wants the mirror image seen, too
        logits = (logits + run_parts(files(models, modality), pixels[:, :, ::-1].copy())) / 2
    for name, logit in zip(table.file, logits[:, 0]):
        answer = device.predict(toy_run.scans.root / name)
        assert answer.network["file"] == f"{modality}.edgetpu-head_edgetpu.tflite"
        odds = np.log(answer.probability / (1 - answer.probability))
        assert odds == pytest.approx(calibration.scale * logit + calibration.bias, abs=1e-3)


def test_files_for_the_chip_are_not_shipped_uncompiled(toy_run, run, exported, models, tmp_path):
    for path in models.glob("*_edgetpu.tflite"):
        path.unlink()
    with pytest.raises(
        UsageError, match=r"_edgetpu\.tflite is not there: .*edgetpu_compiler is on"
    ):
        write_bundle(
            toy_run.scans,
            toy_run.recipe,
            run,
            tmp_path / "b",
            "b",
            "1",
            targets=("fp32", "edgetpu"),
        )
    assert not list(tmp_path.iterdir())


def test_the_report_names_drift_and_the_worst_layers(models, exported):
    report = json.loads((models / "edgetpu.json").read_text())
    assert report == json.loads(json.dumps(exported["edgetpu"]))
    part = report["xray"]
    assert part["drift"]["scans"] == 24
    ratios = [row["snr_db"] for row in part["worst"]]
    assert ratios == sorted(ratios)
    assert part["lost"][0]["lost_db"] >= part["lost"][-1]["lost_db"]
    assert part["files"]["xray.edgetpu-head.tflite"] > 8_000_000
    assert part["chip"]["streamed"] == part["chip"]["weights"] - edgetpu.ON_CHIP


def test_a_target_over_budget_is_not_exported(toy_run, run, models, exported):
    report = models / "gpu-fp16.json"
    before = report.read_bytes(), (models / "ct.fp16.tflite").stat().st_mtime_ns
    with pytest.raises(DriftError, match="gpu-fp16 is too far from fp32 on the test split"):
        targets.export(
            toy_run.scans,
            toy_run.recipe,
            run,
            ("gpu-fp16",),
            32,
            budget=replace(BUDGET, probability=-1.0),
        )
    after = report.read_bytes(), (models / "ct.fp16.tflite").stat().st_mtime_ns
    assert before == after
    assert (models / "gpu-fp16.refused" / "ct.fp16.tflite").is_file()
