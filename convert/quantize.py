# SPDX-License-Identifier: Apache-2.0
"""Keras models → TFLite files: float32, float16 weights, int8."""

from __future__ import annotations

import os
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from covid_edge.errors import CovidEdgeError
from covid_edge.interpreter import Interpreter
from covid_edge_convert.clipping import quantize_clipped
from covid_edge_convert.data import Scans


class QuantizeError(CovidEdgeError):
    """The networks cannot be converted here."""

    exit_code = 6


def representative_rows(scans: Scans, count: int, seed: int = 0) -> np.ndarray:
    """Indices of ``count`` training scans, every (source, label) cell as evenly as it can be."""
    rng = np.random.default_rng(seed)
    train = np.flatnonzero(scans.split == "train")
    cells = {}
    for row in rng.permutation(train):
        cells.setdefault((scans.source[row], scans.label[row]), []).append(row)
    rows: list[int] = []
    while len(rows) < min(count, len(train)):
        for cell in cells.values():
            if cell and len(rows) < count:
                rows.append(cell.pop())
    return np.array(rows)


def write_fp32(model: keras.Model, path: Path) -> None:
    """Convert without quantisation: float32 in and out."""
    write_file(_converter(model).convert(), path)


def write_fp16(model: keras.Model, path: Path) -> None:
    """Convert with weights of float16; what computes with them may use float16 or float32."""
    import tensorflow as tf

    converter = _converter(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    write_file(converter.convert(), path)


def write_int8(
    model: keras.Model,
    representative: dict[str, np.ndarray],
    path: Path,
    keep_float: str | None = None,
    fixed: dict[str, tuple[float, float]] | None = None,
    for_chip: bool = False,
) -> bytes:
    """Convert to integers: int8 weights and activations, of ranges that clip what is rare.

    Parameters
    ----------
    model : keras.Model
        Of fixed batch 1.
    representative : dict of str → ndarray of float32, shape (n, ...)
        By input, preprocessed training scans (or what is made of them) that ranges are measured on.
    path : Path
    keep_float : str, optional
        Regular expression of the operations, by the names of their outputs, that stay in float32:
        those whose channels differ too much in size to share 256 steps. Without it there is no
        float tensor in the file.
    fixed : dict of str → (low, high), optional
        By input, a range that is known. That of an input ``scan`` is 0 to 255, so that its bytes
        are the pixels.
    for_chip : bool
        As the Edge TPU wants it: uint8 out, one scale for all weights of a dense layer.

    Returns
    -------
    bytes
        The float32 TFLite file of the very same graph, to compare inner tensors with.
    """
    import tensorflow as tf
    from tensorflow.lite.python.util import modify_model_io_type

    count = len(next(iter(representative.values())))

    def batches():
        for row in tqdm(range(count), f"calibrate {path.stem}", leave=False):
            yield {name: values[row : row + 1] for name, values in representative.items()}

    converter = _converter(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = batches
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter._experimental_calibrate_only = True
    calibrated = converter.convert()
    content = quantize_clipped(
        calibrated, representative, keep_float, {"scan": (0.0, 255.0), **(fixed or {})}, for_chip
    )
    if keep_float is None:
        content = modify_model_io_type(content, tf.uint8, tf.uint8 if for_chip else tf.int8)
    write_file(content, path)
    return calibrated


def _converter(model: keras.Model):
    if keras.backend.backend() != "tensorflow":
        raise QuantizeError(
            "TFLite files are written by TensorFlow: run this command with "
            "KERAS_BACKEND=tensorflow (weights trained on another backend load as they are)."
        )
    import tensorflow as tf

    return tf.lite.TFLiteConverter.from_keras_model(model)


def write_file(content: bytes, path: Path) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_bytes(content)
    os.replace(partial, path)


def run_model(path: Path, pixels: np.ndarray, threads: int | None = None) -> np.ndarray:
    """Outputs of a TFLite file through the device's own interpreter class.

    Parameters
    ----------
    path : Path
    pixels : ndarray of uint8, shape (n, s, s)

    Returns
    -------
    ndarray of float32, shape (n, outputs)
    """
    interpreter = Interpreter(path, threads=threads or os.cpu_count() or 1)
    return np.stack([interpreter.run(image) for image in tqdm(pixels, path.stem, leave=False)])


def as_input(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """uint8 (n, s, s) → what a graph's input ``scan`` takes: float32 (n, s, s, 1)."""
    return {"scan": pixels[..., None].astype(np.float32)}
