# SPDX-License-Identifier: Apache-2.0
"""Keras models → TFLite files, fp32 and int8, and how far the one drifts from the other."""

from __future__ import annotations

import os
from pathlib import Path

import keras
import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from covid_edge.errors import CovidEdgeError
from covid_edge.interpreter import Interpreter
from covid_edge_convert import systems
from covid_edge_convert.clipping import quantize_clipped
from covid_edge_convert.data import MODALITIES, SPECS, Scans, load_pixels
from covid_edge_convert.recipes import Recipe
from covid_edge_convert.router import load_router, router_pixels
from covid_edge_convert.runs import RunFolder


class QuantizeError(CovidEdgeError):
    """The networks cannot be converted here."""

    exit_code = 6


def representative_rows(scans: Scans, count: int, seed: int = 0) -> np.ndarray:
    """Indices of ``count`` training scans, every (source, label) cell as evenly as it can be."""
    rng = np.random.default_rng(seed)
    train = np.flatnonzero(scans.split == "train")
    cells = {}
    for row in rng.permutation(train):
        cells.setdefault((scans.source[row], scans.label[row]), []).append(row)
    rows: list[int] = []
    while len(rows) < min(count, len(train)):
        for cell in cells.values():
            if cell and len(rows) < count:
                rows.append(cell.pop())
    return np.array(rows)


def write_fp32(model: keras.Model, path: Path) -> None:
    """Convert without quantisation: float32 in and out."""
    _write(_converter(model).convert(), path)


def write_int8(
    model: keras.Model, representative: np.ndarray, path: Path, keep_float: str | None = None
) -> None:
    """Convert to integers: int8 weights and activations wherever it does no harm.

    Parameters
    ----------
    model : keras.Model
        (1, s, s, 1) grey pixels 0 to 255 → (1, k) logits.
    representative : ndarray of uint8, shape (n, s, s)
        Preprocessed training scans that the activation ranges are measured on.
    path : Path
    keep_float : str, optional
        Regular expression of the operations, by the names of their outputs, that stay in float32:
        those whose channels differ too much in size to share 256 steps. The ranges of all others
        are clipped (`covid_edge_convert.clipping`). Without it there is no float operation in the
        file, and ranges reach from minimum to maximum.
    """
    import tensorflow as tf

    def batches():
        for image in tqdm(representative, f"calibrate {path.stem}", leave=False):
            yield [image[None, ..., None].astype(np.float32)]

    converter = _converter(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = batches
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if keep_float is None:
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.int8
        _write(converter.convert(), path)
    else:
        converter._experimental_calibrate_only = True
        _write(quantize_clipped(converter.convert(), representative, keep_float), path)


def _converter(model: keras.Model):
    if keras.backend.backend() != "tensorflow":
        raise QuantizeError(
            "TFLite files are written by TensorFlow: run this command with "
            "KERAS_BACKEND=tensorflow (weights trained on another backend load as they are)."
        )
    import tensorflow as tf

    return tf.lite.TFLiteConverter.from_keras_model(model)


def _write(content: bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_bytes(content)
    os.replace(partial, path)


def run_model(path: Path, pixels: np.ndarray, threads: int | None = None) -> np.ndarray:
    """Outputs of a TFLite file through the device's own interpreter class.

    Parameters
    ----------
    path : Path
    pixels : ndarray of uint8, shape (n, s, s)

    Returns
    -------
    ndarray of float32, shape (n, outputs)
    """
    interpreter = Interpreter(path, threads=threads or os.cpu_count() or 1)
    return np.stack([interpreter.run(image) for image in tqdm(pixels, path.stem, leave=False)])


def drift(
    fp32: np.ndarray,
    int8: np.ndarray,
    covid: np.ndarray,
    fp32_label: np.ndarray,
    int8_label: np.ndarray,
) -> dict[str, float]:
    """How the int8 file's answers differ from full precision.

    Parameters
    ----------
    fp32, int8 : ndarray, shape (n,)
        COVID logits.
    covid : ndarray, shape (n,)
        The truth, 1 for COVID.
    fp32_label, int8_label : ndarray of bool, shape (n,)
        Each file's labels, by its own calibration.
    """
    auc32, auc8 = roc_auc_score(covid, fp32), roc_auc_score(covid, int8)
    return {
        "scans": len(covid),
        "auc_fp32": round(float(auc32), 4),
        "auc_int8": round(float(auc8), 4),
        "auc_drop": round(float(auc32 - auc8), 4),
        "label_agreement": round(float(np.mean(fp32_label == int8_label)), 4),
        "logit_correlation": round(float(np.corrcoef(fp32, int8)[0, 1]), 4),
        "logit_rank_correlation": round(float(spearmanr(fp32, int8)[0]), 4),
        "logit_mean_abs_error": round(float(np.abs(fp32 - int8).mean()), 4),
    }


def quantize_run(scans: Scans, recipe: Recipe, run: RunFolder, representative: int = 300) -> None:
    """Write both files of each modality and the router's int8 file into the run folder.

    Parameters
    ----------
    scans : Scans
    recipe : Recipe
    run : RunFolder
        Trained to its end.
    representative : int
        Training scans of each file that activation ranges are measured on.

    Raises
    ------
    QuantizeError
        If Keras does not run on TensorFlow.
    """
    for modality in MODALITIES:
        table = scans.select(modality=modality)
        pixels = load_pixels(table, recipe.spec(SPECS[modality]), run.cache)
        chosen = pixels[representative_rows(table, representative, recipe.seed)]
        model = systems.fused(modality, recipe, run)
        write_fp32(model, run.models / f"{modality}.fp32.tflite")
        write_int8(model, chosen, run.models / f"{modality}.int8.tflite", recipe.keep_float)
    chosen = router_pixels(scans, run)[representative_rows(scans, representative, recipe.seed)]
    write_int8(load_router(run), chosen, run.models / "router.int8.tflite")
