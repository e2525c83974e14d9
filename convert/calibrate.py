# SPDX-License-Identifier: Apache-2.0
"""How far probabilities can be trusted."""

from __future__ import annotations

import numpy as np

BINS = 15


def calibration_error(covid: np.ndarray, probability: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error: mean over scans of |share of COVID - probability| in their bin.

    Parameters
    ----------
    covid : ndarray, shape (n,)
        1 for COVID.
    probability : ndarray of float, shape (n,)
    bins : int
        Equally wide.
    """
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], probability, side="right")
    gaps = np.bincount(place, weights=np.asarray(covid, float) - probability, minlength=bins)
    return float(np.abs(gaps).sum() / len(place))
