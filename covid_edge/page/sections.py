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
from ..report import contradictions, printable, scan_name
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
    "series": "no answer",
}

# What cannot be excluded, as the end of a sentence.
_SETS = {
    ("covid",): "COVID-19 cannot be excluded; its absence can.",
    ("non-covid",): "the absence of COVID-19 cannot be excluded; COVID-19 can.",
    ("non-covid", "covid"): "neither COVID-19 nor its absence can be excluded.",
}

# The verdicts that page.css has colours for, in the order of the overview's counts.
_TONES = ("covid", "uncertain", "non-covid", "refused", "error")

NOT_FINISHED = """<p class="broken"><strong>Not finished.</strong> This page is still being
written, or its run was broken off. It holds the scans that were answered until then.</p>
"""

OVERVIEW_END = "</tbody></table></div></section>\n"


def head(bundle: Bundle) -> str:
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
<p class="made">Answered by covid-edge {__version__} with bundle {escape(bundle.name)}
{escape(bundle.version)} on {time.strftime("%Y-%m-%d at %H:%M")}</p>
<p class="notice">{escape(bundle.notice)}</p>
</header>
<main>
"""


def foot(bundle: Bundle) -> str:
    """Return all that comes after the last section."""
    return f"""</main>
<footer>
<p>SHA-256 of the bundle: <code>{bundle.sha256}</code></p>
<p>{escape(bundle.notice)}</p>
</footer>
<script>{_asset("page.js")}</script>
</body>
</html>
"""


def overview_begin(verdicts: Mapping[str, int]) -> str:
    """Return the overview up to its first row, with how many scans got which verdict."""
    counts = "".join(
        f"<li>{_badge(verdict)} {verdicts[verdict]}</li>"
        for verdict in sorted(verdicts, key=lambda verdict: (_tone_order(verdict), verdict))
    )
    return f"""<section class="overview" aria-labelledby="overview">
<h2 id="overview">Overview of {sum(verdicts.values())} files</h2>
<ul class="counts">{counts}</ul>
<div class="wide" role="region" aria-labelledby="overview" tabindex="0"><table>
<thead><tr><th scope="col" class="num">#</th><th scope="col">File</th><th scope="col">Kind</th>
<th scope="col">Answer</th><th scope="col" class="num">P<span class="roomy">(COVID-19)</span></th>
<th scope="col" class="num">Time</th></tr></thead>
<tbody>
"""


class Section:
    """What the page says of one scan, or of the slices of a CT series together.

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
        self._name = escape(scan_name(said["file"], said["dicom"]))
        self._kind = escape(_capital(said["modality"])) if said["modality"] else ""

    def row(self) -> str:
        """Return its row of the overview."""
        probability, spent = self._said["probability"], self._said["latency_ms"]["total"]
        return (
            f'<tr><td class="num">{self._number}</td>'
            f'<td><a href="#scan-{self._number}">{self._name}</a></td>'
            f"<td>{self._kind}</td><td>{_badge(self.verdict)}</td>"
            f'<td class="num">{"" if probability is None else f"{probability:.3f}"}</td>'
            f'<td class="num">{"" if spent is None else f"{spent:.0f} ms"}</td></tr>\n'
        )

    def html(self, scan: Picture | None, heatmap: Picture | None) -> str:
        """Return the whole of it, with its picture and its heatmap if there are any."""
        status = self._said["status"]
        told = {"ok": self._answer, "refused": self._refusal, "series": self._together}
        words = told.get(status, self._error)()
        figure = "" if status in ("error", "series") else self._figure(scan, heatmap)
        number = self._number
        return f"""<section class="scan" id="scan-{number}" aria-labelledby="name-{number}">
<h2 id="name-{number}"><span class="place">{number}</span> {self._name}</h2>
<div class="sides">
{figure}<div class="words">
{words}</div>
</div>
<p class="up"><a href="#top">Back to the top</a></p>
</section>
"""

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
        said, model = self._said, self._model
        facts = []
        if model is not None:
            facts.append(("Calibrated on", model.calibration.fitted_on))
            if said["operating_point"] == "conformal":
                facts.append(("Error rate", _promise(model)))
        return (
            f'<p class="answer">{_badge(self.verdict)} <span class="kind">{self._kind}</span></p>\n'
            f'<p class="possible">{_unbroken(_possible(said, model))}</p>\n'
            f"{_doubts(said)}{_scale(said, model)}{_facts([*facts, *self._made()])}"
        )

    def _together(self) -> str:
        said, series, model = self._said, self._said["series"], self._model
        counts = [(str(series[key]), key) for key in ("answered", "refused", "failed")]
        slices = f"{series['slices']}: " + ", ".join(" ".join(count) for count in counts)
        badge = f'{_badge(self.verdict)} <span class="kind">{self._kind} series</span>'
        facts = _facts([("Slices", slices), *self._made()])
        if said["probability"] is None:
            why = escape(_sentence(said["reason"]))
            return f'<p class="answer">{badge}</p>\n<p class="why">{why}</p>\n{facts}'
        return (
            f'<p class="answer">{badge}</p>\n'
            '<p class="possible">The slices together: the mean of their log-odds, judged as that '
            "of a single slice. No error rate is promised of a series.</p>\n"
            f"{_scale(said, model)}{facts}"
        )

    def _refusal(self) -> str:
        return (
            f'<p class="answer">{_badge(self.verdict)} <span class="kind">{self._kind}</span></p>\n'
            f'<p class="why">{escape(_sentence(self._said["reason"]))}</p>\n'
            "<p>The picture was read, and no probability is given: of such a picture it would mean "
            f"nothing.</p>\n{_facts(self._made())}"
        )

    def _error(self) -> str:
        return (
            f'<p class="answer">{_badge(self.verdict)}</p>\n'
            f'<p class="why">{escape(_sentence(self._said["reason"]))}</p>\n'
            "<p>The file could not be read as one whole picture, so nothing is said of it.</p>\n"
        )

    def _made(self) -> list[tuple[str, str]]:
        """Return who answered, how well it does that, and how long it took."""
        said, bundle, network = self._said, self._said["bundle"], self._said["network"]
        name = f"{bundle['name']} {bundle['version']}, SHA-256 {bundle['sha256'][:12]}…"
        facts = [("Bundle", name)]
        if network:
            facts.append(("Network", f"{network['file']} on {network['device']}"))
        if said["status"] == "series":  # what was measured on scans is no figure of it
            return facts
        if self._model is not None:
            facts += _measured(said["modality"], self._model, self._bundle)
        spent = said["latency_ms"]
        took = (
            f"{spent['total']:.0f} ms: reading {spent['read']:.0f}, preprocessing "
            f"{spent['preprocess']:.0f}, networks {spent['inference']:.0f}"
        )
        return [*facts, ("Time", took)]


