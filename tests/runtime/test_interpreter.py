# SPDX-License-Identifier: Apache-2.0
"""The interpreter gives what NumPy gives, whatever types the file takes and returns."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from covid_edge import interpreter
from covid_edge.errors import BundleError, DeviceError
from covid_edge.interpreter import Chain, Interpreter

PIXELS = np.random.default_rng(0).integers(0, 100, (32, 32), dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "step"),
    [("float32", 1e-5), ("int8", 0.05), ("uint8", 0.125)],  # one step of the output's scale
)
def test_every_type_gives_the_real_value(toy, name, step):
    answer = Interpreter(toy / "types" / f"{name}.tflite").run(PIXELS)
    assert answer.dtype == np.float32
    assert answer.shape == (1,)
    assert answer[0] == pytest.approx((PIXELS.mean() - 40) / 8, abs=1.5 * step)


def test_uint8_of_scale_1_is_handed_over_as_it_is():
    assert interpreter._quantize(PIXELS, np.uint8, 1.0, 0) is PIXELS


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point"), [(np.int8, 1.0, -128), (np.int8, 0.5, 3), (np.uint8, 2.0, 7)]
)
def test_input_is_quantised_with_rounding_and_saturation(dtype, scale, zero_point):
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    limits = np.iinfo(dtype)
    stored = interpreter._quantize(levels, dtype, scale, zero_point)
    assert stored.dtype == dtype
    for level, value in zip(levels.flat, stored.flat):
        exact = round(int(level) / scale) + zero_point
        assert value == min(max(exact, limits.min), limits.max)


def test_output_is_widened_before_the_zero_point_is_taken_off():
    stored = np.array([-128, 127], np.int8)
    assert interpreter._dequantize(stored, 0.5, 100).tolist() == [-114.0, 13.5]


def test_shapes_are_told(toy):
    network = Interpreter(toy / "router.int8.tflite")
    assert (network.input_shape, network.output_size) == ((16, 16), 3)


def test_an_answer_is_not_changed_by_the_next_run(toy):
    network = Interpreter(toy / "xray.int8.tflite")
    first = network.run(np.zeros((32, 32), np.uint8))
    before = first.copy()
    network.run(np.full((32, 32), 255, np.uint8))
    assert np.array_equal(first, before)


@pytest.mark.parametrize("shape", [(32, 31), (16, 16), (1, 32, 32, 1)])
def test_pixels_of_another_shape_are_refused(toy, shape):
    with pytest.raises(ValueError, match="shape"):
        Interpreter(toy / "xray.int8.tflite").run(np.zeros(shape, np.uint8))


def test_pixels_of_another_type_are_refused(toy):
    with pytest.raises(ValueError, match="uint8"):
        Interpreter(toy / "xray.int8.tflite").run(np.zeros((32, 32), np.float32))


def test_a_file_that_is_no_model(tmp_path):
    path = tmp_path / "a.tflite"
    path.write_bytes(b"This is no model.\n" * 20)
    with pytest.raises(BundleError, match=r"a\.tflite cannot be loaded by"):
        Interpreter(path)


def test_no_interpreter_installed(monkeypatch):
    monkeypatch.setattr(interpreter, "_RUNTIMES", {"nothing": "covid_edge_no_such_runtime"})
    with pytest.raises(DeviceError, match="pip install ai-edge-litert"):
        interpreter.runtime()


def test_an_interpreter_that_cannot_be_loaded_is_named(monkeypatch, tmp_path):
    (tmp_path / "broken_runtime.py").write_text("raise ImportError('wrong machine')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(interpreter, "_RUNTIMES", {"broken": "broken_runtime"})
    with pytest.raises(DeviceError, match="broken is installed but cannot be loaded"):
        interpreter.runtime()
    sys.modules.pop("broken_runtime", None)


def chain(toy, *names: str) -> Chain:
    files = [toy / "chain" / f"{name}.tflite" for name in names]
    return Chain(files[:-1], files[-1])


def test_a_chain_hands_the_encoders_numbers_to_the_head(toy):
    upper, lower = PIXELS[:16].mean(), PIXELS[16:].mean()
    network = chain(toy, "upper", "lower", "head")
    answer = network.run(PIXELS)
    assert (network.input_shape, network.output_size) == ((32, 32), 1)
    assert answer.dtype == np.float32
    assert answer[0] == pytest.approx((upper - lower) / 2, abs=1.5)


def test_the_order_of_the_encoders_is_that_of_the_heads_inputs(toy):
    pixels = np.zeros((32, 32), np.uint8)
    pixels[:16] = 200
    assert chain(toy, "upper", "lower", "head").run(pixels)[0] == pytest.approx(100, abs=1)
    assert chain(toy, "lower", "upper", "head").run(pixels)[0] == pytest.approx(-100, abs=1)


@pytest.mark.parametrize(
    "names",
    [
        ("upper", "head"),
        ("upper", "lower", "upper", "head"),
        ("upper", "../types/float32", "head"),
        ("upper", "../router.int8", "head"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(toy, names):
    with pytest.raises(BundleError, match=r"head\.tflite does not take what .*upper\.tflite"):
        chain(toy, *names)
