# SPDX-License-Identifier: Apache-2.0
"""Metrics of a bundle or of training stages, per modality, split and source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score, roc_curve
from tqdm import tqdm

from covid_edge.bundle import Modality
from covid_edge.predictor import Predictor
from covid_edge_convert import systems
from covid_edge_convert.calibrate import (
    calibration_figures,
    conformal_figures,
    threshold_figures,
)
from covid_edge_convert.data import MODALITIES, Scans
from covid_edge_convert.recipes import Recipe
from covid_edge_convert.runs import RunFolder
from covid_edge_convert.systems import ROLES


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


def stages(scans: Scans, recipe: Recipe, run: RunFolder, split: str = "test") -> dict:
    """AUC of every stage of a training run, full precision: what each module adds.

    Parameters
    ----------
    scans : Scans
        The table that the run was trained with.
    recipe : Recipe
    run : RunFolder
        Trained to its end.
    split : str
        The scans that are measured.

    Returns
    -------
    dict
        modality → stage → AUC; the stages are the two encoders alone, the task-specific module,
        the shared module and the head.
    """
    result: dict = {}
    for modality in MODALITIES:
        table = scans.select(modality=modality)
        kept = table.split == split
        covid = table.covid[kept]
        logits, features = {}, []
        builders = (systems.load_task_specific(modality, run), systems.load_shared(run))
        for role, name, module in zip(ROLES, recipe.encoders[modality], builders):
            # The first rows are the scans themselves; augmented views follow.
            vectors = np.load(run.vectors(modality, name))[: len(table)][kept]
            alone = systems.load_embedding(modality, name, run).layers[-1]
            kernel, bias = alone.get_weights()
            logits[f"{name} alone"] = (vectors @ kernel + bias)[:, 0]
            feature, logit = module.predict(vectors, batch_size=512, verbose=0)
            logits[role.replace("_", "-")] = logit[:, 0]
            features.append(feature)
        head = systems.load_head(modality, run).predict(features, batch_size=512, verbose=0)
        logits["head"] = head[:, 0]
        result[modality] = {k: round(float(roc_auc_score(covid, v)), 4) for k, v in logits.items()}
    return result


def answer(scans: Scans, predictor: Predictor) -> list[dict]:
    """The device's own answer for every scan, as `Prediction.to_dict` gives it."""
    return [
        predictor.predict(str(scans.root / name)).to_dict()
        for name in tqdm(scans.file, "predict", leave=False)
    ]


def summarise(scans: Scans, answers: list[dict], modalities: dict[str, Modality]) -> dict:
    """Figures of each modality and split out of the device's answers, whole and per source.

    Accuracy and so on are those of the balanced operating point, which answers on every scan; what
    the conformal sets of `modalities` (the bundle's) make of the same probabilities comes beside
    them, and for whole splits also the calibration error and both thresholds' figures.

    A scan that was refused or taken for the other modality has no answer to compare; such scans
    are counted and left out of the other figures.
    """
    routed = np.array([a["status"] == "ok" and a["modality"] for a in answers]) == scans.modality
    score = np.array([a["probability"] if a["status"] == "ok" else np.nan for a in answers], float)
    covid = scans.covid.astype(bool)
    result: dict = {}

    def figures(rows: np.ndarray, modality: Modality) -> dict:
        kept = rows & routed
        given = covid[kept], score[kept]
        return {
            "given": int(rows.sum()),
            "not_answered": int((rows & ~routed).sum()),
            **binary_metrics(*given, score[kept] >= modality.threshold("balanced")),
            **conformal_figures(*given, modality),
        }

    for name in MODALITIES:
        for split in ("train", "val", "test", "probe"):
            rows = (scans.modality == name) & (scans.split == split)
            if not rows.any():
                continue
            modality, given = modalities[name], (covid[rows & routed], score[rows & routed])
            sources = map(str, np.unique(scans.source[rows]))
            result.setdefault(name, {})[split] = {
                **figures(rows, modality),
                **calibration_figures(*given),
                "operating_points": threshold_figures(*given, modality),
                "per_source": {s: figures(rows & (scans.source == s), modality) for s in sources},
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


def plot_roc(scans: Scans, answers: list[dict], path: Path, split: str = "test") -> None:
    """ROC curves of both modalities on one split, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 5), layout="constrained")
    for modality, name in (("xray", "X-ray"), ("ct", "CT")):
        kept = [
            k
            for k, a in enumerate(answers)
            if a["status"] == "ok"
            and a["modality"] == modality == scans.modality[k]
            and scans.split[k] == split
        ]
        covid = scans.covid[kept]
        if len(np.unique(covid)) < 2:
            continue
        score = [answers[k]["probability"] for k in kept]
        false_positive, true_positive, _ = roc_curve(covid, score)
        area = roc_auc_score(covid, score)
        axes.plot(
            false_positive, true_positive, label=f"{name}, AUC {area:.3f} ({len(kept)} scans)"
        )
    axes.plot([0, 1], [0, 1], color="0.7", linestyle=":")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", title=f"{split} split, int8 bundle")
    axes.legend(loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
