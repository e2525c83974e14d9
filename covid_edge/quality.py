# SPDX-License-Identifier: Apache-2.0
"""Whether a scan is one that the networks can judge: measures, and the codes of refusals.

What the measures are compared with is in the bundle (`Checks`, `FamiliarRange`): limits that every
good scan of val keeps, set by ``covid-edge-convert checks``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from .bundle import Checks

__all__ = ["CODES", "Refusal", "contrast", "distance", "extremes", "sharpness", "turns", "unfit"]

#: Why a scan is refused, in the order in which it is looked for. These names stay.
CODES = (
    "too-small",
    "empty",
    "not-a-chest-scan",
    "clipped",
    "turned-90",
    "turned-180",
    "blurred",
    "far-from-training",
)

DARKEST, BRIGHTEST = 5, 250  # grey levels from which on a pixel counts as clipped
THUMBNAIL = 16

_TURNED = {
    1: ("turned-90", "turned by 90 degrees to the left; turn it upright"),
    2: ("turned-180", "upside down; turn it upright"),
    3: ("turned-90", "turned by 90 degrees to the right; turn it upright"),
}


class Refusal(NamedTuple):
    """One of :data:`CODES`, and what to tell people."""

    code: str
    reason: str


def contrast(pixels: np.ndarray) -> float:
    """Return how many grey levels lie between the 5th and the 95th percentile: 0 to 255."""
    # By counting: sorting takes ten times as long, and a first call of np.percentile 10 ms.
    up_to = np.bincount(pixels.ravel(), minlength=256).cumsum()
    places = pixels.size * 5 // 100, pixels.size * 95 // 100
    low, high = up_to.searchsorted(places, side="right")
    return float(high - low)


def extremes(pixels: np.ndarray) -> float:
    """Return the share of pixels that are as good as black or white, 0 to 1."""
    return float(((pixels <= DARKEST) | (pixels >= BRIGHTEST)).mean())


def sharpness(pixels: np.ndarray) -> float:
    """Return the mean of the Laplacian's absolute value, in grey levels.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (rows, columns)
        What the network sees: after CLAHE, which brings scans to one contrast.
    """
    x = pixels.astype(np.int16)
    edges = 4 * x[1:-1, 1:-1]
    for neighbour in (x[1:-1, :-2], x[1:-1, 2:], x[:-2, 1:-1], x[2:, 1:-1]):
        edges -= neighbour
    return float(np.abs(edges, out=edges).mean())


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Return the means of 16x16 blocks, of mean 0 and deviation 1: float32 (256,).

    Parameters
    ----------
    pixels : ndarray of uint8, shape (16 * m, 16 * n)
    """
    rows, columns = (side // THUMBNAIL for side in pixels.shape)
    # One side at a time, which is quicker; sums of whole numbers are exact either way.
    strips = pixels.reshape(THUMBNAIL, rows, -1).sum(1, dtype=np.float32)
    blocks = strips.reshape(THUMBNAIL, THUMBNAIL, columns).sum(2)
    small = blocks.ravel() / np.float32(rows * columns)
    small -= small.mean()
    return small / (small.std() + 4)  # 4: an empty picture has no deviation


def turns(pixels: np.ndarray, weights: np.ndarray) -> tuple[int, float]:
    """Return how a scan seems to be turned, and by how much that is likelier than upright.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (16 * m, 16 * n)
    weights : ndarray of float32, shape (4, 257)
        Logistic regression on the thumbnail, the bias last: upright, then turned by 90, 180 and
        270 degrees counterclockwise.

    Returns
    -------
    (int, float)
        Quarter turns counterclockwise, 1 to 3; log-odds against upright.
    """
    logits = weights[:, :-1] @ thumbnail(pixels) + weights[:, -1]
    turn = 1 + int(logits[1:].argmax())
    return turn, float(logits[turn] - logits[0])


def distance(embedding: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> float:
    """Return how far an embedding is from the training scans': 1 is usual.

    It is the mean over the features of the squared deviation from the mean, in deviations
    (Mahalanobis' distance of features taken as uncorrelated, squared, over their number).
    """
    return float((((embedding - mean) / deviation) ** 2).mean())


def unfit(pixels: np.ndarray, checks: Checks) -> Refusal | None:
    """Return why a scan of a modality is refused before its network sees it, if it is.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (16 * m, 16 * n)
        The whole scan in small, its grey levels unchanged: what the router sees.
    checks : Checks
        The modality's.
    """
    share = extremes(pixels)
    if share > checks.extremes:
        return Refusal("clipped", f"clipped: {share:.0%} of the pixels are black or white")
    turn, margin = turns(pixels, checks.turns)
    if margin > checks.turned:
        return Refusal(*_TURNED[turn])
    return None
