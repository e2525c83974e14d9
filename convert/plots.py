# SPDX-License-Identifier: Apache-2.0
"""The report's pictures. Every function takes figures or arrays and returns a PNG file's bytes."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
from scipy.special import expit

from covid_edge_convert.bootstrap import LEVEL, auc, interval, resamples, roc

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.figure import Figure

NAMES = {"xray": "X-ray", "ct": "CT"}
COLOURS = {"xray": "tab:blue", "ct": "tab:orange"}
STAGE_NAMES = {
    "task_specific_encoder": "task-specific encoder alone",
    "shared_encoder": "shared encoder alone",
    "task_specific": "task-specific module",
    "shared_adversarial": "shared module, adversarial",
    "shared_non_adversarial": "shared module, non-adversarial",
    "head_adversarial": "head (MMTL), adversarial",
    "head_non_adversarial": "head (MMTL), non-adversarial",
}
GRID = np.linspace(0, 1, 201)  # shares of false positives


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    # No date and no version of a library: the same figures give the same bytes.
    figure.savefig(content, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    pyplot.close(figure)
    return content.getvalue()


def _panels(rows: int, columns: int, width: float, height: float):
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(width * columns, height * rows), layout="constrained", squeeze=False
    )
    return figure, axes


def roc_curves(curves: dict[str, dict[str, tuple]]) -> bytes:
    """ROC curves with bootstrap bands.

    Parameters
    ----------
    curves : dict
        Title of a panel → modality → (covid, score, groups), arrays of one length.
    """
    figure, axes = _panels(1, len(curves), 5, 5)
    for axis, (title, parts) in zip(axes[0], curves.items()):
        for modality, (covid, score, groups) in parts.items():
            weights = resamples(groups)
            drawn = roc(covid, score, weights, GRID)
            low, high = np.quantile(drawn[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
            value, *ends = interval(auc(covid, score, weights))
            ends = "" if None in ends else f" [{ends[0]:.3f}, {ends[1]:.3f}]"
            label = f"{NAMES[modality]}, AUC {value:.3f}{ends}"
            axis.plot(np.r_[0, GRID], np.r_[0, drawn[0]], color=COLOURS[modality], label=label)
            axis.fill_between(GRID, low, high, color=COLOURS[modality], alpha=0.2, linewidth=0)
        axis.plot([0, 1], [0, 1], color="0.6", linestyle=":")
        axis.set(xlabel="1 - specificity", ylabel="sensitivity", title=title, aspect="equal")
        axis.legend(loc="lower right")
    return _png(figure)


def confusion_matrices(matrices: dict[str, dict[str, int]]) -> bytes:
    """One panel a matrix, shaded by the share of the true label; ``tp``, ``fp``, ``tn``, ``fn``."""
    figure, axes = _panels(1, len(matrices), 3.4, 3.4)
    for axis, (title, m) in zip(axes[0], matrices.items()):
        counts = np.array([[m["tn"], m["fp"]], [m["fn"], m["tp"]]])
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row in range(2):
            for column in range(2):
                colour = "white" if shares[row, column] > 0.55 else "black"
                text = f"{counts[row, column]}\n{shares[row, column]:.1%}"
                axis.text(column, row, text, ha="center", va="center", color=colour)
        axis.set_xticks([0, 1], ["non-COVID", "COVID"])
        axis.set_yticks([0, 1], ["non-COVID", "COVID"], rotation=90, va="center")
        axis.set(xlabel="answer", ylabel="truth", title=title)
    return _png(figure)


def reliability(parts: dict[str, tuple], bins: int) -> bytes:
    """Share of COVID against the probability that was given, and how many scans got it.

    Parameters
    ----------
    parts : dict
        modality → (covid, probability, expected calibration error).
    bins : int
        Equally wide.
    """
    figure, axes = pyplot.subplots(
        2,
        len(parts),
        figsize=(4.6 * len(parts), 5.6),
        height_ratios=(3, 1),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    edges = np.linspace(0, 1, bins + 1)
    for (upper, lower), (modality, (covid, probability, error)) in zip(axes.T, parts.items()):
        place = np.searchsorted(edges[1:-1], probability, side="right")
        counts = np.bincount(place, minlength=bins)
        some = counts > 0
        given = np.bincount(place, weights=probability, minlength=bins)[some] / counts[some]
        true = np.bincount(place, weights=covid, minlength=bins)[some] / counts[some]
        upper.plot([0, 1], [0, 1], color="0.6", linestyle=":")
        upper.plot(given, true, marker="o", color=COLOURS[modality])
        upper.set(ylabel="share of COVID", title=f"{NAMES[modality]}, test: ECE {error:.3f}")
        lower.bar(edges[:-1], counts, width=1 / bins, align="edge", color=COLOURS[modality])
        lower.set(xlabel="probability of COVID", ylabel="scans", xlim=(0, 1))
    return _png(figure)


def stage_bars(figures: dict) -> bytes:
    """AUC of every stage on test, as `comparisons.stage_figures` gives them."""
    figure, axes = _panels(1, len(figures), 6, 3.6)
    for axis, (modality, splits) in zip(axes[0], figures.items()):
        stages = splits["test"]["stages"]
        for place, part in enumerate(stages.values()):
            value, low, high = (np.nan if v is None else v for v in part["auc"] or [None] * 3)
            axis.plot([low, high], [place, place], color=COLOURS[modality])
            axis.plot(value, place, "o", color=COLOURS[modality])
        axis.set_yticks(range(len(stages)), [STAGE_NAMES[name] for name in stages])
        axis.invert_yaxis()
        axis.grid(axis="x", color="0.9")
        axis.set(xlabel="AUC, 95 % interval", title=f"{NAMES[modality]}, test, full precision")
    return _png(figure)


def stage_probabilities(table, logits: dict[str, np.ndarray], figures: dict) -> bytes:
    """The probabilities that the analysis of variance compares, by stage and truth."""
    figure, axes = _panels(1, len(figures), 6.4, 4)
    for axis, (modality, part) in zip(axes[0], figures.items()):
        rows = (table.modality == modality) & (table.split == "test")
        names = [name for name in STAGE_NAMES if not np.isnan(logits[name][rows]).any()]
        for value, colour, shift in ((0, "tab:green", -0.18), (1, "tab:red", 0.18)):
            truth = rows & (table.covid == value)
            boxes = axis.boxplot(
                [expit(logits[name][truth]) for name in names],
                positions=np.arange(len(names)) + shift,
                widths=0.3,
                patch_artist=True,
                showfliers=False,
                orientation="horizontal",
                manage_ticks=False,
                medianprops={"color": "black"},
            )
            for box in boxes["boxes"]:
                box.set(facecolor=colour, alpha=0.5)
            axis.plot([], [], "s", color=colour, alpha=0.5, label=("non-COVID", "COVID")[value])
        axis.set_yticks(range(len(names)), [STAGE_NAMES[name] for name in names])
        axis.invert_yaxis()
        axis.set(
            xlabel="sigmoid of the logit",
            title=f"{NAMES[modality]}, test: F = {part['f']:g}, p = {part['p']:.2g}",
        )
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    return _png(figure)


def embedding_map(table, features: dict[str, np.ndarray]) -> bytes:
    """Two principal components of test embeddings, before and after the generator."""
    figure, axes = _panels(2, 2, 5.4, 4.6)
    test = table.split == "test"
    sources = np.unique(table.source[test])
    palette = dict(zip(sources, pyplot.get_cmap("tab10").colors * 3))
    by_modality = {NAMES[m]: (table.modality == m, c) for m, c in COLOURS.items()}
    by_source = {s: (table.source == s, palette[s]) for s in sources}
    colourings = (("modality", by_modality), ("source", by_source))
    for column, (when, title) in enumerate((("before", "before mixing"), ("after", "after"))):
        for row, (kind, parts) in enumerate(colourings):
            axis = axes[row, column]
            for name, (rows, colour) in parts.items():
                x, y = features[when][test & rows, :2].T
                axis.scatter(x, y, s=5, alpha=0.5, linewidths=0, color=[colour], label=name)
            axis.set(title=f"{title}, by {kind}", xlabel="component 1", ylabel="component 2")
            if column == 1:
                axis.legend(
                    loc="center left", bbox_to_anchor=(1, 0.5), markerscale=3, frameon=False
                )
    return _png(figure)


def distance_bars(figures: dict) -> bytes:
    """`comparisons.mixing_figures` as bars."""
    figure, axes = _panels(1, 1, 6, 3.2)
    axis = axes[0, 0]
    places = np.arange(len(figures))
    for shift, when in ((-0.2, "before"), (0.2, "after")):
        heights = [part[when] for part in figures.values()]
        bars = axis.bar(places + shift, heights, width=0.38, label=f"{when} the generator")
        axis.bar_label(bars, fmt="%.3g")
    axis.margins(y=0.15)
    axis.set_xticks(places, [f"X-ray to CT, {name}" for name in figures])
    axis.set(ylabel="relative Wasserstein distance", title="test embeddings")
    axis.legend()
    return _png(figure)


def shortcut_bars(figures: dict) -> bytes:
    """AUC with and without lungs and borders, whole and inside sources."""
    figure, axes = _panels(1, len(figures), 6, 4)
    for axis, (modality, part) in zip(axes[0], figures.items()):
        views = list(part["auc"])
        names = list(part["auc"][views[0]])
        for index, view in enumerate(views):
            for place, name in enumerate(names):
                found = part["auc"][view][name]
                if found is None:
                    continue
                value, low, high = (np.nan if v is None else v for v in found)
                at = place + (index - (len(views) - 1) / 2) * 0.18
                axis.plot([low, high], [at, at], color=f"C{index}")
                label = view if place == 0 else None
                axis.plot(value, at, "o", color=f"C{index}", label=label)
        axis.axvline(0.5, color="0.6", linestyle=":")
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(len(names) - 0.4, -0.6)
        axis.set(
            xlabel="AUC, 95 % interval", title=f"{NAMES[modality]}, test, int8", xlim=(0, 1.02)
        )
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    return _png(figure)
