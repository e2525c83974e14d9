# SPDX-License-Identifier: Apache-2.0
"""What a heatmap needs, out of a network's own file: further outputs, and the plan of its head.

A network is encoders, each ending in a mean over a feature map, and dense layers with LeakyReLU
down to the logit. What the logit owes to each cell of a map is known exactly from the maps, the
layers' sums (whose signs choose the slopes) and the weights, which the file holds anyway. So the
file is given the maps and sums as further outputs, by some bytes at its end; all that it computes
with stays where it was, and the logit stays the first output.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from covid_edge.bundle import Bundle
from covid_edge.errors import UsageError
from covid_edge_convert.bundle import amended, file_entry
from covid_edge_convert.tflite_file import constant, kind_of, parse

# Fields in the vtables of TensorFlow Lite's schema: SubGraph.outputs and SignatureDef.outputs.
_OUTPUTS, _SIGNATURE_OUTPUTS = 8, 6


def explain(folder: Path) -> list[str]:
    """Give every network of a bundle, in place, what heatmaps need.

    Parameters
    ----------
    folder : Path
        A bundle. It is replaced whole or not at all.

    Returns
    -------
    list of str
        The files that were changed: those that did not have it yet.

    Raises
    ------
    BundleError
        ``folder`` is no sound bundle.
    UsageError
        A network is not of the form above.
    """
    models = [model for m in Bundle.load(folder).modalities.values() for model in m.models]
    if all(model.heatmap or model.target == "edgetpu" for model in models):
        return []
    with amended(folder) as (copy, manifest):
        models = [
            model
            for modality in manifest["modalities"].values()
            for model in modality["models"]
            if "heatmap" not in model and model["target"] != "edgetpu"
        ]
        for model in models:
            path = copy / model["file"]
            content = path.read_bytes()
            model["heatmap"] = head_plan(content, model["file"])
            path.write_bytes(with_outputs(content, outputs_of(model["heatmap"])))
            model.update(file_entry(path))
    return [model["file"] for model in models]


def with_outputs(content: bytes, tensors: list[int]) -> bytes:
    """Add tensors to the outputs of a TFLite file's first graph, after those it has.

    Longer lists, that of the graph and that of its signature (LiteRT wants them to agree), are
    written at the end and pointed at. Nothing else moves, so constants stay aligned, and two
    versions of a file differ by some bytes only.

    Parameters
    ----------
    content : bytes
        TFLite file.
    tensors : list of int
        Numbers of tensors in the graph. In the signature they are ``explain_0``, ``explain_1``...
    """
    model = schema.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)
    outputs = [*map(int, graph.OutputsAsNumpy()), *tensors]
    edited = bytearray(content)
    _repoint(edited, graph, _OUTPUTS, lambda builder: builder.CreateNumpyVector(np.int32(outputs)))
    for signature in map(model.SignatureDefs, range(model.SignatureDefsLength())):
        maps = [
            schema.TensorMapT.InitFromObj(signature.Outputs(k))
            for k in range(signature.OutputsLength())
        ]
        for number, tensor in enumerate(tensors):
            maps.append(schema.TensorMapT())
            maps[-1].name, maps[-1].tensorIndex = f"explain_{number}", tensor

        def vector(builder, maps=maps):
            packed = [one.Pack(builder) for one in maps]
            builder.StartVector(4, len(packed), 4)
            for one in reversed(packed):
                builder.PrependUOffsetTRelative(one)
            return builder.EndVector()

        _repoint(edited, signature, _SIGNATURE_OUTPUTS, vector)
    return bytes(edited)


def _repoint(edited: bytearray, table, slot: int, build) -> None:
    """Make the field of a table in the file point at something new, appended to the file.

    What `build` makes with a flatbuffers.Builder refers only to itself, by relative offsets.
    """
    import flatbuffers

    builder = flatbuffers.Builder()
    builder.Finish(build(builder))
    part = builder.Output()
    edited += bytes(-len(edited) % 16)
    field = table._tab.Pos + table._tab.Offset(slot)
    root = len(edited) + struct.unpack_from("<I", part)[0]
    struct.pack_into("<I", edited, field, root - field)  # offsets count from themselves
    edited += part


def outputs_of(plan: dict) -> list[int]:
    """The tensors of a plan that a run computes, and that must be outputs to be read."""
    layers = [layer for branch in plan["branches"] for layer in branch["layers"]] + plan["head"]
    sums = [layer["sum"] for layer in layers if "sum" in layer]
    return [branch["map"] for branch in plan["branches"]] + sums


def head_plan(content: bytes, name: str) -> dict:
    """The way from the encoders' last maps to the logit, as bundle.json has it.

    Parameters
    ----------
    content : bytes
        TFLite file of a network, of any precision.
    name : str
        What an error calls it.

    Returns
    -------
    dict
        ``branches``, in the order in which they are concatenated: each with its ``map`` and its
        ``layers``; and ``head``, the layers after that. A layer has ``weights``; if a LeakyReLU
        follows, ``sum``, what enters it, and its ``slope`` below zero; and ``scale`` if units are
        multiplied by a factor after that. Tensors go by number.

    Raises
    ------
    UsageError
        The network is of another form.
    """
    return Graph(content, name).plan()


class Graph:
    """A TFLite file's first graph, walked from its logit upwards.

    Parameters
    ----------
    content : bytes
        TFLite file.
    name : str
        What an error calls it.
    """

    def __init__(self, content: bytes, name: str) -> None:
        self.name = name
        self.model = parse(content)
        self.graph = self.model.subgraphs[0]
        self.makers = {int(o): op for op in self.graph.operators for o in op.outputs}

    def plan(self) -> dict:
        """See `head_plan`."""
        head, operator = self.layers(int(self.graph.outputs[0]))
        if self.kind(operator) == "CONCATENATION":
            branches = [self.layers(int(k)) for k in operator.inputs]
        else:
            head, branches = [], [(head, operator)]
        for _, start in branches:
            if self.kind(start) != "MEAN" or int(start.inputs[0]) not in self.makers:
                raise self.other_form()
        return {
            "branches": [
                {"map": int(start.inputs[0]), "layers": layers} for layers, start in branches
            ],
            "head": head,
        }

    def layers(self, tensor: int):
        """The dense layers that end in ``tensor``, and the operator that they begin after."""
        found = []
        slope, scale = 1.0, None
        while True:
            operator = self.makers.get(tensor)
            if operator is None:
                raise self.other_form()
            kind = self.kind(operator)
            if kind == "FULLY_CONNECTED" and not operator.builtinOptions.fusedActivationFunction:
                layer = {"weights": self.constant(int(operator.inputs[1]))}
                if slope != 1:
                    layer.update(sum=tensor, slope=round(slope, 6))
                if scale is not None:
                    layer["scale"] = scale
                found.append(layer)
                slope, scale = 1.0, None
            elif kind == "LEAKY_RELU":
                slope *= float(operator.builtinOptions.alpha)
            elif kind in ("MUL", "ADD") and slope == 1 and scale is None:  # of a BatchNorm
                if kind == "MUL":
                    scale = self.constant(int(operator.inputs[1]))
            elif slope == 1 and scale is None and kind in ("CONCATENATION", "MEAN"):
                return found[::-1], operator
            else:
                raise self.other_form()
            tensor = int(operator.inputs[0])

    def kind(self, operator) -> str:
        return kind_of(self.model, operator)

    def constant(self, tensor: int) -> int:
        """The constant that a tensor is, or (weights in float16) is made of."""
        operator = self.makers.get(tensor)
        if operator is not None and self.kind(operator) == "DEQUANTIZE":
            tensor = int(operator.inputs[0])
        if self.model.buffers[self.graph.tensors[tensor].buffer].data is None:
            raise self.other_form()
        return tensor

    def dense(self, weights: int) -> tuple[np.ndarray, np.ndarray]:
        """Kernel, float32 (outputs, inputs), and bias of the dense layer with these weights."""
        for operator in self.graph.operators:
            if self.kind(operator) == "FULLY_CONNECTED":
                kernel, bias = map(int, operator.inputs[1:3])
                if self.constant(kernel) == weights:
                    kernel = self.value(weights)
                    return kernel, np.zeros(len(kernel)) if bias < 0 else self.value(bias)
        raise KeyError(weights)

    def affine(self, scale: int) -> tuple[np.ndarray, np.ndarray]:
        """Factor and offset, float32 (units,), of the BatchNorm whose factor is this tensor."""
        (after,) = (op for op in self.graph.operators if scale in op.inputs)
        (offset,) = (op for op in self.graph.operators if op.inputs[0] == after.outputs[0])
        return self.value(scale).ravel(), self.value(int(offset.inputs[1])).ravel()

    def value(self, tensor: int) -> np.ndarray:
        """What a constant stands for, float32."""
        stored = self.graph.tensors[tensor]
        return constant(stored, np.asarray(self.model.buffers[stored.buffer].data, np.uint8))

    def other_form(self) -> UsageError:
        return UsageError(
            f"{self.name} cannot be explained: it is not encoders that end in a mean over a map, "
            "and dense layers with LeakyReLU after them"
        )
