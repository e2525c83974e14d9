# SPDX-License-Identifier: Apache-2.0
import pickle
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from covid_edge_convert import imagenet
from covid_edge_convert.backbones import build_encoder
from covid_edge_convert.imagenet import PACKAGES, ImageNetError, start_from_imagenet
from covid_edge_convert.torch_file import read_state_dict

# Kernel and stride of each block of EfficientNet-Lite0 (Lite1 repeats more of them).
LITE0 = "3 1, 3 2, 3 1, 5 2, 5 1, 3 2, 3 1, 3 1, 5 1, 5 1, 5 1, 5 2, 5 1, 5 1, 5 1, 3 1"


def lite0_features(grey: np.ndarray) -> np.ndarray:
    """EfficientNet-Lite0's pooled features, in plain TensorFlow: relu6, no squeeze, "same"."""
    w = imagenet._read_lite("EfficientNetB0")

    def norm(x, name):
        mean, var, scale, shift = (
            w[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")
        )
        return tf.nn.batch_normalization(x, mean, var, shift, scale, 1e-3)

    def conv(x, name, stride=1):
        return tf.nn.conv2d(x, w[name + ".weight"].transpose(2, 3, 1, 0), stride, "SAME")

    x = (np.repeat(grey, 3, axis=-1) - 127) / 128
    x = tf.nn.relu6(norm(conv(x, "_conv_stem", 2), "_bn0"))
    for number, block in enumerate(LITE0.split(", ")):
        stride, name, shortcut = int(block[-1]), f"_blocks.{number}", x
        if number:
            x = tf.nn.relu6(norm(conv(x, f"{name}._expand_conv"), f"{name}._bn0"))
        kernel = w[f"{name}._depthwise_conv.weight"].transpose(2, 3, 0, 1)
        x = tf.nn.depthwise_conv2d(x, kernel, [1, stride, stride, 1], "SAME")
        x = tf.nn.relu6(norm(x, f"{name}._bn1"))
        x = norm(conv(x, f"{name}._project_conv"), f"{name}._bn2")
        x = x + shortcut if x.shape == shortcut.shape else x
    x = tf.nn.relu6(norm(conv(x, "_conv_head"), "_bn1"))
    return tf.reduce_mean(x, axis=(1, 2)).numpy()


def with_relu6(encoder: keras.Model) -> keras.Model:
    for layer in encoder.layers:
        if isinstance(layer, keras.layers.Activation):
            layer.activation = keras.activations.relu6
    return encoder


@pytest.fixture
def photographs() -> np.ndarray:
    skdata = pytest.importorskip("skimage.data")
    pictures = [skdata.camera()[::2, ::2], skdata.coins()[:256, :256], skdata.moon()[:256, :256]]
    return np.stack(pictures).astype(np.float32)[..., None]


def test_with_relu6_and_open_gates_the_encoder_is_the_lite_network(photographs, monkeypatch):
    monkeypatch.setattr(imagenet, "SHARPNESS", 1.0)
    monkeypatch.setattr(imagenet, "GATE", 30.0)
    encoder = with_relu6(build_encoder("EfficientNetB0"))
    start_from_imagenet(encoder)
    features = encoder.predict(photographs, verbose=0)
    expected = lite0_features(photographs)
    # The zeros around a picture are black here and grey there: only the edges differ.
    assert np.corrcoef(features.ravel(), expected.ravel())[0, 1] > 0.97


def test_the_lite_encoder_is_the_lite_network(photographs):
    encoder = build_encoder("EfficientNetLite0")
    start_from_imagenet(encoder)
    features, expected = encoder.predict(photographs, verbose=0), lite0_features(photographs)
    assert np.abs(features - expected).max() < 1e-4 * np.abs(expected).max()


def test_blocks_that_the_lite_network_lacks_start_as_the_identity():
    encoder = build_encoder("EfficientNetB1")
    start_from_imagenet(encoder)
    for name in ("block1b_project_bn", "block7b_project_bn"):
        assert not encoder.get_layer(name).get_weights()[0].any()
    assert encoder.get_layer("block2b_project_bn").get_weights()[0].any()


def test_an_encoder_without_imagenet_weights_is_refused_by_name():
    with pytest.raises(ImageNetError, match="ResNet50: there are ImageNet weights for"):
        start_from_imagenet(build_encoder("ResNet50"))


def test_missing_packages_are_told_with_the_command_that_brings_them(monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGES["EfficientNetB0"], None)
    with pytest.raises(ImageNetError, match="pip install"):
        start_from_imagenet(build_encoder("EfficientNetB0"))


def test_a_file_that_names_other_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("run",)

    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(pickle.UnpicklingError, match="has no place"):
        read_state_dict(path)
