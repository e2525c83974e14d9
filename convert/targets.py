# SPDX-License-Identifier: Apache-2.0
"""What a trained run is exported for: files of each target, checked, and the report on them.

========  =================================================  =======================
target    files of modality M                                for
========  =================================================  =======================
fp32      ``M.fp32.tflite``                                  drift is measured by it
cpu-int8  ``M.int8.tflite``, and ``router.int8.tflite``      CPUs
gpu-fp16  ``M.fp16.tflite``                                  GPU delegates
edgetpu   ``M.edgetpu-{task_specific,shared,head}.tflite``,  Edge TPUs
          or a student's ``M.edgetpu.tflite``;
          and what edgetpu_compiler makes of them
========  =================================================  =======================
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence, Set
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import keras
import numpy as np

from covid_edge_convert import edgetpu, parts, systems
from covid_edge_convert.calibrate import platt, probability
from covid_edge_convert.checkpoints import write_text
from covid_edge_convert.data import MODALITIES, Scans, load_pixels
from covid_edge_convert.drift import BUDGET, Budget, check_drift, drift, layer_noise
from covid_edge_convert.quantize import (
    as_input,
    representative_rows,
    run_model,
    write_fp16,
    write_fp32,
    write_int8,
)
from covid_edge_convert.recipes import ROLES, Recipe
from covid_edge_convert.router import load_router, router_pixels
from covid_edge_convert.runs import RunFolder

DEFAULT = ("fp32", "cpu-int8")  # what a bundle is made of
# What a run folder calls a target that is one file a modality.
KINDS = {"cpu-int8": "int8", "fp32": "fp32", "gpu-fp16": "fp16"}
NOISE_SCANS = 4  # of the representative ones, that inner tensors are compared on
WORST = 10  # layers that a report names


@dataclass(frozen=True)
class _Source:
    """What a target's files of one modality are made from."""

    modality: str
    recipe: Recipe
    run: RunFolder
    fused: keras.Model  # built once: tensors of all its files have the same names
    chosen: np.ndarray  # representative scans, uint8 (n, s, s)


@dataclass
class _Export:
    """A target's files of one modality: how they answer, and what is known of them."""

    files: list[Path]
    run: Callable[[np.ndarray], np.ndarray]  # uint8 (n, s, s) → logits (n, 1)
    layers: list[dict]  # of `covid_edge_convert.drift.layer_noise`
    checks: list[edgetpu.Check] = field(default_factory=list)
    compiled: list[edgetpu.Compiled] | None = None


def export(
    scans: Scans,
    recipe: Recipe,
    run: RunFolder,
    targets: Sequence[str] = DEFAULT,
    representative: int = 300,
    allow: Set[str] = frozenset(),
    budget: Budget = BUDGET,
) -> dict[str, dict]:
    """Write the files of each target into the run folder, with a report on them.

    A target appears whole and after all checks, or not at all: what was refused stays in
    ``models/TARGET.refused``. fp32 is always written: drift is measured against it.

    Parameters
    ----------
    scans : Scans
    recipe : Recipe
    run : RunFolder
        Trained to its end.
    targets : sequence of str
        Of `TARGETS`.
    representative : int
        Training scans of each modality that activation ranges are measured on.
    allow : set of str
        What is not refused: ``drift`` over budget; of the Edge TPU, operations that stay on the
        ``cpu`` and a ``split`` into several subgraphs.
    budget : Budget

    Returns
    -------
    dict
        Target → modality → ``files`` (name → bytes), ``drift``, the layers ``worst`` by
        signal-to-noise ratio, those that ``lost`` most of it, and of the Edge TPU ``chip``
        (what stays on the CPU; bytes of weights, and of those streamed at every run).
        The file ``models/TARGET.json`` says the same.

    Raises
    ------
    DriftError
        If a target is over budget in a modality.
    EdgeTPUError
        If an operation stays on the CPU, or the compiler fails or splits a graph.
    QuantizeError
        If Keras does not run on TensorFlow.
    CalibrationError
        If ``val`` lacks a class of a modality, or a network is no better than chance on it.
    """
    tables, pixels, sources = {}, {}, {}
    for modality in MODALITIES:
        table = scans.select(modality=modality)
        every = load_pixels(table, recipe.spec(modality), run.cache)
        measured = np.isin(table.split, ("val", "test"))
        chosen = every[representative_rows(table, representative, recipe.seed)]
        tables[modality], pixels[modality] = table.where(measured), every[measured]
        fused = systems.fused(modality, recipe, run)
        sources[modality] = _Source(modality, recipe, run, fused, chosen)
        write_fp32(fused, _file(run.models, modality, "fp32"))
    wanted = [target for target in dict.fromkeys(targets) if target != "fp32"]
    full = {m: target_runner("fp32", m, recipe, run)(pixels[m])[:, 0] for m in MODALITIES if wanted}
    reports = {}
    for target in wanted:
        folder = run.models / f"{target}.refused"
        shutil.rmtree(folder, ignore_errors=True)
        exports = {m: _EXPORTS[target](sources[m], folder) for m in MODALITIES}
        for made in exports.values():
            edgetpu.refuse(made.checks, made.compiled, allow)
        reports[target] = {
            m: _report(made, tables[m], full[m], _looking(made.run, m, recipe)(pixels[m])[:, 0])
            for m, made in exports.items()
        }
        if target == "cpu-int8":
            _router(scans, recipe, run, representative, folder / "router.int8.tflite")
        write_text(folder / f"{target}.json", json.dumps(reports[target], indent=1))
        if "drift" not in allow:
            check_drift(target, {m: part["drift"] for m, part in reports[target].items()}, budget)
        for path in folder.iterdir():
            os.replace(path, run.models / path.name)
        folder.rmdir()
    return reports


