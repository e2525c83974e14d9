# SPDX-License-Identifier: Apache-2.0
"""Quantisation of a calibrated network with ranges that clip what is rare.

TensorFlow lets an activation's 256 steps reach from its smallest to its largest value. Swish has no
upper end, so single outliers make the steps coarse for everything else. Here each range is the one
of least mean squared error among shrunk ones, measured on the representative scans themselves.
Channels differ in size by orders of magnitude, and what reads them weighs them against that: the
error of a large one counts for less (`OWN_SIZE`), or it would keep all the steps. What swish alone
looks at is judged by what swish makes of it: of all that is far below zero, nothing.
"""

from __future__ import annotations

import re

import numpy as np
from scipy.special import expit

SHRINK = (1.0, 0.85, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.14, 0.1, 0.07, 0.05, 0.03)
SCANS = 32  # of the representative ones, that values are drawn from
VALUES = 4000  # drawn of each tensor and scan
# 0: errors count alike in all channels; 1: in units of each channel's own power. Chosen on val, by
# the mean change of the probability by rounding (0, 0.5, 0.75, 1, 1.5 were tried on mmtl).
OWN_SIZE = 0.75
FAINTEST = 1e-4  # of the strongest channel's power: a channel is taken for no weaker than that
STEPS = 255


def quantize_clipped(
    calibrated: bytes,
    representative: dict[str, np.ndarray],
    keep_float: str | None = None,
    fixed: dict[str, tuple[float, float]] | None = None,
    dense_per_tensor: bool = False,
) -> bytes:
    """Quantise to int8 with clipped ranges; leave what ``keep_float`` names in float32.

    Parameters
    ----------
    calibrated : bytes
        What a converter with ``_experimental_calibrate_only`` gives: a float32 TFLite file whose
        activations carry their ranges.
    representative : dict of str → ndarray of float32, shape (n, ...)
        By input, what the ranges are measured on.
    keep_float : str, optional
        Regular expression of operations, by the names of their outputs.
    fixed : dict of str → (low, high), optional
        By input, a range that is known and not measured.
    dense_per_tensor : bool
        One scale for the weights of a dense layer instead of one a row.

    Returns
    -------
    bytes of the TFLite file. Inputs and outputs are float32 if nothing is kept in float, for
    TensorFlow to change them to what is wanted; int8 otherwise.
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
    logistic = {
        index
        for index, code in enumerate(model.operatorCodes)
        if code.builtinCode == schema.BuiltinOperator.LOGISTIC
    }
    ranges = _ranges(calibrated, activations, _swished(graph, logistic), representative)
    ranges.update(_fixed_ranges(model, fixed or {}))
    for index, (low, high) in ranges.items():
        quantization = graph.tensors[index].quantization
        quantization.min = np.array([low], np.float32)
        quantization.max = np.array([high], np.float32)
    outputs = {graph.tensors[k].name.decode() for op in graph.operators for k in op.outputs}
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return mlir_quantize(
        bytes(builder.Output()),
        fully_quantize=keep_float is not None,
        denylisted_nodes={name for name in outputs if keep_float and re.search(keep_float, name)},
        disable_per_channel_for_dense_layers=dense_per_tensor,
    )


def _fixed_ranges(model, fixed: dict[str, tuple[float, float]]) -> dict[int, tuple[float, float]]:
    """Ranges of inputs by tensor, and of all that only moves or averages their values.

    Such operations have one scale for what they read and what they give.
    """
    from tensorflow.lite.python.schema_py_generated import BuiltinOperator

    kinds = (BuiltinOperator.AVERAGE_POOL_2D, BuiltinOperator.CONCATENATION)
    inputs = {entry.name.decode(): entry.tensorIndex for entry in model.signatureDefs[0].inputs}
    ranges = {inputs[name]: ends for name, ends in fixed.items() if name in inputs}
    for operator in model.subgraphs[0].operators:
        ends = {ranges.get(int(index)) for index in operator.inputs}
        if model.operatorCodes[operator.opcodeIndex].builtinCode in kinds and len(ends) == 1:
            (ends,) = ends
            if ends is not None:
                ranges[int(operator.outputs[0])] = ends
    return ranges


def every_tensor(content: bytes):
    """Interpreter of a TFLite file whose tensors can all be read after a run.

    Returns
    -------
    ai_edge_litert.interpreter.Interpreter, without XNNPACK, which would keep inner tensors to
    itself.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    return interpreter


def _ranges(
    calibrated: bytes, activations, swished, representative
) -> dict[int, tuple[float, float]]:
    """Best range of each activation, from its values on some representative scans."""
    interpreter = every_tensor(calibrated)
    entries = interpreter.get_signature_runner().get_input_details()
    rng = np.random.default_rng(0)
    drawn: dict[int, list[np.ndarray]] = {index: [] for index in activations}
    ends: dict[int, list[float]] = {index: [] for index in activations}
    count = len(next(iter(representative.values())))
    for row in range(0, count, max(1, count // SCANS)):
        for name, values in representative.items():
            interpreter.set_tensor(entries[name]["index"], values[row : row + 1])
        interpreter.invoke()
        for index in activations:
            values = interpreter.get_tensor(index)
            ends[index] += [float(values.min()), float(values.max())]
            values = values.reshape(-1, values.shape[-1] if values.ndim else 1)
            most = max(1, VALUES // values.shape[1])
            if len(values) > most:
                values = values[rng.integers(0, len(values), most)]
            drawn[index].append(values)
    return {
        index: best_range(
            np.concatenate(parts), _swish if index in swished else None, tuple(ends[index])
        )
        for index, parts in drawn.items()
    }


def _swish(values: np.ndarray) -> np.ndarray:
    return values * expit(values)


def _swished(graph, logistic: set[int]) -> set[int]:
    """Activations that are seen by LOGISTIC and the multiplication with its result alone."""
    users: dict[int, list] = {}
    for operator in graph.operators:
        for index in operator.inputs:
            users.setdefault(int(index), []).append(operator)
    found = set()
    for operator in graph.operators:
        if operator.opcodeIndex in logistic:
            before, after = int(operator.inputs[0]), int(operator.outputs[0])
            others = [user for user in users[before] if user is not operator]
            if others and all(after in user.inputs for user in others):
                found.add(before)
    return found


def best_range(
    values: np.ndarray, through=None, ends: tuple[float, ...] = ()
) -> tuple[float, float]:
    """The range, of those that shrink the values' own, whose 255 steps err least on them.

    Parameters
    ----------
    values : ndarray of float32, shape (n, channels)
        A channel's error counts by `OWN_SIZE`.
    through : callable, optional
        The function of the values, element by element, that the error is measured on.
    ends : tuple of float, optional
        Values that lie outside of those, too rare to be among them.

    Returns
    -------
    (low, high), low <= 0 <= high
    """
    through = through or (lambda x: x)
    low, high = min(float(values.min()), 0.0, *ends), max(float(values.max()), 0.0, *ends)
    wanted = through(values)
    power = np.mean(wanted**2, axis=0)
    weight = np.maximum(power, FAINTEST * power.max() + 1e-20) ** -OWN_SIZE
    best = (np.inf, low, high)
    for top in SHRINK:
        for bottom in SHRINK:
            a, b = low * bottom, high * top
            step = (b - a) / STEPS
            if step <= 0:
                continue
            shown = np.clip(np.round((values - a) / step), 0, STEPS) * step + a
            error = float(np.mean(np.mean((through(shown) - wanted) ** 2, axis=0) * weight))
            if error < best[0]:
                best = (error, a, b)
    return best[1:]
