# SPDX-License-Identifier: Apache-2.0
"""TFLite files + calibration + figures → the bundle that the device runs."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import xxhash
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from covid_edge.bundle import SCHEMA, Bundle
from covid_edge.errors import UsageError
from covid_edge.predictor import Predictor
from covid_edge.preprocess import preprocess
from covid_edge.scan import read_scan
from covid_edge_convert.calibrate import (
    BALANCED,
    conformal,
    operating_points,
    platt,
    probability,
)
from covid_edge_convert.card import model_card
from covid_edge_convert.checkpoints import write_text
from covid_edge_convert.data import MODALITIES, Scans, load_pixels
from covid_edge_convert.distill import TAUGHT
from covid_edge_convert.drift import check_drift, drift
from covid_edge_convert.evaluate import answer, summarise
from covid_edge_convert.evidence import write_evidence, write_folds
from covid_edge_convert.quantize import run_model
from covid_edge_convert.recipes import Recipe
from covid_edge_convert.router import LABELS, SPEC, router_pixels
from covid_edge_convert.router import targets as router_targets
from covid_edge_convert.runs import RunFolder
from covid_edge_convert.shortcuts import shortcut_figures
from covid_edge_convert.targets import KINDS, TARGETS, shipped_files, target_runner

# Good scans that the router may refuse on val; its threshold is set by this.
REFUSED_ON_VAL = 0.002

INTENDED_USE = (
    "Research on running chest-scan networks on small devices: one frontal chest X-ray or one "
    "axial chest CT slice in, a calibrated probability of COVID-19 out."
)
NOTICE = "Research software, not a medical device. Do not use it to diagnose or treat anyone."

# Licences as the data's publishers state them; a source that is not named here is "unknown".
LICENCES = {
    "covid-cxnet": "CC BY 4.0",
    "darkcovidnet-cohen": "per image, research use",
    "abzargar-cohen": "per image, research use",
    "darkcovidnet-nih": "NIH ChestX-ray8, attribution",
    "abzargar-kermany": "CC BY 4.0",
    "hannover": "CC BY 3.0",
    "sars-cov-2-ct": "CC BY-NC-SA 4.0",
    "covid-ct": "research use",
    "mosmed": "CC BY-NC-ND 3.0",
    "misc": "research use",
    "owais-np": "as published, research use",
    "imagenet-sample": "research use",
    "brain-mri": "research use",
}


def write_bundle(
    scans: Scans,
    recipe: Recipe,
    run: RunFolder,
    folder: Path,
    name: str,
    version: str,
    examples: Path | None = None,
    allow_drift: bool = False,
    alpha: float = 0.1,
    targets: Sequence[str] = ("cpu-int8",),
) -> dict:
    """Calibrate each file on ``val``, measure it on ``test``, write the bundle.

    The bundle appears under ``folder`` whole or not at all; a bundle that was there is replaced.

    Parameters
    ----------
    scans : Scans
    recipe : Recipe
    run : RunFolder
        Trained and quantised.
    folder : Path
        Absent, empty, or an older bundle.
    name, version : str
        What the bundle calls itself.
    examples : Path, optional
        Folder of ``xray.png`` and ``ct.png``, whose logits join reference.csv.
    allow_drift : bool
    alpha : float
        Share of each class for which the device may exclude the true label, more than 0 and less
        than 1: the smaller, the more scans it calls uncertain.
    targets : sequence of str
        Of `covid_edge_convert.targets.TARGETS`: the files of each modality to ship, ``edgetpu`` not
        the first. All are measured on the CPU; for an Edge TPU so are the files that were compiled,
        and its drift is all that is known of those that ship.

    Returns
    -------
    dict
        The figures that `covid_edge_convert.evaluate.summarise` computed from the finished
        bundle's own answers, by the files of the first target.

    Raises
    ------
    DriftError
        If a target is over `covid_edge_convert.drift.BUDGET` in a modality (unless
        ``allow_drift``).
    UsageError
        If ``folder`` holds something else than a bundle, ``alpha`` is no such share, a target is
        unknown or named twice, or the run lacks its files.
    CalibrationError
        If ``val`` lacks a class of a modality, or a network is no better than chance on it.
    """
    folder = folder.resolve()
    if not 0 < alpha < 1:
        raise UsageError(f"alpha must be more than 0 and less than 1, not {alpha!r}")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "bundle.json").is_file():
        raise UsageError(f"{folder} holds something else than a bundle: give another --out")
    if not targets or len(set(targets)) < len(targets) or not set(targets) <= set(TARGETS):
        raise UsageError(f"targets must be different ones of {', '.join(TARGETS)}, not {targets!r}")
    if targets[0] == "edgetpu":
        raise UsageError("edgetpu cannot be the first target: its files do not run on a CPU")
    for target in targets:
        for path in (path for m in MODALITIES for path in shipped_files(target, m, recipe, run)):
            if not path.is_file():
                where = " where edgetpu_compiler is on the PATH" * (target == "edgetpu")
                raise UsageError(
                    f"{path} is not there: run covid-edge-convert quantize --target {target}{where}"
                )
    partial = folder.with_name(folder.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    reference: list[dict] = []
    modalities = {}
    for modality in MODALITIES:
        modalities[modality], rows = _modality(
            scans, modality, recipe, run, partial, examples, alpha, targets
        )
        reference += rows
    for k, target in enumerate(targets):
        if target != "fp32" and not allow_drift:
            drifts = {m: entry["models"][k]["drift"] for m, entry in modalities.items()}
            check_drift(target, drifts)
    with open(partial / "reference.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(reference[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(reference)

    manifest = {
        "schema": SCHEMA,
        "name": name,
        "version": version,
        "system": "mmtl" if recipe.teacher is None else "single",
        "created": datetime.now(timezone.utc).date().isoformat(),
        "intended_use": INTENDED_USE,
        "notice": NOTICE,
        "router": _router(scans, run, partial),
        "modalities": modalities,
        "training": {
            "recipe": json.loads(run.recipe.read_text(encoding="utf-8")),
            **_learned(recipe, run),
            "sources": _sources(scans),
            # Modalities in which no source has both labels: the source gives the label away.
            "told_by_source": [m for m in MODALITIES if not _shared_sources(scans, m)],
        },
        "reference": file_entry(partial / "reference.csv"),
        "evidence": {
            path.stem: file_entry(path) for path in write_evidence(scans, recipe, run, partial)
        },
    }
    write_json(partial / "bundle.json", manifest)

    # The figures come from the whole road: files, router, networks, calibration, decision.
    measured = scans.where(np.isin(scans.split, ("val", "test", "probe")))
    bundle, by_target = Bundle.load(partial), {}
    for k, target in enumerate(targets):
        if target == "edgetpu":
            continue
        predictor = Predictor(bundle.only(target), threads=os.cpu_count() or 1)
        by_target[target] = summarise(measured, answer(measured, predictor), predictor.models)
        for modality in MODALITIES:
            manifest["modalities"][modality]["models"][k]["metrics"] = by_target[target][modality]
    figures = by_target[targets[0]]
    for modality, part in shortcut_figures(measured, bundle.only(targets[0])).items():
        manifest["modalities"][modality]["shortcuts"] = part
    manifest["router"]["metrics"] = {
        "other": figures.get("other", {}),
        **{m: _routing(figures[m]) for m in MODALITIES},
    }
    (partial / "MODEL_CARD.md").write_text(model_card(manifest), encoding="utf-8")
    _finish(partial, manifest, folder)
    return figures


@contextmanager
def amended(folder: Path) -> Iterator[tuple[Path, dict]]:
    """Yield a copy of a bundle, to change, and its bundle.json; then put it in the bundle's place.

    What is yielded of bundle.json is written when the caller is done. The bundle is replaced whole,
    or not at all if anything fails.

    Raises
    ------
    BundleError
        ``folder`` is no sound bundle, or what the caller made of it is none.
    """
    folder = folder.resolve()  # of a link, what it leads to is replaced
    Bundle.load(folder)
    manifest = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    partial = folder.with_name(folder.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        shutil.copytree(folder, partial)
        yield partial, manifest
        _finish(partial, manifest, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _finish(partial: Path, manifest: dict, folder: Path) -> None:
    write_json(partial / "bundle.json", manifest)
    Bundle.load(partial)
    older = folder.with_name(folder.name + ".old")
    shutil.rmtree(older, ignore_errors=True)
    if folder.exists():
        os.replace(folder, older)
    try:
        os.replace(partial, folder)
    except BaseException:
        if older.exists():
            os.replace(older, folder)
        raise
    shutil.rmtree(older, ignore_errors=True)


def add_folds(folder: Path, run: RunFolder) -> None:
    """Put the folds of a run's protocols into the evidence of a bundle that is there.

    Raises
    ------
    BundleError
        ``folder`` holds no bundle.
    """
    with amended(folder) as (copy, manifest):
        for path in write_folds(run, copy):
            manifest["evidence"][path.stem] = file_entry(path)


def _modality(
    scans,
    modality: str,
    recipe: Recipe,
    run: RunFolder,
    folder: Path,
    examples,
    alpha: float,
    targets: Sequence[str],
):
    """bundle.json's entry of one modality, and its rows of reference.csv."""
    table = scans.select(modality=modality)
    kept = np.isin(table.split, ("val", "test"))
    spec = recipe.spec(modality)
    pixels = load_pixels(table, spec, run.cache)[kept]
    table = table.where(kept)
    run_by = {
        KINDS.get(target, target): target_runner(target, modality, recipe, run)
        for target in ("fp32", *targets)
    }
    logits = {kind: answers(pixels)[:, 0] for kind, answers in run_by.items()}
    val, test = table.split == "val", table.split == "test"
    # Calibration belongs to one file: each has its own. The threshold is the same for all.
    scaling = {kind: platt(values[val], table.covid[val]) for kind, values in logits.items()}
    chance = {kind: probability(values, *scaling[kind]) for kind, values in logits.items()}

    def model(target: str) -> dict:
        kind = KINDS.get(target, target)
        *encoders, file = [
            file_entry(Path(shutil.copy(path, folder)))
            for path in shipped_files(target, modality, recipe, run)
        ]
        scale, bias = scaling[kind]
        of_val = table.covid[val] > 0.5, chance[kind][val]
        return {
            "target": target,
            **file,
            **({"encoders": encoders} if encoders else {}),
            "calibration": {
                "method": "platt",
                "scale": scale,
                "bias": bias,
                "fitted_on": f"val split, {int(val.sum())} scans, both classes weighing the same, "
                f"by this {kind} file",
            },
            "operating_points": operating_points(*of_val),
            "conformal": conformal(*of_val, alpha),
            "drift": drift(
                table.covid[test],
                logits["fp32"][test],
                logits[kind][test],
                chance["fp32"][test],
                chance[kind][test],
            ),
        }

    entry = {
        "preprocess": spec.to_dict(),
        "mirrored": modality in recipe.mirrored,
        "encoders": dict(zip(recipe.roles, recipe.encoders[modality])),
        "labels": ["non-covid", "covid"],
        "models": [model(target) for target in targets],
    }

    def row(file: str, label: str, logit: dict[str, float], fp32_covid: bool) -> dict:
        return {
            "file": file,
            "modality": modality,
            "label": label,
            **{f"{kind}_logit": f"{value:.5f}" for kind, value in logit.items()},
            "fp32_says": "covid" if fp32_covid else "non-covid",
        }

    rows = [
        row(
            str(table.file[k]),
            "covid" if table.covid[k] else "non-covid",
            {kind: values[k] for kind, values in logits.items()},
            chance["fp32"][k] >= BALANCED,
        )
        for k in np.flatnonzero(test)
    ]
    if examples is not None:
        drawn = preprocess(read_scan(examples / f"{modality}.png").pixels, spec)[None]
        logit = {kind: float(answers(drawn)[0, 0]) for kind, answers in run_by.items()}
        says = probability(logit["fp32"], *scaling["fp32"]) >= BALANCED
        rows.append(row(f"examples/{modality}.png", "drawn", logit, says))
    return entry, rows


