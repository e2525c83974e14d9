# SPDX-License-Identifier: Apache-2.0
"""Four small classes over LiteRT and tflite-runtime: grey pixels in, numbers out.

`Interpreter` runs on the CPU or through a delegate library, `Chain` likewise a network that lies in
several files, `CachedInterpreter` one on the CPU whose packed weights lie in a file too,
`GpuNetwork` one on LiteRT's own GPU accelerator; what they take and return is the same.

Quantisation is the file's own affair: real value = scale * (stored value - zero_point), with the
scale and zero-point that each tensor carries.
"""

from __future__ import annotations

import functools
import importlib
import math
import os
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from .errors import BundleError, DeviceError

__all__ = [
    "CachedInterpreter",
    "Chain",
    "GpuNetwork",
    "Interpreter",
    "runtime",
    "runtime_build",
    "runtime_version",
]

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


def runtime_build() -> str:
    """Return what tells one installed build of LiteRT from another, without importing metadata.

    Raises
    ------
    OSError
        There is no LiteRT of the kind that has :class:`CachedInterpreter`.
    """
    import ai_edge_litert

    about = os.stat(os.path.join(*ai_edge_litert.__path__, "libpywrap_litert_common.so"))
    return f"{ai_edge_litert.__version__} {about.st_size} {about.st_mtime_ns}"


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
    delegate : str, optional
        Delegate library (a path, or a name that the loader finds) that shall compute the network.

    Attributes
    ----------
    input_shape : tuple of int
        (height, width)
    output_size : int
        Length of the vector that `run` returns.

    Raises
    ------
    DeviceError
        No interpreter is installed; or the delegate cannot be loaded, or computes nothing of it.
    BundleError
        The interpreter cannot load the file, or its input is not a grey picture.
    """

    def __init__(
        self, path: str | os.PathLike[str], threads: int = 1, delegate: str | None = None
    ) -> None:
        self._describe(path, _loaded(path, threads, delegate))

    def _describe(self, path: str | os.PathLike[str], network: Any) -> None:
        self._network = network
        self._input = network.get_input_details()[0]
        outputs = network.get_output_details()
        self._output = outputs[0]  # further ones are for heatmaps
        self._described = {output["index"]: output for output in outputs}
        self.input_shape = _picture_shape(path, self._input["shape"].tolist())
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
        DeviceError
            The device failed.
        """
        return _dequantize(self._run(pixels).reshape(-1), *self._output["quantization"])

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        """Return the first output as it is stored, a copy."""
        self._network.set_tensor(self._input["index"], self._taken(pixels))
        return _computed(self._network, self._output)

    def _taken(self, pixels: np.ndarray) -> np.ndarray:
        """Return a picture as the input stores it: (1, height, width, 1)."""
        _check_pixels(pixels, self.input_shape)
        stored = _quantize(pixels, self._input["dtype"], *self._input["quantization"])
        return stored[np.newaxis, :, :, np.newaxis]

    def stored(self, tensor: int) -> np.ndarray:
        """Return a constant or output as it is stored, of any type.

        It is a view that must be let go before the next :meth:`run`.

        Raises
        ------
        ValueError
            There is no such tensor, or nothing in it.
        """
        return self._network.tensor(tensor)()

    def scales(self, tensor: int) -> np.ndarray:
        """Return what one step of each of a tensor's channels is worth: float32, one or several."""
        scales = self._details(tensor)["quantization_parameters"]["scales"]
        return scales if len(scales) else np.ones(1, np.float32)

    def values(self, tensor: int) -> np.ndarray:
        """Return what an output of one scale, or such a constant, stands for: float32, a copy.

        Raises
        ------
        ValueError
            As :meth:`stored`.
        """
        return _dequantize(self.stored(tensor), *self._details(tensor)["quantization"])

    def is_positive(self, tensor: int) -> np.ndarray:
        """Return where the values of an output of one scale are 0 or more: bool.

        Raises
        ------
        ValueError
            As :meth:`stored`.
        """
        _, zero_point = self._details(tensor)["quantization"]
        return self.stored(tensor) >= zero_point

    def _details(self, tensor: int) -> dict[str, Any]:
        if tensor not in self._described:
            # The public get_tensor_details describes all the hundreds there are, each time.
            self._described[tensor] = self._network._get_tensor_details(tensor, 0)
        return self._described[tensor]


