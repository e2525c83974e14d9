# SPDX-License-Identifier: Apache-2.0
"""Whether a TFLite file runs on the Edge TPU: read from the file, and asked of its compiler.

Google documents the operations that map (coral.ai/docs/edgetpu/models-intro, "Supported
operations"), and that tensors be 8-bit, of fixed size, and wider than 1 in their three innermost
dimensions at most. The chip takes one subgraph: from the first operation that does not map on, all
that follow run on the CPU. The compiler (16.0 of 2021 is the last) is closed; where
``edgetpu_compiler`` is on the PATH, it is asked as well.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from covid_edge.errors import CovidEdgeError
from covid_edge_convert.tflite_file import kind_of, read_model

ON_CHIP = 8_000_000  # bytes for weights; what else the chip keeps there makes it a little less
COMPILER = "edgetpu_compiler"
TIMEOUT = 900  # seconds for a modality's files

# Operation → the highest version that a compiler of 2021 can know: TensorFlow Lite's of that year,
# less where a refusal was reported (google-coral/edgetpu #631, #845, #879).
VERSIONS = {
    "ADD": 4,
    "AVERAGE_POOL_2D": 3,
    "CONCATENATION": 3,
    "CONV_2D": 5,
    "DEPTHWISE_CONV_2D": 6,
    "EXPAND_DIMS": 1,
    "FULLY_CONNECTED": 9,
    "L2_NORMALIZATION": 2,
    "LOGISTIC": 3,
    "LSTM": 4,
    "MAXIMUM": 4,
    "MAX_POOL_2D": 3,
    "MEAN": 3,
    "MINIMUM": 4,
    "MUL": 4,
    "PACK": 3,
    "PAD": 4,
    "PRELU": 1,
    "QUANTIZE": 2,
    "REDUCE_MAX": 2,
    "REDUCE_MIN": 2,
    "RELU": 2,
    "RELU6": 2,
    "RELU_N1_TO_1": 1,
    "RESHAPE": 1,
    "RESIZE_BILINEAR": 3,
    "RESIZE_NEAREST_NEIGHBOR": 3,
    "RSQRT": 2,
    "SLICE": 3,
    "SOFTMAX": 3,
    "SPACE_TO_DEPTH": 2,
    "SPLIT": 4,
    "SQUARED_DIFFERENCE": 2,
    "SQUEEZE": 1,
    "STRIDED_SLICE": 4,
    "SUB": 5,
    "SUM": 1,
    "TANH": 3,
    "TRANSPOSE": 4,
    "TRANSPOSE_CONV": 3,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": 3,
}
# Positions that a mean was reported to map over; one over 256x128 did not (#461).
MEAN_POSITIONS = 64 * 128
SOFTMAX_ELEMENTS = 16_000

_BYTES = (schema.TensorType.INT8, schema.TensorType.UINT8)
# A constant may also be a bias, a shape or axes.
_CONSTANTS = (*_BYTES, schema.TensorType.INT32)
_TYPES = {value: name for name, value in vars(schema.TensorType).items() if name[0] != "_"}


class EdgeTPUError(CovidEdgeError):
    """A file that the Edge TPU does not run, or not whole."""

    exit_code = 1


@dataclass(frozen=True)
class Operation:
    """One operation of a graph."""

    kind: str  # as in the schema: CONV_2D
    tensor: str  # name of its first output
    why_not: str | None  # it maps, if there is none


@dataclass(frozen=True)
class Check:
    """What can be said of a file without a compiler."""

    path: Path
    operations: tuple[Operation, ...]
    parameters: int  # bytes of constants

    @property
    def on_cpu(self) -> tuple[Operation, ...]:
        """Operations that do not map, and all that come after the first of them."""
        stuck = [k for k, operation in enumerate(self.operations) if operation.why_not]
        return self.operations[stuck[0] :] if stuck else ()

    @property
    def streamed(self) -> int:
        """Bytes of weights that have no room on the chip and are sent at every run."""
        return max(0, self.parameters - ON_CHIP)

    def lines(self) -> list[str]:
        """The check in words: each operation that stays on the CPU, and a last line of figures."""
        found = [
            f"{self.path.name}: {operation.kind} {operation.tensor}: "
            + (operation.why_not or "comes after one that does not map")
            for operation in self.on_cpu
        ]
        return [
            *found,
            f"{self.path.name}: {len(self.on_cpu)} of {len(self.operations)} operations stay on "
            f"the CPU; {self.parameters / 1e6:.2f} MB of weights, {self.streamed / 1e6:.2f} MB of "
            "them streamed at every run",
        ]


@dataclass(frozen=True)
class Compiled:
    """What the compiler's log says of one file. Sizes in bytes."""

    model: str
    on_chip: int
    streamed: int
    subgraphs: int
    on_cpu: tuple[tuple[str, int, str], ...]  # (operation, count, why) of those that do not map


