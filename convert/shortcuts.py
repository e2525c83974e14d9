# SPDX-License-Identifier: Apache-2.0
"""Does the network look at lungs, or at what else tells two collections of scans apart?

Pictures without lungs, and pictures without all but the borders, are answered on by the int8 file.
If it still tells COVID from the rest, it does so by something that is no disease (Maguolo and
Nanni, 2021; DeGrave, Janizek and Lee, 2021). What is hidden is black: no grey of the scan is in it.
"""

from __future__ import annotations

import numpy as np

from covid_edge.bundle import Bundle
from covid_edge.scan import read_scan
from covid_edge_convert.bootstrap import auc, interval, resamples
from covid_edge_convert.data import MODALITIES, Scans
from covid_edge_convert.evaluate import answer_pictures, encoded
from covid_edge_convert.lungs import lung_mask

BORDER = 0.15  # of the width on the left and right, of the height above and below


def as_it_is(pixels: np.ndarray, modality: str) -> np.ndarray:
    """The scan itself."""
    return pixels


def lungs_blacked_out(pixels: np.ndarray, modality: str) -> np.ndarray:
    """The scan with its lungs black."""
    return np.where(lung_mask(pixels, modality)[0], 0, pixels).astype(np.uint8)


def borders_only(pixels: np.ndarray, modality: str) -> np.ndarray:
    """The scan with all but its outer `BORDER` black."""
    return np.where(_centre(pixels.shape), 0, pixels).astype(np.uint8)


def centre_only(pixels: np.ndarray, modality: str) -> np.ndarray:
    """The scan with its outer `BORDER` black."""
    return np.where(_centre(pixels.shape), pixels, 0).astype(np.uint8)


def _centre(shape: tuple[int, int]) -> np.ndarray:
    inside = np.zeros(shape, bool)
    rows, columns = (round(BORDER * side) for side in shape)
    inside[rows : shape[0] - rows, columns : shape[1] - columns] = True
    return inside


VIEWS = {
    "as it is": as_it_is,
    "lungs blacked out": lungs_blacked_out,
    "borders only": borders_only,
    "centre only": centre_only,
}


def shortcut_figures(scans: Scans, bundle: Bundle) -> dict:
    """AUC of the int8 files on the `VIEWS` of test scans, whole and inside each source.

    The router is not asked: it would refuse many of these pictures, and the question is what the
    network sees in them.

    Returns
    -------
    dict
        modality → ``{"scans": int, "found": {label: share of scans whose lungs were found},
        "auc": {view: {"all" or source: [value, low, high]}}}``; sources of one label are left out.
    """
    result = {}
    for modality in MODALITIES:
        table = scans.select(modality=modality, split="test")
        covid = table.covid.astype(bool)
        if not len(table):
            continue
        parts = {"all": np.ones(len(table), bool)}
        parts.update((str(s), table.source == s) for s in np.unique(table.source))
        parts = {name: rows for name, rows in parts.items() if 0 < covid[rows].sum() < rows.sum()}
        weights = {name: resamples(table.group[rows]) for name, rows in parts.items()}
        areas: dict = {}
        for view, change in VIEWS.items():
            score = _scores(table, change, bundle, modality, f"{modality} {view}")
            areas[view] = {
                name: interval(auc(covid[rows], score[rows], weights[name]))
                for name, rows in parts.items()
            }
        found = np.array(
            [lung_mask(read_scan(table.root / name).pixels, modality)[1] for name in table.file]
        )
        shares = {"covid": found[covid], "non-covid": found[~covid]}
        result[modality] = {
            "scans": len(table),
            "found": {label: round(float(f.mean()), 4) for label, f in shares.items() if len(f)},
            "auc": areas,
        }
    return result


def _scores(table: Scans, change, bundle: Bundle, modality: str, description: str) -> np.ndarray:
    """Probability of COVID of every scan after ``change``."""

    def picture(number: int) -> bytes:
        return encoded(change(read_scan(table.root / table.file[number]).pixels, modality))

    answers = answer_pictures(picture, len(table), bundle, description, modality)
    return np.array([a.probability for a in answers], float)
