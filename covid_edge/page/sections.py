# SPDX-License-Identifier: Apache-2.0
"""The page's pieces as HTML. Every word that comes from a file or a bundle is escaped."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from html import escape
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..report import printable
from .pictures import Picture, colour_bar

if TYPE_CHECKING:
    from ..bundle import Bundle, Model

__all__ = ["NOT_FINISHED", "OVERVIEW_END", "Section", "foot", "head", "overview_begin"]

# What a word of a JSON line is called on the page; any other stands for itself.
_WORDS = {
    "covid": "COVID-19",
    "non-covid": "no COVID-19",
    "xray": "chest X-ray",
    "ct": "chest CT",
    "error": "unreadable",
}

# The colours that page.css has for verdicts; for any other verdict it has grey.
_TONES = {"covid", "non-covid", "uncertain", "refused", "error"}

NOT_FINISHED = b"""<p class="broken"><strong>Not finished.</strong> This page is still being written,
or its run was broken off. It holds the scans that were answered until then.</p>
"""

OVERVIEW_END = b"</tbody></table></div></section>\n"


def head(bundle: Bundle) -> bytes:
    """Return all that comes before the overview or the first section."""
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Chest scans, answered by covid-edge</title>
<style>{style}</style>
</head>
<body id="top">
<header>
<h1>Chest scans</h1>
<p class="notice">{escape(bundle.notice)}</p>
</header>
<main>
""".encode()


def foot(bundle: Bundle) -> bytes:
    """Return all that comes after the last section."""
    return f"""</main>
<footer>
<p>covid-edge {__version__}, {time.strftime("%Y-%m-%d %H:%M")}. Bundle {escape(bundle.name)}
{escape(bundle.version)}, SHA-256 <code>{bundle.sha256}</code>.</p>
<p>{escape(bundle.notice)}</p>
</footer>
<script>{_asset("page.js")}</script>
</body>
</html>
""".encode()


def overview_begin(verdicts: Mapping[str, int]) -> bytes:
    """Return the overview up to its first row, with how many scans got which verdict."""
    counts = "".join(
        f"<li>{_badge(verdict)} {count}</li>" for verdict, count in sorted(verdicts.items())
    )
    return f"""<section class="overview" aria-labelledby="overview">
<h2 id="overview">Overview of {sum(verdicts.values())} files</h2>
<ul class="counts">{counts}</ul>
<div class="wide" role="region" aria-labelledby="overview" tabindex="0"><table>
<thead><tr><th scope="col" class="figure">#</th><th scope="col">File</th><th scope="col">Kind</th>
<th scope="col">Answer</th><th scope="col" class="figure">P(COVID-19)</th>
<th scope="col" class="figure">Time</th></tr></thead>
<tbody>
""".encode()