def _possible(said: dict[str, Any], model: Model | None) -> str:
    """Say which labels cannot be excluded, or that nothing says it."""
    labels = tuple(said["labels"])
    if said["operating_point"] != "conformal":
        return (
            f"Chosen by the threshold {said['threshold']:.3f} alone (operating point "
            f"{said['operating_point']}), which excludes nothing."
        )
    words = _SETS.get(labels, f"these labels cannot be excluded: {', '.join(labels)}.")
    rate = "" if model is None else f"At an error rate of {100 * model.conformal.alpha:g} %, "
    return rate + words


def _promise(model: Model) -> str:
    bounds = model.conformal
    return (
        f"At most {100 * bounds.alpha:g} % of the scans of either class have their true label "
        f"excluded, if they are like those that set the bounds ({bounds.fitted_on}). Nothing is "
        "promised for those of another hospital."
    )


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    items = "".join(
        f"<div><dt>{escape(term)}</dt><dd>{escape(words)}</dd></div>\n" for term, words in facts
    )
    return f'<dl class="facts">\n{items}</dl>\n'


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


def _measured(modality: str, model: Model, bundle: Bundle) -> list[tuple[str, str]]:
    """Return what bundle.json says of the file's accuracy, which it need not."""
    part = bundle.extra["modalities"][modality]
    files = {file["target"]: file for file in part["models"]}
    # Of a modality's files, the interval is that of the first.
    first = model.target == next(iter(files))
    interval = _of(part, "shortcuts", "auc", "as it is", "all") if first else None
    facts = []
    for split, term, words in (
        ("test", "On test scans", "accuracy {:.3f}, AUC {:.3f}{} ({} scans)"),
        (
            "probe",
            "Elsewhere",
            "accuracy {:.3f}, AUC {:.3f}{} ({} scans of a hospital that it never learned from)",
        ),
    ):
        figures = [
            _of(files, model.target, "metrics", split, key) for key in ("accuracy", "auc", "scans")
        ]
        if all(isinstance(figure, (int, float)) for figure in figures):
            accuracy, auc, scans = figures
            between = ""
            if split == "test" and interval and None not in interval:
                between = f", 95 % interval {interval[1]:.3f} to {interval[2]:.3f}"
            facts.append((term, words.format(accuracy, auc, between, scans)))
    return facts


def _of(root: Any, *keys: str | int) -> Any:
    """Return what lies under the keys, or None."""
    for key in keys:
        try:
            root = root[key]
        except (KeyError, IndexError, TypeError):
            return None
    return root


def _tone_order(verdict: str) -> int:
    return _TONES.index(verdict) if verdict in _TONES else len(_TONES)


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


def _unbroken(words: str) -> str:
    """Escape words, and let no line end within "COVID-19"."""
    return escape(words).replace("COVID-19", '<span class="unbroken">COVID-19</span>')


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


def _doubts(said: dict[str, Any]) -> str:
    """What the scan's tags say against its picture."""
    sentences = contradictions(said["dicom"])
    return "".join(f'<p class="why">{escape(_sentence(words))}</p>\n' for words in sentences)
