# SPDX-License-Identifier: Apache-2.0
"""95 % intervals by the bootstrap over groups (patients, papers, runs of slices), not over scans.

Scans of one group resemble each other, so a group is drawn whole or not at all (Efron and
Tibshirani, 1993, section 8.5). A resample is held as the number of times that each scan is in it;
every figure is a weighted one, computed for all resamples at once, and the difference of two
systems is paired by giving both the same resamples.
"""

from __future__ import annotations

import numpy as np

DRAWS = 1000
LEVEL = 0.95
FIGURES = ("accuracy", "auc", "sensitivity", "specificity", "f1")


def resamples(groups: np.ndarray, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """How often each scan is in each resample.

    Parameters
    ----------
    groups : ndarray, shape (n,)
        The group of each scan.
    draws : int
    seed : int

    Returns
    -------
    ndarray of float64, shape (draws + 1, n)
        Row 0 is the sample itself: every scan once.
    """
    names, index = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    return np.concatenate([np.ones((1, len(groups))), counts[:, index]])


def _steps(covid: np.ndarray, score: np.ndarray, weights: np.ndarray):
    """Weight of COVID and of other scans at each distinct score, lowest first: (k, steps) each."""
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    weights, covid = weights[:, order], covid[order].astype(np.float64)
    positive = np.add.reduceat(weights * covid, starts, axis=1)
    return positive, np.add.reduceat(weights * (1 - covid), starts, axis=1)


def auc(covid: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve in each resample; NaN where one class is missing.

    Parameters
    ----------
    covid : ndarray of bool, shape (n,)
    score : ndarray of float, shape (n,)
    weights : ndarray, shape (k, n)

    Returns
    -------
    ndarray of float64, shape (k,)
    """
    positive, negative = _steps(covid, score, weights)
    below = np.cumsum(negative, axis=1) - negative / 2  # ties count half
    return _ratio((positive * below).sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1))


def roc(covid: np.ndarray, score: np.ndarray, weights: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Sensitivity of each resample at the shares of false positives ``grid``.

    Returns
    -------
    ndarray of float64, shape (k, len(grid))
        Linear between the curve's corners; resamples of one class are left out.
    """
    positive, negative = _steps(covid, score, weights)
    both = (positive.sum(axis=1) > 0) & (negative.sum(axis=1) > 0)
    curves = []
    for p, n in zip(positive[both, ::-1], negative[both, ::-1]):
        x, y = np.r_[0, np.cumsum(n)], np.r_[0, np.cumsum(p)]
        curves.append(np.interp(grid, x / x[-1], y / y[-1]))
    return np.stack(curves)


def figures(
    covid: np.ndarray, score: np.ndarray, called: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """The paper's five figures in each resample; NaN where a resample does not define one.

    Parameters
    ----------
    covid, called : ndarray of bool, shape (n,)
        Truth and answer.
    score : ndarray of float, shape (n,)
    weights : ndarray, shape (k, n)

    Returns
    -------
    dict of ndarray of float64, shape (k,), by the names of `FIGURES`
    """
    covid, called = np.asarray(covid, bool), np.asarray(called, bool)
    tp, tn = weights @ (covid & called), weights @ (~covid & ~called)
    fp, fn = weights @ (~covid & called), weights @ (covid & ~called)
    return {
        "accuracy": _ratio(tp + tn, tp + tn + fp + fn),
        "auc": auc(covid, score, weights),
        "sensitivity": _ratio(tp, tp + fn),
        "specificity": _ratio(tn, tn + fp),
        "f1": np.where(tp + fn > 0, _ratio(2 * tp, 2 * tp + fp + fn), np.nan),
    }


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def interval(values: np.ndarray) -> list[float | None] | None:
    """[value, low, high] of a figure's values in the sample (first) and in its resamples.

    Parameters
    ----------
    values : ndarray of float, shape (1 + draws,)

    Returns
    -------
    list or None
        None where the sample does not define the figure; ``low`` and ``high`` are None where
        less than half of the resamples do.
    """
    if np.isnan(values[0]):
        return None
    drawn = values[1:][~np.isnan(values[1:])]
    if len(drawn) < max(1, (len(values) - 1) / 2):
        return [round(float(values[0]), 4), None, None]
    ends = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [round(float(v), 4) for v in (values[0], *ends)]


def measure(
    covid: np.ndarray, score: np.ndarray, called: np.ndarray, groups: np.ndarray
) -> dict[str, object]:
    """The five figures of some scans, each as `interval` gives it.

    Parameters
    ----------
    covid, called : ndarray of bool, shape (n,)
    score : ndarray of float, shape (n,)
    groups : ndarray, shape (n,)

    Returns
    -------
    dict
        ``scans``, ``covid`` and ``groups`` (how many), and the names of `FIGURES`. Of a single
        group no interval can be had.
    """
    covid = np.asarray(covid, bool)
    several = len(np.unique(groups))
    weights = resamples(groups) if several > 1 else np.ones((1, len(covid)))
    counts = {"scans": len(covid), "covid": int(covid.sum()), "groups": several}
    if not len(covid):
        return {**counts, **dict.fromkeys(FIGURES)}
    values = figures(covid, score, called, weights)
    return {**counts, **{name: interval(part) for name, part in values.items()}}
