# SPDX-License-Identifier: Apache-2.0
"""Figures out of a bundle's evidence: stages against each other, mixing, other protocols.

Logits here are full precision. Each stage is labelled at its own operating point, set on ``val``,
and measured on ``test`` or ``probe``.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit
from scipy.stats import f_oneway
from sklearn.linear_model import LogisticRegression

from covid_edge_convert.bootstrap import figures, interval, measure, resamples
from covid_edge_convert.data import MODALITIES, Scans
from covid_edge_convert.evidence import FEATURE_SPLITS, STAGES, Evidence
from covid_edge_convert.mixing import wasserstein_distance
from covid_edge_convert.sources import grey_features, source_accuracy

LABELS = {"covid": True, "non-covid": False}


def called_by_val(val_covid: np.ndarray, val_score: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Which scores mean COVID: as the bundle's balanced operating point, set on ``val`` alone.

    Parameters
    ----------
    val_covid : ndarray of bool, shape (n,)
        Both labels.
    val_score : ndarray of float, shape (n,)
    score : ndarray of float, shape (m,)

    Returns
    -------
    ndarray of bool, shape (m,)
        Where Platt scaling, fitted with both labels of the same weight, gives 0.5 or more; or, of
        scores that val ranks no better than chance, where the network's own sigmoid does: labels
        are never turned round.
    """
    fit = LogisticRegression(C=1e6, max_iter=1000, class_weight="balanced")
    fit.fit(val_score[:, None], val_covid)
    return fit.predict(score[:, None]) if fit.coef_[0, 0] > 0 else score >= 0


def rows_of(files: np.ndarray, scans: Scans) -> np.ndarray:
    """The row of ``scans`` that holds each file; -1 where none does."""
    where = {name: k for k, name in enumerate(scans.file.tolist())}
    return np.array([where.get(name, -1) for name in files.tolist()], int)


def joined(evidence: Evidence, scans: Scans) -> tuple[Scans, dict[str, np.ndarray]] | None:
    """The scans of stages.csv, in its order, and its logits; None if ``scans`` lacks any."""
    if evidence.stages is None:
        return None
    rows = rows_of(evidence.stages["file"], scans)
    if (rows < 0).any():
        return None
    return scans.where(rows), {name: evidence.stages[name] for name in STAGES}


def stage_figures(table: Scans, logits: dict[str, np.ndarray], shipped: str) -> dict:
    """Every stage by itself, and what one adds to another, on the same resamples.

    Parameters
    ----------
    table : Scans
    logits : dict of ndarray of float, shape (len(table),)
        As `joined` gives them.
    shipped : str
        The stage that the bundle's files are: ``head_adversarial`` or ``head_non_adversarial``.

    Returns
    -------
    dict
        modality → split → ``{"stages": {stage: measure}, "differences": [{"of", "minus",
        "accuracy", "auc"}]}``; the last two are [difference, low, high].
    """
    pairs = [(shipped, "task_specific_encoder"), (shipped, "shared_encoder")]
    pairs += [(f"{m}_adversarial", f"{m}_non_adversarial") for m in ("shared", "head")]
    result: dict = {}
    for modality in MODALITIES:
        own = table.modality == modality
        trained = [name for name in STAGES if own.any() and not np.isnan(logits[name][own]).any()]
        for split in ("test", "probe"):
            rows, val = own & (table.split == split), own & (table.split == "val")
            if not rows.any():
                continue
            covid, groups = table.covid[rows] == 1, table.group[rows]
            weights = resamples(groups)
            stages, drawn = {}, {}
            for name in trained:
                score = logits[name]
                called = called_by_val(table.covid[val] == 1, score[val], score[rows])
                stages[name] = measure(covid, score[rows], called, groups)
                drawn[name] = figures(covid, score[rows], called, weights)
            differences = [
                {
                    "of": of,
                    "minus": minus,
                    **{k: interval(drawn[of][k] - drawn[minus][k]) for k in ("accuracy", "auc")},
                }
                for of, minus in pairs
                if of in drawn and minus in drawn
            ]
            part = {"stages": stages, "differences": differences}
            result.setdefault(modality, {})[split] = part
    return result


