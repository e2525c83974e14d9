# SPDX-License-Identifier: Apache-2.0
"""Training-time augmentation against shortcuts, in NumPy and OpenCV (any Keras backend).

Every operation keeps the scan a plausible scan and changes what tells hospitals apart: framing,
shape, histogram, contrast, sharpness, noise, compression, borders, letters.
"""

from __future__ import annotations

import cv2
import numpy as np


def histogram(image: np.ndarray) -> np.ndarray:
    """Share of pixels at or below each grey level: float32 (256,)."""
    counts = np.bincount(image.ravel(), minlength=256)
    return (np.cumsum(counts) / image.size).astype(np.float32)


def augment(
    image: np.ndarray, size: int, rng: np.random.Generator, style: np.ndarray | None = None
) -> np.ndarray:
    """One random view of a preprocessed scan.

    Parameters
    ----------
    image : ndarray of uint8, shape (h, w)
    size : int
        Side of the square result, pixels.
    rng : numpy.random.Generator
    style : ndarray of float32, shape (256,), optional
        `histogram` of another scan: half of the views take it on, in part.

    Returns
    -------
    ndarray of float32, shape (size, size), values 0 to 255
    """
    view = _frame(image, size, rng)
    grey = np.arange(256, dtype=np.float32)
    if style is not None and rng.random() < 0.5:
        there = np.interp(histogram(image), style, grey)
        grey += rng.uniform(0.3, 1.0) * (there.astype(np.float32) - grey)
    gamma = np.exp(rng.uniform(-0.35, 0.35))
    grey = 255.0 * np.clip(grey / 255.0, 0, 1) ** gamma
    grey = (grey - 128.0) * rng.uniform(0.7, 1.3) + 128.0 + rng.uniform(-30, 30)
    view = grey.astype(np.float32)[view]
    if rng.random() < 0.3:
        light = rng.normal(0, rng.uniform(5, 25), (3, 3)).astype(np.float32)
        view += cv2.resize(light, (size, size), interpolation=cv2.INTER_CUBIC)
    view = _sharpness(view, size, rng)
    if rng.random() < 0.3:
        view += rng.normal(0, rng.uniform(1, 7), view.shape).astype(np.float32)
    view = np.clip(view, 0, 255).astype(np.uint8)
    _borders_and_marks(view, size, rng)
    if rng.random() < 0.3:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 90))]
        coded = cv2.imencode(".jpg", view, quality)[1]
        view = cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)
    return view.astype(np.float32)


def without_lungs(image: np.ndarray, lungs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A scan that cannot be judged: black, one grey or what surrounds them where its lungs were.

    Parameters
    ----------
    image : ndarray of uint8, shape (h, w)
    lungs : ndarray of bool, shape (h, w)
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of uint8, shape (h, w)
    """
    kind = rng.integers(3)
    fill = (0, int(rng.integers(0, 256)), None)[kind]
    return np.where(lungs, _surroundings(image, lungs) if fill is None else fill, image).astype(
        np.uint8
    )


def on_other_ground(
    image: np.ndarray,
    lungs: np.ndarray,
    other: np.ndarray,
    other_lungs: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """The lungs of one scan in the frame of another, which has lost its own.

    What surrounds the lungs (collimation, letters, devices, shoulders, a table) then says nothing
    about the label.

    Parameters
    ----------
    image, other : ndarray of uint8, shape (h, w)
    lungs, other_lungs : ndarray of bool, shape (h, w)
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of uint8, shape (h, w)
    """
    ground = np.where(other_lungs, _surroundings(other, other_lungs), other)
    soft = cv2.GaussianBlur(
        lungs.astype(np.float32), (0, 0), rng.uniform(0.5, 3) * len(image) / 112
    )
    return np.clip(ground + soft * (image - ground) + 0.5, 0, 255).astype(np.uint8)


def _surroundings(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The picture without what is in ``hole``: a smooth continuation of what is around it."""
    sigma = len(image) / 10
    known = (~hole).astype(np.float32)
    weight = cv2.GaussianBlur(known, (0, 0), sigma)
    return cv2.GaussianBlur(image * known, (0, 0), sigma) / np.maximum(weight, 1e-3)


def _frame(image, size, rng):
    """Rotation, zoom, aspect, shift, mirror; what lies outside is black, grey or the edge's."""
    height, width = image.shape
    angle = np.deg2rad(rng.uniform(-15, 15))
    zoom = rng.uniform(0.85, 1.4) * size / max(height, width)
    aspect = np.exp(rng.uniform(-0.12, 0.12))
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    shift = rng.uniform(-0.08, 0.08, 2) * size
    cos, sin = np.cos(angle), np.sin(angle)
    linear = np.array([[mirror * cos, -sin], [mirror * sin, cos]])
    linear = linear @ np.diag([zoom * aspect, zoom / aspect])
    offset = (size - 1) / 2 + shift - linear @ [(width - 1) / 2, (height - 1) / 2]
    outside = rng.random()
    return cv2.warpAffine(
        image,
        np.column_stack([linear, offset]),
        (size, size),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE if outside < 0.3 else cv2.BORDER_CONSTANT,
        borderValue=int(rng.integers(0, 256)) if outside > 0.7 else 0,
    )


def _sharpness(view, size, rng):
    """Sometimes blurred, sharpened, or brought down to fewer pixels and back."""
    kind = rng.random()
    if kind < 0.15:
        return cv2.GaussianBlur(view, (0, 0), rng.uniform(0.3, 0.8) * size / 112)
    if kind < 0.3:
        soft = cv2.GaussianBlur(view, (0, 0), size / 112)
        return view + rng.uniform(0.3, 1.0) * (view - soft)
    if kind < 0.45:
        few = int(size * rng.uniform(0.4, 0.9))
        small = cv2.resize(view, (few, few), interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR)
    return view


def _borders_and_marks(view, size, rng):
    """Bars along the edges, letters, erased rectangles, in place: none of them must decide."""
    if rng.random() < 0.2:
        grey = rng.choice([0, 255, rng.integers(0, 256)], p=[0.7, 0.1, 0.2])
        top, bottom, left, right = (rng.integers(0, size // 10, 4) * (rng.random(4) < 0.6)).tolist()
        view[:top] = grey
        view[size - bottom :] = grey
        view[:, :left] = grey
        view[:, size - right :] = grey
    if rng.random() < 0.3:
        text = "".join(rng.choice(list("RLABCPSUT0123456789"), rng.integers(1, 6)))
        x, y = (int(v) for v in rng.integers(0, int(size * 0.9), 2))
        height = rng.uniform(0.2, 0.8) * size / 112
        cv2.putText(
            view, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, height, int(rng.integers(150, 256))
        )
    for _ in range(rng.integers(0, 3)):
        h, w = rng.integers(size // 10, size // 4, 2)
        y, x = rng.integers(0, size - h), rng.integers(0, size - w)
        view[y : y + h, x : x + w] = rng.integers(0, 256)