def check(path: Path) -> Check:
    """Read a TFLite file and hold it against what is documented.

    Raises
    ------
    EdgeTPUError
        If the file cannot be read, or is no TFLite file.
    """
    model = read_model(path, EdgeTPUError)
    operations, buffers = [], set()
    for graph in model.subgraphs:
        for operator in graph.operators:
            view = _View(model, graph, operator)
            operations.append(Operation(view.kind, view.outputs[0].name.decode(), _why_not(view)))
            buffers |= {tensor.buffer for tensor in view.inputs if view.data(tensor) is not None}
    size = sum(len(model.buffers[k].data) for k in buffers)
    return Check(path, tuple(operations), size)


class _View:
    """One operator with its tensors at hand."""

    def __init__(self, model, graph, operator):
        self.model = model
        self.kind = kind_of(model, operator)
        self.version = model.operatorCodes[operator.opcodeIndex].version
        self.options = operator.builtinOptions
        self.inputs = [graph.tensors[k] for k in operator.inputs if k >= 0]
        self.outputs = [graph.tensors[k] for k in operator.outputs]

    def data(self, tensor) -> np.ndarray | None:
        """Bytes of a constant; None for what is computed."""
        data = self.model.buffers[tensor.buffer].data
        return None if data is None or len(data) == 0 else np.asarray(data, np.uint8)

    def integers(self, position: int) -> list[int] | None:
        """A constant input of int32, flat; None if it is not one."""
        if len(self.inputs) <= position:
            return None
        data = self.data(self.inputs[position])
        return None if data is None else data.view("<i4").tolist()

    def axes(self, position: int = 1) -> list[int] | None:
        """Constant axes, counted from the front."""
        rank = len(self.inputs[0].shape)
        axes = self.integers(position)
        return None if axes is None else [axis % rank for axis in axes]


def _why_not(view: _View) -> str | None:
    """Why an operation does not map, or None."""
    if view.kind not in VERSIONS:
        return "not in the documented list"
    if view.version > VERSIONS[view.kind]:
        return f"version {view.version}, later than the compiler (at most {VERSIONS[view.kind]})"
    for tensor in (*view.inputs, *view.outputs):
        allowed = _BYTES if view.data(tensor) is None else _CONSTANTS
        if tensor.type not in allowed:
            return f"a tensor of {_TYPES[tensor.type].lower()}: {tensor.name.decode()}"
        if tensor.shapeSignature is not None and -1 in tensor.shapeSignature:
            return f"a tensor without fixed size: {tensor.name.decode()}"
        shape = [int(side) for side in (() if tensor.shape is None else tensor.shape)]
        # Weights of a convolution have four dimensions of their own.
        if view.data(tensor) is None and any(side != 1 for side in shape[:-3]):
            return f"a tensor of shape {shape}: only the last three sides may be other than 1"
    rule = _RULES.get(view.kind)
    return rule(view) if rule else None


def _no_activation(view: _View) -> str | None:
    if view.options.fusedActivationFunction != schema.ActivationFunctionType.NONE:
        return "a fused activation"
    return None


def _concatenation(view: _View) -> str | None:
    constants = [data for t in view.inputs if (data := view.data(t)) is not None]
    if constants and (len(view.inputs) != 2 or any(data.any() for data in constants)):
        return "a constant input that is not a padding of zeros"
    return _no_activation(view)


def _convolution(view: _View) -> str | None:
    if view.options.dilationWFactor != view.options.dilationHFactor:
        return "dilation differs in x and y"
    return _constant_weights(view)


def _constant_weights(view: _View) -> str | None:
    if any(view.data(tensor) is None for tensor in view.inputs[1:]):
        return "weights that are computed"
    return None


def _fully_connected(view: _View) -> str | None:
    if view.options.weightsFormat != schema.FullyConnectedOptionsWeightsFormat.DEFAULT:
        return "weights in another format than the default"
    if len(view.inputs[1].quantization.scale) > 1:
        return "a scale for each row of the weights (compile dense layers per tensor)"
    if any(side != 1 for side in view.outputs[0].shape[:-1]):
        return "an output of more than one dimension"
    return _constant_weights(view)


def _reduction(view: _View) -> str | None:
    axes, shape = view.axes(), [int(side) for side in view.inputs[0].shape]
    if axes is None:
        return "axes that are computed"
    if 0 in axes and len(shape) > 1:
        return "a reduction over the batch"
    if view.kind == "MEAN":
        if len(shape) - 1 in axes and shape[-1] % 4:
            return f"a mean over {shape[-1]} channels, no multiple of 4"
        positions = int(np.prod([shape[axis] for axis in axes]))
        if positions > MEAN_POSITIONS:
            return f"a mean over {positions} positions (pool in two steps)"
    return None


def _pad(view: _View) -> str | None:
    sides = view.integers(1)
    if sides is None:
        return "padding that is computed"
    return "padding of the batch" if any(sides[:2]) and len(sides) > 2 else None


def _pack(view: _View) -> str | None:
    return "packing along the batch" if view.options.axis == 0 else None


def _split(view: _View) -> str | None:
    axis = view.integers(0)  # SPLIT's first input
    if axis is None:
        return "an axis that is computed"
    return "a split of the batch" if axis[0] % len(view.inputs[1].shape) == 0 else None


