# SPDX-License-Identifier: Apache-2.0
"""The same scans split otherwise: by image, as in the paper, or with whole sources held out.

Each fold trains the task-specific encoder of one modality and its embedding logit (or, with
``whole``, all of MMTL on both) from nothing that has seen the scans it is measured on, and leaves
``fold.csv`` and ``logits.csv`` in the run's folder, from where they go into the bundle as evidence.
A fold that is done is skipped, one that was stopped goes on.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from covid_edge_convert import systems
from covid_edge_convert.data import MODALITIES, DataError, Scans, load_pixels
from covid_edge_convert.evidence import FOLD_COLUMNS, LOGIT_COLUMNS, stage_logits, write_csv
from covid_edge_convert.lungs import load_lungs
from covid_edge_convert.pretrain import pretrain
from covid_edge_convert.recipes import Recipe, RecipeError
from covid_edge_convert.runs import RunFolder
from covid_edge_convert.train import Views, embed, encoder_schedule, encoder_view, train

TEST_SHARE = 0.2  # of the paper's image-level split
VAL_SHARE = 0.1  # of all scans, out of the other 80 %


@dataclass(frozen=True)
class Fold:
    """One way of splitting the scans of a modality.

    ``split`` has one entry a scan of that modality: ``train``, ``val``, ``test``, or ``probe`` for
    what takes no part.
    """

    name: str
    modality: str
    split: np.ndarray


def image_level(scans: Scans, modality: str, seed: int) -> Iterator[Fold]:
    """The paper's protocol: a fifth of all images drawn for test, whatever their groups.

    The shares are the same of each label. ``probe`` stays out.
    """
    table = scans.select(modality=modality)
    split = table.split.copy()
    rng = np.random.default_rng([seed, MODALITIES.index(modality)])
    for covid in (0, 1):
        rows = rng.permutation(np.flatnonzero((table.covid == covid) & (split != "probe")))
        test, val = (round(share * len(rows)) for share in (TEST_SHARE, VAL_SHARE))
        split[rows] = "train"
        split[rows[:test]] = "test"
        split[rows[test : test + val]] = "val"
    yield Fold("random", modality, split)


def leave_one_source_out(scans: Scans, modality: str, seed: int) -> Iterator[Fold]:
    """Each source with both labels held out; of the others, pairs of a COVID and another source.

    A source of one label cannot be measured alone: each is held out once at least, together with
    one of the other label, largest with largest, the shorter list again from its beginning. The
    scans that are not held out keep their ``val``; their ``test`` is learned from.
    """
    table = scans.select(modality=modality)
    used = table.split != "probe"
    covid = table.covid.astype(bool)
    both, single = [], {True: [], False: []}
    for source in np.unique(table.source[used]):
        labels = covid[used & (table.source == source)]
        if labels.all() or not labels.any():
            single[bool(labels[0])].append((-len(labels), str(source)))
        else:
            both.append((str(source),))
    ranks = {label: [name for _, name in sorted(sources)] for label, sources in single.items()}
    pairs = []
    if all(ranks.values()):
        for k in range(max(map(len, ranks.values()))):
            pairs.append(tuple(ranks[label][k % len(ranks[label])] for label in (True, False)))
    for held_out in both + pairs:
        split = np.where(table.split == "val", "val", "train").astype("<U5")
        split[np.isin(table.source, held_out)] = "test"
        split[~used] = "probe"
        learned = np.isin(split, ("train", "val"))
        if all(len(np.unique(covid[split == s])) == 2 for s in ("train", "val")) and learned.any():
            yield Fold("+".join(held_out), modality, split)


PROTOCOLS = {"image-level": image_level, "leave-one-source-out": leave_one_source_out}


def run_protocol(
    scans: Scans,
    recipe: Recipe,
    run: RunFolder,
    protocol: str,
    modalities: tuple[str, ...] = MODALITIES,
    schedule: str | None = None,
    only: str | None = None,
    whole: bool = False,
    half: bool = False,
    verbose: int = 1,
) -> list[Path]:
    """Train and answer every fold of a protocol that is not done yet.

    Parameters
    ----------
    scans : Scans
        The table that ``run`` was begun with.
    recipe : Recipe
        Encoders, rates and schedule. Of what encoders begin with, only ``imagenet`` is kept: any
        other weights may have seen the scans that a fold holds out.
    run : RunFolder
    protocol : str
        A key of `PROTOCOLS`.
    modalities : tuple of str
    schedule : str, optional
        Sizes of the pretraining epochs of every encoder instead of the recipe's.
    only : str, optional
        The fold of this name alone.
    whole : bool
        All of MMTL, both modalities, on the fold of each; only where folds of both modalities have
        the same name (``image-level``).
    half : bool
        Every encoder looks at half of the input's size: a quarter of the time.
    verbose : int

    Returns
    -------
    list of Path
        ``fold.csv`` of each fold.

    Raises
    ------
    DataError
        The scans allow no such fold, or the run was begun with other scans.
    RecipeError
        A fold was begun with another recipe, or the run is of students.
    """
    if recipe.teacher is not None:
        raise RecipeError(
            f"{run.root} holds students, whose teacher has seen the scans that a fold would hold "
            "out; protocols are for a run of MMTL."
        )
    run.check(scans)
    folds = [f for m in modalities for f in PROTOCOLS[protocol](scans, m, recipe.seed)]
    folds = [fold for fold in folds if only in (None, fold.name)]
    if not folds:
        raise DataError(f"{scans.root}: no fold{f' {only}' * bool(only)} of {protocol} in it.")
    recipe = _fresh(recipe, schedule, half)
    if whole:
        return [_whole(scans, folds, recipe, run, protocol, verbose)]
    return [_fold(scans, fold, recipe, run, protocol, verbose) for fold in folds]


def _fresh(recipe: Recipe, schedule: str | None, half: bool) -> Recipe:
    sizes = recipe.schedule if schedule is None else dict.fromkeys(recipe.schedule, schedule)
    start = {name: how for name, how in recipe.start.items() if how == "imagenet"}
    halved = tuple(sizes) if half else recipe.halved
    return dataclasses.replace(recipe, schedule=sizes, start=start, halved=halved)


def fold_folder(run: RunFolder, protocol: str, name: str) -> RunFolder:
    """Where a fold is trained; ``name`` is MODALITY-FOLD, or whole-FOLD of both modalities."""
    return RunFolder(run.protocols / protocol / re.sub(r"[^\w.+-]", "_", name), run.adversarial)


def _fold(scans, fold: Fold, recipe: Recipe, run: RunFolder, protocol, verbose) -> Path:
    """The task-specific encoder of the fold's modality, and the logit of its embedding."""
    own = fold_folder(run, protocol, f"{fold.modality}-{fold.name}")
    done = own.root / "fold.csv"
    modality, name = fold.modality, recipe.encoders[fold.modality][0]
    table = scans.select(modality=modality)
    # Preprocessed once for all folds: the cache knows the table by the split it came with.
    pixels = load_pixels(table, recipe.spec(modality), run.cache, f"preprocess {modality}")
    used = np.flatnonzero(fold.split != "probe")
    table = dataclasses.replace(table, split=fold.split).where(used)
    own.begin(recipe, table)
    if done.is_file():
        return done
    pixels = pixels[used]
    shown = encoder_view(pixels, name, recipe)
    pretrain(
        name,
        shown,
        table,
        encoder_schedule(name, recipe),
        own.encoder(name),
        recipe.seed,
        recipe.start.get(name),
        verbose,
        load_lungs(table, shown.shape[1], run.cache),
    )
    vectors = embed(modality, name, Views(table, pixels, recipe), recipe, own, verbose)
    kernel, bias = systems.load_embedding(modality, name, own).layers[-1].get_weights()
    logits = (vectors[: len(table)] @ kernel + bias)[:, 0]
    own.vectors(modality, name).unlink()  # large, and soon made again
    trained = f"{name} alone, {recipe.schedule[name]}"
    return _write(done, [(protocol, fold.name, modality, trained, table, logits)])