def _router(scans: Scans, run: RunFolder, folder: Path) -> dict:
    """bundle.json's entry of the router: temperature and acceptance set on val."""
    source = run.models / "router.int8.tflite"
    shutil.copy(source, folder / source.name)
    val = scans.select(split="val")
    logits = run_model(source, router_pixels(val, run)).astype(np.float64)
    truth = router_targets(val)

    def loss(temperature: float) -> float:
        return -np.log(
            softmax(logits / temperature, axis=1)[np.arange(len(val)), truth] + 1e-12
        ).mean()

    temperature = round(float(minimize_scalar(loss, bounds=(0.3, 5.0), method="bounded").x), 4)
    of_truth = softmax(logits / temperature, axis=1)[np.arange(len(val)), truth]
    chest = val.modality != "other"
    # As strict as it can be while all but a few good scans of val pass; never below an even guess.
    accept = float(np.clip(np.quantile(of_truth[chest], REFUSED_ON_VAL), 0.5, 0.95))
    return {
        **file_entry(folder / source.name),
        "preprocess": SPEC.to_dict(),
        "labels": list(LABELS),
        "temperature": temperature,
        "accept": round(accept, 3),
    }


def _learned(recipe: Recipe, run: RunFolder) -> dict:
    """What MMTL's modalities had in common, or who taught students."""
    if recipe.teacher is not None:
        teacher = json.loads(run.teacher.read_text(encoding="utf-8"))
        return {"teacher": {**teacher, "share": TAUGHT}}
    mixing = json.loads(run.distances.read_text(encoding="utf-8"))
    return {"adversarial": run.adversarial, "mixing": mixing}


