# SPDX-License-Identifier: Apache-2.0
"""Heatmaps: what is added to a network's file, and that the device's gradient is TensorFlow's."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from scipy.stats import spearmanr

from conftest import TOY
from covid_edge.bundle import Bundle
from covid_edge.errors import UsageError
from covid_edge.heatmap import GRID, contributions
from covid_edge.interpreter import Interpreter
from covid_edge_convert.bundle import file_entry
from covid_edge_convert.explain import explain, head_plan, with_outputs
from covid_edge_convert.gradcam import grad_cam
from covid_edge_convert.quantize import as_input, write_fp16, write_fp32, write_int8

SIDE = 32
KINDS = {"cpu-int8": "int8", "fp32": "fp32", "gpu-fp16": "fp16"}
rng = np.random.default_rng(3)
SCANS = rng.integers(0, 256, (12, SIDE, SIDE), dtype=np.uint8)


def two_encoders() -> keras.Model:
    """MMTL in small: 7x7 and 4x4 maps, a branch with LeakyReLU twice, one with a BatchNorm."""
    keras.utils.set_random_seed(4)
    layers = keras.layers
    scan = keras.Input(batch_shape=(1, SIDE, SIDE, 1), name="scan")
    grey = layers.Rescaling(1 / 255)(scan)
    fine = layers.Conv2D(6, 8, strides=4, activation="relu")(grey)
    coarse = layers.Conv2D(5, 8, strides=8, activation="relu")(grey)
    one = layers.LeakyReLU(0.5)(layers.Dense(9)(layers.GlobalAveragePooling2D()(fine)))
    norm = layers.BatchNormalization()
    one = norm(one)
    norm.set_weights([rng.uniform(*b, 9) for b in ((0.5, 2), (-1, 1), (-0.1, 0.1), (0.5, 2))])
    two = layers.Dense(7)(layers.GlobalAveragePooling2D()(coarse))
    two = layers.LeakyReLU(0.3)(layers.LeakyReLU(0.3)(two))
    x = layers.LeakyReLU(0.3)(layers.Dense(8)(layers.Concatenate()([one, two])))
    return keras.Model(scan, [fine, coarse, layers.Dense(1)(x)])


@pytest.fixture(scope="module")
def explained(tmp_path_factory) -> SimpleNamespace:
    """A bundle whose networks are `two_encoders`, before and after `explain`."""
    before, network = tmp_path_factory.mktemp("explain") / "bundle", two_encoders()
    shutil.copytree(TOY, before, ignore=shutil.ignore_patterns("*.py", "__pycache__", "types"))
    answer = keras.Model(network.input, network.outputs[-1])
    write_fp32(answer, before / "xray.fp32.tflite")
    write_fp16(answer, before / "xray.fp16.tflite")
    write_int8(answer, as_input(SCANS), before / "xray.int8.tflite")
    manifest = json.loads((before / "bundle.json").read_text())
    for name, modality in manifest["modalities"].items():
        for model in modality["models"]:
            path = before / f"{name}.{KINDS[model['target']]}.tflite"
            shutil.copy(before / path.name.replace("ct", "xray"), path) if name == "ct" else None
            model.update(file_entry(path))
    (before / "bundle.json").write_text(json.dumps(manifest))
    after = before.with_name("after")
    shutil.copytree(before, after)
    return SimpleNamespace(before=before, after=after, network=network, changed=explain(after))


def heatmap_of(folder: Path, target: str, pixels: np.ndarray) -> np.ndarray:
    model = Bundle.load(folder).modalities["xray"].model(target)
    network = Interpreter(model.file.path)
    return contributions(network, model.heatmap, network.run(pixels).item(), 1.0)


@pytest.mark.parametrize(("target", "close"), [("fp32", 1e-5), ("gpu-fp16", 1e-2)])
def test_a_float_networks_map_is_the_grad_cam_that_keras_gives(explained, target, close):
    for pixels, expected, logit in zip(SCANS, *grad_cam(explained.network, SCANS, GRID)):
        expected += (logit - expected.sum()) / GRID**2
        found = heatmap_of(explained.after, target, pixels)
        assert np.abs(found - expected).max() < close * np.abs(expected).max()


def test_an_int8_networks_map_ranks_places_as_the_float_networks_does(explained):
    expected, _ = grad_cam(explained.network, SCANS, GRID)
    ranks = [
        spearmanr(heatmap_of(explained.after, "cpu-int8", pixels).ravel(), one.ravel())[0]
        for pixels, one in zip(SCANS, expected)
    ]
    assert np.mean(ranks) >= 0.7


def test_the_cells_add_up_to_the_log_odds(explained):
    heatmap = heatmap_of(explained.after, "cpu-int8", SCANS[0])
    model = Bundle.load(explained.after).modalities["xray"].model("cpu-int8")
    assert heatmap.sum() == pytest.approx(Interpreter(model.file.path).run(SCANS[0])[0], abs=1e-4)
    assert heatmap.shape == (GRID, GRID)
    assert heatmap.dtype == np.float32


def test_every_files_logit_stays_what_it_was_to_the_bit(explained):
    for path in explained.changed:
        before, after = (
            Interpreter(folder / path) for folder in (explained.before, explained.after)
        )
        assert all(np.array_equal(before.run(pixels), after.run(pixels)) for pixels in SCANS)


def test_what_a_file_held_stays_in_its_place(explained):
    """So that two versions of it differ by little, and constants stay aligned."""
    for path in explained.changed:
        before, after = (
            np.frombuffer((folder / path).read_bytes(), np.uint8)
            for folder in (explained.before, explained.after)
        )
        changed = np.flatnonzero(before != after[: len(before)])
        assert len(changed) <= 8  # two offsets
        assert 0 < len(after) - len(before) < 1000


def test_the_signature_gives_them_too_and_litert_takes_the_logit_for_the_first(explained):
    litert = pytest.importorskip("ai_edge_litert.compiled_model")
    path = explained.after / "xray.fp32.tflite"
    options = litert.Options(hardware_accelerators=litert.HardwareAccelerator.CPU)
    network = litert.CompiledModel.from_file(str(path), options=options)
    (key,) = network.get_signature_list()
    names = list(network.get_output_tensor_details(key))
    assert names[0] == "output_0"
    assert names[1:] == [f"explain_{k}" for k in range(len(names) - 1)]
    inputs, outputs = network.create_input_buffers(0), network.create_output_buffers(0)
    inputs[0].write(SCANS[:1, ..., None].astype(np.float32))
    network.run_by_index(0, inputs, outputs)
    assert outputs[0].read(1, np.float32) == pytest.approx(Interpreter(path).run(SCANS[0]))


def test_the_bundle_is_sound_and_explaining_it_again_changes_nothing(explained):
    bundle = Bundle.load(explained.after)
    for file in bundle.files.values():
        file.verify()
    digest = hashlib.sha256((explained.after / "bundle.json").read_bytes()).hexdigest()
    assert explain(explained.after) == []
    assert Bundle.load(explained.after).sha256 == digest


def test_a_network_of_another_form_is_refused_and_the_bundle_left_alone(tmp_path):
    shutil.copytree(TOY, tmp_path / "toy")
    with pytest.raises(UsageError, match=r"xray\.\w+\.tflite cannot be explained"):
        explain(tmp_path / "toy")
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_outputs_are_added_after_those_there_are(explained):
    content = (explained.before / "xray.fp32.tflite").read_bytes()
    tensor = head_plan(content, "a file")["branches"][1]["map"]
    (explained.before / "one.tflite").write_bytes(with_outputs(content, [tensor]))
    from ai_edge_litert.interpreter import Interpreter as LiteRT

    shapes = [
        d["shape"].tolist()
        for d in LiteRT(str(explained.before / "one.tflite")).get_output_details()
    ]
    assert shapes == [[1, 1], [1, 4, 4, 5]]
