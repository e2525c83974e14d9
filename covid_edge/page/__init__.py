# SPDX-License-Identifier: Apache-2.0
"""``--report FILE``: one page of HTML that says to people what a JSON line says to programs.

The page needs nothing but itself: pictures are in it, style and script too (``page.css``,
``page.js``), and by its Content-Security-Policy a browser loads and runs nothing else.

::

    while scans are answered    FILE.part    head, "not finished", one section a scan or CT series
    at the end                  FILE         head, overview, the same sections, foot

so that memory does not depend on how many scans there are, and a run that is broken off leaves a
page that can be read.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ..errors import CovidEdgeError
from ..outfile import OutFile
from ..report import record
from . import sections
from .pictures import shown

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..errors import ScanError
    from ..predictor import Prediction
    from ..study import Study

__all__ = ["Page"]

#: Bytes of the overview's rows that are held in memory: those of some 3,000 scans.
_ROWS = 1 << 20


class Page:
    """A page that grows by a section a scan, and is complete or absent (`covid_edge.outfile`).

    Parameters
    ----------
    path : str
        The file.
    bundle : Bundle
        The one that answers.
    window : (float, float), optional
        Centre and width that DICOM files are looked at with, whatever they say.

    Raises
    ------
    UsageError
        No such file can be written.
    """

    def __init__(
        self, path: str, bundle: Bundle, window: tuple[float, float] | None = None
    ) -> None:
        self._bundle = bundle
        self._window = window
        self._identity = {
            "name": bundle.name,
            "version": bundle.version,
            "sha256": bundle.sha256,
        }
        self._path = path
        self._verdicts: Counter[str] = Counter()
        self._count = 0
        self._head = sections.head(bundle)
        self._sections: OutFile | None = OutFile(path, self._head + sections.NOT_FINISHED)
        self._begin = self._sections.size
        # Where many rows go to, the rest has to find room too.
        folder = os.path.dirname(self._sections.path)
        self._rows = tempfile.SpooledTemporaryFile(_ROWS, dir=folder)  # noqa: SIM115

    def add(self, outcome: Prediction | ScanError | Study) -> None:
        """Write one section, whole or not at all.

        Raises
        ------
        CovidEdgeError
            It cannot be written.
        """
        said = record(outcome, self._identity)
        scan = sections.Section(self._count + 1, said, self._bundle)
        self._sections.write(scan.html(*shown(outcome, self._window)))
        with self._told():
            self._rows.write(scan.row().encode("utf-8", "backslashreplace"))
        self._count += 1
        if said["status"] != "series":  # its slices have been counted
            self._verdicts[scan.verdict] += 1

    def finish(self) -> None:
        """Put the overview before the sections, and give the file its name.

        Raises
        ------
        CovidEdgeError
            That cannot be done. The sections remain, as :meth:`stop` leaves them.
        """
        whole = OutFile(self._path)
        try:
            with self._told():
                self._put_together(whole)
            whole.finish()
        except BaseException:
            whole.discard()
            raise
        self._rows.close()
        self._sections.discard()
        self._sections = None

    def stop(self) -> str | None:
        """End unfinished; return the name of the file that keeps the sections, if there are any."""
        if self._sections is None:
            return None
        with suppress(OSError):  # what it could not write before, it tries again
            self._rows.close()
        if self._sections.size > self._begin:
            with suppress(CovidEdgeError):  # without its foot the page can be read too
                self._sections.write(sections.foot(self._bundle))
            return self._sections.keep()
        self._sections.discard()
        return None

    def _put_together(self, whole: OutFile) -> None:
        whole.write(self._head)
        if sum(self._verdicts.values()) > 1:
            whole.write(sections.overview_begin(self._verdicts))
            self._rows.seek(0)
            whole.copy(self._rows)
            whole.write(sections.OVERVIEW_END)
        with open(self._sections.part, "rb") as file:
            file.seek(self._begin)
            whole.copy(file)
        whole.write(sections.foot(self._bundle))

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CovidEdgeError(f"{self._path} cannot be written: {error.strerror}") from None
