# SPDX-License-Identifier: Apache-2.0
"""What is in a TFLite file, by the schema: graphs, operations, tensors, constants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from covid_edge.errors import CovidEdgeError

# NumPy's names of what constants are stored as.
STORED = {
    schema.TensorType.FLOAT32: "<f4",
    schema.TensorType.INT8: "i1",
    schema.TensorType.INT32: "<i4",
}
KINDS = {value: name for name, value in vars(schema.BuiltinOperator).items() if name[0] != "_"}


def read_model(path: Path, refusal: type[CovidEdgeError]) -> schema.ModelT:
    """Parse a TFLite file.

    Parameters
    ----------
    path : Path
    refusal : type
        Of what is raised if the file cannot be read, or is no TFLite file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise refusal(f"{path} cannot be read: {error.strerror}.") from None
    if content[4:8] != b"TFL3":
        raise refusal(f"{path} is not a TFLite file.")
    return parse(content)


def parse(content: bytes) -> schema.ModelT:
    """Parse the bytes of a TFLite file."""
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))


def kind_of(model: schema.ModelT, operator) -> str:
    """Kind of an operation as the schema names it, CONV_2D; a custom one by its own name."""
    code = model.operatorCodes[operator.opcodeIndex]
    # Files of before 2020 know the first alone, and those of today say 127 there for what is later.
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    return code.customCode.decode() if code.customCode else KINDS[number]


def constant(tensor, data: np.ndarray) -> np.ndarray:
    """What a stored constant stands for: float32, from its TensorT and its bytes."""
    values = data.view(STORED[tensor.type]).reshape(tensor.shape)
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None:
        return values.astype(np.float32)
    shape = [1] * values.ndim
    if len(quantization.scale) > 1:
        shape[quantization.quantizedDimension] = -1
    scale, zero = (
        np.asarray(part).reshape(shape) for part in (quantization.scale, quantization.zeroPoint)
    )
    return ((values.astype(np.float64) - zero) * scale).astype(np.float32)
