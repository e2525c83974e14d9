# SPDX-License-Identifier: Apache-2.0
"""The modules of MMTL between encoder and answer (paper sections 3.3 to 3.5), as Keras models.

All work on vectors; widths, slopes and dropout are the paper's, but for the dropout before the
logit that an embedding is trained with. A second output is the COVID logit that trains the module.
"""

from __future__ import annotations

import keras
from keras import layers

EMBEDDING = 1280
FEATURE = 640  # width of task-specific and of shared features
SLOPE = 0.3  # LeakyReLU's slope where the paper gives none (Keras's default)
CT_SLOPE = 0.5
CT_DROPOUT = 0.45
GAME_L2 = 1e-4  # keeps mixed embeddings near the size of embeddings (sum of 1280 squares)


def _dense_leaky(x, units: int, slope: float = SLOPE, name: str | None = None):
    return layers.LeakyReLU(slope)(layers.Dense(units, name=name)(x))


def embedding(features: int, name: str) -> keras.Model:
    """Pooled encoder features → [1280 **embedding**, logit]."""
    x = keras.Input((features,))
    vector = _dense_leaky(x, EMBEDDING)
    return keras.Model(x, [vector, layers.Dense(1)(layers.Dropout(0.3)(vector))], name=name)


def task_specific(modality: str) -> keras.Model:
    """Embedding → [640 **task-specific feature**, logit].

    The feature is the 640-vector after the last BatchNorm, the one that the logit is read from.
    CT has dropout 0.45 after the first three layers and slope 0.5.
    """
    slope, dropout = (CT_SLOPE, CT_DROPOUT) if modality == "ct" else (SLOPE, 0.0)
    x = inputs = keras.Input((EMBEDDING,))
    x = layers.BatchNormalization()(x)
    for units in (1120, 960, 800):
        x = _dense_leaky(x, units, slope)
        if dropout:
            x = layers.Dropout(dropout)(x)
    x = _dense_leaky(x, FEATURE, slope)
    x = layers.BatchNormalization()(x)
    return keras.Model(inputs, [x, layers.Dense(1)(x)], name=f"task_specific_{modality}")


def generator() -> keras.Model:
    """Embedding → mixed embedding: 1280-960-640-960-1280, LeakyReLU each."""
    x = inputs = keras.Input((EMBEDDING,))
    for units in (960, 640, 960, EMBEDDING):
        x = _dense_leaky(x, units)
    return keras.Model(inputs, x, name="generator")


class Discriminator(layers.Layer):
    """Mixed embedding → logit of "this was a CT": 1280-640-320-160-1.

    ``call(x, frozen=True)`` lets gradients through to ``x`` but not to the weights, so that one
    model holds both players of the game and one ``fit`` trains them together on any backend.
    The input is brought to a root mean square of 1: the players compare directions, and the
    generator gains nothing by growing without bound.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.denses = [layers.Dense(units) for units in (640, 320, 160, 1)]

    def build(self, shape):
        width = shape[-1]
        for dense in self.denses:
            dense.build((None, width))
            width = dense.units
        super().build(shape)

    def call(self, x, frozen: bool = False):
        x = x * keras.ops.rsqrt(keras.ops.mean(keras.ops.square(x), axis=-1, keepdims=True) + 1e-6)
        for index, dense in enumerate(self.denses):
            kernel, bias = dense.kernel, dense.bias
            if frozen:
                kernel, bias = map(keras.ops.stop_gradient, (kernel, bias))
            x = keras.ops.matmul(x, kernel) + bias
            if index < len(self.denses) - 1:
                x = keras.ops.leaky_relu(x, SLOPE)
        return x


def adversarial_game(mixer: keras.Model) -> keras.Model:
    """Embedding → the outputs that train both players.

    ``discriminator`` (logit of CT) trains the discriminator alone (its input is detached);
    ``generator`` (the same logit) the generator alone (the discriminator's weights are detached),
    with labels that the discriminator is to be fooled into; ``covid``, a linear COVID logit on the
    mixed embedding, keeps in it what the answer needs, which a generator that only has to fool soon
    throws away.
    """
    x = keras.Input((EMBEDDING,))
    discriminator = Discriminator(name="discriminator")
    mixed = layers.ActivityRegularization(l2=GAME_L2)(mixer(x))
    seen = discriminator(layers.Lambda(keras.ops.stop_gradient, name="detach")(mixed))
    fooled = discriminator(mixed, frozen=True)
    answer = layers.Dense(1, name="covid")(mixed)
    return keras.Model(x, {"discriminator": seen, "generator": fooled, "covid": answer})


def shared(mixer: keras.Model) -> keras.Model:
    """Embedding → [640 **shared feature**, logit]: the mixer, LeakyReLU, Dense(640), LeakyReLU.

    The mixer is frozen after the adversarial game; the non-adversarial ablation trains it here.
    """
    x = keras.Input((EMBEDDING,))
    feature = _dense_leaky(layers.LeakyReLU(SLOPE)(mixer(x)), FEATURE)
    return keras.Model(x, [feature, layers.Dense(1)(feature)], name="shared")


def head(modality: str) -> keras.Model:
    """Task-specific and shared feature, concatenated (1280) → COVID logit: 320-80-20-1."""
    specific, common = keras.Input((FEATURE,)), keras.Input((FEATURE,))
    x = layers.Concatenate()([specific, common])
    for units in (320, 80, 20):
        x = _dense_leaky(x, units)
    return keras.Model([specific, common], layers.Dense(1)(x), name=f"head_{modality}")
