# SPDX-License-Identifier: Apache-2.0
"""A small drawn data set: enough of a scan's shape for every training stage to have work to do."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 96
_Y, _X = np.mgrid[0:SIDE, 0:SIDE] / SIDE


def ellipse(x: float, y: float, width: float, height: float) -> np.ndarray:
    return ((_X - x) / width) ** 2 + ((_Y - y) / height) ** 2 < 1


def drawn_scan(modality: str, covid: bool, rng: np.random.Generator) -> np.ndarray:
    """Two dark lungs in a bright body; COVID puts bright patches into them. uint8 (96, 96)."""
    if modality == "other":
        wave = np.sin(rng.uniform(10, 40) * _X + rng.uniform(10, 40) * _Y)
        return (127.5 + 127.5 * wave).astype(np.uint8)
    if modality == "xray":
        image = np.full((SIDE, SIDE), 170.0)
        lungs = [(0.3, 0.45, 0.16, 0.32), (0.7, 0.45, 0.16, 0.32)]
    else:
        image = np.where(ellipse(0.5, 0.5, 0.48, 0.36), 200.0, 5.0)
        lungs = [(0.3, 0.5, 0.15, 0.22), (0.7, 0.5, 0.15, 0.22)]
    for x, y, width, height in lungs:
        image[ellipse(x + rng.normal(0, 0.01), y, width, height)] = 50
        if covid:
            for _ in range(3):
                dx, dy = rng.uniform(-0.5, 0.5, 2)
                image[ellipse(x + dx * width, y + dy * height, 0.06, 0.06)] = 150
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def write_manifest_form(root: Path, per_cell: int = 16, seed: int = 0) -> Path:
    """Manifest form: per modality and label ``per_cell`` training scans, half for val and test."""
    rng = np.random.default_rng(seed)
    rows = []
    for modality, labels in (
        ("xray", ("covid", "normal", "pneumonia")),
        ("ct", ("covid", "non-covid")),
        ("other", ("other",)),
    ):
        (root / modality).mkdir(parents=True)
        for label in labels:
            for split in ("train", "val", "test"):
                for number in range(per_cell if split == "train" else per_cell // 2):
                    name = f"{modality}/{label}-{split}-{number}.png"
                    Image.fromarray(drawn_scan(modality, label == "covid", rng)).save(root / name)
                    rows.append((name, modality, label, f"drawn-{modality}", name, split))
    with open(root / "manifest.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("file", "modality", "label", "source", "group", "split"))
        writer.writerows(rows)
    return root


def write_folder_form(root: Path, per_cell: int = 8, seed: int = 0) -> Path:
    """The paper's form: X_Ray_Train/COVID/… and so on, without a validation split."""
    rng = np.random.default_rng(seed)
    for prefix, modality in (("X_Ray", "xray"), ("CT", "ct")):
        for part in ("Train", "Test"):
            for label in ("COVID", "Non-COVID"):
                folder = root / f"{prefix}_{part}" / label
                folder.mkdir(parents=True)
                for number in range(per_cell):
                    scan = drawn_scan(modality, label == "COVID", rng)
                    Image.fromarray(scan).save(folder / f"{number}.png")
    return root
