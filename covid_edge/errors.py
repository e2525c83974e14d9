# SPDX-License-Identifier: Apache-2.0
"""Everything that covid-edge raises on purpose.

::

    CovidEdgeError
    ├── UsageError    2   what was asked for does not exist (also a ValueError)
    ├── ScanError     3   a file could not be read as a scan (also a ValueError)
    ├── BundleError   5   a bundle is damaged, incomplete or of another schema
    ├── DeviceError   6   no interpreter, or no such device, on this machine
    ├── WorkerError   7   an executor or cluster cannot be reached, or lost a scan
    └── SlowerError   8   answers take longer than in the baseline (`covid-edge bench --compare`)

The number is the exit code of the command line. A scan that is read but refused (not a chest
scan) is no error: it is an answer, a :class:`~covid_edge.Prediction` with status ``"refused"``.
Each message is one sentence that says what was tried, what was found and what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .files import Slice

__all__ = [
    "BundleError",
    "CovidEdgeError",
    "DeviceError",
    "ScanError",
    "SlowerError",
    "UsageError",
    "WorkerError",
]


class CovidEdgeError(Exception):
    """Base of all errors raised by covid-edge."""

    exit_code = 1


class UsageError(CovidEdgeError, ValueError):
    """An argument names something that does not exist."""

    exit_code = 2


class ScanError(CovidEdgeError, ValueError):
    """A file could not be read as one whole picture.

    Parameters
    ----------
    path : str
        The file, as it was given.
    reason : str
        What is wrong with it, without the file's name.
    series : Slice, optional
        Which slice of a series it should have been.
    """

    exit_code = 3

    def __init__(self, path: str, reason: str, series: Slice | None = None) -> None:
        super().__init__(path, reason, series)
        self.path = path
        self.reason = reason
        self.series = series

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class BundleError(CovidEdgeError):
    """A bundle cannot be used as it is."""

    exit_code = 5


class DeviceError(CovidEdgeError):
    """This machine has no interpreter or device to run on."""

    exit_code = 6


class WorkerError(CovidEdgeError):
    """What was to answer elsewhere cannot be reached, or was lost at work."""

    exit_code = 7


class SlowerError(CovidEdgeError):
    """Answers take longer than in the baseline that they were compared with."""

    exit_code = 8
