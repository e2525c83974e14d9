# SPDX-License-Identifier: Apache-2.0
"""In-domain pretraining of an encoder, on the scans of both modalities together.

The paper starts from ImageNet weights; here each encoder learns from the scans themselves, with
four questions at once, each asked only of the scans that can answer it.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from sklearn.metrics import roc_auc_score

from covid_edge_convert.augment import augment
from covid_edge_convert.backbones import build_encoder, grow
from covid_edge_convert.data import Scans, balanced_weights

# COVID on an X-ray, COVID on a CT slice, pneumonia of another cause on an X-ray, CT or X-ray.
TASKS = ("covid_xray", "covid_ct", "pneumonia", "modality")
TASK_WEIGHT = np.array([1.0, 1.0, 0.3, 0.1], np.float32)
LABEL_SMOOTHING = 0.05


@dataclass(frozen=True)
class Schedule:
    """Sizes of the successive epochs (pixels), and the optimiser's settings."""

    sizes: tuple[int, ...]
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    batch_size: int = 32
    warmup: float = 0.08  # share of all steps

    def phases(self) -> list[tuple[int, int, int]]:
        """Runs of epochs of one size: (size, first epoch, epoch after the last)."""
        result = []
        epoch = 0
        for size, run in itertools.groupby(self.sizes):
            count = len(list(run))
            result.append((size, epoch, epoch + count))
            epoch += count
        return result

    @staticmethod
    def parse(text: str) -> tuple[int, ...]:
        """``"80x4,112x6"`` → four epochs at 80 pixels, then six at 112."""
        sizes: list[int] = []
        for part in text.split(","):
            size, _, count = part.partition("x")
            sizes += [int(size)] * int(count or 1)
        return tuple(sizes)


def targets(scans: Scans) -> np.ndarray:
    """Per scan the four answers, then the weight of each (0 where the question is not asked).

    Returns
    -------
    ndarray of float32, shape (len(scans), 2 * len(TASKS))
    """
    xray = scans.modality == "xray"
    answers = np.stack(
        [scans.covid, scans.covid, scans.label == "pneumonia", scans.modality == "ct"], axis=1
    )
    asked = np.stack([xray, ~xray, xray & (scans.label != "covid"), np.ones(len(scans))], axis=1)
    weight = asked * TASK_WEIGHT * balanced_weights(scans)[:, None]
    return np.concatenate([answers, weight], axis=1).astype(np.float32)


def masked_cross_entropy(y_true, y_pred):
    """Binary cross-entropy of each task's logit, weighted as `targets` says; shape (batch,)."""
    answers, weight = y_true[:, : len(TASKS)], y_true[:, len(TASKS) :]
    answers = answers * (1.0 - LABEL_SMOOTHING) + 0.5 * LABEL_SMOOTHING
    loss = keras.ops.relu(y_pred) - y_pred * answers + keras.ops.softplus(-keras.ops.abs(y_pred))
    return keras.ops.sum(weight * loss, axis=1)


class AugmentedScans(keras.utils.PyDataset):
    """Shuffled, augmented batches of one size, seeded by epoch and batch.

    A resumed run therefore sees what the unbroken one would have seen.
    """

    def __init__(self, pixels, y, size: int, batch_size: int, seed: int, first_epoch: int):
        super().__init__(workers=1, max_queue_size=8)
        self.pixels, self.y, self.size, self.batch_size = pixels, y, size, batch_size
        self.seed, self.epoch = seed, first_epoch
        self._shuffle()

    def _shuffle(self):
        self.order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.pixels))

    def __len__(self) -> int:
        return max(1, len(self.pixels) // self.batch_size)

    def __getitem__(self, index: int):
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        rng = np.random.default_rng([self.seed, self.epoch, index])
        views = np.stack([augment(self.pixels[row], self.size, rng) for row in rows])
        return views[..., None], self.y[rows]

    def on_epoch_end(self):
        self.epoch += 1
        self._shuffle()


class Report(keras.callbacks.Callback):
    """After each epoch: AUC per modality on the validation scans, one JSON line in ``log``."""

    def __init__(self, pixels, scans: Scans, log: Path):
        super().__init__()
        self.pixels, self.scans, self.log = pixels, scans, log

    def on_epoch_end(self, epoch, logs=None):
        logits = self.model.predict(self.pixels[..., None], batch_size=64, verbose=0)
        line = {"epoch": epoch, "loss": round(float(logs["loss"]), 4)}
        for task, modality in enumerate(("xray", "ct")):
            rows = self.scans.modality == modality
            if len(np.unique(self.scans.covid[rows])) == 2:
                auc = roc_auc_score(self.scans.covid[rows], logits[rows, task])
                line[f"val_auc_{modality}"] = round(float(auc), 4)
        with open(self.log, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")


def pretrain(
    name: str,
    pixels: np.ndarray,
    scans: Scans,
    schedule: Schedule,
    folder: Path,
    seed: int,
    weights: str | None = None,
    seedling: keras.Model | None = None,
    verbose: int = 1,
) -> Path:
    """Train encoder ``name``; resume from the last finished epoch; skip what is done.

    Parameters
    ----------
    name : str
        A key of `covid_edge_convert.backbones.ENCODERS`.
    pixels : ndarray of uint8, shape (n, s, s)
        Preprocessed scans of every split; only ``train`` is learned from.
    scans : Scans
        The table of the same ``n`` scans.
    schedule : Schedule
    seedling : keras.Model, optional
        A trained, shallower encoder of the same family to grow this one from (`grow`).
    folder : Path
        Holds checkpoints, ``log.jsonl`` and, at the end, the encoder's weights.

    Returns
    -------
    Path of the encoder's ``.weights.h5``.
    """
    done = folder / "encoder.weights.h5"
    if done.is_file():
        return done
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(seed)

    train, val = np.flatnonzero(scans.split == "train"), np.flatnonzero(scans.split == "val")
    encoder = build_encoder(name, None, weights)
    if seedling is not None:
        grow(encoder, seedling)
    x = keras.layers.Dropout(0.3)(encoder.output)
    model = keras.Model(encoder.input, keras.layers.Dense(len(TASKS), dtype="float32")(x))
    epochs = len(schedule.sizes)
    steps = max(1, len(train) // schedule.batch_size) * epochs
    rate = keras.optimizers.schedules.CosineDecay(
        schedule.learning_rate * 0.05,
        decay_steps=steps,
        alpha=0.01,
        warmup_target=schedule.learning_rate,
        warmup_steps=math.ceil(schedule.warmup * steps),
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=schedule.weight_decay, clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    # "auto" would pick XLA on TensorFlow too, which on CPU trains EfficientNet ten times slower.
    model.compile(optimizer, masked_cross_entropy, jit_compile=keras.backend.backend() == "jax")

    # BackupAndRestore brings back weights, optimiser and epoch number; the data must start there.
    state = folder / "backup" / "training_metadata.json"
    first = json.loads(state.read_text())["epoch"] if state.is_file() else 0
    y = targets(scans.where(train))
    report = Report(pixels[val], scans.where(val), folder / "log.jsonl")
    for size, start, stop in schedule.phases():
        if stop <= first:
            continue
        start = max(start, first)
        model.fit(
            AugmentedScans(pixels[train], y, size, schedule.batch_size, seed, start),
            initial_epoch=start,
            epochs=stop,
            callbacks=[
                keras.callbacks.BackupAndRestore(str(folder / "backup"), delete_checkpoint=False),
                report,
            ],
            verbose=verbose,
        )
    partial = folder / "partial.weights.h5"
    encoder.save_weights(partial)
    os.replace(partial, done)
    return done
