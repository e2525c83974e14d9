# SPDX-License-Identifier: Apache-2.0
"""Real scans written as DICOM and answered: are the answers those of the pictures themselves?

X-rays become CR of 12 bits, MONOCHROME1, by turns in JPEG 2000 and lossless JPEG; CT slices become
CT in signed Hounsfield units, as if the picture were the lung window, and say no window. Eight bits
have 256 of 4096 steps of grey, so nothing is lost but by a wrong rule::

    python benchmarks/dicom_round_trip.py [COUNT]

COVID_EDGE_DATA names the folder of the scans; those of ``test`` are taken, evenly.
"""

from __future__ import annotations

import csv
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from covid_edge import Predictor
from covid_edge.dicom import LUNG
from covid_edge.scan import read_scan
from dicoms import image, save


def test_scans(root: Path, count: int) -> Iterator[tuple[str, Path]]:
    """Yield modality and file of `count` scans of ``test``, as many X-rays as CT slices."""
    with open(root / "manifest.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    for modality in ("xray", "ct"):
        files = [root / row["file"] for row in rows if row["modality"] == modality]
        for number in range(count // 2):
            yield modality, files[number * len(files) // (count // 2)]


def as_cr(pixels: np.ndarray, path: Path, syntax: str) -> Path:
    """Write a picture as 12 bits, inverted; what is kept is its own range of grey."""
    stored = 4095 - np.rint(pixels * (4095 / 255)).astype(np.uint16)
    data = image(stored, "CR", bits=12, PhotometricInterpretation="MONOCHROME1")
    data.WindowCenter, data.WindowWidth = 2048, 4096
    return save(path, data, syntax)


def as_ct(pixels: np.ndarray, path: Path) -> Path:
    """Write a picture as the Hounsfield units that the lung window shows so."""
    center, width = LUNG
    units = center - 0.5 + (pixels / 255 - 0.5) * (width - 1)  # PS3.3 C.11.2.1.2.1, backwards
    stored = np.rint(units).astype(np.int16) + 24
    data = image(stored, "CT", RescaleSlope=1, RescaleIntercept=-24)
    return save(path, data)


def main(count: int) -> None:
    root = Path(os.environ["COVID_EDGE_DATA"])
    predictor = Predictor()
    same, scans, furthest, differing = 0, 0, 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.dcm"
        for number, (modality, file) in enumerate(test_scans(root, count)):
            pixels = read_scan(file).pixels
            if modality == "xray":
                as_cr(pixels, path, (JPEG2000Lossless, JPEGLosslessSV1)[number % 2])
            else:
                as_ct(pixels, path)
            differing += not np.array_equal(read_scan(path).pixels, pixels)
            one, other = predictor.predict(file), predictor.predict(path)
            scans += 1
            agree = (one.status, one.modality, one.label) == (
                other.status,
                other.modality,
                other.label,
            )
            same += agree
            if not agree:
                print(
                    f"{modality}: {one.status} {one.label} as a picture ({one.reason}), "
                    f"{other.status} {other.label} as DICOM ({other.reason})"
                )
            if one.probability is not None and other.probability is not None:
                furthest = max(furthest, abs(one.probability - other.probability))
    print(
        f"{scans} scans: {same / scans:.1%} answered alike, probabilities at most "
        f"{furthest:.4f} apart, pixels differ in {differing}"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
