# SPDX-License-Identifier: Apache-2.0
"""The router: a tiny network that says chest X-ray, chest CT or neither."""

from __future__ import annotations

import os

import keras
import numpy as np
from keras import layers

from covid_edge.preprocess import PreprocessSpec
from covid_edge_convert.augment import augment
from covid_edge_convert.data import Scans, load_pixels
from covid_edge_convert.pretrain import JIT
from covid_edge_convert.recipes import Recipe
from covid_edge_convert.runs import RunFolder

LABELS = ("ct", "other", "xray")
SIZE = 96
SPEC = PreprocessSpec(max_side=640, clip_limit=None, open_ksize=None, size=(SIZE, SIZE))

# Pictures that are no scans and that no data set holds: this share of the training pictures is
# drawn (`_drawn`) and labelled "other". Without any scans of "other" (the paper's folder form has
# none) all of that class is drawn.
DRAWN_SHARE = 0.1


def build_router(batch: int | None = None) -> keras.Model:
    """Grey (batch, 96, 96, 1), values 0 to 255 → (batch, 3) logits of `LABELS`."""
    x = inputs = keras.Input(batch_shape=(batch, SIZE, SIZE, 1), name="scan")
    x = layers.Rescaling(1 / 127.5, -1.0)(x)
    for filters in (16, 32, 48, 64, 96):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.95)(x))
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    return keras.Model(inputs, layers.Dense(len(LABELS))(x), name="router")


def targets(scans: Scans) -> np.ndarray:
    """Index into `LABELS` of each scan's modality: int (n,)."""
    return np.searchsorted(LABELS, scans.modality)


def router_pixels(scans: Scans, run: RunFolder) -> np.ndarray:
    """What the router sees of each scan: uint8 (n, 96, 96)."""
    return load_pixels(scans, SPEC, run.cache, "preprocess router")


def _drawn(scan: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture that is no chest scan, some of them made out of one."""
    kind = rng.integers(6)
    if kind == 0:
        return np.full(scan.shape, rng.integers(256), np.float32)
    if kind == 1:
        return rng.uniform(0, 255, scan.shape).astype(np.float32)
    if kind == 2:
        ramp = np.linspace(rng.uniform(0, 255), rng.uniform(0, 255), scan.shape[0])
        field = np.broadcast_to(ramp[:, None], scan.shape)
        return (field if rng.random() < 0.5 else field.T).astype(np.float32)
    if kind == 3:  # a scan's own quarters in another order
        h, w = scan.shape[0] // 4, scan.shape[1] // 4
        blocks = [
            scan[i * h : (i + 1) * h, j * w : (j + 1) * w] for i in range(4) for j in range(4)
        ]
        order = rng.permutation(16)
        rows = [np.concatenate([blocks[k] for k in order[i : i + 4]], 1) for i in (0, 4, 8, 12)]
        return np.concatenate(rows, 0).astype(np.float32)
    if kind == 4:  # black text-like strokes on white, or white on black
        page = np.full(scan.shape, 245.0, np.float32)
        for y in range(4, SIZE - 4, int(rng.integers(5, 9))):
            strokes = rng.random(SIZE) < 0.5
            page[y : y + 2, strokes] = rng.uniform(0, 60)
        return page if rng.random() < 0.5 else 255.0 - page
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    wave = np.sin(rng.uniform(2, 30) * x + rng.uniform(2, 30) * y + rng.uniform(0, 6))
    return (127.5 + 127.5 * wave).astype(np.float32)


class RouterScans(keras.utils.PyDataset):
    """Augmented batches, the three classes equally often."""

    def __init__(self, pixels, y, batch_size: int, seed: int):
        super().__init__(workers=1, max_queue_size=8)
        self.pixels, self.y, self.batch_size, self.seed = pixels, y, batch_size, seed
        self.rows = [np.flatnonzero(y == k) for k in range(len(LABELS))]
        self.epoch = 0

    def __len__(self) -> int:
        return max(1, len(self.pixels) // self.batch_size)

    def __getitem__(self, index: int):
        rng = np.random.default_rng([self.seed, self.epoch, index])
        x = np.empty((self.batch_size, SIZE, SIZE, 1), np.float32)
        y = rng.integers(0, len(LABELS), self.batch_size)
        for slot, label in enumerate(y):
            rows = self.rows[label]
            image = self.pixels[rng.choice(rows if len(rows) else len(self.pixels))]
            if not len(rows) or rng.random() < DRAWN_SHARE:
                x[slot, ..., 0], y[slot] = _drawn(image, rng), LABELS.index("other")
            else:
                x[slot, ..., 0] = augment(image, SIZE, rng)
        return x, y

    def on_epoch_end(self):
        self.epoch += 1


def train_router(scans: Scans, recipe: Recipe, run: RunFolder, verbose: int = 1) -> None:
    """Train the router and keep the weights of the best validation loss; skip what is done."""
    if run.router.is_file() or run.router_file.is_file():
        return
    keras.utils.set_random_seed(recipe.seed)
    learned = scans.where(np.isin(scans.split, ("train", "val")))
    pixels, y = router_pixels(learned, run), targets(learned)
    train, val = learned.split == "train", learned.split == "val"
    model = build_router()
    data = RouterScans(pixels[train], y[train], 32, recipe.seed)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, len(data) * recipe.router_epochs, 0.02)
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=JIT,
    )
    run.router.parent.mkdir(parents=True, exist_ok=True)
    best = run.router.with_name("best.weights.h5")
    keep = keras.callbacks.ModelCheckpoint(
        str(best), monitor="val_loss", save_best_only=True, save_weights_only=True
    )
    model.fit(
        data,
        epochs=recipe.router_epochs,
        validation_data=(pixels[val][..., None].astype(np.float32), y[val]),
        callbacks=[keep],
        verbose=verbose,
    )
    os.replace(best, run.router)


def load_router(run: RunFolder) -> keras.Model:
    """The trained router with its batch fixed to 1."""
    model = build_router(batch=1)
    model.load_weights(run.router)
    return model