class Chain:
    """The same as `Interpreter`, of encoders that all take the picture, and a head.

    The head takes the numbers that the encoders give as they are stored.

    Parameters
    ----------
    encoders : sequence of str or path-like
        TFLite files, each as `Interpreter` takes it, in the order of the head's inputs.
    head : str or path-like
        TFLite file whose inputs are of the shapes, types and scales of the encoders' outputs.
    threads, delegate
        As of `Interpreter`, for each file.

    Attributes
    ----------
    input_shape : tuple of int
        (height, width)
    output_size : int
        Length of the vector that `run` returns.

    Raises
    ------
    DeviceError
        As `Interpreter`.
    BundleError
        As `Interpreter`; or the files do not fit together.
    """

    def __init__(
        self,
        encoders: Sequence[str | os.PathLike[str]],
        head: str | os.PathLike[str],
        threads: int = 1,
        delegate: str | None = None,
    ) -> None:
        self._encoders = [Interpreter(path, threads, delegate) for path in encoders]
        self._head = _loaded(head, threads, delegate)
        self._inputs = self._head.get_input_details()
        self._output = self._head.get_output_details()[0]
        given = [encoder._output for encoder in self._encoders]
        fits = len(given) == len(self._inputs) and all(map(_alike, given, self._inputs))
        if not fits or len({encoder.input_shape for encoder in self._encoders}) != 1:
            raise BundleError(
                f"{head} does not take what {', '.join(map(str, encoders))} give of one picture"
            )
        self.input_shape = self._encoders[0].input_shape
        self.output_size = int(np.prod(self._output["shape"]))

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Run the network on one picture; as :meth:`Interpreter.run`."""
        for encoder, taken in zip(self._encoders, self._inputs):
            self._head.set_tensor(taken["index"], encoder._run(pixels))
        answer = _computed(self._head, self._output)
        return _dequantize(answer.reshape(-1), *self._output["quantization"])


class CachedInterpreter(Interpreter):
    """The same as `Interpreter` on the CPU, with the weights that XNNPACK has packed in a file.

    It loads sooner and takes less memory, which processes share. But while it runs, no other thread
    of the process does: LiteRT's CompiledModel does not let go of Python's lock.

    Parameters
    ----------
    path : str or path-like
        TFLite file as `Interpreter` takes it.
    threads : int
        Threads of the interpreter.
    weights : str
        File that a `CachedInterpreter` wrote for the same network, LiteRT and processor, which is
        trusted; or an empty one, which is written. If it cannot be, LiteRT ends the process.

    Raises
    ------
    Exception
        Whatever a LiteRT raises that has no such thing, or cannot load the network.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int, weights: str) -> None:
        from ai_edge_litert import compiled_model as litert

        _, module = runtime()
        # CompiledModel knows neither scales nor constants: an interpreter that is never made ready
        # to run says those.
        self._describe(path, module.Interpreter(model_path=os.fspath(path)))
        options = litert.Options(
            hardware_accelerators=litert.HardwareAccelerator.CPU,
            cpu_options=litert.CpuOptions(num_threads=threads, xnnpack_weight_cache_path=weights),
        )
        self._compiled = litert.CompiledModel.from_file(
            os.fspath(path), environment=_environment(), options=options
        )
        self._inputs = self._compiled.create_input_buffers(0)
        self._outputs = self._compiled.create_output_buffers(0)
        (signature,) = self._network._get_full_signature_list().values()
        ((_, names),) = self._compiled.get_signature_list().items()
        numbers = [signature["outputs"][name] for name in names["outputs"]]
        self._buffers = dict(zip(numbers, self._outputs))

    def _run(self, pixels: np.ndarray) -> np.ndarray:
        self._inputs[0].write(self._taken(pixels))
        try:
            self._compiled.run_by_index(0, self._inputs, self._outputs)
        except RuntimeError as error:
            raise DeviceError(f"a network cannot be run: {_first(error)}") from error
        return self.stored(self._output["index"])

    def stored(self, tensor: int) -> np.ndarray:
        """Return a constant or output as it is stored; as :meth:`Interpreter.stored`."""
        if tensor not in self._buffers:
            return super().stored(tensor)
        shape, dtype = self._details(tensor)["shape"], self._details(tensor)["dtype"]
        return self._buffers[tensor].read(int(np.prod(shape)), dtype).reshape(shape)


class GpuNetwork:
    """The same as `Interpreter`, computed whole by LiteRT's GPU accelerator, in float32.

    The accelerator would compute in 16 bits where the GPU can; then answers would no longer be
    those that the file was calibrated by.

    Parameters
    ----------
    path : str or path-like
        TFLite file with an input of shape (1, height, width, 1) and an output, both of float32.

    Attributes
    ----------
    input_shape : tuple of int
        (height, width)
    output_size : int
        Length of the vector that `run` returns.

    Raises
    ------
    DeviceError
        There is no accelerator or no GPU, or part of the network would be left to the CPU.
    BundleError
        The input is not a grey picture of float32.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            from ai_edge_litert import compiled_model as litert
        except ImportError as error:
            raise DeviceError(f"LiteRT's GPU accelerator cannot be loaded: {error}") from error
        options = litert.Options(
            hardware_accelerators=litert.HardwareAccelerator.GPU,
            gpu_options=litert.GpuOptions(enforce_f32=True),
        )
        try:
            self._network = litert.CompiledModel.from_file(
                os.fspath(path), environment=_environment(), options=options
            )
            whole = self._network.is_fully_accelerated()
        except (ValueError, RuntimeError, OSError) as error:  # which says no more than a line of C
            raise DeviceError(
                f"LiteRT's GPU accelerator cannot run {path}: there is no GPU with a Vulkan driver "
                "here, or it lacks an operation; use device 'cpu'"
            ) from error
        if not whole:
            raise DeviceError(f"LiteRT's GPU accelerator cannot run all operations of {path}")
        (key,) = self._network.get_signature_list()
        (taken,) = self._network.get_input_tensor_details(key).values()
        given, *_ = self._network.get_output_tensor_details(key).values()  # more are for heatmaps
        if {taken["dtype"], given["dtype"]} != {"float32"}:
            raise BundleError(f"{path} does not take and give float32, as files for a GPU must")
        self.input_shape = _picture_shape(path, taken["shape"])
        self.output_size = int(np.prod(given["shape"]))
        self._inputs = self._network.create_input_buffers(0)
        self._outputs = self._network.create_output_buffers(0)

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Run the network on one picture; as :meth:`Interpreter.run`."""
        _check_pixels(pixels, self.input_shape)
        self._inputs[0].write(pixels.astype(np.float32)[np.newaxis, :, :, np.newaxis])
        try:
            self._network.run_by_index(0, self._inputs, self._outputs)
        except RuntimeError as error:
            raise DeviceError(f"the GPU cannot run a network: {_first(error)}") from error
        return np.array(self._outputs[0].read(self.output_size, np.float32), np.float32).reshape(-1)


