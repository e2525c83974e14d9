# SPDX-License-Identifier: Apache-2.0
"""The evaluation report: a bundle and its scans → ``results.md``, ``results.html``, pictures.

The same bundle and scans give the same bytes. What the int8 files and the scans cannot give comes
from the bundle's evidence; what a bundle lacks of it, the report says it cannot show.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from covid_edge.bundle import Bundle, Model
from covid_edge.predictor import Prediction, Predictor
from covid_edge_convert import comparisons, plots
from covid_edge_convert.bootstrap import DRAWS, FIGURES, measure
from covid_edge_convert.calibrate import (
    BINS,
    calibration_figures,
    conformal_figures,
    threshold_figures,
)
from covid_edge_convert.checkpoints import write_text
from covid_edge_convert.data import MODALITIES, Scans
from covid_edge_convert.document import Document
from covid_edge_convert.evaluate import answer_pictures
from covid_edge_convert.evidence import load_evidence
from covid_edge_convert.plots import NAMES, STAGE_NAMES
from covid_edge_convert.robustness import robustness_figures
from covid_edge_convert.shortcuts import BORDER, shortcut_figures
from covid_edge_convert.sources import FOLDS
from covid_edge_convert.studies import DEVICE, gather, rule_figures, study_figures

SPLITS = ("test", "probe")
_HEADER = ["accuracy", "AUC", "sensitivity", "specificity", "F1"]


def write_results(
    bundle: Bundle,
    scans: Scans,
    out: Path,
    quick: int | None = None,
    say: Callable[[str], None] = print,
) -> dict:
    """Measure a bundle and write the report.

    Parameters
    ----------
    bundle : Bundle
    scans : Scans
        The whole data folder.
    out : Path
        Gets ``results.md``, ``results.html`` and ``results/`` (pictures, ``metrics.json``).
    quick : int, optional
        Answer on so many scans at most of each source, label and split: for trying, not for
        figures to keep.
    say : callable
        Told of each step.

    Returns
    -------
    dict
        What metrics.json holds.

    Raises
    ------
    BundleError
        A file of the bundle is damaged.
    ScanError
        A scan cannot be read.
    """
    measured = scans.where(np.isin(scans.split, SPLITS))
    slices = scans.select(modality="ct", split="val")
    if quick is not None:
        measured = measured.where(_first_of_each(measured, quick))
        slices = slices.where(_first_of_each(slices, quick))
    document = Document(f"Results of {bundle.name} {bundle.version}")
    metrics: dict = {"bundle": {"name": bundle.name, "version": bundle.version}}
    _preface(document, bundle, measured, quick)

    say(f"{len(measured)} scans through the device's predictor")
    answers = _answers(measured, bundle)
    models = Predictor(bundle).models
    metrics["headline"] = _headline(document, measured, answers, models)

    say(f"CT series, and {len(slices)} slices of val for the rule")
    metrics["studies"] = _studies(
        document,
        rule_figures(gather(slices, _answers(slices, bundle), "val"), models["ct"]),
        study_figures(gather(measured, answers, "test"), models["ct"]),
        models["ct"],
    )

    say("stages and protocols, from the bundle's evidence")
    evidence = load_evidence(bundle)
    joined = comparisons.joined(evidence, scans)
    if joined is None:
        document.heading("Stages")
        document.text(
            "This bundle has no evidence of these scans: its stages, embeddings and other "
            "protocols cannot be shown. Bundles that `covid-edge-convert bundle` writes have it."
        )
    else:
        metrics["stages"] = _stages(document, *joined, bundle)
        metrics["protocols"] = _protocols(document, comparisons.protocol_figures(evidence, scans))

    say("shortcuts: scans without lungs, borders, centre")
    metrics["shortcuts"] = _shortcuts(document, shortcut_figures(measured, bundle))
    if joined is not None and evidence.features is not None:
        say("sources and mixing, from the bundle's evidence")
        table = joined[0].where(comparisons.featured(joined[0]))
        metrics["sources"] = _sources(document, table, evidence.features)
        metrics["mixing"] = _mixing(document, table, evidence.features, bundle)
    say("robustness: other resolutions, harder compression")
    metrics["robustness"] = _robustness(document, robustness_figures(measured, answers, bundle))

    pictures = out / "results"
    pictures.mkdir(parents=True, exist_ok=True)
    for name, png in document.pictures.items():
        partial = pictures / f"partial-{name}.png"
        partial.write_bytes(png)
        os.replace(partial, pictures / f"{name}.png")
    write_text(pictures / "metrics.json", json.dumps(metrics, indent=1) + "\n")
    write_text(out / "results.html", document.html())
    write_text(out / "results.md", document.markdown("results"))
    return metrics


def _answers(scans: Scans, bundle: Bundle) -> list[Prediction]:
    return answer_pictures(
        lambda number: (scans.root / scans.file[number]).read_bytes(),
        len(scans),
        bundle,
        "predict",
    )


def _first_of_each(scans: Scans, count: int) -> np.ndarray:
    """Rows of the first ``count`` scans of each modality, source, split and label."""
    cells: dict[tuple, list[int]] = {}
    for row in range(len(scans)):
        key = (scans.modality[row], scans.source[row], scans.split[row], scans.covid[row])
        cells.setdefault(key, []).append(row)
    return np.array(sorted(row for rows in cells.values() for row in rows[:count]), int)


def _preface(document: Document, bundle: Bundle, scans: Scans, quick: int | None) -> None:
    document.text(f"**{bundle.notice}**")
    document.text(
        f"Made by `covid-edge-convert evaluate` from the bundle (SHA-256 of bundle.json "
        f"`{bundle.sha256[:16]}…`) and {len(scans)} scans. Square brackets hold 95 % intervals: "
        f"{DRAWS} bootstrap resamples of whole groups (patients, papers, runs of slices), so few "
        "groups mean wide intervals. `test` shares its sources with training, but no group; "
        "`probe` is one hospital that was never learned from, calibrated on or chosen by."
    )
    if quick is not None:
        document.text(
            f"**A quick trial on at most {quick} scans of each source, label and split: these are "
            "not the bundle's figures.**"
        )


def _cell(found: list | None, signed: bool = False) -> str:
    """A figure with its interval: ``0.981 [0.972, 0.990]``."""
    if found is None:
        return "–"
    value, *ends = (v if v is None else f"{v:{'+' if signed else ''}.3f}" for v in found)
    return value if None in ends else f"{value} [{', '.join(ends)}]"


def _cells(figures: dict) -> list[str]:
    return [str(figures["scans"]), str(figures["groups"])] + [_cell(figures[k]) for k in FIGURES]


def _headline(
    document: Document, scans: Scans, answers: list[Prediction], models: dict[str, Model]
) -> dict:
    """What the device answers, router included."""
    routed = np.array([a.modality if a.status == "ok" else "" for a in answers]) == scans.modality
    score = np.array([a.probability if a.status == "ok" else np.nan for a in answers], float)
    called = np.array([_called(a, models) for a in answers])
    covid = scans.covid == 1
    result: dict = {}
    rows_of: dict = {}
    for modality in MODALITIES:
        for split in SPLITS:
            given = (scans.modality == modality) & (scans.split == split)
            kept = given & routed
            if not kept.any():
                continue
            parts = {"all": kept}
            sources = np.unique(scans.source[given])
            if len(sources) > 1:
                parts.update((str(s), kept & (scans.source == s)) for s in sources)
            figures = {
                name: measure(covid[rows], score[rows], called[rows], scans.group[rows])
                for name, rows in parts.items()
            }
            result.setdefault(modality, {})[split] = {
                "given": int(given.sum()),
                "answered": int(kept.sum()),
                **calibration_figures(covid[kept], score[kept]),
                "sets": conformal_figures(covid[kept], score[kept], models[modality]),
                "points": threshold_figures(covid[kept], score[kept], models[modality]),
                "confusion": {
                    "tp": int((kept & covid & called).sum()),
                    "fp": int((kept & ~covid & called).sum()),
                    "tn": int((kept & ~covid & ~called).sum()),
                    "fn": int((kept & covid & ~called).sum()),
                },
                "figures": figures,
            }
            rows_of[modality, split] = kept

    document.heading("The shipped int8 files, through the device's own predictor")
    document.table(
        ["", "scans", "groups", *_HEADER, "ECE"],
        [
            [f"{NAMES[m]}, {split}", *_cells(part["figures"]["all"]), f"{part['ece']:.3f}"]
            for m, splits in result.items()
            for split, part in splits.items()
        ],
    )
    answered = sum(p["answered"] for s in result.values() for p in s.values())
    given = sum(p["given"] for s in result.values() for p in s.values())
    others = np.flatnonzero(scans.modality == "other")
    refused = sum(answers[k].status == "refused" for k in others)
    result["other"] = {"given": len(others), "refused": refused}
    thresholds = ", ".join(
        f"{NAMES[m]} {models[m].balanced.value:.3g}" for m in MODALITIES if m in result
    )
    document.text(
        f"COVID is said from the balanced threshold on ({thresholds}). The router let {answered} "
        f"of {given} scans through as what they are (the others are not in the figures) and "
        f"refused {refused} of {len(others)} pictures that are no chest scans."
    )
    per_source = [
        [f"{NAMES[m]}, {split}: {source}", *_cells(figures)]
        for m in MODALITIES
        for split, part in result.get(m, {}).items()
        for source, figures in part["figures"].items()
        if source != "all"
    ]
    if per_source:
        document.heading("Per source", 3)
        document.table(["", "scans", "groups", *_HEADER], per_source)
    _decisions(document, result, models)
    curves: dict = {}
    for (modality, split), rows in rows_of.items():
        if 0 < covid[rows].sum() < rows.sum():
            curve = (covid[rows], score[rows], scans.group[rows])
            curves.setdefault(f"{split}, int8 files", {})[modality] = curve
    if curves:
        caption = "ROC curves, bands of 95 % by resampling groups"
        document.picture("roc", caption, plots.roc_curves(curves))
    matrices = {f"{NAMES[m]}, {s}": result[m][s]["confusion"] for m, s in rows_of}
    document.picture("confusion", "Confusion matrices", plots.confusion_matrices(matrices))
    calibrated = {
        m: (covid[rows], score[rows], result[m]["test"]["ece"])
        for (m, split), rows in rows_of.items()
        if split == "test"
    }
    if calibrated:
        caption = f"Reliability on test: {BINS} bins of equal width"
        document.picture("reliability", caption, plots.reliability(calibrated, BINS))
    return result


def _called(answer: Prediction, models: dict[str, Model]) -> bool:
    """Whether the balanced operating point, which always chooses a label, says COVID."""
    if answer.status != "ok":
        return False
    return answer.probability >= models[answer.modality].balanced.value


def _decisions(document: Document, found: dict, models: dict[str, Model]) -> None:
    """From probabilities to answers: calibration, conformal sets, operating points."""
    parts = [
        (f"{NAMES[m]}, {split}", part)
        for m in MODALITIES
        for split, part in found.get(m, {}).items()
    ]

    def share(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    document.heading("Calibration and answers", 3)
    promises = " and ".join(
        f"{1 - model.conformal.alpha:.0%} ({NAMES[m]})" for m, model in models.items()
    )
    document.text(
        f"ECE: expected calibration error, {BINS} bins of equal width; by chance: what exactly "
        "right probabilities would show on as many scans. The device says `uncertain` where its "
        "conformal set leaves both labels. Coverage: the true label is not excluded; promised for "
        f"at least {promises} of each class among scans like those of `val`."
    )
    columns = ("coverage", "coverage_covid", "coverage_non_covid", "uncertain")
    document.table(
        [
            "",
            "ECE",
            "ECE by chance",
            "coverage",
            "of COVID",
            "of non-COVID",
            "uncertain",
            "wrong among the others",
        ],
        [
            [
                name,
                share(part["ece"]),
                share(part["ece_by_chance"]),
                *(share(part["sets"][column]) for column in (*columns, "wrong_when_certain")),
            ]
            for name, part in parts
        ],
    )
    document.table(
        ["", "operating point", "COVID from P", "accuracy", "sensitivity", "specificity"],
        [
            [
                name,
                point,
                *(share(f[k]) for k in ("threshold", "accuracy", "sensitivity", "specificity")),
            ]
            for name, part in parts
            for point, f in part["points"].items()
        ],
    )


def _studies(document: Document, rules: dict, found: dict, model: Model) -> dict:
    document.heading("CT series")
    if not found["figures"]["all"]["scans"]:
        document.text("No group of test has several CT slices that were answered.")
        return {"rules": rules, **found}
    sets, figures = found["sets"], found["figures"]
    document.text(
        "What the device says of a series is the mean of its slices' log-odds, judged as that of "
        "one slice. No scans of whole series are at hand: groups (patients, papers, runs of "
        "slices) with two or more answered slices stand in for them, and these slices were chosen "
        f"by somebody; of a whole volume nothing is known. {found['mixed']} groups of test with "
        "slices of both labels are left out. Rules were compared on `val`, each at the balanced "
        "threshold:"
    )
    document.table(
        ["rule, on the log-odds of the slices", "studies", "accuracy", "AUC"],
        [
            [name + " (the device's)" * (name == DEVICE), str(f["scans"])]
            + [_cell(f[key]) for key in ("accuracy", "auc")]
            for name, f in rules.items()
        ],
    )
    document.text(
        f"The device's rule on `test`, {found['slices']} slices in {figures['all']['scans']} "
        "studies; last, for comparison, their slices one by one:"
    )
    names = {"all": "CT studies", "alone": "their slices alone"}
    document.table(
        ["", "scans", "groups", *_HEADER],
        [[names.get(name, name), *_cells(f)] for name, f in figures.items()],
    )
    shares = ["coverage", "coverage_covid", "coverage_non_covid", "uncertain"]
    told = ["–" if sets[key] is None else f"{sets[key]:.3f}" for key in shares]
    document.text(
        f"The bounds for slices ({1 - model.conformal.alpha:.0%} of each class) promise nothing of "
        f"series. Here the true label is not excluded in {told[0]} of the studies ({told[1]} of "
        f"COVID, {told[2]} of the others), and {told[3]} are uncertain."
    )
    return {"rules": rules, **found}


def _stages(document: Document, table: Scans, logits: dict, bundle: Bundle) -> dict:
    adversarial = bundle.extra.get("training", {}).get("adversarial", True)
    shipped = "head_adversarial" if adversarial else "head_non_adversarial"
    found = comparisons.stage_figures(table, logits, shipped)
    document.heading("Stages")
    document.text(
        "What each part of MMTL adds, at full precision (the paper's tables 6 to 11); each stage "
        "is labelled at its own operating point, set on `val`."
    )
    mirrored = [NAMES[name] for name, part in bundle.modalities.items() if part.mirrored]
    if mirrored:
        document.text(
            f"Of {' and '.join(mirrored)} the device also looks at the mirror image, which adds to "
            "the last stage; here a network sees each scan once."
        )
    for modality, splits in found.items():
        encoders = bundle.extra["modalities"][modality].get("encoders", {})
        names = dict(STAGE_NAMES)
        for role in ("task_specific", "shared"):
            if role in encoders:
                names[f"{role}_encoder"] = f"{encoders[role]} alone ({role.replace('_', '-')})"
        for split, part in splits.items():
            document.heading(f"{NAMES[modality]}, {split}", 3)
            document.table(
                ["stage", "scans", "groups", *_HEADER],
                [[names[stage], *_cells(f)] for stage, f in part["stages"].items()],
            )
            document.table(
                ["difference, on the same resamples", "accuracy", "AUC"],
                [
                    [
                        f"{names[d['of']]} minus {names[d['minus']]}",
                        _cell(d["accuracy"], signed=True),
                        _cell(d["auc"], signed=True),
                    ]
                    for d in part["differences"]
                ],
            )
    document.picture("stages", "AUC of every stage on test", plots.stage_bars(found))
    variance = comparisons.anova(table, logits)
    if variance:
        document.text(
            "The paper's one-way ANOVA over the stages' probabilities: "
            + "; ".join(
                f"{NAMES[m]} F = {v['f']:g}, p = {v['p']:.2g}, {v['stages']} stages"
                for m, v in variance.items()
            )
            + ". It takes the answers of the stages for independent, which answers on the same "
            "scans are not: the differences above are the better test."
        )
        picture = plots.stage_probabilities(table, logits, variance)
        document.picture("anova", "Probabilities by stage and truth, test", picture)
    return {"figures": found, "anova": variance}


def _protocols(document: Document, folds: list[dict]) -> list[dict]:
    document.heading("Other protocols")
    if not folds:
        document.text(
            "This bundle holds no folds of other protocols (`covid-edge-convert protocols`)."
        )
        return folds
    document.text(
        "The same scans split otherwise, full precision, networks trained anew in each fold, each "
        "scan seen once: "
        "`image-level` is the paper's random 80:20, whose groups lie on both sides; "
        "`leave-one-source-out` measures on sources that the network never saw (X-ray sources "
        "have one label each, so pairs are held out)."
    )
    document.table(
        ["protocol", "fold", "trained", "train scans", "scans", "groups", *_HEADER],
        [
            [
                fold["protocol"],
                f"{NAMES[fold['modality']]}, {fold['fold']}" + f": {part}" * (part != "all"),
                fold["trained"],
                fold["train"],
                *_cells(figures),
            ]
            for fold in folds
            for part, figures in fold["figures"].items()
        ],
    )
    return folds


def _shortcuts(document: Document, found: dict) -> dict:
    document.heading("Shortcut tests")
    document.text(
        "AUC of the int8 files on test scans with parts of the picture made black before "
        "preprocessing, the router not asked. A network that looks at lungs has little to go by "
        "without them (0.5 is guessing); what is left is told by something that is no disease. "
        f"Borders are the outer {BORDER:.0%} of each side."
    )
    for modality, part in found.items():
        views = list(part["auc"])
        shares = ", ".join(f"{share:.0%} of {label}" for label, share in part["found"].items())
        document.table(
            [NAMES[modality], *views],
            [
                [name, *(_cell(part["auc"][view][name]) for view in views)]
                for name in part["auc"][views[0]]
            ],
        )
        document.text(
            f"Both lungs were found in {shares} scans ({NAMES[modality]}); two ellipses stand for "
            "what was not."
        )
    if found:
        caption = "AUC with parts of the scan made black"
        document.picture("shortcuts", caption, plots.shortcut_bars(found))
    return found


def _sources(document: Document, table: Scans, features: dict) -> dict:
    found = comparisons.source_figures(table, features)
    document.heading("Can the source be told from the features?")
    if not found:
        document.text("No two sources of one modality and label have scans enough to ask.")
        return found
    document.text(
        "Balanced accuracy of a linear classifier that names the source of a scan of `val` and "
        f"`test`, inside one label, by {FOLDS}-fold cross-validation over groups. Grey levels "
        "(mean, deviation, histogram of the raw scan) are the yardstick: what anyone could tell. "
        "Features are principal components of the embeddings and of the 1280 that the head sees."
    )
    columns = {
        "grey": "grey levels",
        "before": "embedding",
        "after": "embedding after mixing",
        "final": "final features",
    }

    def share(part: dict | None) -> str:
        return "–" if part is None else f"{part['balanced']:.3f}"

    document.table(
        ["", "scans", "sources", "guessing", *columns.values()],
        [
            [
                f"{NAMES[m]}, {label}",
                str(told["grey"]["scans"]),
                str(told["grey"]["sources"]),
                f"{told['grey']['chance']:.3f}",
                *(share(told[name]) for name in columns),
            ]
            for m, labels in found.items()
            for label, told in labels.items()
        ],
    )
    return found


def _mixing(document: Document, table: Scans, features: dict, bundle: Bundle) -> dict:
    found = comparisons.mixing_figures(table, features)
    document.heading("Mixing of the modalities")
    stated = bundle.extra.get("training", {}).get("mixing")
    if stated:
        document.text(
            f"Wasserstein distance in the Fréchet form, all 1280 values ({stated['measured_on']}): "
            f"{stated['before']:.3g} before the generator, {stated['after']:.3g} after; relative "
            f"to the clouds' variance {stated['before_relative']:.3g} and "
            f"{stated['after_relative']:.3g}. Below: the relative distance of the principal "
            "components on test, which the training never saw."
        )
    if found:
        picture = plots.distance_bars(found)
        document.picture("wasserstein", "Distance of X-ray from CT embeddings", picture)
    picture = plots.embedding_map(table, features)
    document.picture("embeddings", "Embeddings of test before and after mixing (PCA)", picture)
    return found


def _robustness(document: Document, found: dict) -> dict:
    document.heading("Robustness")
    document.text(
        "Share of test scans with the verdict of the file itself when the same scan comes with a "
        "longer side of so many pixels, or compressed harder; router included. In brackets the "
        "mean change of the probability."
    )
    versions = list(next(iter(found.values()))["same"]) if found else []

    def cell(part: dict, version: str) -> str:
        change = part["change"][version]
        return f"{part['same'][version]:.2%}" + ("" if change is None else f" ({change:.3f})")

    document.table(
        ["", "scans", *versions],
        [
            [NAMES[m], str(part["scans"]), *(cell(part, version) for version in versions)]
            for m, part in found.items()
        ],
    )
    return found
