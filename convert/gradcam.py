# SPDX-License-Identifier: Apache-2.0
"""A shipped network in float again, and Grad-CAM of it by Keras: what heatmaps are checked against.

The encoders' weights come out of the file (`warm_start`), the head's too; nothing is rounded while
it is computed, and the gradient is TensorFlow's own.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from covid_edge_convert.backbones import build_encoder
from covid_edge_convert.explain import Graph
from covid_edge_convert.warm_start import start_from_tflite

BATCH = 10  # scans differentiated at a time


def restored(path: Path, encoders: list[str], halved: list[str], pixels: np.ndarray) -> keras.Model:
    """The network of a TFLite file, in float.

    Parameters
    ----------
    path : Path
        Of a bundle, int8 or fp32.
    encoders : list of str
        Names in `covid_edge_convert.backbones.ENCODERS`, in the order that the head takes them.
    halved : list of str
        Those of them that look at the mean of each 2x2 block.
    pixels : ndarray of uint8, shape (n, s, s)
        Some preprocessed scans, for the statistics of BatchNorms.

    Returns
    -------
    keras.Model
        (batch, s, s, 1) pixels 0 to 255 → [the encoders' last maps in that order, logit].
    """
    graph = Graph(path.read_bytes(), path.name)
    plan = graph.plan()
    scan = keras.Input((*pixels.shape[1:], 1), name="scan")
    maps, features = [], []
    for name, branch in zip(encoders, plan["branches"]):
        encoder = build_encoder(name)
        small = keras.layers.AveragePooling2D(2)
        half = np.asarray(small(pixels[..., None].astype(np.float32)))[..., 0]
        start_from_tflite(encoder, path, half if name in halved else pixels)
        until = keras.Model(encoder.input, encoder.layers[-1].input)
        maps.append(until(small(scan) if name in halved else scan))
        pooled = keras.layers.GlobalAveragePooling2D()(maps[-1])
        features.append(_dense(graph, branch["layers"], pooled))
    joined = keras.layers.Concatenate()(features) if len(features) > 1 else features[0]
    return keras.Model(scan, [*maps, _dense(graph, plan["head"], joined)])


def _dense(graph: Graph, layers: list[dict], x):
    for layer in layers:
        kernel, bias = graph.dense(layer["weights"])
        dense = keras.layers.Dense(len(bias))
        x = dense(x)
        dense.set_weights([kernel.T, bias])
        if "sum" in layer:
            x = keras.layers.LeakyReLU(layer["slope"])(x)
        if "scale" in layer:
            x = keras.layers.Rescaling(*graph.affine(layer["scale"]))(x)
    return x


def grad_cam(network: keras.Model, pixels: np.ndarray, grid: int) -> tuple[np.ndarray, np.ndarray]:
    """Grad-CAM of all encoders of `restored`'s network, without its rectification, summed.

    Before they are summed, each cell of a map is what it adds to the logit (its activations times
    the gradient in them), divided among the places of the grid that it covers: maps of different
    sizes can be compared so, and one map alone is Grad-CAM but for a factor.

    Parameters
    ----------
    network : keras.Model
    pixels : ndarray of uint8, shape (n, s, s)
    grid : int
        Rows and columns of the result.

    Returns
    -------
    (maps, logits) : ndarrays of float32, shapes (n, grid, grid) and (n,)
    """
    import tensorflow as tf

    *until, logit = network.outputs
    # The network from its maps on; TensorFlow differentiates it with respect to these.
    rest = keras.Model(until, logit)
    total, logits = np.zeros((len(pixels), grid, grid), np.float32), []
    size = network.input.shape[0] or BATCH
    for start in range(0, len(pixels), size):
        *maps, _ = network(pixels[start : start + size, ..., None].astype(np.float32))
        with tf.GradientTape() as tape:
            tape.watch(maps)
            answers = rest(maps)
        for one, gradient in zip(maps, tape.gradient(answers, maps)):
            cells = tf.reduce_sum(gradient * one, 3, keepdims=True)
            share = one.shape[1] * one.shape[2] / grid**2
            total[start : start + size] += share * tf.image.resize(cells, (grid, grid))[..., 0]
        logits.append(answers[:, 0])
    return total, np.concatenate(logits)
