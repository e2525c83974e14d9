# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import keras
import numpy as np
import pytest

from covid_edge_convert.backbones import build_encoder
from covid_edge_convert.quantize import as_input, write_fp32, write_int8
from covid_edge_convert.warm_start import WarmStartError, start_from_tflite

SIZE = 64


@pytest.fixture
def scans() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, SIZE, SIZE), dtype=np.uint8)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory) -> tuple[keras.Model, Path]:
    """A trained ResNet50, and the float file of it."""
    encoder, path = trained("ResNet50"), tmp_path_factory.mktemp("resnet") / "encoder.tflite"
    write_fp32(fixed(encoder), path)
    return encoder, path


def trained(name: str) -> keras.Model:
    """An encoder whose BatchNorms are no longer those of a new network."""
    encoder = build_encoder(name)
    rng = np.random.default_rng(1)
    for layer in encoder.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            bounds = ((0.8, 1.2), (-0.2, 0.2), (-0.1, 0.1), (0.8, 1.2))
            layer.set_weights([rng.uniform(*b, shape).astype(np.float32) for b in bounds])
    return encoder


def fixed(encoder: keras.Model) -> keras.Model:
    grey = keras.Input(batch_shape=(1, SIZE, SIZE, 1), name="scan")
    return keras.Model(grey, encoder(grey))


def begun_from(path: Path, name: str, scans: np.ndarray) -> keras.Model:
    encoder = build_encoder(name)
    start_from_tflite(encoder, path, scans)
    return encoder


def assert_alike(begun: keras.Model, encoder: keras.Model, scans: np.ndarray) -> None:
    x = scans[..., None].astype(np.float32)
    expected = encoder.predict(x, verbose=0)
    assert np.abs(begun.predict(x, verbose=0) - expected).max() < 1e-3 * np.abs(expected).max()


def test_a_resnet_out_of_a_float_file_answers_as_it_did_by_norms_of_the_scans(resnet, scans):
    encoder, path = resnet
    begun = begun_from(path, "ResNet50", scans)
    assert_alike(begun, encoder, scans)
    norm = begun.get_layer("conv1_bn")
    seen = keras.Model(begun.input, norm.input).predict(scans[..., None], verbose=0)
    assert np.allclose(norm.moving_mean, seen.mean(axis=(0, 1, 2)), atol=1e-4)
    assert np.allclose(norm.moving_variance, seen.var(axis=(0, 1, 2)), rtol=1e-3)


@pytest.mark.parametrize("name", ["EfficientNetB0", "ResNet50V2"])
def test_other_encoders_out_of_a_float_file_answer_as_they_did(tmp_path, scans, name):
    encoder = trained(name)
    write_fp32(fixed(encoder), tmp_path / "encoder.tflite")
    assert_alike(begun_from(tmp_path / "encoder.tflite", name, scans), encoder, scans)


def test_an_int8_file_is_near_enough_to_begin_with(resnet, tmp_path, scans):
    encoder, _ = resnet
    write_int8(fixed(encoder), as_input(scans), tmp_path / "encoder.tflite")
    begun = begun_from(tmp_path / "encoder.tflite", "ResNet50", scans)
    x = scans[..., None].astype(np.float32)
    features = [model.predict(x, verbose=0).ravel() for model in (encoder, begun)]
    assert np.corrcoef(*features)[0, 1] > 0.99


def test_a_file_of_another_encoder_is_refused(resnet, scans):
    with pytest.raises(WarmStartError, match=r"encoder.tflite: EfficientNetB0 is not in it"):
        begun_from(resnet[1], "EfficientNetB0", scans)


def test_a_file_that_is_no_tflite_file_is_refused(tmp_path, scans):
    (tmp_path / "notes.tflite").write_text("none of these")
    with pytest.raises(WarmStartError, match=r"notes.tflite is not a TFLite file"):
        start_from_tflite(build_encoder("ResNet50"), tmp_path / "notes.tflite", scans)
    with pytest.raises(WarmStartError, match=r"absent.tflite cannot be read: No such file"):
        start_from_tflite(build_encoder("ResNet50"), tmp_path / "absent.tflite", scans)
