# SPDX-License-Identifier: Apache-2.0
"""Which pictures are meant by the paths that were given, and what they are called."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from .errors import ScanError
from .scan import is_dicom

if TYPE_CHECKING:
    from .dicom import Layout

__all__ = ["DICOM_SUFFIXES", "SUFFIXES", "Slice", "Source", "find_scans", "name_scans"]

#: Endings, in lower case, of the pictures that are taken out of a folder.
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

#: Endings of DICOM files. A folder's other files are taken too if they begin as one does.
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")


class Slice(NamedTuple):
    """Which slice of which CT series: both are counted from 1, in the order of the answers."""

    number: int
    slice: int
    slices: int


@dataclass(frozen=True)
class Source:
    """Where one picture is.

    Attributes
    ----------
    path : str
        The file.
    frame : int or None
        Which frame of a DICOM file of several, from 1.
    alias : str or None
        What answers and errors call it; None: its path.
    series : Slice or None
        Which slice of a series it is, if it is one.
    """

    path: str
    frame: int | None = None
    alias: str | None = None
    series: Slice | None = None

    @classmethod
    def of(cls, path: str | os.PathLike[str] | Source) -> Source:
        """Return `path` itself if it is a Source, or that of a file."""
        return path if isinstance(path, Source) else cls(os.fspath(path))

    @property
    def name(self) -> str:
        return self.path if self.alias is None else self.alias

    def __str__(self) -> str:
        return self.name if self.frame is None else f"{self.name} frame {self.frame}"


def name_scans(
    found: Iterable[str | ScanError],
    frame: int | None = None,
    show_names: bool = False,
    sort: bool = False,
) -> Iterator[Source | ScanError]:
    """Yield the pictures in files: of a DICOM file each frame, under a name that tells nothing.

    DICOM files tend to be named after patients, and folders too: they are called by their place in
    the order of the answers, as ``scan 3``. Plain pictures keep their paths. The frames of a CT
    file of several are a series (:mod:`covid_edge.series`), in the order of their positions.

    Parameters
    ----------
    found : iterable of str or ScanError
        As :func:`find_scans` yields them.
    frame : int, optional
        The one frame that is wanted of each DICOM file, from 1; None is all.
    show_names : bool
        Whether DICOM files keep their paths too.
    sort : bool
        Whether to bring the CT slices of several files together as series too, where the first of
        each was found. All of `found` is then read before the first is yielded.
    """
    files: Iterable[list[_File]] = ([_look(path)] for path in found)
    if sort:
        files = [file for (file,) in files]
        if any(file.layout for file in files):
            from .series import in_series

            files = in_series(files, lambda file: file.layout)
        else:
            files = ([file] for file in files)
    place = series = 0
    for together in files:
        slices: list[Source | ScanError] = []
        for file in together:
            place += 1
            slices += file.pictures(place, frame, show_names)
        if len(slices) > 1 and together[0].layout.series is not None:
            series += 1
            for n, source in enumerate(slices, 1):
                yield replace(source, series=Slice(series, n, len(slices)))
        else:
            yield from slices


class _File(NamedTuple):
    """What was found, and which slices it holds if it is a DICOM file that can be read."""

    found: str | ScanError
    dicom: bool = False
    layout: Layout | None = None

    def pictures(
        self, place: int, frame: int | None, show_names: bool
    ) -> Iterator[Source | ScanError]:
        if isinstance(self.found, ScanError):
            yield self.found
            return
        path = self.found
        hidden = not show_names and (self.dicom or path.lower().endswith(DICOM_SUFFIXES))
        source = Source(path, frame if self.dicom else None, f"scan {place}" if hidden else None)
        if self.layout is None or self.layout.frames == 1 or frame is not None:
            yield source  # what is wrong with it is told when its turn comes
            return
        from .dicom import MAX_FRAMES
        from .series import in_order

        frames = self.layout.frames
        if frames > MAX_FRAMES:
            reason = (
                f"holds {frames} frames, more than the {MAX_FRAMES} gone through; choose --frame"
            )
            yield ScanError(source.name, reason)
            return
        for index in in_order(self.layout.planes) or range(frames):
            yield replace(source, frame=index + 1)


def _look(found: str | ScanError) -> _File:
    if isinstance(found, ScanError) or not is_dicom(found):
        return _File(found)
    from .dicom import read_layout

    try:
        with open(found, "rb") as file:
            return _File(found, True, read_layout(found, file))
    except (OSError, ScanError):
        return _File(found, True)


def find_scans(paths: Iterable[str], listing: Iterable[bytes]) -> Iterator[str | ScanError]:
    """Yield the file for a file, and for a folder the pictures in it, sorted by path.

    A file that is named is always yielded, whatever it is called and whether or not it exists. In a
    folder, searched to any depth but not through links to folders, only names that end like a
    picture's (:data:`SUFFIXES`, :data:`DICOM_SUFFIXES`) count, and files that begin as DICOM does
    (but for a DICOMDIR, which lists others); none that begins with a dot.

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
            if not name.startswith(".") and _is_picture(folder, name)
        ]
    for error in errors:
        yield ScanError(error.filename or top, f"cannot be opened: {error.strerror}")
    if not found and not errors:
        yield ScanError(top, "a folder that holds no pictures")
    yield from sorted(found)


def _is_picture(folder: str, name: str) -> bool:
    if name.lower().endswith((*SUFFIXES, *DICOM_SUFFIXES)):
        return True
    return name.upper() != "DICOMDIR" and is_dicom(os.path.join(folder, name))
