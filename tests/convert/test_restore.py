# SPDX-License-Identifier: Apache-2.0
"""A run folder made of a bundle, against the run that the bundle was made of."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from covid_edge.bundle import Bundle
from covid_edge.errors import BundleError
from covid_edge_convert.bundle import write_bundle
from covid_edge_convert.cli import cli
from covid_edge_convert.data import MODALITIES
from covid_edge_convert.evidence import stage_logits
from covid_edge_convert.recipes import RecipeError
from covid_edge_convert.restore import dense_layers, recipe_of, restore
from covid_edge_convert.runs import RunFolder
from covid_edge_convert.targets import export
from covid_edge_convert.train import train


@pytest.fixture(scope="module")
def restored(toy_run, tmp_path_factory) -> RunFolder:
    run = RunFolder(tmp_path_factory.mktemp("restored"))
    restore(Bundle.load(toy_run.bundle), toy_run.scans, run, verbose=0)
    return run


def dense(path) -> list:
    """(kernel, bias) of every dense layer of a file."""
    return [pair for name, pairs in dense_layers(path).items() if name != "norm" for pair in pairs]


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_restored_network_answers_as_the_one_that_was_bundled(toy_run, restored, modality):
    table = toy_run.scans.select(modality=modality)
    rows = np.arange(len(table))
    (logits, features), (again, features_again) = (
        stage_logits(table, rows, modality, toy_run.recipe, run) for run in (toy_run.run, restored)
    )
    answers = logits["head_adversarial"], again["head_adversarial"]
    assert np.corrcoef(*answers)[0, 1] > 0.98
    # Logits that no device computes are fitted anew; what they are made of is as it was.
    for name, values in features.items():
        assert np.corrcoef(values.ravel(), features_again[name].ravel())[0, 1] > 0.98, name


def test_files_made_of_a_restored_run_are_nearly_those_that_it_was_made_of(toy_run, restored):
    made = export(toy_run.scans, toy_run.recipe, restored, ("cpu-int8",), 32, {"drift"})
    assert set(made["cpu-int8"]) == set(MODALITIES)
    name = "router.int8.tflite"
    assert (restored.models / name).read_bytes() == (toy_run.bundle / name).read_bytes()
    # Rounding what has been rounded changes nothing.
    for modality in MODALITIES:
        kernels = [
            [kernel for kernel, _ in dense(folder / f"{modality}.int8.tflite")]
            for folder in (toy_run.bundle, restored.models)
        ]
        for before, after in zip(*kernels):
            np.testing.assert_allclose(after, before, rtol=1e-6)


def test_a_restored_run_can_be_bundled(toy_run, restored, tmp_path):
    export(toy_run.scans, toy_run.recipe, restored, ("cpu-int8",), 32, {"drift"})
    folder = tmp_path / "bundle"
    bundling = {"name": "toy", "version": "2", "allow_drift": True}
    write_bundle(toy_run.scans, toy_run.recipe, restored, folder, **bundling)
    mixing = [Bundle.load(f).extra["training"]["mixing"] for f in (toy_run.bundle, folder)]
    assert mixing[1]["before"] == pytest.approx(mixing[0]["before"], rel=0.1)
    assert mixing[1]["after"] == pytest.approx(mixing[0]["after"], rel=0.2)


def test_a_restored_run_goes_on_to_the_ablation(toy_run, restored):
    run = RunFolder(restored.root, adversarial=False)
    train(toy_run.scans, toy_run.recipe, run, verbose=0)
    assert run.shared.is_file()
    assert run.head("ct").is_file()
    assert not run.router.is_file()  # the bundle's file serves


def test_restoring_again_changes_nothing(toy_run, restored):
    stamp = restored.shared.stat().st_mtime_ns
    restore(Bundle.load(toy_run.bundle), toy_run.scans, restored, verbose=0)
    assert restored.shared.stat().st_mtime_ns == stamp


def test_a_bundle_without_a_recipe_is_refused_in_one_sentence(toy_run, tmp_path):
    folder = shutil.copytree(toy_run.bundle, tmp_path / "bundle")
    described = json.loads((folder / "bundle.json").read_text())
    del described["training"]
    (folder / "bundle.json").write_text(json.dumps(described))
    with pytest.raises(RecipeError, match=r"bundle tells no recipe of MMTL; give a bundle that"):
        recipe_of(Bundle.load(folder))


def test_a_bundle_of_students_is_refused(toy_run):
    bundle = Bundle.load(toy_run.bundle)
    recipe = {**bundle.extra["training"]["recipe"], "teacher": "mmtl"}
    bundle = bundle._replace(extra={"training": {"recipe": recipe}})
    with pytest.raises(RecipeError, match="none of students"):
        recipe_of(bundle)


def test_an_unknown_bundle_is_refused_before_a_folder_is_made(toy_run, tmp_path):
    where = ["--data", str(toy_run.scans.root), "--run", str(tmp_path / "run")]
    result = CliRunner().invoke(cli, ["restore", "nobody", *where])
    assert isinstance(result.exception, BundleError)
    assert not (tmp_path / "run").exists()
