# SPDX-License-Identifier: Apache-2.0
"""Networks of a few numbers, and their TFLite files, for tests of what conversion makes of them."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np

from covid_edge_convert.parts import for_chip
from covid_edge_convert.quantize import as_input, write_int8

SIDE = 16


def drawn_pixels(count: int = 16, seed: int = 0) -> np.ndarray:
    """Noise of many brightnesses: uint8 (count, 16, 16)."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (count, SIDE, SIDE))
    return (noise * np.linspace(0.1, 1, count)[:, None, None]).astype(np.uint8)


def leaky(batch: int | None = 1) -> keras.Model:
    """scan → convolution → mean → dense → LeakyReLU → dense: what MMTL is made of, seeded."""
    keras.utils.set_random_seed(1)
    scan = keras.Input(batch_shape=(batch, SIDE, SIDE, 1), name="scan")
    x = keras.layers.AveragePooling2D(2)(scan)
    x = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.LeakyReLU(0.3)(keras.layers.Dense(8)(x))
    return keras.Model(scan, keras.layers.Dense(1)(x))


def write_leaky(path: Path, chip: bool = True, **options) -> bytes:
    """`leaky` as a file for the Edge TPU, or (not ``chip``) for the CPU; see `write_int8`."""
    model = for_chip(leaky()) if chip else leaky()
    return write_int8(model, as_input(drawn_pixels()), path, for_chip=chip, **options)
