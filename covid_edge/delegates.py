# SPDX-License-Identifier: Apache-2.0
"""The devices that a network may be asked to run on, and whether this version can.

Only the CPU works today. GPU delegates and the EdgeTPU belong here when they come.
"""

from __future__ import annotations

from .errors import DeviceError, UsageError

__all__ = ["DEVICES", "check_device"]

#: Every name that is understood, and whether it can be used.
DEVICES = {"cpu": True, "gpu": False, "edgetpu": False}


def check_device(device: str) -> None:
    """Return if `device` can be used.

    Raises
    ------
    UsageError
        There is no device of that name.
    DeviceError
        There is, but this version cannot use it.
    """
    if device not in DEVICES:
        raise UsageError(f"no device is called {device!r}; there are {', '.join(DEVICES)}")
    if not DEVICES[device]:
        raise DeviceError(f"device {device!r} is not supported by this version; use 'cpu'")
