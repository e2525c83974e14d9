# SPDX-License-Identifier: Apache-2.0
"""Students of the toy run's bundle: taught, exported, bundled, and as their teacher says."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from covid_edge import Predictor
from covid_edge.bundle import Bundle
from covid_edge.errors import BundleError
from covid_edge.interpreter import Interpreter
from covid_edge_convert import edgetpu, systems
from covid_edge_convert.backbones import build_encoder
from covid_edge_convert.bundle import write_bundle
from covid_edge_convert.checkpoints import Checkpoints
from covid_edge_convert.cli import cli
from covid_edge_convert.data import MODALITIES, load_pixels
from covid_edge_convert.distill import TAUGHT, TaughtScans, Teacher, distill
from covid_edge_convert.pretrain import TASKS, Schedule
from covid_edge_convert.protocols import run_protocol
from covid_edge_convert.quantize import run_model
from covid_edge_convert.recipes import Recipe, RecipeError
from covid_edge_convert.runs import RunFolder
from covid_edge_convert.targets import export
from covid_edge_convert.train import train

TINY = Recipe(
    encoders=dict.fromkeys(MODALITIES, ("Tiny",)),
    schedule={"Tiny": "64x12"},
    teacher="to be named",
    input_size=64,
    learning_rate=1e-2,
    batch_size=16,
)


@pytest.fixture(scope="module")
def students(toy_run, tmp_path_factory):
    """Two Tiny students: trained, exported for every target, bundled."""
    root = tmp_path_factory.mktemp("students")
    recipe = dataclasses.replace(TINY, teacher=str(toy_run.bundle))
    run = RunFolder(root / "run", adversarial=None)
    train(toy_run.scans, recipe, run, verbose=0)
    wanted = ("cpu-int8", "gpu-fp16", "edgetpu")
    reports = export(toy_run.scans, recipe, run, wanted, 32, {"drift"})
    figures = write_bundle(
        toy_run.scans, recipe, run, root / "bundle", "lite", "1", allow_drift=True
    )
    return SimpleNamespace(
        recipe=recipe, run=run, reports=reports, bundle=root / "bundle", figures=figures
    )


def shown(toy_run, modality, **selected):
    """Table and pixels of scans as the toy networks look at them."""
    table = toy_run.scans.select(modality=modality, **selected)
    return table, load_pixels(table, toy_run.recipe.spec(modality))


def test_what_is_taught_is_the_teachers_probability_mixed_with_the_label():
    asked = np.zeros((2, 2 * len(TASKS)), np.float32)
    asked[:, 0], asked[:, len(TASKS)] = (1, 0), (2, 0.5)  # labels, weights
    batches = [(np.full((2, 8, 8, 1), 100, np.float32), asked)]

    def teacher(views):
        assert views.shape == (2, 8, 8, 1)
        return np.array([0.9, 0.4], np.float32)

    views, taught, weight = TaughtScans(batches, teacher, task=0, size=4)[0]
    assert views.shape == (2, 4, 4, 1)
    expected = [TAUGHT * 0.9 + (1 - TAUGHT) * 1, TAUGHT * 0.4]
    np.testing.assert_allclose(taught[:, 0], expected, rtol=1e-6)
    assert weight.tolist() == [2, 0.5]


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_teacher_says_what_the_device_says(toy_run, modality):
    bundle = Bundle.load(toy_run.bundle)
    table, pixels = shown(toy_run, modality, split="test")
    views = pixels[:4, ..., None].astype(np.float32)
    predictor = Predictor(bundle, modality=modality, force=True)
    answers = [predictor.predict(table.root / name).probability for name in table.file[:4]]
    np.testing.assert_allclose(Teacher(bundle, modality)(views), answers, rtol=1e-5)


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_student_labels_scans_as_its_teacher_does(toy_run, students, modality):
    _, pixels = shown(toy_run, modality, split="test")
    views = pixels[..., None].astype(np.float32)
    folders = toy_run.bundle, students.bundle
    teacher, student = (Teacher(Bundle.load(folder), modality)(views) for folder in folders)
    assert np.mean((teacher > 0.5) == (student > 0.5)) >= 0.9


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_fp32_file_gives_the_students_logits(toy_run, students, modality):
    _, pixels = shown(toy_run, modality, split="test")
    student = systems.fused(modality, students.recipe, students.run)
    expected = [float(student(image[None, ..., None].astype("f4"))[0, 0]) for image in pixels]
    logits = run_model(students.run.models / f"{modality}.fp32.tflite", pixels)[:, 0]
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("modality", MODALITIES)
def test_on_the_edge_tpu_a_student_is_one_file_that_maps_whole_and_fits(students, modality):
    path = students.run.models / f"{modality}.edgetpu.tflite"
    check = edgetpu.check(path)
    assert (check.on_cpu, check.streamed) == ((), 0)
    assert students.reports["edgetpu"][modality]["chip"]["on_cpu"] == []
    network = Interpreter(path)._network
    details = network.get_input_details() + network.get_output_details()
    assert [tensor["dtype"] for tensor in details] == [np.uint8, np.uint8]


def test_every_target_of_a_student_answers_as_full_precision_does(students):
    for report in students.reports.values():
        for part in report.values():
            assert part["drift"]["logit_correlation"] > 0.99


def test_the_router_is_the_teachers_own_file(toy_run, students):
    files = [folder / "router.int8.tflite" for folder in (toy_run.bundle, students.bundle)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_bundle_names_the_encoder_and_the_teacher(toy_run, students):
    bundle, teacher = Bundle.load(students.bundle), Bundle.load(toy_run.bundle)
    assert bundle.system == "single"
    assert bundle.extra["modalities"]["ct"]["encoders"] == {"student": "Tiny"}
    assert bundle.extra["evidence"] == {}
    training = bundle.extra["training"]
    assert training["teacher"] == {
        "name": "toy",
        "version": "1",
        "sha256": teacher.sha256,
        "share": TAUGHT,
    }
    assert not {"mixing", "adversarial"} & set(training)
    card = (students.bundle / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"bundle toy 1 (SHA-256 of its bundle.json `{teacher.sha256[:16]}…`)" in card
    assert "Mixing of the modalities" not in card
    assert f"{students.figures['xray']['test']['auc']:.4f}" in card


def test_the_device_answers_with_a_bundle_of_students(toy_run, students):
    scan = toy_run.scans.select(modality="ct", split="test").file[0]
    answer = Predictor(students.bundle).predict(toy_run.scans.root / scan)
    assert (answer.status, answer.modality) == ("ok", "ct")


@pytest.mark.parametrize("report", [(), ("--out",)])
def test_evaluate_measures_students(toy_run, students, tmp_path, report):
    arguments = ["--data", str(toy_run.scans.root), "--bundle", str(students.bundle)]
    report = [*report, str(tmp_path), "--quick", "1"] if report else []
    result = CliRunner().invoke(cli, ["evaluate", *arguments, *report])
    assert result.exit_code == 0, result.output
    if report:
        assert "This bundle has no evidence" in (tmp_path / "results.md").read_text("utf-8")
    else:
        assert "ct       test" in result.output


def test_a_stopped_student_ends_where_an_unbroken_one_does(toy_run, tmp_path, monkeypatch):
    table, pixels = shown(toy_run, "ct")
    teacher = Teacher(Bundle.load(toy_run.bundle), "ct")
    schedule = Schedule((16, 24), 1e-3, batch_size=16)

    def run(folder):
        what = "Tiny", "ct", teacher, pixels, pixels, table
        return distill(*what, schedule, folder, seed=3, verbose=0)

    class PulledPlug(Exception):
        pass

    save = Checkpoints.save

    def save_then_stop(self, epochs):
        save(self, epochs)
        raise PulledPlug

    monkeypatch.setattr(Checkpoints, "save", save_then_stop)
    with pytest.raises(PulledPlug):
        run(tmp_path / "stopped")
    monkeypatch.undo()
    weights = []
    for name in ("stopped", "unbroken"):
        student = systems.student_of(build_encoder("Tiny"))
        student.load_weights(run(tmp_path / name))
        weights.append(student.get_weights())
    log = (tmp_path / "stopped" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in log] == [0, 1]
    for stopped, unbroken in zip(*weights):
        np.testing.assert_allclose(stopped, unbroken, rtol=1e-4, atol=1e-5)


def test_a_finished_run_of_students_does_nothing_more(toy_run, students):
    stamp = (students.run.student("ct") / "student.weights.h5").stat().st_mtime_ns
    train(toy_run.scans, students.recipe, students.run, verbose=0)
    assert (students.run.student("ct") / "student.weights.h5").stat().st_mtime_ns == stamp


def test_students_that_were_trained_before_their_recipe_was_noted_are_adopted(
    toy_run, students, tmp_path
):
    run = RunFolder(tmp_path / "run", adversarial=None)
    shutil.copytree(students.run.root / "students", tmp_path / "run" / "students")
    train(toy_run.scans, students.recipe, run, verbose=0)
    assert Recipe.load(run.recipe) == students.recipe
    assert run.teacher.read_text() == students.run.teacher.read_text()


def test_another_teacher_of_the_same_name_is_noticed(toy_run, students, tmp_path):
    run = RunFolder(tmp_path / "run", adversarial=None)
    shutil.copytree(students.run.root, run.root)
    run.teacher.write_text(run.teacher.read_text().replace('"version": "1"', '"version": "0"'))
    with pytest.raises(RecipeError, match="were taught by another bundle than"):
        train(toy_run.scans, students.recipe, run, verbose=0)


def test_a_teacher_that_looks_at_other_sizes_is_refused_before_anything_is_written(
    toy_run, students, tmp_path
):
    recipe = dataclasses.replace(students.recipe, input_size=96)
    with pytest.raises(RecipeError, match=r"does not look at xray as this recipe does"):
        train(toy_run.scans, recipe, RunFolder(tmp_path / "run", None), verbose=0)
    assert not (tmp_path / "run").exists()


def test_a_student_may_look_at_smaller_scans_than_its_teacher(toy_run, tmp_path):
    smaller = {"input_size": 32, "input_sizes": {"xray": 24}, "schedule": {"Tiny": "32x2"}}
    recipe = dataclasses.replace(TINY, teacher=str(toy_run.bundle), **smaller)
    run = RunFolder(tmp_path / "run", adversarial=None)
    train(toy_run.scans, recipe, run, verbose=0)
    assert systems.fused("ct", recipe, run).input_shape == (1, 32, 32, 1)
    assert systems.fused("xray", recipe, run).input_shape == (1, 24, 24, 1)


def test_only_an_efficientnet_lite_begins_with_its_teachers_efficientnet(toy_run, tmp_path):
    table, pixels = shown(toy_run, "ct")
    teacher = Teacher(Bundle.load(toy_run.bundle), "ct")
    what = "Tiny", "ct", teacher, pixels, pixels, table
    with pytest.raises(RecipeError, match=r"Tiny cannot begin with .*ct.int8.tflite, whose enc"):
        distill(*what, Schedule((64,)), tmp_path, 1, "teacher")


def test_a_student_can_begin_with_one_of_another_run(toy_run, students, tmp_path):
    table, pixels = shown(toy_run, "ct")
    teacher = Teacher(Bundle.load(toy_run.bundle), "ct")
    start = str(students.run.student("{modality}") / "student.weights.h5")
    hardly = Schedule((64,), learning_rate=1e-9, batch_size=16)
    run = RunFolder(tmp_path, adversarial=None)
    what = "Tiny", "ct", teacher, pixels, pixels, table
    distill(*what, hardly, run.student("ct"), 1, start, verbose=0)
    before, after = (
        systems.load_student("ct", students.recipe, one).get_weights()[-2:]  # of its last layer
        for one in (students.run, run)
    )
    for mine, theirs in zip(before, after):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_an_unknown_teacher_is_told_in_one_sentence(toy_run, tmp_path):
    where = ["--data", str(toy_run.scans.root), "--run", str(tmp_path / "run")]
    result = CliRunner().invoke(cli, ["train", *where, "--preset", "lite", "--teacher", "nobody"])
    assert isinstance(result.exception, BundleError)
    assert "nobody is no folder here and no bundle that ships" in str(result.exception)


def test_a_teacher_is_for_students_alone(toy_run, tmp_path):
    where = ["--data", str(toy_run.scans.root), "--run", str(tmp_path / "run")]
    result = CliRunner().invoke(cli, ["train", *where, "--teacher", str(toy_run.bundle)])
    assert result.exit_code == 2
    assert "--teacher is for --preset lite" in result.output


def test_protocols_are_not_for_students(toy_run, students):
    with pytest.raises(RecipeError, match="protocols are for a run of MMTL"):
        run_protocol(toy_run.scans, students.recipe, students.run, "image-level")
