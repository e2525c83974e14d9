# SPDX-License-Identifier: Apache-2.0
"""Does the same scan get the same verdict at another resolution, or compressed harder?"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from covid_edge.bundle import Bundle
from covid_edge.predictor import Prediction
from covid_edge.scan import read_scan
from covid_edge_convert.data import MODALITIES, Scans
from covid_edge_convert.evaluate import answer_pictures, encoded

QUALITY = 60


def resized(pixels: np.ndarray, longer: int) -> np.ndarray:
    """A scan whose longer side has ``longer`` pixels: enlarged smoothly, reduced by area."""
    scale = longer / max(pixels.shape)
    height, width = (max(1, round(scale * side)) for side in pixels.shape)
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return cv2.resize(pixels, (width, height), interpolation=how)


def _jpeg(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


VERSIONS: dict[str, Callable[[np.ndarray], bytes]] = {
    "640 px": lambda pixels: encoded(resized(pixels, 640)),
    "1280 px": lambda pixels: encoded(resized(pixels, 1280)),
    "2560 px": lambda pixels: encoded(resized(pixels, 2560)),
    f"JPEG quality {QUALITY}": _jpeg,
}


def verdict(answer: Prediction) -> tuple[str | None, bool | None]:
    """What is compared: the modality, and on which side of the balanced threshold the scan is."""
    if answer.status != "ok":
        return None, None
    return answer.modality, answer.probability >= answer.threshold


def robustness_figures(scans: Scans, answers: list[Prediction], bundle: Bundle) -> dict:
    """Share of test scans whose `VERSIONS` get the verdict of the file itself, router included.

    Parameters
    ----------
    scans : Scans
    answers : list of Prediction
        The device's answer on each of them.
    bundle : Bundle

    Returns
    -------
    dict
        modality → ``{"scans": int, "same": {version: share}, "change": {version: mean absolute
        change of the probability, of scans that are answered both times}}``
    """
    result = {}
    for modality in MODALITIES:
        rows = np.flatnonzero((scans.modality == modality) & (scans.split == "test"))
        if not len(rows):
            continue
        same, change = {}, {}
        for name, make in VERSIONS.items():

            def picture(number: int, make=make, rows=rows) -> bytes:
                return make(read_scan(scans.root / scans.file[rows[number]]).pixels)

            after = answer_pictures(picture, len(rows), bundle, f"{modality} {name}")
            before = [answers[k] for k in rows]
            agree = [verdict(a) == verdict(b) for a, b in zip(after, before)]
            moved = [
                abs(a.probability - b.probability)
                for a, b in zip(after, before)
                if a.status == b.status == "ok" and a.modality == b.modality
            ]
            same[name] = round(float(np.mean(agree)), 4)
            change[name] = round(float(np.mean(moved)), 4) if moved else None
        result[modality] = {"scans": len(rows), "same": same, "change": change}
    return result
