# SPDX-License-Identifier: Apache-2.0
"""One graph per modality: grey scan in, COVID logit out.

A student is its encoder and one dense layer; MMTL is (paper figure 12)

::

    grey (1, 224, 224, 1)
      ├── [mean of 2x2] → task-specific encoder → embedding 1280 → task-specific module → 640 ┐
      │                                                                       ├ head → logit
      └── [mean of 2x2] → shared encoder → embedding 1280 → generator → shared feature 640 ───┘
"""

from __future__ import annotations

import keras

from covid_edge_convert import modules
from covid_edge_convert.backbones import ENCODERS, build_encoder
from covid_edge_convert.recipes import ROLES, Recipe
from covid_edge_convert.runs import RunFolder


def load_encoder(name: str, run: RunFolder) -> keras.Model:
    """Pretrained encoder: grey (batch, s, s, 1) → pooled features."""
    encoder = build_encoder(name)
    encoder.load_weights(run.encoder(name) / "encoder.weights.h5")
    return encoder


def student_of(encoder: keras.Model) -> keras.Model:
    """The encoder and one dense layer: (batch, h, w, 1) grey → (batch, 1) COVID logit."""
    x = keras.layers.Dropout(0.2, name="dropout")(encoder.output)
    logit = keras.layers.Dense(1, dtype="float32", name="logit")(x)
    return keras.Model(encoder.input, logit, name="student")


def load_student(modality: str, recipe: Recipe, run: RunFolder) -> keras.Model:
    """Trained student: grey (batch, s, s, 1) → (batch, 1) COVID logit."""
    (name,) = recipe.encoders[modality]
    student = student_of(build_encoder(name))
    student.load_weights(run.student(modality) / "student.weights.h5")
    return student


def load_embedding(modality: str, name: str, run: RunFolder) -> keras.Model:
    """Trained embedding module of one encoder on one modality: features → [embedding, logit]."""
    model = modules.embedding(ENCODERS[name].features, f"embedding_{modality}_{name}")
    model.load_weights(run.embedding(modality, name))
    return model


def load_task_specific(modality: str, run: RunFolder) -> keras.Model:
    """Trained task-specific module: embedding → [feature, logit]."""
    model = modules.task_specific(modality)
    model.load_weights(run.task_specific(modality))
    return model


def load_shared(run: RunFolder) -> keras.Model:
    """Trained shared module: embedding → [feature, logit]."""
    model = modules.shared(modules.generator())
    model.load_weights(run.shared)
    return model


def load_head(modality: str, run: RunFolder) -> keras.Model:
    """Trained head: [task-specific feature, shared feature] → logit."""
    model = modules.head(modality)
    model.load_weights(run.head(modality))
    return model


def scan_input(modality: str, recipe: Recipe):
    """The input of every graph that a device runs: (1, s, s, 1) grey pixels 0 to 255.

    A fixed batch keeps SHAPE and PACK out of EfficientNet's squeeze-and-excitation blocks, which
    accelerators refuse.
    """
    return keras.Input(batch_shape=(1, *recipe.spec(modality).size, 1), name="scan")


def answer(modality: str, recipe: Recipe, run: RunFolder, pooled):
    """All that comes after the encoders, trained weights in place.

    Parameters
    ----------
    pooled : list of KerasTensor, shape (1, features)
        What the encoder of each role gives.

    Returns
    -------
    KerasTensor, shape (1, 1)
        COVID logit.
    """
    vectors = []
    for role, name, features in zip(ROLES, recipe.encoders[modality], pooled):
        embedding = load_embedding(modality, name, run)
        embedding.name = f"{role}_embedding"
        vectors.append(embedding(features)[0])
    specific = load_task_specific(modality, run)(vectors[0])[0]
    common = load_shared(run)(vectors[1])[0]
    return load_head(modality, run)([specific, common])


def fused(modality: str, recipe: Recipe, run: RunFolder) -> keras.Model:
    """The whole network of one modality, trained weights in place, batch fixed to 1.

    Returns
    -------
    keras.Model
        (1, s, s, 1) grey pixels 0 to 255 → (1, 1) COVID logit.
    """
    grey = scan_input(modality, recipe)
    if recipe.teacher is not None:
        student = load_student(modality, recipe, run)
        return keras.Model(grey, student(grey), name=f"student_{modality}")
    half = keras.layers.AveragePooling2D(2)(grey) if recipe.halved else None
    pooled = []
    for role, name in zip(ROLES, recipe.encoders[modality]):
        encoder = load_encoder(name, run)
        encoder.name = f"{role}_encoder"
        pooled.append(encoder(half if name in recipe.halved else grey))
    return keras.Model(grey, answer(modality, recipe, run, pooled), name=f"mmtl_{modality}")
