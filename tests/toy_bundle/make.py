# SPDX-License-Identifier: Apache-2.0
"""Make the toy bundle beside this file (needs TensorFlow; the tests that use it do not).

Each network is a weighted mean of its input, so a test can say in one line of NumPy what must come
out, and steer the answer by the brightness of a flat picture:

=========  ==========================================  =====================================
file       input -> output                             logits for mean brightness m
=========  ==========================================  =====================================
router     (1, 16, 16, 1) uint8 -> (1, 3) int8         ct 0, other (m - 170)/4, xray (85 - m)/4
xray       (1, 32, 32, 1) uint8 -> (1, 1) int8         (m - 40)/8
ct         (1, 32, 32, 1) uint8 -> (1, 1) int8         (m - 128)/8
=========  ==========================================  =====================================

The xray and ct networks are there three times, ``.int8``, ``.fp32`` and ``.fp16`` (16-bit weights;
both with float32 input and output), with calibrations of their own, so that an answer tells which
file it came from.

``chain/`` holds one network in three files: encoders that give the mean of the ``upper`` and of the
``lower`` half, and the ``head``, half of their difference.

``types/`` holds the X-ray network with other input and output types; the int8 one is calibrated on
dark pictures, so that its input has a scale other than 1. ``cumsum`` there has an operation that no
GPU accelerator knows.

    python tests/toy_bundle/make.py
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import tensorflow as tf
import xxhash

from covid_edge.bundle import SCHEMA

HERE = Path(__file__).parent


def network(side: int, slopes: list[float], offsets: list[float]) -> tf.keras.Model:
    """logits[k] = slopes[k] * mean(input) + offsets[k]"""
    pixels = tf.keras.Input(batch_shape=(1, side, side, 1))
    mean = tf.keras.layers.GlobalAveragePooling2D()(pixels)
    dense = tf.keras.layers.Dense(len(slopes))
    model = tf.keras.Model(pixels, dense(mean))
    dense.set_weights([np.float32([slopes]), np.float32(offsets)])
    return model


def convert(
    model: tf.keras.Model, input_type=None, output_type=None, brightest=255, weights=None
) -> bytes:
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if weights is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [weights]
    if input_type is not None:
        shapes = [tuple(given.shape) for given in model.inputs]
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            # Of several inputs, one rises while the next falls.
            [
                np.full(shape, brightest - level if k % 2 else level, np.float32)
                for k, shape in enumerate(shapes)
            ]
            for level in range(0, brightest + 1, 5)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = input_type
        converter.inference_output_type = output_type
    return converter.convert()


def write(name: str, data: bytes) -> dict:
    path = HERE / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return {
        "file": name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "xxh3": xxhash.xxh3_128_hexdigest(data),
        "bytes": len(data),
    }


def modality(name: str, offset: float, clip_limit: float | None, open_ksize: list | None) -> dict:
    model = network(32, [1 / 8], [-offset / 8])
    files = {
        "cpu-int8": ("int8", convert(model, tf.uint8, tf.int8), 0.25),
        "fp32": ("fp32", convert(model), 0.5),
        "gpu-fp16": ("fp16", convert(model, weights=tf.float16), 0.75),
    }
    return {
        "preprocess": {
            "max_side": None,
            "clip_limit": clip_limit,
            "tile_grid": [8, 8],
            "open_ksize": open_ksize,
            "size": [32, 32],
        },
        "mirrored": False,
        "labels": ["non-covid", "covid"],
        "models": [
            {"target": target, **write(f"{name}.{kind}.tflite", data), **decision(bias)}
            for target, (kind, data, bias) in files.items()
        ],
    }


def decision(bias: float) -> dict:
    return {
        "calibration": {"method": "platt", "scale": 0.5, "bias": bias, "fitted_on": "nothing"},
        "operating_points": {
            "balanced": {"value": 0.5, "chosen": "half way, for the tests"},
            "sensitive": {"value": 0.3, "chosen": "lower, for the tests"},
        },
        "conformal": {
            "alpha": 0.1,
            "covid_from": 0.45,
            "non_covid_to": 0.55,
            "fitted_on": "nothing",
        },
    }


def main() -> None:
    router = network(16, [0, 1 / 4, -1 / 4], [0, -170 / 4, 85 / 4])
    bundle = {
        "schema": SCHEMA,
        "name": "toy",
        "version": "0.0.1",
        "system": "mmtl",
        "created": "2026-11-21",
        "intended_use": "Tests of the device code.",
        "notice": "Toy bundle: its answers mean nothing.",
        "router": {
            **write("router.int8.tflite", convert(router, tf.uint8, tf.int8)),
            "preprocess": {
                "max_side": None,
                "clip_limit": None,
                "tile_grid": [8, 8],
                "open_ksize": None,
                "size": [16, 16],
            },
            "labels": ["ct", "other", "xray"],
            "temperature": 1.0,
            "accept": 0.8,
        },
        "modalities": {
            "xray": modality("xray", 40, None, None),
            "ct": modality("ct", 128, 4.0, [2, 2]),
        },
        "training": {"sources": []},
    }
    (HERE / "bundle.json").write_text(json.dumps(bundle, indent=2) + "\n")

    model = network(32, [1 / 8], [-40 / 8])
    write("types/float32.tflite", convert(model))
    write("types/int8.tflite", convert(model, tf.int8, tf.int8, brightest=100))
    write("types/uint8.tflite", convert(model, tf.uint8, tf.uint8))

    pixels = tf.keras.Input(batch_shape=(1, 32, 32, 1))
    sums = tf.keras.layers.Lambda(lambda x: tf.cumsum(x, axis=1)[:, -1, -1])(pixels)
    write("types/cumsum.tflite", convert(tf.keras.Model(pixels, sums)))
    write_chain()


def write_chain() -> None:
    """Encoders that give the mean of the upper and of the lower half, a head: their difference."""
    pixels = tf.keras.Input(batch_shape=(1, 32, 32, 1))
    for name, rows in {"upper": slice(0, 16), "lower": slice(16, 32)}.items():
        half = tf.keras.layers.Lambda(lambda x, rows=rows: x[:, rows])(pixels)
        mean = tf.keras.layers.GlobalAveragePooling2D()(half)
        write(f"chain/{name}.tflite", convert(tf.keras.Model(pixels, mean), tf.uint8, tf.uint8))
    means = [tf.keras.Input(batch_shape=(1, 1), name=name) for name in ("upper", "lower")]
    dense = tf.keras.layers.Dense(1)
    head = tf.keras.Model(means, dense(tf.keras.layers.Concatenate()(means)))
    dense.set_weights([np.float32([[0.5], [-0.5]]), np.float32([0])])
    write("chain/head.tflite", convert(head, tf.uint8, tf.uint8))


if __name__ == "__main__":
    main()
