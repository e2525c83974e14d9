# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys

import keras
import pytest
from click.testing import CliRunner

from covid_edge.bundle import Bundle
from covid_edge_convert.cli import cli
from covid_edge_convert.quantize import QuantizeError
from drawn import write_folder_form, write_manifest_form


def convert(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "covid_edge_convert.cli", *arguments]
    environment = {**os.environ, **variables}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_help_names_every_step_of_the_road():
    text = CliRunner().invoke(cli, ["--help"]).output
    assert all(
        step in text
        for step in (
            "train",
            "protocols",
            "quantize",
            "edgetpu-check",
            "bundle",
            "explain",
            "evaluate",
        )
    )


def test_a_folder_that_is_no_data_set_ends_in_one_sentence(tmp_path):
    done = convert("train", "--data", str(tmp_path), "--run", str(tmp_path / "run"))
    assert done.returncode == 3
    assert "neither manifest.csv nor X_Ray_Train/" in done.stderr
    assert "Traceback" not in done.stderr


def test_quantizing_before_training_says_so(tmp_path):
    data = write_manifest_form(tmp_path / "data", per_cell=2)
    done = convert("quantize", "--data", str(data), "--run", str(tmp_path / "run"))
    assert done.returncode == 2
    assert "train first" in done.stderr
    assert "Traceback" not in done.stderr


def test_quantizing_on_another_backend_than_tensorflow_says_so(toy_run, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    where = ["--data", str(toy_run.scans.root), "--run", str(toy_run.run.root)]
    result = CliRunner().invoke(cli, ["quantize", *where])
    assert isinstance(result.exception, QuantizeError)
    assert "KERAS_BACKEND=tensorflow" in str(result.exception)


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_the_papers_folder_form_goes_the_whole_road(tmp_path, backend):
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    where = ["--data", str(write_folder_form(tmp_path / "data")), "--run", str(tmp_path / "run")]
    done = convert("train", *where, "--preset", "toy", "--quiet", KERAS_BACKEND=backend)
    assert done.returncode == 0, done.stderr
    assert "it/s" not in done.stderr
    for step in (["quantize", "--representative", "8"], ["bundle", "--out", str(tmp_path / "b")]):
        done = convert(step[0], *where, *step[1:], "--allow-drift")
        assert done.returncode == 0, done.stderr
    assert Bundle.load(tmp_path / "b").extra["training"]["recipe"]["seed"] == 1


def test_evaluate_prints_figures(toy_run):
    arguments = ["--data", str(toy_run.scans.root), "--bundle", str(toy_run.bundle)]
    result = CliRunner().invoke(cli, ["evaluate", *arguments])
    assert result.exit_code == 0, result.output
    assert "xray     test" in result.output
