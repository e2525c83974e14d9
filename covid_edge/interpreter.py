# SPDX-License-Identifier: Apache-2.0
"""One small class over LiteRT and tflite-runtime: grey pixels in, numbers out.

Quantisation is the file's own affair: real value = scale * (stored value - zero_point), with the
scale and zero-point that each tensor carries.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType

import numpy as np

from .errors import BundleError, DeviceError

__all__ = ["Interpreter", "runtime", "runtime_version"]

# In order of preference: tflite-runtime is no longer maintained, but Coral boards have it.
_RUNTIMES = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
}


def runtime() -> tuple[str, ModuleType]:
    """Return the package name and the module of the TensorFlow Lite interpreter installed.

    Raises
    ------
    DeviceError
        There is none.
    """
    for package, module in _RUNTIMES.items():
        try:
            return package, importlib.import_module(module)
        except ImportError as error:
            absent = (module, module.partition(".")[0])
            if isinstance(error, ModuleNotFoundError) and error.name in absent:
                continue
            # Installed, but lacking something, or not for this machine or this numpy.
            raise DeviceError(f"{package} is installed but cannot be loaded: {error}") from error
    raise DeviceError("no TensorFlow Lite interpreter is installed; pip install ai-edge-litert")


def runtime_version(package: str) -> str:
    """Return the version of an interpreter package that :func:`runtime` named."""
    from importlib.metadata import PackageNotFoundError, version  # slow to import

    try:
        return version(package)
    except PackageNotFoundError:  # a board's own build, without metadata
        return "unknown"


class Interpreter:
    """A network with one grey picture for input and one vector for output.

    The file is mapped, not read: pages are loaded as they are needed and shared by processes.
    Not thread-safe.

    Parameters
    ----------
    path : str or path-like
        TFLite file with an input of shape (1, height, width, 1) of uint8, int8 or float32.
    threads : int
        Threads of the interpreter.

    Attributes
    ----------
    input_shape : tuple of int
        (height, width)
    output_size : int
        Length of the vector that `run` returns.

    Raises
    ------
    DeviceError
        No interpreter is installed.
    BundleError
        The interpreter cannot load the file, or its input is not a grey picture.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int = 1) -> None:
        package, module = runtime()
        try:
            self._network = module.Interpreter(model_path=os.fspath(path), num_threads=threads)
            self._network.allocate_tensors()
        except (ValueError, RuntimeError, OSError) as error:
            why = str(error).strip().split("\n")[0]
            raise BundleError(f"{path} cannot be loaded by {package}: {why}") from error
        self._input = self._network.get_input_details()[0]
        self._output = self._network.get_output_details()[0]
        shape = tuple(self._input["shape"].tolist())
        if len(shape) != 4 or shape[0] != 1 or shape[3] != 1:
            raise BundleError(f"{path} takes an input of shape {shape}, not (1, height, width, 1)")
        self.input_shape = shape[1:3]
        self.output_size = int(np.prod(self._output["shape"]))

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Run the network on one picture.

        Parameters
        ----------
        pixels : ndarray of uint8, shape `input_shape`
            Grey values 0 to 255.

        Returns
        -------
        ndarray of float32, shape (`output_size`,)
            The first output, dequantised; a copy.

        Raises
        ------
        ValueError
            `pixels` has another shape or type.
        """
        if pixels.dtype != np.uint8 or pixels.shape != self.input_shape:
            raise ValueError(
                f"pixels must be uint8 of shape {self.input_shape}, "
                f"not {pixels.dtype} of shape {pixels.shape}"
            )
        stored = _quantize(pixels, self._input["dtype"], *self._input["quantization"])
        self._network.set_tensor(self._input["index"], stored[np.newaxis, :, :, np.newaxis])
        self._network.invoke()
        answer = self._network.get_tensor(self._output["index"])  # a copy
        return _dequantize(answer.reshape(-1), *self._output["quantization"])


def _quantize(pixels: np.ndarray, dtype: type, scale: float, zero_point: int) -> np.ndarray:
    if dtype == np.uint8 and scale in (0.0, 1.0) and zero_point == 0:
        return pixels
    if scale == 0.0:  # a float input, which says so by having no scale
        return pixels.astype(dtype)
    limits = np.iinfo(dtype)
    stored = np.rint(pixels / scale) + zero_point
    return np.clip(stored, limits.min, limits.max).astype(dtype)


def _dequantize(stored: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    if scale == 0.0:
        return stored.astype(np.float32)
    # Widened first: int8 minus int8 would wrap.
    return np.float32(scale) * (stored.astype(np.int32) - zero_point).astype(np.float32)
