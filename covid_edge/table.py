# SPDX-License-Identifier: Apache-2.0
"""``--csv FILE``: one row a scan and CT series, as RFC 4180 has it, in UTF-8."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .outfile import OutFile
from .report import record

if TYPE_CHECKING:
    from .errors import ScanError
    from .predictor import Prediction
    from .study import Study

__all__ = ["COLUMNS", "Table"]

#: The keys of a JSON line, those of an object in it after its own and a dot. IDs of DICOM files are
#: in JSON alone.
COLUMNS = (
    "file",
    "status",
    "modality",
    "label",
    "labels",
    "probability",
    "threshold",
    "operating_point",
    "network.file",
    "network.device",
    "refusal",
    "reason",
    "dicom.modality",
    "dicom.frame",
    "dicom.frames",
    "dicom.contradictions",
    "latency_ms.read",
    "latency_ms.preprocess",
    "latency_ms.inference",
    "latency_ms.total",
    "bundle.name",
    "bundle.version",
    "bundle.sha256",
    "heatmap",
    "series.number",
    "series.slice",
    "series.slices",
    "series.answered",
    "series.refused",
    "series.failed",
    "series.rule",
)

# A cell that begins so is run as a formula by spreadsheets, in some languages also if the sign is
# of full width (OWASP, "CSV Injection"). An apostrophe before it makes it text.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


class Table:
    """A table that grows by a row a scan, and is complete or absent (:mod:`covid_edge.outfile`).

    Several `labels` stand in one cell, with ``|`` between them; what is null in JSON is empty.
    Text is quoted always, numbers never, so that a name with a semicolon stays in its cell where
    spreadsheets separate by that. Text that a spreadsheet would run begins with an apostrophe.

    Parameters
    ----------
    path : str
        The file.
    bundle : dict of str
        ``name``, ``version`` and ``sha256`` of the bundle that answers.

    Raises
    ------
    UsageError
        No such file can be written.
    """

    def __init__(self, path: str, bundle: dict[str, str]) -> None:
        self._bundle = bundle
        self._rows = 0
        self._file: OutFile | None = OutFile(path, _line(COLUMNS))

    def add(self, outcome: Prediction | ScanError | Study) -> None:
        """Write one row, whole or not at all.

        Raises
        ------
        CovidEdgeError
            It cannot be written.
        """
        cells = _flat(record(outcome, self._bundle))
        self._file.write(_line([_cell(cells.get(name)) for name in COLUMNS]))
        self._rows += 1

    def finish(self) -> None:
        """Give the file its name.

        Raises
        ------
        CovidEdgeError
            That cannot be done.
        """
        self._file.finish()
        self._file = None

    def stop(self) -> str | None:
        """End unfinished; return the name of the file that keeps the rows, if there are any."""
        if self._file is None:
            return None
        if self._rows:
            return self._file.keep()
        self._file.discard()
        return None


def _flat(record: dict[str, Any], before: str = "") -> dict[str, Any]:
    cells = {}
    for key, value in record.items():
        key = before + key
        cells.update(_flat(value, key + ".") if isinstance(value, dict) else {key: value})
    return cells


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        value = "|".join(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _line(cells: Iterable[Any]) -> str:
    line = io.StringIO(newline="")
    csv.writer(line, quoting=csv.QUOTE_NONNUMERIC).writerow(cells)
    return line.getvalue()
