# SPDX-License-Identifier: Apache-2.0
"""Does the device's rule for CT series hold (`covid_edge.study`), and is there a better one?

No scans of whole series are at hand. Groups of the data folder (patients, papers, runs of slices)
with several CT slices of one label stand in for them. Rules are compared on ``val``; the device's
alone is measured on ``test``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from covid_edge.bundle import Model
from covid_edge.predictor import Prediction
from covid_edge.study import log_odds
from covid_edge_convert.bootstrap import measure
from covid_edge_convert.calibrate import conformal_figures
from covid_edge_convert.data import Scans

#: What the device does.
DEVICE = "mean"

#: Log-odds of a study's slices, less those of the threshold → a score: COVID from 0 on.
RULES: dict[str, Callable[[np.ndarray], float]] = {
    DEVICE: np.mean,
    "median": np.median,
    "mean of the top third": lambda odds: np.sort(odds)[-max(1, len(odds) // 3) :].mean(),
    "share of slices called COVID, a half": lambda odds: np.mean(odds >= 0) - 0.5,
    "maximum": np.max,
}


@dataclass(frozen=True)
class Studies:
    """Groups of several answered CT slices: one entry a group.

    ``odds`` holds the log-odds of each one's slices, float64 (slices,); ``mixed`` is how many
    groups were left out because they have slices of both labels.
    """

    covid: np.ndarray
    source: np.ndarray
    odds: list[np.ndarray]
    mixed: int

    def __len__(self) -> int:
        return len(self.odds)


def gather(scans: Scans, answers: list[Prediction], split: str) -> Studies:
    """The studies of a split.

    Parameters
    ----------
    scans : Scans
    answers : list of Prediction
        The device's answer on each of them; forced ones do not count, as they do not there.
    split : str
    """
    counts = np.array(
        [a.status == "ok" and a.modality == "ct" and a.refusal is None for a in answers], bool
    )
    own = (scans.modality == "ct") & (scans.split == split)
    covid, source, odds, mixed = [], [], [], 0
    for group in np.unique(scans.group[own & counts]):
        rows = np.flatnonzero(own & counts & (scans.group == group))
        labels = np.unique(scans.covid[rows] == 1)
        if len(rows) < 2:
            continue
        if len(labels) > 1:
            mixed += 1
            continue
        covid.append(labels[0])
        source.append(scans.source[rows[0]])
        odds.append(np.array([log_odds(answers[row].probability) for row in rows]))
    return Studies(np.array(covid, bool), np.array(source, str), odds, mixed)


def rule_figures(studies: Studies, model: Model) -> dict:
    """`covid_edge_convert.bootstrap.measure` of each of `RULES`, at the balanced threshold."""
    cut = log_odds(model.balanced.value)
    each = np.arange(len(studies))
    figures = {}
    for name, rule in RULES.items():
        score = np.array([rule(odds - cut) for odds in studies.odds], float)
        figures[name] = measure(studies.covid, score, score >= 0, each)
    return figures


def study_figures(studies: Studies, model: Model) -> dict:
    """What the device's rule makes of studies.

    Returns
    -------
    dict
        ``mixed``; ``slices``, the number of them; ``sets``, as
        `covid_edge_convert.calibrate.conformal_figures` gives it; ``figures`` of ``all`` and of
        each source and ``alone``, of their slices one by one: `measure`, resampling studies.
    """
    threshold = model.balanced.value
    covid, source = studies.covid, studies.source
    score = expit([RULES[DEVICE](odds) for odds in studies.odds])
    each = np.arange(len(studies))
    parts = {"all": np.ones(len(studies), bool)}
    if len(names := np.unique(source)) > 1:
        parts.update((str(name), source == name) for name in names)
    figures = {
        name: measure(covid[rows], score[rows], score[rows] >= threshold, each[rows])
        for name, rows in parts.items()
    }
    sizes = [len(odds) for odds in studies.odds]
    alone = expit(np.concatenate(studies.odds)) if sizes else np.zeros(0)
    figures["alone"] = measure(
        np.repeat(covid, sizes), alone, alone >= threshold, np.repeat(each, sizes)
    )
    return {
        "mixed": studies.mixed,
        "slices": sum(sizes),
        "sets": conformal_figures(covid, score, model),
        "figures": figures,
    }