@functools.cache
def _environment() -> Any:
    """Return the process's one environment of LiteRT, with its GPU, which networks share."""
    from ai_edge_litert import compiled_model, environment

    folder = os.path.dirname(os.path.abspath(compiled_model.__file__))
    # Left alone, it loads the compilers of NPUs, and complains of each whose SDK is not here.
    none = os.path.join(folder, "tflite")
    return environment.Environment.create(
        runtime_path=folder, compiler_plugin_path=none, dispatch_library_path=none
    )


def _loaded(path: str | os.PathLike[str], threads: int, delegate: str | None) -> Any:
    """Return the interpreter's own object, ready to run."""
    package, module = runtime()
    options = {"model_path": os.fspath(path), "num_threads": threads}
    if delegate is not None:
        options["experimental_delegates"] = [_load_delegate(module, delegate)]
    try:
        network = module.Interpreter(**options)
        if delegate is not None:
            _check_delegated(network, path, delegate)
        network.allocate_tensors()
    except (ValueError, RuntimeError, OSError) as error:
        if delegate is not None:
            raise DeviceError(f"{path} cannot be run by {delegate}: {_first(error)}") from error
        raise BundleError(f"{path} cannot be loaded by {package}: {_first(error)}") from error
    return network


def _computed(network: Any, output: dict[str, Any]) -> np.ndarray:
    """Run the network on the inputs that are set; return an output as it is stored, a copy."""
    try:
        network.invoke()
    except RuntimeError as error:  # of a delegate: its device may have gone
        raise DeviceError(f"a network cannot be run: {_first(error)}") from error
    return network.get_tensor(output["index"])


def _alike(given: dict[str, Any], taken: dict[str, Any]) -> bool:
    """Whether the numbers of one tensor mean the same in another."""
    (scale, zero_point), (other_scale, other_zero_point) = (
        given["quantization"],
        taken["quantization"],
    )
    return (
        given["dtype"] == taken["dtype"]
        and given["shape"].tolist() == taken["shape"].tolist()
        and math.isclose(scale, other_scale, rel_tol=1e-5)
        and zero_point == other_zero_point
    )


def _load_delegate(module: ModuleType, library: str) -> object:
    import ctypes

    try:
        # Looked at first, since an error inside load_delegate leaves a half-made object behind.
        if not hasattr(ctypes.PyDLL(library), "tflite_plugin_create_delegate"):
            raise DeviceError(f"{library} is no delegate library of TensorFlow Lite")
        return module.load_delegate(library)
    except (ValueError, OSError) as error:
        raise DeviceError(
            f"the delegate library {library} cannot be loaded: {_first(error)}; install it, name "
            "another (--delegate) or use device 'cpu'"
        ) from error


def _check_delegated(network: Any, path: str | os.PathLike[str], delegate: str) -> None:
    # Before tensors are allocated, which is when the interpreter's own delegate takes the rest.
    if not any(op["op_name"] == "DELEGATE" for op in network._get_ops_details()):
        raise DeviceError(f"{delegate} computes no operation of {path}: it is not made for it")


def _first(error: Exception) -> str:
    """Return an error's first line."""
    return (str(error).strip() or type(error).__name__).split("\n")[0]


def _picture_shape(path: str | os.PathLike[str], shape: Sequence[int]) -> tuple[int, int]:
    shape = tuple(shape)
    if len(shape) != 4 or shape[0] != 1 or shape[3] != 1:
        raise BundleError(f"{path} takes an input of shape {shape}, not (1, height, width, 1)")
    return shape[1:3]


def _check_pixels(pixels: np.ndarray, shape: tuple[int, int]) -> None:
    if pixels.dtype != np.uint8 or pixels.shape != shape:
        raise ValueError(
            f"pixels must be uint8 of shape {shape}, not {pixels.dtype} of shape {pixels.shape}"
        )


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
