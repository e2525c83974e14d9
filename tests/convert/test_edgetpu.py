# SPDX-License-Identifier: Apache-2.0
"""The static check on small files, and the compiler's log as a stand-in for it prints it."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

from covid_edge_convert import edgetpu
from covid_edge_convert.cli import cli
from covid_edge_convert.edgetpu import EdgeTPUError, check, compile_files, read_log, refuse
from covid_edge_convert.parts import for_chip
from covid_edge_convert.quantize import as_input, write_fp32, write_int8
from networks import SIDE, drawn_pixels, leaky, write_leaky

# As edgetpu_compiler 16.0 prints for two files, the second split in two.
LOG = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 1432 ms.

Input model: work/a.tflite
Input size: 4.41MiB
Output model: out/a_edgetpu.tflite
Output size: 5.49MiB
On-chip memory used for caching model parameters: 1.92MiB
On-chip memory remaining for caching model parameters: 1.75KiB
Off-chip memory used for streaming uncached model parameters: 3.23MiB
Number of Edge TPU subgraphs: 1
Total number of operations: 11
Operation log: out/a_edgetpu.log

Operator                       Count      Status

RESHAPE                        1          Mapped to Edge TPU
CONV_2D                        10         Mapped to Edge TPU

Model compiled successfully in 301 ms.

Input model: work/b.tflite
Input size: 44.00KiB
Output model: out/b_edgetpu.tflite
Output size: 92.00KiB
On-chip memory used for caching model parameters: 41.00KiB
On-chip memory remaining for caching model parameters: 7.69MiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 2
Total number of operations: 4
Operation log: out/b_edgetpu.log

Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of \
the model will instead run on the CPU, which is slower.
Number of operations that will run on Edge TPU: 2
Number of operations that will run on CPU: 2

Operator                       Count      Status

CONV_2D                        2          Mapped to Edge TPU
LEAKY_RELU                     1          Operation not supported
CONV_2D                        1          More than one subgraph is not supported

Compilation child process completed within timeout period.
Compilation succeeded!
"""
FIRST = LOG[: LOG.index("Model compiled successfully in 301")]


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    path = tmp_path_factory.mktemp("mapped") / "mapped.tflite"
    write_leaky(path)
    return path


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """Put an edgetpu_compiler on the PATH that notes its arguments, prints a log and ends."""

    def put(log: str = FIRST, code: int = 0):
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "log").write_text(log)
        script = folder / "edgetpu_compiler"
        script.write_text(
            f'#!/bin/sh\necho "$@" > {folder}/arguments\ncat {folder}/log\nexit {code}\n'
        )
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return folder / "arguments"

    return put


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setattr(edgetpu.shutil, "which", lambda name: None)


def reasons(path) -> list[str]:
    return [operation.why_not for operation in check(path).operations if operation.why_not]


def test_a_network_exported_for_the_chip_maps_whole(mapped):
    assert check(mapped).on_cpu == ()
    kinds = {operation.kind for operation in check(mapped).operations}
    assert "PRELU" in kinds
    assert "LEAKY_RELU" not in kinds


def test_leaky_relu_does_not_map_nor_anything_after_it(tmp_path):
    write_leaky(tmp_path / "cpu.tflite", chip=False)
    found = check(tmp_path / "cpu.tflite")
    first, *after = found.on_cpu
    assert "scale for each row" in first.why_not  # its dense layers are per row, too
    assert "LEAKY_RELU" in {operation.kind for operation in after}
    assert found.operations[-1] in after
    assert "not in the documented list" in reasons(tmp_path / "cpu.tflite")


def test_a_float_file_does_not_map(tmp_path):
    write_fp32(leaky(), tmp_path / "fp32.tflite")
    assert "a tensor of float32" in reasons(tmp_path / "fp32.tflite")[0]


def write_plainly(model: keras.Model, scans: np.ndarray, path) -> None:
    """Full int8 as TensorFlow makes it by itself."""
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: iter([{"scan": scans}])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    path.write_bytes(converter.convert())


def test_a_batch_that_is_open_does_not_map(tmp_path):
    scans = as_input(drawn_pixels())["scan"]
    write_plainly(leaky(batch=None), scans[:1], tmp_path / "open.tflite")
    assert "without fixed size" in reasons(tmp_path / "open.tflite")[0]


def test_a_batch_of_two_does_not_map(tmp_path):
    scans = as_input(drawn_pixels())["scan"]
    write_plainly(leaky(batch=2), scans[:2], tmp_path / "two.tflite")
    assert any("only the last three sides" in reason for reason in reasons(tmp_path / "two.tflite"))


def test_a_later_version_than_the_compiler_knows_does_not_map(mapped, monkeypatch):
    monkeypatch.setitem(edgetpu.VERSIONS, "CONV_2D", 2)
    assert reasons(mapped) == ["version 3, later than the compiler (at most 2)"]


def test_a_mean_over_a_large_map_is_split_in_two(tmp_path):
    scan = keras.Input(batch_shape=(1, 112, 112, 1), name="scan")
    model = keras.Model(scan, keras.layers.GlobalAveragePooling2D()(scan))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 112, 112), dtype=np.uint8)
    write_int8(model, as_input(pixels), tmp_path / "whole.tflite", for_chip=True)
    write_int8(for_chip(model), as_input(pixels), tmp_path / "split.tflite", for_chip=True)
    assert reasons(tmp_path / "whole.tflite") == ["a mean over 12544 positions (pool in two steps)"]
    assert reasons(tmp_path / "split.tflite") == []
    np.testing.assert_allclose(
        for_chip(model)(as_input(pixels[:1])["scan"]), pixels[0].mean(), 1e-5
    )


