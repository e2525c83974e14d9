# SPDX-License-Identifier: Apache-2.0
"""Scans on disk → tables → preprocessed pixels.

Two forms of a data folder are read:

* **manifest form**: ``manifest.csv`` with the columns ``file, modality, label, source, group,
  split`` beside the scans;
* **folder form** (the paper's): ``X_Ray_Train/COVID/…``, ``X_Ray_Test/Non-COVID/…``,
  ``CT_Train/COVID/…`` and so on.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from covid_edge.errors import CovidEdgeError
from covid_edge.files import SUFFIXES
from covid_edge.preprocess import PreprocessSpec, preprocess
from covid_edge.scan import read_scan
from covid_edge_convert.checkpoints import save_array

COLUMNS = ("file", "modality", "label", "source", "group", "split")
MODALITIES = ("xray", "ct")

# Paper section 3.2: grey, CLAHE, (CT only: opening), resize; numbers from its published code.
# The first number is ours: the longest side of the training scans, for CT the 512 of a scanner's
# own matrix. Larger scans are reduced to it as those were, by area averaging.
SPECS = {
    "xray": PreprocessSpec(640, clip_limit=4.0, tile_grid=(8, 8), open_ksize=None, size=(224, 224)),
    "ct": PreprocessSpec(512, clip_limit=4.0, tile_grid=(8, 8), open_ksize=(2, 2), size=(224, 224)),
}


# The most that a rare label's scans may weigh, in `balanced_weights`.
MAX_WEIGHT = 3.0


class DataError(CovidEdgeError, ValueError):
    """A data folder cannot be used; the message names the folder or row and what is wrong."""

    exit_code = 3


@dataclass(frozen=True)
class Scans:
    """A table of scans: equally long string arrays, one entry a scan.

    ``label`` is ``covid`` or anything else (``normal``, ``pneumonia``, ``non-covid``, ``other``);
    ``split`` is ``train``, ``val``, ``test`` or ``probe`` (measured on, never learned from).
    """

    root: Path
    file: np.ndarray
    modality: np.ndarray
    label: np.ndarray
    source: np.ndarray
    group: np.ndarray
    split: np.ndarray

    def __len__(self) -> int:
        return len(self.file)

    def where(self, mask: np.ndarray) -> Scans:
        """The rows where ``mask`` is true (or that an index array names)."""
        return Scans(self.root, *(getattr(self, name)[mask] for name in COLUMNS))

    def select(self, *, modality: str | None = None, split: str | None = None) -> Scans:
        """The rows of one modality and/or one split."""
        mask = np.ones(len(self), bool)
        if modality is not None:
            mask &= self.modality == modality
        if split is not None:
            mask &= self.split == split
        return self.where(mask)

    def fingerprint(self) -> str:
        """SHA-256 of the table and of the size of each file, hexadecimal."""
        rows = [[str(getattr(self, name)[k]) for name in COLUMNS] for k in range(len(self))]
        sizes = [os.stat(self.root / name).st_size for name in self.file]
        return hashlib.sha256(json.dumps([rows, sizes]).encode()).hexdigest()

    @property
    def covid(self) -> np.ndarray:
        """1.0 where the scan's label is ``covid``, else 0.0 (float32)."""
        return (self.label == "covid").astype(np.float32)


def table_union(tables: list[Scans]) -> Scans:
    """The rows of several tables of one data folder, one table after the other."""
    columns = (np.concatenate([getattr(t, name) for t in tables]) for name in COLUMNS)
    return Scans(tables[0].root, *columns)


def load_scans(root: str | os.PathLike[str], seed: int = 0) -> Scans:
    """Read the table of a data folder, in manifest or folder form.

    Parameters
    ----------
    root : path
        The data folder.
    seed : int
        Draws the validation part of a folder-form data set (which has none of its own).

    Raises
    ------
    DataError
        If the folder has neither form, or a row names an unknown modality or a missing file.
    """
    root = Path(root)
    if (root / "manifest.csv").is_file():
        return _load_manifest(root)
    if any((root / f"{name}_Train").is_dir() for name in _FOLDER_MODALITY):
        return _load_folders(root, seed)
    raise DataError(
        f"{root}: neither manifest.csv nor X_Ray_Train/ and CT_Train/ are in it; "
        "point --data at a folder of one of the two forms."
    )


