# SPDX-License-Identifier: Apache-2.0
"""From logits to answers: probabilities, how far they can be trusted, and where answers turn.

Everything is set on ``val`` and by the very file that ships. The order statistics promise what they
do for scans exchangeable with those of ``val``; of another hospital's scans they promise nothing.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from covid_edge.bundle import Model
from covid_edge.errors import CovidEdgeError

# Classes weigh the same in calibration, so here the fitted curve's balanced accuracy is highest.
# It is the paper's threshold too. Taking the best of val itself instead was tried on half of its
# groups: the threshold then moved four times as much and was no better on the other half.
BALANCED = 0.5
# Share of COVID scans that the sensitive operating point may miss.
MISSED = 0.05
# Of the calibration error (Guo et al., 2017).
BINS = 15
# The bounds that the device compares with are rounded to this many decimals, each to the side that
# excludes less: its exp() may differ from NumPy's in the last bit, and int8 logits are often equal.
DECIMALS = 6


class CalibrationError(CovidEdgeError, ValueError):
    """The scans of val do not allow what was asked of them."""

    exit_code = 1


def platt(logits: np.ndarray, covid: np.ndarray) -> tuple[float, float]:
    """Platt scaling: the (scale, bias) whose ``sigmoid(scale * logit + bias)`` fits the labels.

    Both classes weigh the same, so the probability is that for an even share of COVID scans:
    the share in ``val`` is an accident of which groups it got. Labels are drawn in a little, as
    Platt (1999) does, without which classes that do not overlap would make the scale infinite.

    Parameters
    ----------
    logits : ndarray of float, shape (n,)
    covid : ndarray, shape (n,)
        1 for COVID.

    Raises
    ------
    CalibrationError
        If a class has no scans, or larger logits do not go with COVID (scale not positive).
    """
    covid = np.asarray(covid) > 0.5
    positive, negative = int(covid.sum()), int((~covid).sum())
    if not (positive and negative):
        raise CalibrationError("val has scans of one class only: there is nothing to calibrate on")
    target = np.where(covid, (positive + 1) / (positive + 2), 1 / (negative + 2))
    weight = np.where(covid, 0.5 / positive, 0.5 / negative) * len(covid)
    # A target between the classes is a scan of each of them, weighted by its share.
    fit = LogisticRegression(C=1e6, max_iter=1000, tol=1e-6).fit(
        np.tile(logits, 2)[:, None],
        np.repeat([1, 0], len(covid)),
        np.concatenate([weight * target, weight * (1 - target)]),
    )
    scale, bias = float(fit.coef_[0, 0]), float(fit.intercept_[0])
    if scale <= 0:
        raise CalibrationError(
            "the logits are no better than chance on val: they cannot be calibrated"
        )
    return scale, bias


def probability(logits: np.ndarray, scale: float, bias: float) -> np.ndarray:
    """Calibrated probability of COVID: logits of any shape → float64 of that shape, 0 to 1."""
    return expit(scale * np.asarray(logits, np.float64) + bias)


def calibration_error(
    covid: np.ndarray, probability: np.ndarray, bins: int = BINS, equal_mass: bool = False
) -> float:
    """Expected calibration error (ECE) of the probability of COVID.

    The mean over all scans of |share of COVID - mean probability| in the scan's bin. Bins are
    equally wide (the usual definition, and the one that is reported), or by the quantiles of the
    probabilities.

    Parameters
    ----------
    covid : ndarray, shape (n,)
        1 for COVID.
    probability : ndarray of float, shape (n,)
        0 to 1; n is at least 1.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", 2017;
    Nixon et al., "Measuring Calibration in Deep Learning", 2019 (bins of equal mass).
    """
    edges = np.linspace(0, 1, bins + 1)[1:-1]
    if equal_mass:
        edges = np.quantile(probability, edges)
    # Equal probabilities share a bin, so the order of the scans does not matter.
    place = np.searchsorted(edges, probability, side="right")
    gaps = np.bincount(place, weights=np.asarray(covid, float) - probability, minlength=bins)
    return float(np.abs(gaps).sum() / len(place))


def calibration_error_by_chance(probability: np.ndarray, draws: int = 200) -> float:
    """The mean `calibration_error` if the probabilities were exactly right: the floor of it.

    Few scans in a bin never show the share that they should. An error near this is no sign of bad
    calibration, and no scaling brings it lower.
    """
    rng = np.random.default_rng(0)
    return float(
        np.mean(
            [
                calibration_error(rng.random(len(probability)) < probability, probability)
                for _ in range(draws)
            ]
        )
    )


def lower_bound(scores: np.ndarray, share: float) -> float:
    """A bound that a further score like these falls below with probability at most ``share``.

    It is the floor(share * (n + 1))-th smallest of the n scores (Vovk et al., 2005): among n + 1
    exchangeable scores each rank is as likely for the further one. Too few scores for the share
    bound nothing: -inf.
    """
    rank = math.floor(share * (len(scores) + 1))
    return float(np.sort(scores)[rank - 1]) if rank else -math.inf


def covid_from(of_covid: np.ndarray, missed: float) -> float:
    """The probability from which on COVID stays possible, if at most ``missed`` of it may be lost.

    Parameters
    ----------
    of_covid : ndarray of float, shape (n,)
        Probabilities of COVID of COVID scans.
    missed : float
        More than 0, less than 1.
    """
    return math.floor(max(lower_bound(of_covid, missed), 0) * 10**DECIMALS) / 10**DECIMALS


def non_covid_to(of_others: np.ndarray, missed: float) -> float:
    """The mirror image of `covid_from`: up to where the absence of COVID stays possible."""
    return math.ceil(min(-lower_bound(-of_others, missed), 1) * 10**DECIMALS) / 10**DECIMALS


def operating_points(covid: np.ndarray, probability: np.ndarray) -> dict:
    """bundle.json's two thresholds, out of calibrated probabilities on ``val``."""
    of_covid = probability[covid]
    return {
        "balanced": {
            "value": BALANCED,
            "chosen": "the paper's, and where balanced accuracy peaks on the curve fitted to val",
        },
        "sensitive": {
            "value": covid_from(of_covid, MISSED),
            "chosen": f"finds at least {1 - MISSED:.0%} of COVID scans like val's {len(of_covid)}",
        },
    }