def _whole(scans, folds: list[Fold], recipe: Recipe, run: RunFolder, protocol, verbose) -> Path:
    """All of MMTL on a table whose two modalities are both re-split."""
    names = {fold.name for fold in folds}
    if len(names) != 1 or {fold.modality for fold in folds} != set(MODALITIES):
        raise DataError(f"{protocol} has no fold of both modalities to train all of MMTL on.")
    own = fold_folder(run, protocol, f"whole-{names.pop()}")
    done = own.root / "fold.csv"
    split = scans.split.copy()
    for fold in folds:
        split[scans.modality == fold.modality] = fold.split
    table = dataclasses.replace(scans, split=split).where(split != "probe")
    train(table, recipe, own, verbose)
    if done.is_file():
        return done
    parts = []
    kind = "adversarial" if run.adversarial else "non_adversarial"
    trained = "MMTL, " + ", ".join(f"{k} {v}" for k, v in sorted(recipe.schedule.items()))
    for fold in folds:
        part = table.select(modality=fold.modality)
        rows = np.arange(len(part))
        logits = stage_logits(part, rows, fold.modality, recipe, own)[0][f"head_{kind}"]
        parts.append((protocol, f"{fold.name}, whole", fold.modality, trained, part, logits))
    return _write(done, parts)


def _write(done: Path, parts: list) -> Path:
    """``logits.csv`` of val and test, then, as the sign that all is there, ``fold.csv``."""
    folds, answers = [], []
    for protocol, fold, modality, trained, table, logits in parts:
        names = {"protocol": protocol, "fold": fold, "modality": modality}
        counts = {s: int((table.split == s).sum()) for s in ("train", "val", "test")}
        folds.append({**names, "trained": trained, **counts})
        for k in np.flatnonzero(table.split != "train"):
            known = {"split": table.split[k], "file": table.file[k]}
            answers.append({**names, **known, "logit": f"{logits[k]:.3f}"})
    write_csv(done.with_name("logits.csv"), LOGIT_COLUMNS, answers)
    return write_csv(done, FOLD_COLUMNS, folds)