def test_what_has_no_room_on_the_chip_is_streamed(mapped, monkeypatch):
    size = check(mapped).parameters
    assert check(mapped).streamed == 0
    # A 4x3x3 convolution with 4 biases of int32, two dense layers, 8 slopes, two axes of int32.
    assert size == 36 + 4 * 4 + 32 + 8 + 8 + 2 * 4
    monkeypatch.setattr(edgetpu, "ON_CHIP", size - 10)
    assert check(mapped).streamed == 10


def test_the_check_names_each_operation_that_stays_on_the_cpu(tmp_path):
    write_fp32(leaky(), tmp_path / "fp32.tflite")
    found = check(tmp_path / "fp32.tflite")
    *lines, last = found.lines()
    assert len(lines) == len(found.operations)
    assert "CONV_2D" in "".join(lines)
    assert f"{len(lines)} of {len(lines)} operations stay on the CPU" in last


def test_a_file_of_something_else_is_named(tmp_path):
    (tmp_path / "thesis.tflite").write_text("years of work")
    with pytest.raises(EdgeTPUError, match=r"thesis\.tflite is not a TFLite file"):
        check(tmp_path / "thesis.tflite")
    with pytest.raises(EdgeTPUError, match=r"none\.tflite cannot be read: No such file"):
        check(tmp_path / "none.tflite")


def test_the_log_is_read_file_by_file():
    first, second = read_log(LOG)
    assert (first.model, first.on_chip, first.streamed) == ("a.tflite", 2013266, 3386900)
    assert (first.subgraphs, first.on_cpu) == (1, ())
    assert (second.model, second.on_chip, second.streamed) == ("b.tflite", 41984, 0)
    assert second.subgraphs == 2
    assert second.on_cpu == (
        ("LEAKY_RELU", 1, "Operation not supported"),
        ("CONV_2D", 1, "More than one subgraph is not supported"),
    )


def test_a_split_is_refused_unless_allowed():
    compiled = read_log(LOG)
    with pytest.raises(EdgeTPUError, match=r"b\.tflite: edgetpu_compiler makes 2 subgraphs"):
        refuse([], compiled, set())
    with pytest.raises(EdgeTPUError, match=r"leaves on the CPU 1 LEAKY_RELU \(Operation not supp"):
        refuse([], compiled, {"split"})
    refuse([], compiled, {"split", "cpu"})


def test_what_stays_on_the_cpu_is_refused_unless_allowed(tmp_path):
    write_fp32(leaky(), tmp_path / "fp32.tflite")
    found = [check(tmp_path / "fp32.tflite")]
    with pytest.raises(EdgeTPUError, match=r"fp32\.tflite: from .* on \(a tensor of float32"):
        refuse(found, None, {"split"})
    refuse(found, None, {"cpu"})


def test_the_compiler_is_given_all_files_of_a_modality_at_once(compiler, tmp_path):
    arguments = compiler(LOG)
    paths = [tmp_path / "a.tflite", tmp_path / "b.tflite"]
    assert [one.model for one in compile_files(paths, tmp_path)] == ["a.tflite", "b.tflite"]
    assert arguments.read_text().split() == ["-s", "-o", str(tmp_path), *map(str, paths)]


def test_without_a_compiler_nothing_is_compiled(no_compiler, mapped, tmp_path):
    assert compile_files([mapped], tmp_path) is None


def test_a_compiler_that_fails_is_quoted(compiler, mapped, tmp_path):
    compiler("Edge TPU Compiler version 16.0.384591198\nInternal compiler error. Aborting! \n", 1)
    with pytest.raises(EdgeTPUError, match=r"cannot compile mapped\.tflite: Internal compiler err"):
        compile_files([mapped], tmp_path)


def test_a_log_of_another_form_is_not_taken_for_success(compiler, mapped, tmp_path):
    compiler("Edge TPU Compiler version 99\nall is well\n")
    with pytest.raises(EdgeTPUError, match="tells of 0 files"):
        compile_files([mapped], tmp_path)


def test_the_command_says_what_would_run_where(no_compiler, mapped):
    result = CliRunner().invoke(cli, ["edgetpu-check", str(mapped)])
    assert result.exit_code == 0, result.output
    assert "mapped.tflite: 0 of" in result.output
    assert "edgetpu_compiler is not on the PATH" in result.output


def test_the_command_asks_the_compiler_where_there_is_one(compiler, mapped):
    compiler(FIRST)
    result = CliRunner().invoke(cli, ["edgetpu-check", str(mapped)])
    assert result.exit_code == 0, result.output
    assert "compiled to 1 subgraph(s), 2.01 MB on the chip, 3.39 MB streamed" in result.output


def test_the_command_ends_in_one_sentence_for_a_file_that_does_not_map(tmp_path):
    write_fp32(leaky(), tmp_path / "fp32.tflite")
    command = [sys.executable, "-m", "covid_edge_convert.cli", "edgetpu-check"]
    done = subprocess.run([*command, str(tmp_path / "fp32.tflite")], capture_output=True, text=True)
    assert done.returncode == 1
    assert "the graph stays on the CPU" in done.stderr
    assert "Traceback" not in done.stderr
    assert "tensor of float32" in done.stdout


def test_the_input_takes_pixels_as_they_are(mapped):
    from ai_edge_litert.interpreter import Interpreter

    (entry,) = Interpreter(str(mapped)).get_input_details()
    assert entry["dtype"] == np.uint8
    assert entry["quantization"] == (1.0, 0)
    assert entry["shape"].tolist() == [1, SIDE, SIDE, 1]