def _file(folder: Path, modality: str, target: str) -> Path:
    return folder / f"{modality}.{KINDS[target]}.tflite"


def _chip_files(folder: Path, modality: str, recipe: Recipe) -> dict[str, Path]:
    """Of the Edge TPU: a student's one file, MMTL's by part, the head last."""
    if recipe.teacher is not None:
        return {"student": folder / f"{modality}.edgetpu.tflite"}
    return {part: folder / f"{modality}.edgetpu-{part}.tflite" for part in (*ROLES, "head")}


def shipped_files(target: str, modality: str, recipe: Recipe, run: RunFolder) -> list[Path]:
    """The files of a modality that a bundle ships for a target, whether they are there or not.

    Of the Edge TPU those that its compiler made: encoders in the order of the head's inputs, then
    the head; or a student's one.
    """
    if target != "edgetpu":
        return [_file(run.models, modality, target)]
    files = _chip_files(run.models, modality, recipe)
    *_, last = files.values()
    ordered = (
        [*parts.encoders(files), last] if len(files) > 1 and last.is_file() else files.values()
    )
    return [path.with_name(f"{path.stem}_edgetpu.tflite") for path in ordered]


def target_runner(
    target: str, modality: str, recipe: Recipe, run: RunFolder
) -> Callable[[np.ndarray], np.ndarray]:
    """How the files of a target answer on the CPU: uint8 (n, s, s) → float32 logits (n, 1)."""
    if target != "edgetpu":
        answer = partial(run_model, _file(run.models, modality, target))
    elif len(files := _chip_files(run.models, modality, recipe)) > 1:
        answer = partial(parts.run_parts, files)
    else:
        answer = partial(run_model, *files.values())
    return _looking(answer, modality, recipe)


def _looking(answer: Callable, modality: str, recipe: Recipe) -> Callable:
    """The same for scans of a modality as the device looks at them (`Modality.looks`)."""
    if modality not in recipe.mirrored:
        return answer
    return lambda pixels: (answer(pixels) + answer(pixels[:, :, ::-1].copy())) / 2


def _router(scans: Scans, recipe: Recipe, run: RunFolder, representative: int, path: Path) -> None:
    """The run's own router, or the file of a bundle (the teacher, or what was restored)."""
    if run.router_file.is_file():
        shutil.copy(run.router_file, path)
        return
    rows = representative_rows(scans, representative, recipe.seed)
    write_int8(load_router(run), as_input(router_pixels(scans, run)[rows]), path)


