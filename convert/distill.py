# SPDX-License-Identifier: Apache-2.0
"""Students: one small network a modality that learns to answer as a bundle's networks do.

A student sees an augmented view, the teacher sees the same one, and the student learns what the
teacher says of it, its calibrated probability, and in part the scan's own label ("a good teacher is
patient and consistent", Beyer et al. 2022).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import keras
import numpy as np
from sklearn.metrics import roc_auc_score

from covid_edge.bundle import Bundle
from covid_edge.interpreter import Interpreter
from covid_edge_convert.backbones import build_encoder
from covid_edge_convert.calibrate import probability
from covid_edge_convert.checkpoints import save_weights, write_text
from covid_edge_convert.data import MODALITIES, Scans
from covid_edge_convert.lighten import lighten
from covid_edge_convert.pretrain import (
    JIT,
    TASKS,
    AugmentedScans,
    Schedule,
    Styles,
    adamw,
    begin,
    fit_epochs,
    some,
    targets,
)
from covid_edge_convert.recipes import Recipe, RecipeError
from covid_edge_convert.router import LABELS, SPEC
from covid_edge_convert.runs import RunFolder
from covid_edge_convert.systems import student_of
from covid_edge_convert.warm_start import start_from_tflite

LITE, HEAVIER = "EfficientNetLite0", ("EfficientNetB0", "EfficientNetB1")
TAUGHT = 0.7  # share of the teacher in what a student learns; the rest is the label


def find_teacher(recipe: Recipe) -> Bundle:
    """The bundle that the recipe's students learn from.

    Raises
    ------
    BundleError
        There is no such bundle, or it is damaged.
    RecipeError
        It lacks a modality, or prepares scans in another way than this version does.
    """
    bundle = Bundle.load(recipe.teacher)
    for modality in MODALITIES:
        spec = recipe.spec(modality)
        seen = bundle.modalities[modality].preprocess if modality in bundle.modalities else None
        # Of the same scan, a teacher may see more than its student.
        if seen is None or seen.size < spec.size or replace(seen, size=spec.size) != spec:
            raise RecipeError(
                f"{bundle.path} does not look at {modality} as this recipe does "
                f"({spec.size[0]} pixels a side, or more); name another --teacher."
            )
    if (bundle.router.preprocess, bundle.router.labels) != (SPEC, LABELS):
        raise RecipeError(f"{bundle.path} has another kind of router; name another --teacher.")
    for file in bundle.files.values():
        file.check()
    return bundle


def adopt(teacher: Bundle, run: RunFolder) -> None:
    """Note in the run folder whose students it holds, and keep the teacher's router for them.

    Raises
    ------
    RecipeError
        They were taught by another bundle.
    """
    known = {"name": teacher.name, "version": teacher.version, "sha256": teacher.sha256}
    if not run.teacher.is_file():
        run.router_file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(teacher.router.model.path, run.router_file)
        write_text(run.teacher, json.dumps(known, indent=1))
    elif json.loads(run.teacher.read_text(encoding="utf-8")) != known:
        raise RecipeError(
            f"{run.teacher}: these students were taught by another bundle than {teacher.path}; "
            "name that --teacher, or another --run folder."
        )


class Teacher:
    """The network of one modality of a bundle, and its calibration.

    Parameters
    ----------
    bundle : Bundle
    modality : str
    """

    def __init__(self, bundle: Bundle, modality: str):
        part = self._part = bundle.modalities[modality]
        model = part.models[0]
        self.preprocess = part.preprocess
        self.encoder = bundle.extra["modalities"][modality]["encoders"].get("task_specific")
        self.path = model.file.path
        self._calibration = model.calibration.scale, model.calibration.bias
        self._network = Interpreter(self.path)

    def __call__(self, views: np.ndarray) -> np.ndarray:
        """Calibrated probability of COVID of views, float32 (n, h, w, 1) → float32 (n,)."""
        pixels = np.clip(views[..., 0] + 0.5, 0, 255).astype(np.uint8)
        logits = np.array([self._part.logit(self._network, image) for image in pixels])
        return probability(logits, *self._calibration).astype(np.float32)

    def begin(self, student: keras.Model, pixels: np.ndarray) -> None:
        """Set the weights of a student's encoder in place to those of the teacher's own.

        Parameters
        ----------
        student : keras.Model
            EfficientNetLite0, of `covid_edge_convert.backbones.build_encoder`.
        pixels : ndarray of uint8, shape (n, s, s)
            Training scans.

        Raises
        ------
        RecipeError
            Student or teacher has another encoder.
        """
        if student.name != LITE or self.encoder not in HEAVIER:
            raise RecipeError(
                f"{student.name} cannot begin with {self.path}, whose encoder is {self.encoder}: "
                f"only {LITE} with {' or '.join(HEAVIER)}; give another --start."
            )
        full = build_encoder(self.encoder)
        start_from_tflite(full, self.path, some(pixels))
        lighten(student, full, some(pixels))


class TaughtScans(keras.utils.PyDataset):
    """The batches of `AugmentedScans`, with what the teacher says of each view.

    Parameters
    ----------
    scans : AugmentedScans
        At the size that the teacher looks at.
    teacher : callable
        Views, float32 (n, h, w, 1), to probabilities (n,).
    task : int
        The column of `covid_edge_convert.pretrain.targets` that the student answers.
    size : int
        What the student looks at, pixels.
    """

    def __init__(self, scans: AugmentedScans, teacher, task: int, size: int):
        super().__init__(workers=1, max_queue_size=8)
        self.scans, self.teacher, self.task, self.size = scans, teacher, task, size

    def __len__(self) -> int:
        return len(self.scans)

    def __getitem__(self, index: int):
        views, y = self.scans[index]
        taught = TAUGHT * self.teacher(views) + (1 - TAUGHT) * y[:, self.task]
        if self.size != views.shape[1]:
            side = (self.size, self.size)
            views = np.stack([cv2.resize(v, side, interpolation=cv2.INTER_AREA) for v in views])
            views = views[..., None]
        return views, taught[:, None], y[:, len(TASKS) + self.task]


def distill(
    name: str,
    modality: str,
    teacher: Teacher,
    pixels: np.ndarray,
    own: np.ndarray,
    scans: Scans,
    schedule: Schedule,
    folder: Path,
    seed: int,
    start: str | None = None,
    verbose: int = 1,
    lungs: np.ndarray | None = None,
) -> Path:
    """Train a student of one modality; resume from the last finished epoch; skip what is done.

    Parameters
    ----------
    name : str
        Its encoder, a key of `covid_edge_convert.backbones.ENCODERS`.
    modality : str
    teacher : Teacher
    pixels : ndarray of uint8, shape (n, s, s)
        Preprocessed scans of every split, as the teacher takes them; only ``train`` is learned
        from.
    own : ndarray of uint8, shape (n, t, t)
        The same scans, as the student takes them.
    scans : Scans
        The table of the same ``n`` scans.
    schedule : Schedule
    folder : Path
        Holds checkpoints, ``log.jsonl`` and, at the end, the student's weights.
    seed : int
    start : str, optional
        What its encoder begins with: ``"teacher"`` (`Teacher.begin`), or as
        `covid_edge_convert.pretrain.begin` has it. Weights (``.weights.h5``) are those of a whole
        student; ``{modality}`` in their path stands for its modality.
    verbose : int
    lungs : ndarray of bool, shape (n, s, s), optional
        Their masks, as for `covid_edge_convert.pretrain.pretrain`.

    Returns
    -------
    Path of the student's ``.weights.h5``.

    Raises
    ------
    ImageNetError
        If it begins with ImageNet and the weights are not installed.
    RecipeError
        If it begins with the teacher, whose encoder is another.
    """
    done = folder / "student.weights.h5"
    if done.is_file():
        return done
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(seed)
    train, val = np.flatnonzero(scans.split == "train"), np.flatnonzero(scans.split == "val")
    encoder = build_encoder(name)
    student = student_of(encoder)
    if start == "teacher":
        teacher.begin(encoder, own[train])
    elif start is not None and start.endswith(".weights.h5"):
        student.load_weights(start.replace("{modality}", modality))
    else:
        begin(encoder, start, own[train])
    student.compile(
        adamw(schedule, len(train)),
        keras.losses.BinaryCrossentropy(from_logits=True),
        jit_compile=JIT,
    )
    y, styles = targets(scans.where(train)), Styles(pixels[train], scans.where(train))
    masks = None if lungs is None else lungs[train]

    def taught(epoch: int, size: int) -> TaughtScans:
        shown = AugmentedScans(
            pixels[train], masks, y, styles, pixels.shape[1], schedule.batch_size, seed, epoch
        )
        return TaughtScans(shown, teacher, MODALITIES.index(modality), size)

    def measured() -> dict[str, float]:
        logits = student.predict(own[val][..., None], batch_size=64, verbose=0)
        return {"val_auc": round(float(roc_auc_score(scans.covid[val], logits)), 4)}

    checkpoints = fit_epochs(student, schedule, folder, seed, taught, measured, verbose)
    save_weights(student, done)
    checkpoints.clear()
    return done