def anova(table: Scans, logits: dict[str, np.ndarray]) -> dict:
    """The paper's one-way analysis of variance over the stages' probabilities, on ``test``.

    Returns
    -------
    dict
        modality → ``{"f", "p", "stages"}``.
    """
    result = {}
    for modality in MODALITIES:
        rows = (table.modality == modality) & (table.split == "test")
        parts = [expit(logits[n][rows]) for n in STAGES if not np.isnan(logits[n][rows]).any()]
        if rows.sum() > 1 and len(parts) > 1:
            f, p = f_oneway(*parts)
            result[modality] = {
                "stages": len(parts),
                "f": round(float(f), 2),
                "p": float(f"{p:.2e}"),
            }
    return result


def featured(table: Scans) -> np.ndarray:
    """Which rows of stages.csv have a row in features.npz: bool (len(table),)."""
    return np.isin(table.split, FEATURE_SPLITS)


def mixing_figures(table: Scans, features: dict[str, np.ndarray]) -> dict:
    """Relative Wasserstein distance of X-ray and CT embeddings of ``test``, before and after.

    Parameters
    ----------
    table : Scans
        The scans of the features' rows.
    features : dict of ndarray, shape (len(table), components)

    Returns
    -------
    dict
        ``all``, ``covid``, ``non-covid`` → ``{"before", "after"}``: distance of the components,
        divided by the mean total variance of both clouds.
    """
    result = {}
    test = table.split == "test"
    parts = {name: test & (table.covid == value) for name, value in LABELS.items()}
    for name, rows in {"all": test, **parts}.items():
        clouds = [rows & (table.modality == modality) for modality in MODALITIES]
        if all(cloud.sum() > 2 for cloud in clouds):
            result[name] = {
                when: round(
                    wasserstein_distance(*(features[when][c] for c in clouds), relative=True), 4
                )
                for when in ("before", "after")
            }
    return result


def source_figures(table: Scans, features: dict[str, np.ndarray]) -> dict:
    """How well the source is told, inside one label, from features and from mere grey levels.

    Returns
    -------
    dict
        modality → label → ``{"grey", "before", "after", "final"}``, each as
        `covid_edge_convert.sources.source_accuracy` gives it.
    """
    features = {"grey": grey_features(table), **features}
    result: dict = {}
    for modality in MODALITIES:
        for label, value in LABELS.items():
            rows = (table.modality == modality) & (table.covid == value)
            told = {
                name: source_accuracy(part[rows], table.source[rows], table.group[rows])
                for name, part in features.items()
            }
            if told["grey"] is not None:
                result.setdefault(modality, {})[label] = told
    return result


def protocol_figures(evidence: Evidence, scans: Scans) -> list[dict]:
    """Each fold of the other protocols, whole and per source.

    Returns
    -------
    list of dict
        `evidence.FOLD_COLUMNS` and ``figures``: ``{"all" or source: measure}``, of the fold's test
        scans, labelled at the operating point that the fold's val sets.
    """
    result = []
    answers = evidence.protocols
    for fold in evidence.folds if answers is not None else ():
        rows = np.logical_and.reduce(
            [answers[key] == fold[key] for key in ("protocol", "fold", "modality")]
        )
        at = rows_of(answers["file"][rows], scans)
        if (at < 0).any():
            continue
        table, logit, split = scans.where(at), answers["logit"][rows], answers["split"][rows]
        covid, val, test = table.covid == 1, split == "val", split == "test"
        called = called_by_val(covid[val], logit[val], logit)
        parts = {"all": test}
        parts.update((str(s), test & (table.source == s)) for s in np.unique(table.source[test]))
        measured = {
            name: measure(covid[r], logit[r], called[r], table.group[r])
            for name, r in parts.items()
            if name == "all" or len(parts) > 2
        }
        result.append({**fold, "figures": measured})
    return result
