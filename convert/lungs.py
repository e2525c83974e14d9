# SPDX-License-Identifier: Apache-2.0
"""Where the lungs lie in a scan, by classical means: good enough to black them out.

CT: the body is the bright part with its holes filled; lungs are its large dark holes. X-ray: the
two large dark fields of the thorax, one a side. Either way each lung's convex hull is taken, so
that lesions, vessels and ribs are covered, and is made somewhat larger. Where no plausible pair is
found, two ellipses of a chest's usual proportions stand for it.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from scipy import ndimage
from tqdm import tqdm

from covid_edge.scan import read_scan
from covid_edge_convert.checkpoints import save_array
from covid_edge_convert.data import Scans

SIDE = 256  # masks are found at this size (pixels, both sides) and enlarged

# Centre and half axes (x, y, a, b), in shares of the picture, where nothing else is found.
USUAL = {
    "xray": ((0.29, 0.46, 0.17, 0.33), (0.71, 0.46, 0.17, 0.33)),
    "ct": ((0.29, 0.50, 0.18, 0.26), (0.71, 0.50, 0.18, 0.26)),
}
# Share of the picture that one lung may take; smaller ones are parts of one.
PLAUSIBLE = {"xray": (0.05, 0.30), "ct": (0.02, 0.40)}
SMALLEST_PART = 0.004
CORNER = 10  # pixels of SIDE: a printed frame may cut the very corner off
BLACK = 12  # grey level; JPEG leaves noise where there was none
MARGIN = 9  # pixels of SIDE: twice what a hull grows by


def lung_mask(pixels: np.ndarray, modality: str) -> tuple[np.ndarray, bool]:
    """The lungs of one scan, generously.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (rows, columns)
        The scan as it was read.
    modality : str
        ``"xray"`` or ``"ct"``.

    Returns
    -------
    mask : ndarray of bool, shape (rows, columns)
    found : bool
        False if a lung is one of the `USUAL` ellipses.
    """
    small = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    fields = _ct_lungs(small) if modality == "ct" else _xray_lungs(small)
    found = all(field is not None for field in fields)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for field, usual in zip(fields, USUAL[modality]):
        mask |= _ellipse(*usual) if field is None else _hull(field)
    mask = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (MARGIN, MARGIN)))
    rows, columns = pixels.shape
    return cv2.resize(mask, (columns, rows), interpolation=cv2.INTER_NEAREST) > 0, found


def load_lungs(scans: Scans, size: int, cache: Path | None = None) -> np.ndarray:
    """Lung masks of many scans, as `covid_edge_convert.data.load_pixels` gives their pixels.

    Parameters
    ----------
    scans : Scans
        Chest scans.
    size : int
        Side of the square masks, pixels.
    cache : Path, optional
        Folder of results, named by the scans, so that a second call only reads them.

    Returns
    -------
    ndarray of bool, shape (len(scans), size, size)
        All false where a lung was not found.
    """
    path = None
    if cache is not None:
        path = cache / f"lungs-{size}-{scans.fingerprint()[:16]}.npy"
        if path.is_file():
            return np.load(path)
    masks = np.zeros((len(scans), size, size), bool)

    def one(index: int) -> None:
        pixels = read_scan(scans.root / scans.file[index]).pixels
        mask, found = lung_mask(pixels, scans.modality[index])
        if found:
            small = cv2.resize(mask.astype(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST)
            masks[index] = small > 0

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(tqdm(pool.map(one, range(len(scans))), "lungs", len(scans), leave=False))
    if path is not None:
        save_array(path, masks)
    return masks


def _ellipse(x: float, y: float, a: float, b: float) -> np.ndarray:
    row, column = (np.mgrid[0:SIDE, 0:SIDE] + 0.5) / SIDE
    return (((column - x) / a) ** 2 + ((row - y) / b) ** 2 <= 1).astype(np.uint8)


def _hull(field: np.ndarray) -> np.ndarray:
    points = np.argwhere(field)[:, ::-1].astype(np.int32)
    return cv2.fillConvexPoly(np.zeros((SIDE, SIDE), np.uint8), cv2.convexHull(points), 1)


def _parts(mask: np.ndarray) -> list[np.ndarray]:
    """Connected parts of a mask, the largest first."""
    labels, count = ndimage.label(mask)
    sizes = ndimage.sum_labels(mask, labels, np.arange(1, count + 1))
    return [labels == 1 + k for k in np.argsort(-np.asarray(sizes), kind="stable")]


def _plausible(field: np.ndarray, modality: str) -> bool:
    low, high = PLAUSIBLE[modality]
    return low <= field.mean() <= high


def _halves(field: np.ndarray) -> list[np.ndarray | None]:
    """A dark field cut at the picture's middle; None for a side with too little of it."""
    middle = SIDE // 2
    left, right = field.copy(), field.copy()
    left[:, middle:], right[:, :middle] = False, False
    return [side if _plausible(side, "ct") else None for side in (left, right)]


def _outside(smooth: np.ndarray, level: float) -> np.ndarray:
    """What is no darker part of the chest but the picture's own ground: dark up to a corner."""
    labels, _ = ndimage.label(smooth <= level)
    ends = [slice(0, CORNER), slice(-CORNER, None)]
    corners = np.concatenate([labels[rows, columns].ravel() for rows in ends for columns in ends])
    return np.isin(labels, corners[corners > 0])


def _central(part: np.ndarray) -> bool:
    """Whether the part's centre of mass lies where a lung's can."""
    row, column = ndimage.center_of_mass(part)
    return np.hypot(row / SIDE - 0.5, column / SIDE - 0.5) < 0.42


def _otsu(values: np.ndarray) -> float:
    return cv2.threshold(values[:, None], 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[0]


def _ct_lungs(grey: np.ndarray) -> list[np.ndarray | None]:
    smooth = cv2.GaussianBlur(grey, (5, 5), 0)
    ground = _outside(smooth, BLACK)  # around a scanner's round field of view, or the body
    if ground.mean() > 0.9:
        return [None, None]
    dark = smooth <= _otsu(smooth[~ground])
    # Of what is dark, the air around the body reaches the ground or a corner. Lungs do not, though
    # a tight crop may cut them.
    air = _outside(np.where(dark | ground, 0, 255), 0)
    lungs = ndimage.binary_opening(dark & ~air, iterations=2)
    lungs = [part for part in _parts(lungs) if part.mean() >= SMALLEST_PART and _central(part)]
    if not lungs:
        return [None, None]
    # Vessels and small lesions close; the hull covers the larger ones.
    field = np.pad(np.logical_or.reduce(lungs), 12)
    return _halves(ndimage.binary_closing(field, iterations=8)[12:-12, 12:-12])


def _xray_lungs(grey: np.ndarray) -> list[np.ndarray | None]:
    smooth = cv2.GaussianBlur(grey, (0, 0), 4)
    ground = _outside(smooth, max(BLACK, 0.5 * _otsu(smooth.ravel())))
    fields: list[np.ndarray | None] = []
    for x, y, a, b in USUAL["xray"]:
        # Larger than usual, so that the field's own edge decides; never as far as the other side.
        window = (_ellipse(x, y, 1.3 * a, 1.3 * b) > 0) & ~ground
        core = _ellipse(x, y, a / 2, b / 2) > 0
        if not (window & core).any():
            fields.append(None)
            continue
        dark = ndimage.binary_opening((smooth <= _otsu(smooth[window])) & window, iterations=2)
        parts = [part for part in _parts(dark) if (part & core).any()]
        fields.append(parts[0] if parts and _plausible(parts[0], "xray") else None)
    return fields
