# SPDX-License-Identifier: Apache-2.0
"""Weights out of an older ``.pth`` file, without PyTorch.

Before its version 1.6 PyTorch saved a state dict as five pickles (magic number, protocol, platform,
the dict with its tensors' storages left out, the storages' keys), then each storage as its length
and its bytes (``torch.serialization._legacy_save``). No class but the few that such a file needs
can be named in it, so reading one runs no code of the file's own.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Tensor(NamedTuple):
    """What ``torch._utils._rebuild_tensor_v2`` is called with; the rest is about gradients."""

    storage: tuple  # ("storage", dtype, key, device, length, view)
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *arguments: _Tensor(*arguments[:4])
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a file of weights")

    def persistent_load(self, pid):
        return pid


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors of a state dict.

    Parameters
    ----------
    path : Path
        A file that PyTorch before 1.6 wrote, of float32 and int64 tensors on the CPU.

    Returns
    -------
    dict
        Name → contiguous array.

    Raises
    ------
    pickle.UnpicklingError
        If the file is none of those.
    """
    with open(path, "rb") as stream:
        magic, _protocol, _platform = (_Unpickler(stream).load() for _ in range(3))
        if magic != _MAGIC:
            raise pickle.UnpicklingError(f"{path} is no file of weights of PyTorch before 1.6")
        state, keys = _Unpickler(stream).load(), _Unpickler(stream).load()
        dtypes = {tensor.storage[2]: tensor.storage[1] for tensor in state.values()}
        storages = {}
        for key in keys:
            length = int(np.frombuffer(stream.read(8), "<i8")[0])
            content = stream.read(length * dtypes[key].itemsize)
            storages[key] = np.frombuffer(content, dtypes[key])

    def array(tensor: _Tensor) -> np.ndarray:
        data = storages[tensor.storage[2]][tensor.offset :]
        steps = [step * data.itemsize for step in tensor.strides]
        return np.lib.stride_tricks.as_strided(data, tensor.shape, steps).copy()

    return {name: array(tensor) for name, tensor in state.items()}