def _strided_slice(view: _View) -> str | None:
    strides = view.integers(3)
    if strides is None or any(stride != 1 for stride in strides):
        return "strides other than 1"
    if view.options.ellipsisMask or view.options.newAxisMask:
        return "an ellipsis or a new axis"
    return None


def _softmax(view: _View) -> str | None:
    shape = [int(side) for side in view.inputs[0].shape]
    if any(side != 1 for side in shape[:-1]) or shape[-1] > SOFTMAX_ELEMENTS:
        return f"a softmax over {shape}, not a vector of at most {SOFTMAX_ELEMENTS}"
    return None


def _prelu(view: _View) -> str | None:
    if view.data(view.inputs[1]) is None or any(side != 1 for side in view.inputs[1].shape[:-1]):
        return "a slope that is not a constant vector"
    return None


_RULES = {
    "AVERAGE_POOL_2D": _no_activation,
    "CONCATENATION": _concatenation,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "FULLY_CONNECTED": _fully_connected,
    "MAX_POOL_2D": _no_activation,
    "MEAN": _reduction,
    "PACK": _pack,
    "PAD": _pad,
    "PRELU": _prelu,
    "REDUCE_MAX": _reduction,
    "REDUCE_MIN": _reduction,
    "SOFTMAX": _softmax,
    "SPLIT": _split,
    "STRIDED_SLICE": _strided_slice,
    "SUM": _reduction,
}


def compile_files(paths: Sequence[Path], folder: Path) -> list[Compiled] | None:
    """Compile files together, so that they share the chip, the first having the first choice.

    Parameters
    ----------
    paths : sequence of Path
    folder : Path
        Where ``NAME_edgetpu.tflite`` and the compiler's logs go.

    Returns
    -------
    list of Compiled, or None where there is no compiler.

    Raises
    ------
    EdgeTPUError
        If the compiler fails, or says what `read_log` does not understand.
    """
    compiler = shutil.which(COMPILER)
    if compiler is None:
        return None
    command = [compiler, "-s", "-o", str(folder), *map(str, paths)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EdgeTPUError(f"{compiler} did not finish: {error}") from None
    names = ", ".join(path.name for path in paths)
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise EdgeTPUError(
            f"{COMPILER} cannot compile {names}: {said[-1] if said else 'it says nothing'}"
        )
    compiled = read_log(done.stdout)
    if len(compiled) != len(paths):
        raise EdgeTPUError(
            f"{COMPILER} was given {names} and its log tells of {len(compiled)} files: "
            "a version whose log is not known here."
        )
    return compiled


def read_log(text: str) -> list[Compiled]:
    """What ``edgetpu_compiler -s`` prints, by file."""
    found = []
    for part in re.split(r"^Input model: ", text, flags=re.MULTILINE)[1:]:
        sizes = dict(re.findall(r"^(O\w+-chip memory used for \w+).*: (\S+)$", part, re.MULTILINE))
        subgraphs = re.search(r"^Number of Edge TPU subgraphs: (\d+)$", part, re.MULTILINE)
        table = re.findall(r"^([A-Z]\w*) +(\d+) +(\S.*?)\s*$", part, re.MULTILINE)
        if subgraphs is None or len(sizes) != 2:
            continue
        found.append(
            Compiled(
                Path(part.splitlines()[0].strip()).name,
                _bytes(sizes["On-chip memory used for caching"]),
                _bytes(sizes["Off-chip memory used for streaming"]),
                int(subgraphs[1]),
                tuple((op, int(n), why) for op, n, why in table if why != "Mapped to Edge TPU"),
            )
        )
    return found


def _bytes(size: str) -> int:
    """``3.33MiB`` → 3491758."""
    number, unit = re.fullmatch(r"([\d.]+)([KMG]i)?B", size).groups()
    return round(float(number) * 1024 ** (" KMG".index(unit[0]) if unit else 0))


def refuse(checks: Sequence[Check], compiled: Sequence[Compiled] | None, allow: Set[str]) -> None:
    """Raise an EdgeTPUError for what is not allowed.

    Parameters
    ----------
    checks : sequence of Check
    compiled : sequence of Compiled, or None
    allow : set of str
        ``cpu``: operations that stay on the CPU; ``split``: more than one subgraph.
    """
    stuck = [(c.path.name, operation) for c in checks for operation in c.on_cpu[:1]]
    if stuck and "cpu" not in allow:
        name, first = stuck[0]
        raise EdgeTPUError(
            f"{name}: from {first.kind} {first.tensor} on ({first.why_not}) the graph stays on the "
            "CPU; change the graph, or give --allow-cpu."
        )
    for one in compiled or ():
        if one.subgraphs != 1 and "split" not in allow:
            raise EdgeTPUError(
                f"{one.model}: {COMPILER} makes {one.subgraphs} subgraphs of it, and every change "
                "between chip and CPU costs time; change the graph, or give --allow-split."
            )
        if one.on_cpu and "cpu" not in allow:
            named = ", ".join(f"{n} {op} ({why})" for op, n, why in one.on_cpu)
            raise EdgeTPUError(
                f"{one.model}: {COMPILER} leaves on the CPU {named}; change the graph, or give "
                "--allow-cpu."
            )
