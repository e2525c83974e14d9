# SPDX-License-Identifier: Apache-2.0
"""A run folder out of a bundle: to go on from what shipped where the run itself is gone.

The files of a bundle hold every weight, rounded to int8, but for those logits of encoders and
modules that training alone reads. What comes back is the network of the rounded weights at full
precision; the missing logits are fitted anew, all else stays. The folder is then like any other:
`train --no-adversarial` adds the ablation, `quantize` and `bundle` make files again.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from covid_edge.bundle import Bundle
from covid_edge_convert import modules, systems
from covid_edge_convert.backbones import ENCODERS, build_encoder
from covid_edge_convert.checkpoints import save_array, save_weights
from covid_edge_convert.data import MODALITIES, Scans, load_pixels
from covid_edge_convert.evidence import (
    FOLD_COLUMNS,
    LOGIT_COLUMNS,
    Evidence,
    load_evidence,
    write_csv,
)
from covid_edge_convert.pretrain import some
from covid_edge_convert.protocols import fold_folder
from covid_edge_convert.recipes import ROLES, Recipe, RecipeError
from covid_edge_convert.runs import RunFolder
from covid_edge_convert.tflite_file import constant, kind_of, read_model
from covid_edge_convert.train import Views, encoder_view, fit, measure_mixing
from covid_edge_convert.warm_start import WarmStartError, start_from_tflite

TARGETS = ("fp32", "cpu-int8")  # whose files hold weights to begin with, the better first


def restore(bundle: Bundle, scans: Scans, run: RunFolder, verbose: int = 1) -> None:
    """Fill a run folder with the networks of an MMTL bundle; resumes where it stopped.

    Parameters
    ----------
    bundle : Bundle
    scans : Scans
        Those that it was trained with: norms and the missing logits are measured on ``train``.
    run : RunFolder
    verbose : int
        1 shows progress bars, 0 nothing.

    Raises
    ------
    BundleError
        A file is damaged.
    DataError, RecipeError
        The folder holds another run, or the bundle none of MMTL.
    WarmStartError
        A layer is not in the bundle's files.
    """
    recipe = recipe_of(bundle)
    run.begin(recipe, scans)
    for file in bundle.files.values():
        file.check()
    run.router_file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(bundle.router.model.path, run.router_file)
    _folds(load_evidence(bundle), run)
    views_list, common = [], []
    for modality in MODALITIES:
        path = _weights(bundle, modality)
        table = scans.select(modality=modality)
        pixels = load_pixels(table, recipe.spec(modality), run.cache)
        views = Views(table, pixels, recipe)
        found = dense_layers(path)
        # One encoder in both roles is there once, with one embedding.
        embeddings = [found[k] for k in (f"{role}_embedding" for role in ROLES) if k in found]
        for k, (role, name) in enumerate(zip(ROLES, recipe.encoders[modality])):
            _encoder(name, path, views, recipe, run)
            module = modules.embedding(ENCODERS[name].features, f"embedding_{modality}_{name}")
            _set_dense(module, embeddings[min(k, len(embeddings) - 1)])
            vectors = _embed(modality, name, module, views, recipe, run, verbose)
            if role == "task_specific":
                module = modules.task_specific(modality)
                _set_norms(module, *found["norm"])
                _set_dense(module, found[module.name])
                done = run.task_specific(modality)
                _fit_logit(module, [[vectors]], [views], recipe.deep(), done, verbose)
        views_list.append(views)
        common.append([vectors])
        head = modules.head(modality)
        _set_dense(head, found[head.name])
        save_weights(head, run.head(modality))
    mixer = modules.generator()
    shared = modules.shared(mixer)
    _set_dense(mixer, found["generator"])
    _set_dense(shared, found["shared"])
    save_weights(mixer, run.generator)
    _fit_logit(shared, common, views_list, recipe.deep(), run.shared, verbose)
    shown = zip(views_list, (vectors for (vectors,) in common))
    measure_mixing(dict(zip(MODALITIES, shown)), run)


def recipe_of(bundle: Bundle) -> Recipe:
    """The recipe that a bundle's MMTL was trained by; a RecipeError if it holds none."""
    fields = bundle.extra.get("training", {}).get("recipe", {})
    known = {field.name for field in dataclasses.fields(Recipe)}
    if not fields or not known.issuperset(fields) or fields.get("teacher") is not None:
        raise RecipeError(
            f"{bundle.path} tells no recipe of MMTL; give a bundle that covid-edge-convert wrote, "
            "and none of students."
        )
    return Recipe.of(fields)


def _weights(bundle: Bundle, modality: str) -> Path:
    """The file of a modality that is nearest to what was trained."""
    files = {model.target: model.file.path for model in bundle.modalities[modality].models}
    for target in TARGETS:
        if target in files:
            return files[target]
    raise RecipeError(f"{bundle.path}: {modality} has no file of {' or '.join(TARGETS)}.")


