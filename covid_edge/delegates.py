# SPDX-License-Identifier: Apache-2.0
"""The devices that a network may run on, and which file of it each runs best."""

from __future__ import annotations

from .errors import DeviceError, UsageError

__all__ = ["DEVICES", "delegate_library", "runnable_targets"]

#: Every name that is understood; the last stands for the quickest of the others that works.
DEVICES = ("cpu", "gpu", "edgetpu", "auto")

#: What `runnable_targets` returns, by device and interpreter, None standing for any other.
#:
#: - LiteRT's XNNPACK computes 8-bit integers in a third of the time of float32. tflite-runtime 2.14
#:   does not use it for them on x86, where they then take three times as long as float32.
#: - A file of 16-bit weights is computed in float32 on the CPU and loads no quicker: it comes last.
#: - A GPU computes in floating point alone, and an EdgeTPU runs what was made for it alone.
_TARGETS = {
    ("cpu", "tflite-runtime"): ("fp32", "cpu-int8", "gpu-fp16"),
    ("cpu", None): ("cpu-int8", "fp32", "gpu-fp16"),
    ("gpu", None): ("gpu-fp16", "fp32"),
    ("edgetpu", None): ("edgetpu",),
}

_EDGETPU = "libedgetpu.so.1"


def runnable_targets(device: str, package: str) -> tuple[str, ...]:
    """Return the targets of files that a device runs well, the quickest first.

    Parameters
    ----------
    device : str
        One of :data:`DEVICES`, but not ``"auto"``.
    package : str
        The interpreter, as :func:`covid_edge.interpreter.runtime` names it.
    """
    return _TARGETS.get((device, package)) or _TARGETS[device, None]


def delegate_library(device: str, package: str, given: str | None = None) -> str | None:
    """Return the delegate library that a device is used through; None if none is needed.

    Parameters
    ----------
    device : str
        One of :data:`DEVICES`.
    package : str
        The interpreter.
    given : str, optional
        Library to use in place of the usual one.

    Raises
    ------
    UsageError
        There is no device of that name, or it takes no library.
    DeviceError
        The interpreter cannot use the device without a library.
    """
    if device not in DEVICES:
        raise UsageError(f"no device is called {device!r}; there are {', '.join(DEVICES)}")
    if given is not None:
        if device not in ("gpu", "edgetpu"):
            raise UsageError(f"device {device!r} takes no delegate library; 'gpu' and 'edgetpu' do")
        return given
    if device == "gpu" and package != "ai-edge-litert":
        raise DeviceError(
            f"{package} has no GPU accelerator of its own; install ai-edge-litert, name a delegate "
            "library (--delegate) or use device 'cpu'"
        )
    return _EDGETPU if device == "edgetpu" else None