def _shared_sources(scans: Scans, modality: str) -> bool:
    """Whether a source of the modality, of those learned from, has both labels."""
    table = scans.select(modality=modality)
    table = table.where(np.isin(table.split, ("train", "val")))
    return any(len(np.unique(table.covid[table.source == s])) == 2 for s in set(table.source))


def _routing(figures: dict) -> dict:
    return {
        split: {"given": part["given"], "answered": part["given"] - part["not_answered"]}
        for split, part in figures.items()
    }


def _sources(scans: Scans) -> list[dict]:
    learned = np.isin(scans.split, ("train", "val"))
    pairs = sorted(set(zip(scans.modality[learned].tolist(), scans.source[learned].tolist())))
    return [
        {
            "name": source,
            "modality": modality,
            "licence": LICENCES.get(source, "unknown"),
            **{
                split: int(
                    (
                        (scans.source == source)
                        & (scans.modality == modality)
                        & (scans.split == split)
                    ).sum()
                )
                for split in ("train", "val", "test")
            },
        }
        for modality, source in pairs
    ]


def file_entry(path: Path) -> dict:
    """What bundle.json says of a file: its name, digests and length."""
    content = path.read_bytes()
    return {
        "file": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "xxh3": xxhash.xxh3_128_hexdigest(content),
        "bytes": len(content),
    }


def write_json(path: Path, content: dict) -> None:
    """Write bundle.json, whole or not at all."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
