# SPDX-License-Identifier: Apache-2.0
"""Training-time augmentation against shortcuts, in NumPy and OpenCV (any Keras backend).

Every operation keeps the scan a plausible scan and changes what tells hospitals apart: framing,
contrast, sharpness, noise.
"""

from __future__ import annotations

import cv2
import numpy as np


def augment(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """One random view of a preprocessed scan.

    Parameters
    ----------
    image : ndarray of uint8, shape (h, w)
    size : int
        Side of the square result, pixels.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float32, shape (size, size), values 0 to 255
    """
    height, width = image.shape
    angle = np.deg2rad(rng.uniform(-12, 12))
    scale = rng.uniform(0.85, 1.2) * size / max(height, width)
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    shift = rng.uniform(-0.07, 0.07, 2) * size
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    linear = np.array([[mirror * cos, -sin], [mirror * sin, cos]])
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = (size - 1) / 2 + shift - linear @ centre
    view = cv2.warpAffine(
        image,
        np.column_stack([linear, offset]),
        (size, size),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=0,
    )

    gamma = np.exp(rng.uniform(-0.2, 0.2))
    contrast = rng.uniform(0.85, 1.15)
    brightness = rng.uniform(-20, 20)
    grey = 255.0 * (np.arange(256, dtype=np.float32) / 255.0) ** gamma
    view = ((grey - 128.0) * contrast + 128.0 + brightness).astype(np.float32)[view]
    blur = rng.random()
    if blur < 0.1:
        view = cv2.GaussianBlur(view, (3, 3), rng.uniform(0.3, 0.7))
    elif blur < 0.2:
        view += rng.uniform(0.3, 1.0) * (view - cv2.GaussianBlur(view, (3, 3), 1.0))
    if rng.random() < 0.2:
        view += rng.normal(0, rng.uniform(1, 5), view.shape).astype(np.float32)
    if rng.random() < 0.2:
        # An erased rectangle: a marker, a letter or a corner must not be what decides.
        h, w = rng.integers(size // 10, size // 4, 2)
        y, x = rng.integers(0, size - h), rng.integers(0, size - w)
        view[y : y + h, x : x + w] = rng.uniform(0, 255)
    return np.clip(view, 0, 255)
