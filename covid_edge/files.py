# SPDX-License-Identifier: Apache-2.0
"""Which files are meant by the paths that were given."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from .errors import ScanError

__all__ = ["SUFFIXES", "find_scans"]

#: Endings, in lower case, of the files that are taken out of a folder.
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def find_scans(paths: Iterable[str], listing: Iterable[bytes]) -> Iterator[str | ScanError]:
    """Yield the file for a file, and for a folder the pictures in it, sorted by path.

    A file that is named is always yielded, whatever it is called and whether or not it exists. In a
    folder, searched to any depth but not through links to folders, only names that end like a
    picture's (:data:`SUFFIXES`) and do not begin with a dot count.

    Parameters
    ----------
    paths : iterable of str
        Files, folders, and ``-`` for the list.
    listing : binary file or iterable of bytes
        More files and folders, one a line; read as they are yielded.

    Yields
    ------
    str or ScanError
        A file to read, or what is wrong: a folder, or one in it, cannot be opened or holds no
        pictures, or the list is empty.
    """
    for path in paths:
        if path == "-":
            yield from _read_list(listing)
        else:
            yield from _expand(path)


def _expand(path: str) -> Iterator[str | ScanError]:
    if os.path.isdir(path):
        yield from _search(path)
    else:
        yield path


def _read_list(listing: Iterable[bytes]) -> Iterator[str | ScanError]:
    empty = True
    for line in listing:
        path = os.fsdecode(line.rstrip(b"\r\n"))
        if path:
            empty = False
            yield from _expand(path)
    if empty:
        yield ScanError("-", "the list of paths on standard input is empty")


def _search(top: str) -> Iterator[str | ScanError]:
    errors: list[OSError] = []
    found = []
    for folder, folders, names in os.walk(top, onerror=errors.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            os.path.join(folder, name)
            for name in names
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        ]
    for error in errors:
        yield ScanError(error.filename or top, f"cannot be opened: {error.strerror}")
    if not found and not errors:
        yield ScanError(top, "a folder that holds no pictures")
    yield from sorted(found)
