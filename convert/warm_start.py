# SPDX-License-Identifier: Apache-2.0
"""An encoder begins where a bundle has arrived: weights out of a TFLite file.

A run folder is large and stays where it was made; a bundle travels. Its files hold every
convolution, with the BatchNorm after it folded in and mostly rounded to int8: near enough to train
on from (or to fine-tune on one's own hospital's scans), not to repeat the run.
"""

from __future__ import annotations

import re
from pathlib import Path

import keras
import numpy as np

from covid_edge.errors import CovidEdgeError
from covid_edge_convert.tflite_file import constant, kind_of, read_model

STATISTICS_BATCH = 8  # scans at a time: every BatchNorm's input is held at once


class WarmStartError(CovidEdgeError, ValueError):
    """A file that this encoder cannot begin with."""

    exit_code = 2


def start_from_tflite(encoder: keras.Model, path: Path, pixels: np.ndarray) -> None:
    """Set the weights of ``encoder`` in place to those of the same encoder in a TFLite file.

    BatchNorms get back what folding took from them: the statistics of their input, measured on
    ``pixels``, and the scale and shift that leave the encoder's answers as they were.

    Parameters
    ----------
    encoder : keras.Model
        Of `covid_edge_convert.backbones.build_encoder`.
    path : Path
        A file that `covid_edge_convert.quantize` wrote, int8 or fp32.
    pixels : ndarray of uint8, shape (n, s, s)
        Scans as the encoder looks at them.

    Raises
    ------
    WarmStartError
        The file cannot be read, or a layer of ``encoder`` is not in it.
    """
    found = _read(Path(path), encoder.name)
    for layer in encoder.layers:
        if isinstance(layer, (keras.layers.DepthwiseConv2D, keras.layers.Conv2D)):
            kernel, bias = _get(found, layer.name, path)
            kernel = kernel.transpose(1, 2, 3, 0)  # depthwise: (1, h, w, channels)
            if layer.name == "stem_conv":  # EfficientNet's Rescaling was folded into it
                kernel = kernel * 255.0
            after = layer._outbound_nodes[0].operation
            if isinstance(after, keras.layers.BatchNormalization):
                found[after.name] = (np.ones_like(bias), bias)
                bias = bias * 0
            layer.set_weights([kernel, bias] if layer.use_bias else [kernel])
    set_norms(encoder, found, pixels)


def set_norms(encoder: keras.Model, affine: dict, pixels: np.ndarray) -> None:
    """Make each BatchNorm compute ``scale * x + shift``, with the statistics of its own input.

    Parameters
    ----------
    encoder : keras.Model
        All other weights are in place.
    affine : dict
        Name of a BatchNorm → (scale, shift), each of shape (channels,). Those not named become the
        identity.
    pixels : ndarray of uint8, shape (n, s, s)
        Scans that the statistics are measured on.
    """
    norms = [x for x in encoder.layers if isinstance(x, keras.layers.BatchNormalization)]
    for norm in norms:
        ones = np.ones(norm.gamma.shape, np.float32)
        scale, shift = affine.setdefault(norm.name, (ones, 0 * ones))
        norm.set_weights([scale * np.sqrt(1.0 + norm.epsilon), shift, 0 * ones, ones])
    statistics = channel_statistics(encoder, [norm.input for norm in norms], pixels)
    for norm, (mean, variance) in zip(norms, statistics):
        scale, shift = affine[norm.name]
        root = np.sqrt(variance + norm.epsilon)
        norm.set_weights([scale * root, shift + scale * mean, mean, variance])


def _get(found: dict, name: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    if name not in found:
        raise WarmStartError(f"{path}: holds no weights of {name}; it is of another encoder.")
    return found[name]


def channel_statistics(
    encoder: keras.Model, tensors: list, pixels: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Mean and variance of each of an encoder's inner tensors, by channel, over all of `pixels`."""
    inner = keras.Model(encoder.input, tensors)
    total = [0.0] * len(tensors)
    squares = [0.0] * len(tensors)
    batches = range(0, len(pixels), STATISTICS_BATCH)
    for start in batches:
        batch = np.asarray(pixels[start : start + STATISTICS_BATCH], np.float32)[..., None]
        share = len(batch) / len(pixels)
        for k, value in enumerate(inner.predict_on_batch(batch)):
            total[k] = total[k] + share * value.mean(axis=(0, 1, 2), dtype=np.float64)
            squares[k] = squares[k] + share * (value.astype(np.float64) ** 2).mean(axis=(0, 1, 2))
    return [(m, np.maximum(s - m**2, 0.0)) for m, s in zip(total, squares)]


def _read(path: Path, encoder: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By layer: (kernel, bias) of convolutions, (scale, shift) of BatchNorms not folded away."""
    model = read_model(path, WarmStartError)
    graph = model.subgraphs[0]
    names = [tensor.name.decode() for tensor in graph.tensors]
    scopes = {
        match[1] for name in names if (match := re.match(rf"(.*)/{encoder}_grey_to_rgb", name))
    }
    if not scopes:
        raise WarmStartError(f"{path}: {encoder} is not in it.")
    scope = min(scopes)  # one encoder in two roles is there twice, with the same weights

    def value(index: int) -> np.ndarray | None:
        tensor = graph.tensors[index]
        data = model.buffers[tensor.buffer].data
        return None if data is None else constant(tensor, np.asarray(data, np.uint8))

    found: dict[str, list] = {}
    for operator in graph.operators:
        name = names[operator.outputs[0]]
        if not name.startswith(scope + "/"):
            continue
        constants = [c for k in operator.inputs if k >= 0 and (c := value(k)) is not None]
        kind = kind_of(model, operator)
        if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            layer = re.search(r"/(\w+?conv|\w+_se_\w+?)(?:_\d+)?/", name[len(scope) :])
            found[layer[1]] = tuple(constants)
        elif kind in ("MUL", "ADD") and len(constants) == 1:
            norm = re.search(r"/(\w+?_bn)(?:_\d+)?/batchnorm/", name[len(scope) :])
            if norm is not None:
                found.setdefault(norm[1], []).append(constants[0].ravel())
    return {name: tuple(values) for name, values in found.items()}
