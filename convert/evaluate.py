# SPDX-License-Identifier: Apache-2.0
"""The device's answers, and figures of them per modality, split and source."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from covid_edge.bundle import Bundle, Model
from covid_edge.predictor import Prediction, Predictor
from covid_edge_convert.calibrate import (
    calibration_figures,
    conformal_figures,
    threshold_figures,
)
from covid_edge_convert.data import MODALITIES, Scans


def binary_metrics(covid: np.ndarray, score: np.ndarray, called: np.ndarray) -> dict[str, float]:
    """The paper's figures: accuracy, AUC, sensitivity, specificity and F1.

    Parameters
    ----------
    covid, called : ndarray of bool, shape (n,)
        Truth and answer.
    score : ndarray of float, shape (n,)
        Probability or logit of COVID.

    Returns
    -------
    dict
        A figure that its scans do not define (AUC of one class, say) is None.
    """
    covid, called = np.asarray(covid, bool), np.asarray(called, bool)
    tp, tn = int((covid & called).sum()), int((~covid & ~called).sum())
    fp, fn = int((~covid & called).sum()), int((covid & ~called).sum())

    def ratio(part: int, whole: int) -> float | None:
        return round(part / whole, 4) if whole else None

    both = covid.any() and not covid.all()
    return {
        "scans": len(covid),
        "covid": int(covid.sum()),
        "accuracy": ratio(tp + tn, len(covid)),
        "auc": round(float(roc_auc_score(covid, score)), 4) if both else None,
        "sensitivity": ratio(tp, tp + fn),
        "specificity": ratio(tn, tn + fp),
        "f1": ratio(2 * tp, 2 * tp + fp + fn) if covid.any() else None,
        "confusion": {"tp": tp, "fp": fp, "tn": tn, "fn": fn},
    }


def answer(scans: Scans, predictor: Predictor) -> list[dict]:
    """The device's own answer for every scan, as `Prediction.to_dict` gives it."""
    return [
        predictor.predict(str(scans.root / name)).to_dict()
        for name in tqdm(scans.file, "predict", leave=False)
    ]


def encoded(pixels: np.ndarray) -> bytes:
    """A grey picture, uint8 (rows, columns), as a file that loses nothing and is made at once."""
    return cv2.imencode(".bmp", pixels)[1].tobytes()


def answer_pictures(
    picture: Callable[[int], bytes],
    count: int,
    bundle: Bundle,
    description: str,
    modality: str | None = None,
) -> list[Prediction]:
    """The device's own answers to pictures that need be on no disk, on every processor.

    Parameters
    ----------
    picture : callable
        Number of a picture, 0 to ``count - 1``, → a whole file of any kind that the device reads.
        Called from several threads.
    count : int
    bundle : Bundle
    description : str
        For the progress bar.
    modality : str, optional
        Do not ask the router; see `Predictor`.
    """
    own = threading.local()
    with TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:

        def one(number: int) -> Prediction:
            if not hasattr(own, "predictor"):
                # Forced: pictures are often spoiled on purpose, and what then is said counts.
                own.predictor = Predictor(bundle, modality=modality, force=True)
                own.path = Path(folder) / str(threading.get_ident())
            own.path.write_bytes(picture(number))
            return own.predictor.predict(own.path)

        return list(tqdm(pool.map(one, range(count)), description, count, leave=False))


def summarise(scans: Scans, answers: list[dict], models: dict[str, Model]) -> dict:
    """Figures of each modality and split out of the device's answers, whole and per source.

    Accuracy and so on are those of the balanced operating point, which answers on every scan; what
    the conformal sets of `models` (the predictor's) make of the same probabilities comes beside
    them, and for whole splits also the calibration error and both thresholds' figures.

    A scan that was refused or taken for the other modality has no answer to compare; such scans
    are counted and left out of the other figures.
    """
    routed = np.array([a["status"] == "ok" and a["modality"] for a in answers]) == scans.modality
    score = np.array([a["probability"] if a["status"] == "ok" else np.nan for a in answers], float)
    covid = scans.covid.astype(bool)
    result: dict = {}

    def figures(rows: np.ndarray, model: Model) -> dict:
        kept = rows & routed
        given = covid[kept], score[kept]
        return {
            "given": int(rows.sum()),
            "not_answered": int((rows & ~routed).sum()),
            **binary_metrics(*given, score[kept] >= model.threshold("balanced")),
            **conformal_figures(*given, model),
        }

    for name in MODALITIES:
        for split in ("train", "val", "test", "probe"):
            rows = (scans.modality == name) & (scans.split == split)
            if not rows.any():
                continue
            model, given = models[name], (covid[rows & routed], score[rows & routed])
            sources = map(str, np.unique(scans.source[rows]))
            result.setdefault(name, {})[split] = {
                **figures(rows, model),
                **calibration_figures(*given),
                "operating_points": threshold_figures(*given, model),
                "per_source": {s: figures(rows & (scans.source == s), model) for s in sources},
            }
    others = scans.modality == "other"
    for split in np.unique(scans.split[others]):
        rows = others & (scans.split == split)
        refused = sum(answers[k]["status"] == "refused" for k in np.flatnonzero(rows))
        result.setdefault("other", {})[str(split)] = {
            "given": int(rows.sum()),
            "refused": refused,
            "refused_share": round(refused / int(rows.sum()), 4),
        }
    return result
