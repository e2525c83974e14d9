# SPDX-License-Identifier: Apache-2.0
"""Students: one small network a modality that learns to answer as a bundle's networks do.

A student sees an augmented view, the teacher sees the same one, and the student learns what the
teacher says of it, its calibrated probability, and in part the scan's own label ("a good teacher is
patient and consistent", Beyer et al. 2022).
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import keras
import numpy as np
from sklearn.metrics import roc_auc_score

from covid_edge.bundle import Bundle
from covid_edge.interpreter import Interpreter
from covid_edge_convert.backbones import build_encoder
from covid_edge_convert.calibrate import probability
from covid_edge_convert.checkpoints import Checkpoints, save_weights
from covid_edge_convert.data import MODALITIES, Scans
from covid_edge_convert.imagenet import PACKAGES, start_from_imagenet
from covid_edge_convert.pretrain import (
    JIT,
    TASKS,
    AugmentedScans,
    Schedule,
    Styles,
    adamw,
    reseed,
    targets,
)

TAUGHT = 0.7  # share of the teacher in what a student learns; the rest is the label


def build_student(name: str) -> keras.Model:
    """Encoder ``name`` and one dense layer: (batch, h, w, 1) grey → (batch, 1) COVID logit."""
    encoder = build_encoder(name)
    x = keras.layers.Dropout(0.2, name="dropout")(encoder.output)
    logit = keras.layers.Dense(1, dtype="float32", name="logit")(x)
    return keras.Model(encoder.input, logit, name="student")


class Teacher:
    """The network of one modality of a bundle, and its calibration.

    Parameters
    ----------
    bundle : Bundle
    modality : str
    """

    def __init__(self, bundle: Bundle, modality: str):
        part = bundle.modalities[modality]
        model = part.models[0]
        self.size = part.preprocess.size
        self._calibration = model.calibration.scale, model.calibration.bias
        self._network = Interpreter(model.file.path)

    def __call__(self, views: np.ndarray) -> np.ndarray:
        """Calibrated probability of COVID of views, float32 (n, h, w, 1) → float32 (n,)."""
        pixels = np.clip(views[..., 0] + 0.5, 0, 255).astype(np.uint8)
        logits = np.array([self._network.run(view)[0] for view in pixels])
        return probability(logits, *self._calibration).astype(np.float32)


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
    scans: Scans,
    schedule: Schedule,
    folder: Path,
    seed: int,
    verbose: int = 1,
    lungs: np.ndarray | None = None,
) -> Path:
    """Train a student of one modality; resume from the last finished epoch; skip what is done.

    It begins with ImageNet's weights where there are any.

    Parameters
    ----------
    name : str
        Its encoder, a key of `covid_edge_convert.backbones.ENCODERS`.
    modality : str
    teacher : Teacher
    pixels : ndarray of uint8, shape (n, s, s)
        Preprocessed scans of every split, as the teacher takes them; only ``train`` is learned
        from.
    scans : Scans
        The table of the same ``n`` scans.
    schedule : Schedule
    folder : Path
        Holds checkpoints, ``log.jsonl`` and, at the end, the student's weights.
    seed : int
    verbose : int
    lungs : ndarray of bool, shape (n, s, s), optional
        Their masks, as for `covid_edge_convert.pretrain.pretrain`.

    Returns
    -------
    Path of the student's ``.weights.h5``.

    Raises
    ------
    ImageNetError
        If the ImageNet weights are not installed.
    """
    done = folder / "student.weights.h5"
    if done.is_file():
        return done
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(seed)
    train, val = np.flatnonzero(scans.split == "train"), np.flatnonzero(scans.split == "val")
    student = build_student(name)
    if name in PACKAGES:
        encoder = keras.Model(student.input, student.get_layer("avg_pool").output, name=name)
        start_from_imagenet(encoder)
    student.compile(
        adamw(schedule, len(train)),
        keras.losses.BinaryCrossentropy(from_logits=True),
        jit_compile=JIT,
    )
    checkpoints = Checkpoints(folder, student)
    y, styles = targets(scans.where(train)), Styles(pixels[train], scans.where(train))
    for epoch in range(checkpoints.restore(), len(schedule.sizes)):
        size = schedule.sizes[epoch]
        reseed(student, seed, epoch)
        shown = AugmentedScans(
            pixels[train],
            None if lungs is None else lungs[train],
            y,
            styles,
            teacher.size[0],
            schedule.batch_size,
            seed,
            epoch,
        )
        data = TaughtScans(shown, teacher, MODALITIES.index(modality), size)
        fit = student.fit(
            data, initial_epoch=epoch, epochs=epoch + 1, shuffle=False, verbose=verbose
        )
        logits = student.predict(pixels[val][..., None], batch_size=64, verbose=0)
        line = {
            "epoch": epoch,
            "size": size,
            "loss": round(float(fit.history["loss"][-1]), 4),
            "val_auc": round(float(roc_auc_score(scans.covid[val], logits)), 4),
        }
        with open(folder / "log.jsonl", "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        checkpoints.save(epoch + 1)
    save_weights(student, done)
    checkpoints.clear()
    return done