def conformal(covid: np.ndarray, probability: np.ndarray, alpha: float) -> dict:
    """bundle.json's bounds of class-conditional split-conformal sets, out of ``val``.

    Parameters
    ----------
    covid : ndarray of bool, shape (n,)
    probability : ndarray of float, shape (n,)
        Calibrated.
    alpha : float
        Share of each class that may lose its true label, more than 0 and less than 1.

    References
    ----------
    Vovk, "Conditional validity of inductive conformal predictors", 2012.
    """
    return {
        "alpha": alpha,
        "covid_from": covid_from(probability[covid], alpha),
        "non_covid_to": non_covid_to(probability[~covid], alpha),
        "fitted_on": f"val split, {covid.sum()} COVID and {(~covid).sum()} other scans, "
        "by this file",
    }


def conformal_figures(covid: np.ndarray, probability: np.ndarray, model: Model) -> dict:
    """How the sets of the device hold: shares of the scans, None where there are none.

    Parameters
    ----------
    covid : ndarray of bool, shape (n,)
    probability : ndarray of float, shape (n,)
    model : Model
        Whose bounds and balanced threshold decide.

    Returns
    -------
    dict
        ``coverage`` (the true label is not excluded) of all, of ``_covid`` and of ``_non_covid``
        scans; share ``uncertain``; share ``wrong_when_certain`` of the others.
    """
    sets = [model.possible(p, "conformal") for p in probability.tolist()]
    uncertain = np.array([len(labels) > 1 for labels in sets], bool)
    covered = np.array([model.labels[y] in s for y, s in zip(covid.tolist(), sets)], bool)
    return {
        "coverage": _share(covered),
        "coverage_covid": _share(covered[covid]),
        "coverage_non_covid": _share(covered[~covid]),
        "uncertain": _share(uncertain),
        "wrong_when_certain": _share(~covered[~uncertain]),
    }


def calibration_figures(covid: np.ndarray, probability: np.ndarray) -> dict:
    """``ece``, the same over bins of equal mass, and what of it is chance; None without scans."""
    figures = {
        "ece": calibration_error,
        "ece_equal_mass": lambda y, p: calibration_error(y, p, equal_mass=True),
        "ece_by_chance": lambda _, p: calibration_error_by_chance(p),
    }
    return {
        name: round(figure(covid, probability), 4) if len(covid) else None
        for name, figure in figures.items()
    }


def threshold_figures(covid: np.ndarray, probability: np.ndarray, model: Model) -> dict:
    """``balanced`` and ``sensitive`` → threshold, accuracy, sensitivity, specificity and mean."""
    figures = {}
    for point in ("balanced", "sensitive"):
        called = probability >= model.threshold(point)
        sensitivity, specificity = _share(called[covid]), _share(~called[~covid])
        both = None not in (sensitivity, specificity)
        figures[point] = {
            "threshold": model.threshold(point),
            "accuracy": _share(called == covid),
            "sensitivity": sensitivity,
            "specificity": specificity,
            "balanced_accuracy": round((sensitivity + specificity) / 2, 4) if both else None,
        }
    return figures


def _share(mask: np.ndarray) -> float | None:
    return round(float(mask.mean()), 4) if len(mask) else None
