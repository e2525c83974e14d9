# SPDX-License-Identifier: Apache-2.0
"""Quantisation of a calibrated network with ranges that clip what is rare.

TensorFlow lets an activation's 256 steps reach from its smallest to its largest value. Swish has no
upper end, so single outliers make the steps coarse for everything else. Here each range is the one
of least mean squared error among shrunk ones, measured on the representative scans themselves.
"""

from __future__ import annotations

import re

import numpy as np

SHRINK = (1.0, 0.85, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.14, 0.1)
SCANS = 32  # of the representative ones, that values are drawn from
VALUES = 4000  # drawn of each tensor and scan
STEPS = 255


def quantize_clipped(calibrated: bytes, representative: np.ndarray, keep_float: str) -> bytes:
    """Quantise to int8 with clipped ranges; leave what ``keep_float`` names in float32.

    Parameters
    ----------
    calibrated : bytes
        What a converter with ``_experimental_calibrate_only`` gives: a float32 TFLite file whose
        activations carry their ranges.
    representative : ndarray of uint8, shape (n, s, s)
    keep_float : str
        Regular expression of operations, by the names of their outputs.

    Returns
    -------
    bytes of the TFLite file.
    """
    import flatbuffers
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.python.convert import mlir_quantize

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(calibrated, 0))
    graph = model.subgraphs[0]
    activations = [
        index
        for index, tensor in enumerate(graph.tensors)
        if tensor.quantization is not None
        and tensor.quantization.min is not None
        and len(tensor.quantization.min) == 1
        and model.buffers[tensor.buffer].data is None
    ]
    for index, (low, high) in _ranges(calibrated, activations, representative).items():
        quantization = graph.tensors[index].quantization
        quantization.min = np.array([low], np.float32)
        quantization.max = np.array([high], np.float32)
    outputs = {graph.tensors[k].name.decode() for op in graph.operators for k in op.outputs}
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return mlir_quantize(
        bytes(builder.Output()),
        False,
        True,
        denylisted_nodes={name for name in outputs if re.search(keep_float, name)},
    )


def _ranges(calibrated: bytes, activations, representative) -> dict[int, tuple[float, float]]:
    """Best range of each activation, from its values on some representative scans."""
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(
        model_content=calibrated,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=(
            tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        ),
    )
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]["index"]
    rng = np.random.default_rng(0)
    drawn: dict[int, list[np.ndarray]] = {index: [] for index in activations}
    for image in representative[:: max(1, len(representative) // SCANS)]:
        interpreter.set_tensor(entry, image[None, ..., None].astype(np.float32))
        interpreter.invoke()
        for index in activations:
            values = interpreter.get_tensor(index).ravel()
            ends = [values.min(), values.max()]
            if values.size > VALUES:
                values = values[rng.integers(0, values.size, VALUES)]
            drawn[index].append(np.concatenate([values, ends]))
    return {index: best_range(np.concatenate(parts)) for index, parts in drawn.items()}


def best_range(values: np.ndarray) -> tuple[float, float]:
    """The range, of those that shrink the values' own, whose 255 steps err least on them.

    Parameters
    ----------
    values : ndarray of float32, shape (n,)

    Returns
    -------
    (low, high), low <= 0 <= high
    """
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    best = (np.inf, low, high)
    for top in SHRINK:
        for bottom in {1.0, top}:
            a, b = low * bottom, high * top
            step = (b - a) / STEPS
            if step <= 0:
                continue
            shown = np.clip(np.round((values - a) / step), 0, STEPS) * step + a
            error = float(np.mean((shown - values) ** 2))
            if error < best[0]:
                best = (error, a, b)
    return best[1:]
