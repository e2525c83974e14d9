# SPDX-License-Identifier: Apache-2.0
"""A file that grows while scans are answered, and is complete or absent.

It is written beside its name, with ``.part`` added, and takes its name when it is complete. What a
broken run leaves is that part, which holds whole pieces only (a line of a table, a section of a
page): nothing that was answered is lost, and nothing under the name itself is ever unfinished.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from itertools import count
from typing import BinaryIO

from .errors import CovidEdgeError, UsageError
from .files import SUFFIXES

__all__ = ["OutFile"]

_BLOCK = 1 << 20  # bytes copied at a time


class OutFile:
    """A file to be, open for writing beside its name.

    Parameters
    ----------
    path : str
        Its name. A file of that name stays as it is until :meth:`finish` replaces it.
    begin : str
        The first piece.

    Attributes
    ----------
    path : str
        Its name, links followed.
    size : int
        Its length in bytes: the end of the last whole piece.
    part : str
        What it is called until it is finished: ``.part`` added, or ``.part-2`` and so on where an
        earlier run has left one, or another is writing one.

    Raises
    ------
    UsageError
        No such file can be written, or the name is that of a picture or of no regular file: a
        scan given where the option's own file was forgotten shall not be overwritten.
    """

    def __init__(self, path: str, begin: str = "") -> None:
        self.path = os.path.realpath(path)
        if self.path.lower().endswith(SUFFIXES):
            raise UsageError(f"{path} is named like a picture: it would not be one; name another")
        if path == "-" or _is_a_stream(self.path):
            raise UsageError(f"{path} stands for what is written to already; name another file")
        if os.path.lexists(self.path) and not os.path.isfile(self.path):
            raise UsageError(f"{path} cannot be written: it is there, and not a regular file")
        try:
            self.part, self._file = _create(self.path)
        except (OSError, ValueError) as error:  # ValueError: a name with a null character
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"{path} cannot be written: {reason}") from None
        self.size = 0
        try:
            self.write(begin)
        except BaseException:
            self.discard()
            raise

    def write(self, piece: str) -> None:
        """Append a piece, whole or not at all; when it returns, other programs can read it.

        Text that UTF-8 has no form for (bytes of a file's name that are no text) is written as
        JSON writes it: ``\\udcff``.

        Raises
        ------
        CovidEdgeError
            It cannot be written: the disk is full, for one.
        """
        self._append(piece.encode("utf-8", "backslashreplace"))

    def copy(self, file: BinaryIO) -> None:
        """Append all that is left to read of another file.

        Raises
        ------
        CovidEdgeError
            It cannot be written.
        """
        while block := file.read(_BLOCK):
            self._append(block)

    def finish(self) -> None:
        """Give the file its name.

        Raises
        ------
        CovidEdgeError
            That cannot be done. The part remains.
        """
        try:
            os.fsync(self._file.fileno())  # or after a power cut the name may lead to nothing
            self._file.close()
            os.replace(self.part, self.path)
        except OSError as error:
            raise self._failed(error) from None

    def keep(self) -> str:
        """Close the part, which stays, and return its name."""
        self._file.close()
        return self.part

    def discard(self) -> None:
        """Remove the part."""
        self._file.close()
        with suppress(OSError):
            os.unlink(self.part)

    def _append(self, piece: bytes) -> None:
        rest = memoryview(piece)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except BaseException as error:  # an interruption too leaves no half a piece
            with suppress(OSError):
                self._file.seek(self.size)
                self._file.truncate()
            if isinstance(error, OSError):
                raise self._failed(error) from None
            raise
        self.size += len(piece)

    def _failed(self, error: OSError) -> CovidEdgeError:
        return CovidEdgeError(f"{self.path} cannot be written: {error.strerror}")


def _is_a_stream(path: str) -> bool:
    """Whether this is the file that stdout or stderr leads to, which must not be replaced."""
    for stream in (sys.stdout, sys.stderr):
        # There may be no such file, no such stream, or one that is not a file.
        with suppress(OSError, ValueError, AttributeError):
            if os.path.samestat(os.stat(path), os.fstat(stream.fileno())):
                return True
    return False


def _create(path: str) -> tuple[str, BinaryIO]:
    for number in count(1):
        part = f"{path}.part" if number == 1 else f"{path}.part-{number}"
        with suppress(FileExistsError):
            return part, open(part, "xb", buffering=0)
    raise AssertionError  # unreachable: count() has no end
