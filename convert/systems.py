# SPDX-License-Identifier: Apache-2.0
"""MMTL as one graph per modality: grey scan in, COVID logit out (paper figure 12).

::

    grey (1, 224, 224, 1)
      │  mean of 2x2 (if the recipe halves)
      ├── task-specific encoder → embedding 1280 → task-specific module → 640 ┐
      │                                                                       ├ head → logit
      └── shared encoder → embedding 1280 → generator → shared feature 640 ───┘
"""

from __future__ import annotations

from pathlib import Path

import keras

from covid_edge_convert import modules
from covid_edge_convert.backbones import build_encoder
from covid_edge_convert.recipes import Recipe


class RunFolder:
    """Where a training run keeps what it makes."""

    def __init__(self, root: Path, adversarial: bool = True):
        self.root = root
        self.adversarial = adversarial
        self.cache = root / "cache"
        self.recipe = root / "recipe.json"
        self.router = root / "router" / "router.weights.h5"

    def encoder(self, name: str) -> Path:
        return self.root / "encoders" / name

    def embedding(self, modality: str, name: str) -> Path:
        return self.root / "embeddings" / f"{modality}-{name}.weights.h5"

    def task_specific(self, modality: str) -> Path:
        return self.root / "task-specific" / f"{modality}.weights.h5"

    @property
    def mixing(self) -> Path:
        """The folder of what depends on how the shared features are made."""
        return self.root / ("adversarial" if self.adversarial else "non-adversarial")

    @property
    def generator(self) -> Path:
        return self.mixing / "generator.weights.h5"

    @property
    def shared(self) -> Path:
        return self.mixing / "shared.weights.h5"

    def head(self, modality: str) -> Path:
        return self.mixing / f"head-{modality}.weights.h5"

    def models(self) -> Path:
        """Where the TFLite files go."""
        return self.mixing / "models"


def load_encoder(name: str, run: RunFolder, size: int | None = None) -> keras.Model:
    """Pretrained encoder: grey (batch, s, s, 1) → pooled features."""
    encoder = build_encoder(name, size)
    encoder.load_weights(run.encoder(name) / "encoder.weights.h5")
    return encoder


def load_embedding(modality: str, name: str, width: int, run: RunFolder) -> keras.Model:
    """Trained embedding module of one encoder on one modality: features → [embedding, logit]."""
    model = modules.embedding(width, f"embedding_{modality}_{name}")
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


def fused(modality: str, recipe: Recipe, run: RunFolder) -> keras.Model:
    """The whole network of one modality, trained weights in place, batch fixed to 1.

    A fixed batch keeps SHAPE and PACK out of EfficientNet's squeeze-and-excitation blocks, which
    accelerators refuse.

    Returns
    -------
    keras.Model
        (1, s, s, 1) grey pixels 0 to 255 → (1, 1) COVID logit.
    """
    grey = keras.Input(batch_shape=(1, recipe.input_size, recipe.input_size, 1), name="scan")
    x = keras.layers.AveragePooling2D(2)(grey) if recipe.halved else grey
    vectors = []
    for role, name in zip(("task_specific", "shared"), recipe.encoders[modality]):
        encoder = build_encoder(name, recipe.encoder_size, batch=1)
        encoder.set_weights(load_encoder(name, run).get_weights())
        encoder.name = f"{role}_encoder"
        pooled = encoder(x)
        embedding = load_embedding(modality, name, pooled.shape[-1], run)
        embedding.name = f"{role}_embedding"
        vectors.append(embedding(pooled)[0])
    specific = load_task_specific(modality, run)(vectors[0])[0]
    common = load_shared(run)(vectors[1])[0]
    return keras.Model(grey, load_head(modality, run)([specific, common]), name=f"mmtl_{modality}")