class Section:
    """What the page says of one scan.

    Parameters
    ----------
    number : int
        Its place on the page, from 1 on.
    said : dict
        Its JSON line (:func:`covid_edge.report.record`). Nothing else of the scan is put in words.
    bundle : Bundle
        The one that answered.

    Attributes
    ----------
    verdict : str
        The label, or the status of a scan that has none.
    """

    def __init__(self, number: int, said: dict[str, Any], bundle: Bundle) -> None:
        self.verdict = said["label"] or said["status"]
        self._number = number
        self._said = said
        self._bundle = bundle
        self._model = _model(said, bundle)
        self._name = escape(printable(said["file"]))
        self._kind = escape(_capital(said["modality"])) if said["modality"] else ""

    def row(self) -> bytes:
        """Return its row of the overview."""
        probability, spent = self._said["probability"], self._said["latency_ms"]["total"]
        return (
            f'<tr><td class="figure">{self._number}</td>'
            f'<td><a href="#scan-{self._number}">{self._name}</a></td>'
            f"<td>{self._kind}</td><td>{_badge(self.verdict)}</td>"
            f'<td class="figure">{"" if probability is None else f"{probability:.3f}"}</td>'
            f'<td class="figure">{"" if spent is None else f"{spent:.0f} ms"}</td></tr>\n'
        ).encode()

    def html(self, scan: Picture | None, heatmap: Picture | None) -> bytes:
        """Return the whole of it, with its picture and its heatmap if there are any."""
        status = self._said["status"]
        words = {"ok": self._answer, "refused": self._refusal}.get(status, self._error)()
        figure = "" if status == "error" else self._figure(scan, heatmap)
        number = self._number
        return f"""<section class="scan" id="scan-{number}" aria-labelledby="name-{number}">
<h2 id="name-{number}"><span class="place">{number}</span> {self._name}</h2>
<div class="sides">
{figure}<div class="words">
{words}</div>
</div>
<p class="up"><a href="#top">Back to the top</a></p>
</section>
""".encode()

    def _figure(self, scan: Picture | None, heatmap: Picture | None) -> str:
        if scan is None:
            return '<p class="gone">The picture could not be read again to be shown here.</p>\n'
        over = under = ""
        if heatmap is not None:
            over = (
                f'<img class="map" src="{heatmap.address}" alt="Heatmap over it: what counted '
                'most for the answer is lightest">'
            )
            under = f"""<figcaption>
<div class="key"><span>counted little</span><img src="{colour_bar().address}" \
alt="dark violet to light yellow"><span>much</span></div>
<label hidden>Heatmap <input type="range" min="0" max="100" value="60"></label>
<p class="small">Where the network looked for its answer. It marks no finding.</p>
</figcaption>
"""
        return f"""<figure>
<div class="picture"><img class="pixels" src="{scan.address}" width="{scan.width}" \
height="{scan.height}" alt="{self._kind or "Picture"} {self._name}">{over}</div>
{under}</figure>
"""

    def _answer(self) -> str:
        said = self._said
        return (
            f'<p class="answer">{_badge(self.verdict)} <span class="kind">{self._kind}</span></p>\n'
            f"{_scale(said, self._model)}{self._possible()}{self._timings()}{self._card()}"
        )

    def _refusal(self) -> str:
        return (
            f'<p class="answer">{_badge(self.verdict)} <span class="kind">{self._kind}</span></p>\n'
            f'<p class="why">{escape(_sentence(self._said["reason"]))}</p>\n'
            "<p>The picture was read, and no probability is given: on such a picture it would mean "
            f"nothing.</p>\n{self._timings()}{self._card()}"
        )

    def _error(self) -> str:
        return (
            f'<p class="answer">{_badge(self.verdict)}</p>\n'
            f'<p class="why">{escape(_sentence(self._said["reason"]))}</p>\n'
            "<p>The file could not be read as one whole picture, so nothing is said of it.</p>\n"
        )

    def _possible(self) -> str:
        """Say which labels cannot be excluded and what that promises, or that nothing says it."""
        said, model = self._said, self._model
        if said["operating_point"] != "conformal":
            words = (
                f"Chosen by the threshold {said['threshold']:.3f} alone (operating point "
                f"{said['operating_point']}), which does not say what can be excluded."
            )
            return f"<p>{escape(words)}</p>\n"
        possible = " and ".join(_word(label) for label in said["labels"])
        words = (
            f"Neither can be excluded: {possible} both remain possible."
            if len(said["labels"]) > 1
            else f"Cannot be excluded: {possible}."
        )
        promise = ""
        if model is not None:
            bounds = model.conformal
            excluded = [_word(label) for label in model.labels if label not in said["labels"]]
            if excluded:
                words += f" Excluded: {' and '.join(excluded)}."
            promise = (
                f"At most {100 * bounds.alpha:g} % of the scans of either class have their true "
                "label excluded, among scans like those that set the bounds "
                f"({bounds.fitted_on}); nothing is promised for those of another hospital."
            )
        return f'<p class="possible">{escape(words)}</p>\n<p class="small">{escape(promise)}</p>\n'

    def _timings(self) -> str:
        spent = self._said["latency_ms"]
        parts = (
            ("reading", "read"),
            ("preprocessing", "preprocess"),
            ("networks", "inference"),
            ("in all", "total"),
        )
        items = "".join(
            f"<div><dt>{word}</dt><dd>{spent[key]:.1f} ms</dd></div>" for word, key in parts
        )
        return f'<dl class="timings" aria-label="Time taken">{items}</dl>\n'

    def _card(self) -> str:
        """The model card in a line: who answered, and how well it does that."""
        said, bundle = self._said, self._said["bundle"]
        words = f"Bundle {bundle['name']} {bundle['version']} ({bundle['sha256'][:12]})"
        if said["network"]:
            words = f"{said['network']['file']} on {said['network']['device']}. {words}"
        measured = (
            [] if self._model is None else _measured(said["modality"], self._model, self._bundle)
        )
        return f'<p class="small card">{escape(". ".join([words, *measured]))}.</p>\n'