def _cpu_int8(source: _Source, folder: Path) -> _Export:
    path = _file(folder, source.modality, "cpu-int8")
    scans = as_input(source.chosen)
    calibrated = write_int8(source.fused, scans, path, source.recipe.keep_float)
    layers = layer_noise(calibrated, path.read_bytes(), _some(scans))
    return _Export([path], partial(run_model, path), layers)


def _gpu_fp16(source: _Source, folder: Path) -> _Export:
    path = _file(folder, source.modality, "gpu-fp16")
    write_fp16(source.fused, path)
    full = _file(source.run.models, source.modality, "fp32").read_bytes()
    layers = layer_noise(full, path.read_bytes(), _some(as_input(source.chosen)))
    return _Export([path], partial(run_model, path), layers)


def _edgetpu(source: _Source, folder: Path) -> _Export:
    files, answer, layers = (_student if source.recipe.teacher else _parts)(source, folder)
    layers.sort(key=lambda row: row["snr_db"])
    checks = [edgetpu.check(path) for path in files]
    return _Export(files, answer, layers, checks, edgetpu.compile_files(files, folder))


def _student(source: _Source, folder: Path) -> tuple[list[Path], Callable, list[dict]]:
    """One file for the chip: its path, how it answers, and the noise of its layers."""
    (path,) = _chip_files(folder, source.modality, source.recipe).values()
    student = parts.whole_student(source.modality, source.recipe, source.run)
    scans = as_input(source.chosen)
    calibrated = write_int8(student, scans, path, for_chip=True)
    layers = layer_noise(calibrated, path.read_bytes(), _some(scans))
    return [path], partial(run_model, path), layers


def _parts(source: _Source, folder: Path) -> tuple[list[Path], Callable, list[dict]]:
    """The same of MMTL's three files."""
    modality, recipe, run = source.modality, source.recipe, source.run
    files = _chip_files(folder, modality, recipe)
    scans = as_input(source.chosen)
    layers, features, ranges = [], {}, {}
    for role, name in zip(ROLES, recipe.encoders[modality]):
        encoder = parts.encoder_part(modality, name, recipe, run)
        calibrated = write_int8(encoder, scans, files[role], for_chip=True)
        layers += layer_noise(calibrated, files[role].read_bytes(), _some(scans))
        entry = parts.FEATURES[role]
        features[entry], ranges[entry] = parts.features_of(files[role], source.chosen)
    head = parts.head_part(modality, recipe, run)
    calibrated = write_int8(head, features, files["head"], fixed=ranges, for_chip=True)
    layers += layer_noise(calibrated, files["head"].read_bytes(), _some(features))
    return list(files.values()), partial(parts.run_parts, files), layers


_EXPORTS = {"cpu-int8": _cpu_int8, "gpu-fp16": _gpu_fp16, "edgetpu": _edgetpu}
TARGETS = ("fp32", *_EXPORTS)


def _some(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A few of the representative rows, evenly out of all of them."""
    return {k: values[:: max(1, -(-len(values) // NOISE_SCANS))] for k, values in inputs.items()}


def _report(made: _Export, table: Scans, full: np.ndarray, logits: np.ndarray) -> dict:
    """What is told of a target's files of one modality."""
    val, test = table.split == "val", table.split == "test"
    # Calibration belongs to one file: each has its own.
    probabilities = [
        probability(values[test], *platt(values[val], table.covid[val]))
        for values in (full, logits)
    ]
    lossy = [row for row in made.layers if row["lost_db"] is not None]
    report = {
        "files": {path.name: path.stat().st_size for path in made.files},
        "drift": drift(table.covid[test], full[test], logits[test], *probabilities),
        "worst": made.layers[:WORST],
        "lost": sorted(lossy, key=lambda row: -row["lost_db"])[:WORST],
    }
    if made.checks:
        weights = sum(check.parameters for check in made.checks)
        report["chip"] = {
            "on_cpu": [line for check in made.checks for line in check.lines()[:-1]],
            "weights": weights,
            # The files share the chip.
            "streamed": max(0, weights - edgetpu.ON_CHIP),
            "compiled": made.compiled and [asdict(one) for one in made.compiled],
        }
    return report
