# SPDX-License-Identifier: Apache-2.0
"""What the answers on the slices of a CT series say together.

The rule is the mean of the log-odds that the slices' calibrated probabilities are. It has no number
of its own: the bundle's thresholds and bounds for single slices make a label of it too. Slices that
were refused or could not be read do not count; how many there were is said.

It was chosen on ``val`` and is measured on ``test`` by `covid_edge_convert.studies`, where patients
and papers with several slices stand in for series. **What the bounds promise of slices, they do not
promise of series:** slices of one patient are not exchangeable with those that set the bounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .bundle import UNCERTAIN, Bundle, Model
from .errors import ScanError

if TYPE_CHECKING:
    from .files import Slice
    from .predictor import Prediction

__all__ = ["RULE", "Study", "log_odds", "sum_up"]

#: The rule's name.
RULE = "mean-log-odds"

# No probability is nearer to 0 or 1: a single slice shall not outvote all others.
_EDGE = 1e-6

# What is None of a series of which no slice was answered.
_ANSWER = ("modality", "label", "labels", "probability", "threshold", "operating_point", "network")


@dataclass(frozen=True)
class Study:
    """What covid-edge says of one CT series; what is not told here is as for a single slice.

    Attributes
    ----------
    number, slices : int
        Which series it is, from 1, and how many slices it has.
    answered, refused, failed : int
        How many of them were answered on and so count, were refused, could not be read.
    modality, label, labels, probability, threshold, operating_point, network
        As of a :class:`covid_edge.Prediction`, of the slices together; None if none was answered.
        `labels` are those that the bounds for slices leave, which promises nothing of a series.
    bundle : dict of str
        As of a Prediction.
    """

    number: int
    slices: int
    answered: int
    refused: int
    failed: int
    modality: str | None
    label: str | None
    labels: tuple[str, ...] | None
    probability: float | None
    threshold: float | None
    operating_point: str | None
    network: dict[str, str] | None
    bundle: dict[str, str]

    status = "series"

    @property
    def file(self) -> str:
        return f"series {self.number}"

    def to_dict(self) -> dict[str, Any]:
        """Return the form of a JSON line: the keys of any other."""
        return {
            "file": self.file,
            "status": self.status,
            "modality": self.modality,
            "label": self.label,
            "labels": self.labels and list(self.labels),
            "probability": self.probability,
            "threshold": self.threshold,
            "operating_point": self.operating_point,
            "network": self.network,
            "refusal": None,
            "reason": None if self.answered else "none of its slices was answered",
            "dicom": None,
            "latency_ms": dict.fromkeys(("read", "preprocess", "inference", "total")),
            "bundle": self.bundle,
            "heatmap": None,
            "series": {
                "number": self.number,
                "slice": None,
                "slices": self.slices,
                "answered": self.answered,
                "refused": self.refused,
                "failed": self.failed,
                "rule": RULE,
            },
        }


def log_odds(probability: float) -> float:
    """Return what the rule takes the mean of."""
    probability = min(max(probability, _EDGE), 1 - _EDGE)
    return math.log(probability / (1 - probability))


def sum_up(
    outcomes: Iterable[Prediction | ScanError], bundle: Bundle
) -> Iterator[Prediction | ScanError | Study]:
    """Yield answers as they come, and after the last slice of each series a :class:`Study` of it.

    Of the slices a sum and counts are kept, and the first answer.

    Parameters
    ----------
    outcomes : iterable of Prediction or ScanError
        Of the pictures that :func:`covid_edge.files.name_scans` yields, in their order.
    bundle : Bundle
        The one that answers.
    """
    tally = _Tally()
    for outcome in outcomes:
        yield outcome
        failed = isinstance(outcome, ScanError)
        here = outcome.series if failed else outcome.source.series
        if here is None:
            continue
        if here.slice == 1:
            tally = _Tally()
        if failed:
            tally.failed += 1
        elif outcome.status == "refused":
            tally.refused += 1
        else:
            tally.add(outcome)
        if here.slice == here.slices:
            yield tally.study(here, bundle)


class _Tally:
    """The slices of one series so far."""

    def __init__(self) -> None:
        self.answered = self.refused = self.failed = 0
        self._sum = 0.0
        self._first: Prediction | None = None

    def add(self, answer: Prediction) -> None:
        self.answered += 1
        self._sum += log_odds(answer.probability)
        self._first = self._first or answer

    def study(self, series: Slice, bundle: Bundle) -> Study:
        found: dict[str, Any] = dict.fromkeys(_ANSWER)
        if (first := self._first) is not None:
            found.update((name, getattr(first, name)) for name in _ANSWER)
            probability = 1 / (1 + math.exp(-self._sum / self.answered))
            labels = _model(first, bundle).possible(probability, first.operating_point)
            found["probability"], found["labels"] = probability, labels
            found["label"] = labels[0] if len(labels) == 1 else UNCERTAIN
        return Study(
            number=series.number,
            slices=series.slices,
            answered=self.answered,
            refused=self.refused,
            failed=self.failed,
            bundle={"name": bundle.name, "version": bundle.version, "sha256": bundle.sha256},
            **found,
        )


def _model(answer: Prediction, bundle: Bundle) -> Model:
    models = bundle.modalities[answer.modality].models
    return next(model for model in models if model.file.path.name == answer.network["file"])
