# SPDX-License-Identifier: Apache-2.0
"""How far apart two modalities lie in a space of embeddings."""

from __future__ import annotations

import numpy as np


def wasserstein_distance(a: np.ndarray, b: np.ndarray, relative: bool = False) -> float:
    """Fréchet form of the Wasserstein distance between two clouds of vectors (paper section 4.3).

    ``|mu1 - mu2|^2 + Tr(C1 + C2 - 2 (C1 C2)^(1/2))``, the clouds taken as Gaussian.

    Parameters
    ----------
    a, b : ndarray, shape (n, d) and (m, d)
    relative : bool
        Divide by the mean total variance of both, so that a mixer which only shrinks its output
        does not look like one that mixes.

    Returns
    -------
    float, 0 or more
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    c1, c2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # Tr((C1 C2)^(1/2)) by the symmetric C1^(1/2) C2 C1^(1/2), which has the same eigenvalues.
    values, vectors = np.linalg.eigh(np.atleast_2d(c1))
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ np.atleast_2d(c2) @ root)
    spread = np.trace(np.atleast_2d(c1)) + np.trace(np.atleast_2d(c2))
    distance = float(
        np.sum((a.mean(0) - b.mean(0)) ** 2) + spread - 2 * np.sqrt(np.clip(cross, 0, None)).sum()
    )
    distance = max(0.0, distance)
    return distance / (spread / 2) if relative else distance
