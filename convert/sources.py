# SPDX-License-Identifier: Apache-2.0
"""How well can the source of a scan be told from features of it?

A network that has learned where a picture comes from keeps that in its features. Inside one label,
so that the disease itself tells nothing, a linear classifier is asked for the source; what the
grey levels alone give away is the yardstick.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from covid_edge.scan import read_scan
from covid_edge_convert.data import Scans

FOLDS = 4
FEWEST = (20, FOLDS)  # scans and groups of a source that is asked for
BINS = 32


def grey_features(scans: Scans) -> np.ndarray:
    """What is on the surface of each scan: mean, deviation and histogram of its grey levels.

    Returns
    -------
    ndarray of float64, shape (len(scans), 2 + BINS)
    """
    rows = []
    for name in tqdm(scans.file, "grey levels", leave=False):
        pixels = read_scan(scans.root / name).pixels
        counts = np.bincount(pixels.ravel() // (256 // BINS), minlength=BINS)
        rows.append([pixels.mean(), pixels.std(), *counts / pixels.size])
    return np.array(rows, float).reshape(len(scans), 2 + BINS)


def source_accuracy(features: np.ndarray, source: np.ndarray, group: np.ndarray) -> dict | None:
    """Cross-validated accuracy of telling the source by multinomial logistic regression.

    Parameters
    ----------
    features : ndarray of float, shape (n, d)
        Of scans of one modality and one label.
    source, group : ndarray of str, shape (n,)
        A group is never both learned from and asked.

    Returns
    -------
    dict or None
        ``scans``, ``sources`` (how many), ``balanced`` (mean of each source's share that is told
        right), ``chance`` (what guessing gives of it). None if fewer than two sources have the
        `FEWEST` scans and groups.
    """
    large = [
        s
        for s in np.unique(source)
        if (source == s).sum() >= FEWEST[0] and len(np.unique(group[source == s])) >= FEWEST[1]
    ]
    if len(large) < 2:
        return None
    kept = np.isin(source, large)
    features, source, group = features[kept], source[kept], group[kept]
    model = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced")
    )
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    told = cross_val_predict(model, features.astype(np.float64), source, groups=group, cv=folds)
    return {
        "scans": len(source),
        "sources": len(large),
        "balanced": round(float(balanced_accuracy_score(source, told)), 4),
        "chance": round(1 / len(large), 4),
    }
