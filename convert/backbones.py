# SPDX-License-Identifier: Apache-2.0
"""Encoders: keras.applications networks from a grey scan to their pooled feature vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import keras

from covid_edge_convert.efficientnet_lite import efficientnet_lite0


def tiny(include_top, weights, input_tensor, pooling):
    """A three-layer encoder with the signature of keras.applications: for tests and trials."""
    del include_top, weights, pooling
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(input_tensor)
    for number, filters in enumerate((8, 16, 32), 1):
        convolution = keras.layers.Conv2D(
            filters, 3, strides=2, padding="same", use_bias=False, name=f"conv{number}_conv"
        )
        norm = keras.layers.BatchNormalization(momentum=0.9, name=f"conv{number}_bn")
        x = keras.layers.ReLU()(norm(convolution(x)))
    inputs = keras.utils.get_source_inputs(input_tensor)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))


class Encoder(NamedTuple):
    """What must be known of an encoder to use it."""

    constructor: Callable
    features: int  # length of the pooled vector
    # Scale and offset that bring pixels 0…255 to what it expects, where it does not do so itself.
    rescale: tuple[float, float] | None
    channels: int = 3  # 3: the grey scan three times, as if in colour


ENCODERS = {
    "EfficientNetB0": Encoder(keras.applications.EfficientNetB0, 1280, None),
    "EfficientNetB1": Encoder(keras.applications.EfficientNetB1, 1280, None),
    "ResNet50": Encoder(keras.applications.ResNet50, 2048, (1 / 127.5, -1.0)),
    "ResNet50V2": Encoder(keras.applications.ResNet50V2, 2048, (1 / 127.5, -1.0)),
    "EfficientNetLite0": Encoder(efficientnet_lite0, 1280, (1 / 128, -127 / 128), channels=1),
    "Tiny": Encoder(tiny, 32, None),
}


def encode(name: str, grey):
    """Apply encoder ``name`` to grey pixels.

    Parameters
    ----------
    name : str
        A key of `ENCODERS`.
    grey : KerasTensor, shape (batch, h, w, 1), values 0 to 255

    Returns
    -------
    KerasTensor, shape (batch, features)
        Global average pool of the last feature maps.
    """
    encoder = ENCODERS[name]
    x = grey
    if encoder.channels == 3:
        x = keras.layers.Concatenate(name=f"{name}_grey_to_rgb")([grey, grey, grey])
    if encoder.rescale is not None:
        x = keras.layers.Rescaling(*encoder.rescale, name=f"{name}_rescale")(x)
    network = encoder.constructor(include_top=False, weights=None, input_tensor=x, pooling="avg")
    return network.output


def build_encoder(name: str) -> keras.Model:
    """Encoder ``name`` as a model: (batch, h, w, 1) grey → (batch, features).

    Height and width stay open, for training at several resolutions. A fixed size would not only
    be narrower but another network: EfficientNet pads an odd side differently once it knows it.
    """
    grey = keras.Input((None, None, 1), name="grey")
    return keras.Model(grey, encode(name, grey), name=name)


def grow(encoder: keras.Model, seedling: keras.Model) -> None:
    """Start ``encoder`` where the shallower ``seedling`` of the same family has arrived.

    EfficientNetB1 is EfficientNetB0 with one more block a stage. Blocks of the same name and shape
    are copied; the added ones begin as the identity (the scale of their last BatchNorm is 0, so
    that only their shortcut is left).
    """
    known = {layer.name: layer for layer in seedling.layers}
    for layer in encoder.layers:
        shapes = [tuple(w.shape) for w in layer.weights]
        source = known.get(layer.name)
        if source is not None and [tuple(w.shape) for w in source.weights] == shapes:
            layer.set_weights(source.get_weights())
        elif layer.name.endswith("_project_bn"):
            gamma, *rest = layer.get_weights()
            layer.set_weights([gamma * 0, *rest])