class _Found(dict):
    """What is in a file, by the name of its module; a WarmStartError of what is not."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    def __missing__(self, name: str):
        raise WarmStartError(f"{self.path}: holds no weights of {name}; it is no file of MMTL.")


def _folds(evidence: Evidence, run: RunFolder) -> None:
    """The folds of other protocols, as they were trained; their networks are gone."""
    for fold in evidence.folds:
        names = [fold[column] for column in ("protocol", "modality", "fold")]
        folder = fold_folder(run, names[0], "-".join(names[1:])).root
        if (folder / "fold.csv").is_file():
            continue
        of_fold = np.logical_and.reduce(
            [evidence.protocols[column] == fold[column] for column in FOLD_COLUMNS[:3]]
        )
        columns = {c: evidence.protocols[c][of_fold] for c in LOGIT_COLUMNS}
        columns["logit"] = [f"{logit:.3f}" for logit in columns["logit"]]
        rows = [dict(zip(columns, row)) for row in zip(*columns.values())]
        write_csv(folder / "logits.csv", LOGIT_COLUMNS, rows)
        write_csv(folder / "fold.csv", FOLD_COLUMNS, [fold])


def dense_layers(path: Path) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """(kernel, bias) of the dense layers of each module, by its name, in their order.

    ``norm`` is the (scale, shift) of the last BatchNorm of the task-specific module, the only one
    that is not folded into a dense layer.
    """
    model = read_model(path, WarmStartError)
    graph = model.subgraphs[0]

    def constants(operator) -> list[np.ndarray]:
        tensors = [graph.tensors[k] for k in operator.inputs if k >= 0]
        stored = [(tensor, model.buffers[tensor.buffer].data) for tensor in tensors]
        return [constant(t, np.asarray(data, np.uint8)) for t, data in stored if data is not None]

    found = _Found(path)
    module = ""
    for operator in graph.operators:
        name = graph.tensors[operator.outputs[0]].name.decode().partition(";")[0]
        # mmtl_ct_1/shared_1/generator_1/dense_9_1/MatMul;…: the module that holds the layer. The
        # last layer's tensor is the graph's output, whose name tells nothing.
        scope = re.match(r"mmtl_\w+/(?:.*/)?([a-z_]+?)(?:_\d+)?/(?:dense|batch_norm)\w*/", name)
        module = scope[1] if scope else module
        if kind_of(model, operator) == "FULLY_CONNECTED":
            kernel, bias = constants(operator)
            found.setdefault(module, []).append((kernel.T, bias))
        elif scope and kind_of(model, operator) in ("MUL", "ADD"):
            found.setdefault("norm", []).extend(values.ravel() for values in constants(operator))
    return found


def _set_dense(module: keras.Model, weights: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    """Set the dense layers of a module in place; a last one that has none is left as it is."""
    layers = [layer for layer in module.layers if isinstance(layer, keras.layers.Dense)]
    for layer, (kernel, bias) in zip(layers, weights, strict=False):
        layer.set_weights([kernel, bias])


def _set_norms(module: keras.Model, scale: np.ndarray, shift: np.ndarray) -> None:
    """The first BatchNorm is in the dense layer after it; the last is what the file says."""
    first, last = (x for x in module.layers if isinstance(x, keras.layers.BatchNormalization))
    for norm, gamma, beta in ((first, 1.0, 0.0), (last, scale, shift)):
        ones = np.ones(norm.gamma.shape, np.float32)
        norm.set_weights([ones * gamma * np.sqrt(1.0 + norm.epsilon), ones * beta, 0 * ones, ones])


def _encoder(name: str, path: Path, views: Views, recipe: Recipe, run: RunFolder) -> None:
    done = run.encoder(name) / "encoder.weights.h5"
    if not done.is_file():
        encoder = build_encoder(name)
        train = views.pixels[views.scans.split == "train"]
        start_from_tflite(encoder, path, encoder_view(some(train), name, recipe))
        save_weights(encoder, done)


def _embed(modality, name, module, views: Views, recipe, run: RunFolder, verbose) -> np.ndarray:
    """Embeddings of every view; the module is kept, its logit fitted."""
    stored = run.vectors(modality, name)
    if not stored.is_file():
        features = views.features(systems.load_encoder(name, run), name in recipe.halved)
        _fit_logit(module, [[features]], [views], recipe, run.embedding(modality, name), verbose)
        save_array(stored, np.asarray(module.predict(features, batch_size=512, verbose=0)[0]))
    return np.load(stored)


def _fit_logit(module, inputs, views_list, recipe: Recipe, path: Path, verbose) -> None:
    """Fit the last layer of a module, by which training judged it, and leave the others alone."""
    if path.is_file():
        return
    for layer in module.layers[:-1]:
        layer.trainable = False
    fit(module, inputs, views_list, recipe, path, verbose, index=1)