def _scale(said: dict[str, Any], model: Model | None) -> str:
    """Draw the probability on the line from 0 to 1, with what is answered where."""
    probability, threshold, point = said["probability"], said["threshold"], said["operating_point"]
    zones = [(0.0, 1.0, said["labels"])] if model is None else _zones(model, point)
    tones = [_zone_tone(labels) for _, _, labels in zones]
    rects = "".join(
        f'<rect class="{tone}" x="{100 * low:.2f}%" width="{100 * (high - low):.2f}%" y="34" '
        'height="14"/>'
        for (low, high, _), tone in zip(zones, tones)
    )
    key = "".join(
        f'<li><svg class="swatch" width="12" height="12" aria-hidden="true"><rect class="{tone}" '
        f'width="12" height="12"/></svg> {escape(_or(labels))}</li>'
        for tone, labels in {tone: zone[2] for tone, zone in zip(tones, zones)}.items()
    )
    told = f"P(COVID-19) {probability:.3f} on a scale from 0 to 1; threshold {threshold:.3f}"
    calibrated = "" if model is None else f"Calibrated on {model.calibration.fitted_on}."
    return f"""<svg class="scale" width="100%" height="72" role="img" aria-label="{told}">
{rects}
<line class="threshold" x1="{100 * threshold:.2f}%" x2="{100 * threshold:.2f}%" y1="30" y2="54"/>
<svg x="{100 * probability:.2f}%" y="0" overflow="visible"><path class="needle" \
d="M0 34l-6-9h12zM-1.25 34h2.5v14h-2.5z"/></svg>
<text class="probability" x="{100 * probability:.2f}%" y="20" \
text-anchor="{_anchor(probability, 0.25)}">P(COVID-19) <tspan>{probability:.3f}</tspan></text>
<text x="0" y="67">0</text><text x="100%" y="67" text-anchor="end">1</text>
<text x="{100 * threshold:.2f}%" y="67" text-anchor="{_anchor(threshold, 0.15)}">\
threshold {threshold:.2f}</text>
</svg>
<ul class="key">{key}</ul>
<p class="small">{escape(calibrated)}</p>
"""


def _zones(model: Model, point: str) -> list[tuple[float, float, tuple[str, ...]]]:
    """Return (from, to, labels that remain) along the scale, by the rule that decides."""
    bounds = model.conformal
    ends = {0.0, bounds.covid_from, bounds.non_covid_to, model.threshold(point), 1.0}
    ends = sorted(min(max(end, 0.0), 1.0) for end in ends)
    pieces = [
        (low, high, model.possible((low + high) / 2, point)) for low, high in zip(ends, ends[1:])
    ]
    zones = []
    for labels, same in groupby((piece for piece in pieces if piece[1] > piece[0]), lambda p: p[2]):
        same = list(same)
        zones.append((same[0][0], same[-1][1], labels))
    return zones


def _model(said: dict[str, Any], bundle: Bundle) -> Model | None:
    """Return which of the bundle's files answered; None if it is not known here."""
    if said["network"] is None or said["modality"] not in bundle.modalities:
        return None
    models = bundle.modalities[said["modality"]].models
    return next(
        (model for model in models if model.file.path.name == said["network"]["file"]), None
    )


def _measured(modality: str, model: Model, bundle: Bundle) -> list[str]:
    """Return what bundle.json says of the file's accuracy: nothing of that is required there."""
    part = bundle.extra["modalities"][modality]
    first = bundle.modalities[modality].models[0]
    place = bundle.modalities[modality].models.index(model)
    metrics = _of(part, "models", place, "metrics")
    # Intervals were measured with the first of a modality's files.
    within = _of(part, "shortcuts", "auc", "as it is", "all") if model == first else None
    sentences = []
    for split, words in (
        ("test", "scans of the test split"),
        ("probe", "scans of a hospital that it never learned from"),
    ):
        figures = _of(metrics, split)
        accuracy, auc, scans = (_of(figures, key) for key in ("accuracy", "auc", "scans"))
        if not all(isinstance(figure, (int, float)) for figure in (accuracy, auc, scans)):
            continue
        said = f"On {scans} {words}: accuracy {accuracy:.3f}, AUC {auc:.3f}"
        if split == "test" and within:
            said += f" (95 % interval {within[1]:.3f} to {within[2]:.3f})"
        sentences.append(said)
    return sentences


def _of(root: Any, *keys: str | int) -> Any:
    """Return what lies under the keys, or None."""
    for key in keys:
        try:
            root = root[key]
        except (KeyError, IndexError, TypeError):
            return None
    return root


def _badge(verdict: str) -> str:
    tone = verdict if verdict in _TONES else "other"
    return f'<span class="verdict {tone}">{escape(_capital(verdict))}</span>'


def _zone_tone(labels: Iterable[str]) -> str:
    labels = list(labels)
    tone = labels[0] if len(labels) == 1 else "uncertain"
    return tone if tone in _TONES else "other"


def _or(labels: Iterable[str]) -> str:
    return " or ".join(_word(label) for label in labels)


def _word(word: str) -> str:
    return _WORDS.get(word, word)


def _capital(word: str) -> str:
    word = _word(word)
    return word[:1].upper() + word[1:]


def _sentence(words: str) -> str:
    words = printable(words)
    return words[:1].upper() + words[1:].rstrip(".") + "."


def _anchor(share: float, margin: float) -> str:
    """Keep a text at this place of a line from running over its ends."""
    return "start" if share < margin else "end" if share > 1 - margin else "middle"


@lru_cache
def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