def _load_manifest(root: Path) -> Scans:
    with open(root / "manifest.csv", newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        missing = set(COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise DataError(f"{root / 'manifest.csv'}: lacks the columns {sorted(missing)}.")
        rows = list(reader)
    for number, row in enumerate(rows, start=2):
        if row["modality"] not in (*MODALITIES, "other"):
            raise DataError(
                f"{root / 'manifest.csv'} line {number}: modality {row['modality']!r} is not one "
                "of xray, ct, other."
            )
        if not (root / row["file"]).is_file():
            raise DataError(f"{root / 'manifest.csv'} line {number}: {row['file']} is not there.")
    return Scans(root, *(np.array([row[name] for row in rows], dtype=str) for name in COLUMNS))


_FOLDER_MODALITY = {"X_Ray": "xray", "CT": "ct"}


def _load_folders(root: Path, seed: int) -> Scans:
    """``X_Ray_Train/COVID/…``: an eighth of each training folder, drawn by seed, is ``val``."""
    rows: list[tuple[str, ...]] = []
    for prefix, modality in _FOLDER_MODALITY.items():
        for part in ("Train", "Test"):
            for folder in sorted(p for p in (root / f"{prefix}_{part}").glob("*") if p.is_dir()):
                label = "covid" if folder.name.lower() == "covid" else "non-covid"
                for path in sorted(folder.rglob("*")):
                    if path.suffix.lower() in SUFFIXES:
                        name = path.relative_to(root).as_posix()
                        rows.append((name, modality, label, prefix, name, part.lower()))
    if not rows:
        raise DataError(f"{root}: its X_Ray_*/ and CT_*/ folders hold no images.")
    scans = Scans(root, *(np.array(column, dtype=str) for column in zip(*rows)))
    split = scans.split.copy()
    rng = np.random.default_rng(seed)
    for modality in MODALITIES:
        for covid in (0, 1):
            cell = (scans.modality == modality) & (scans.covid == covid)
            train = np.flatnonzero(cell & (scans.split == "train"))
            split[rng.permutation(train)[: len(train) // 8]] = "val"
    return Scans(root, *(getattr(scans, name) for name in COLUMNS[:-1]), split)


def load_pixels(
    scans: Scans, spec: PreprocessSpec, cache: Path | None = None, description: str = "preprocess"
) -> np.ndarray:
    """Preprocess every scan as the device does, with ``covid_edge.preprocess`` itself.

    Parameters
    ----------
    scans : Scans
    spec : PreprocessSpec
    cache : Path, optional
        Folder of results, named by the spec and the scans, so that a second call only maps them.

    Returns
    -------
    ndarray of uint8, shape (len(scans), height, width)

    Raises
    ------
    ScanError
        A scan cannot be read.
    """
    path = None
    if cache is not None:
        key = json.dumps([spec.to_dict(), scans.fingerprint()])
        path = cache / f"pixels-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
        if path.is_file():
            return np.load(path, mmap_mode="r")

    pixels = np.empty((len(scans), *spec.size), np.uint8)

    def one(index: int) -> None:
        preprocess(read_scan(scans.root / scans.file[index]).pixels, spec, out=pixels[index])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(tqdm(pool.map(one, range(len(scans))), description, len(scans), leave=False))
    if path is not None:
        save_array(path, pixels)
    return pixels


def halve(pixels: np.ndarray) -> np.ndarray:
    """Mean of each 2x2 block, rounded half up: (n, h, w) uint8 → (n, h // 2, w // 2) uint8."""
    blocks = pixels.astype(np.uint16)
    total = (
        blocks[:, ::2, ::2] + blocks[:, 1::2, ::2] + blocks[:, ::2, 1::2] + blocks[:, 1::2, 1::2]
    )
    return ((total + 2) >> 2).astype(np.uint8)


def balanced_weights(scans: Scans) -> np.ndarray:
    """Loss weight of each scan, float32, mean 1, so that a source does not give its label away.

    Inside a source that has both labels, each label gets half of the source's weight; sources of
    one label only are balanced against each other inside the modality. No scan gets more than
    `MAX_WEIGHT` (before the mean is brought to 1), so a label with under a sixth of its source
    stays somewhat underweight.
    """
    weights = np.ones(len(scans), np.float64)
    covid = scans.covid.astype(bool)
    for modality in np.unique(scans.modality):
        rows = scans.modality == modality
        both = [
            source
            for source in np.unique(scans.source[rows])
            if len(np.unique(covid[rows & (scans.source == source)])) == 2
        ]
        single = rows & ~np.isin(scans.source, both)
        for part in [rows & (scans.source == source) for source in both] + [single]:
            for label in (True, False):
                cell = part & (covid == label)
                if cell.any():
                    weights[cell] = min(MAX_WEIGHT, part.sum() / (2.0 * cell.sum()))
    return (weights / weights.mean()).astype(np.float32)
