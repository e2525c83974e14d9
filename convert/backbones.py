# SPDX-License-Identifier: Apache-2.0
"""Encoders: keras.applications networks from a grey scan to their pooled feature vector."""

from __future__ import annotations

import keras


def tiny(include_top, weights, input_tensor, pooling):
    """A three-layer encoder with the signature of keras.applications: for tests and trials."""
    del include_top, weights, pooling
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(input_tensor)
    for filters in (8, 16, 32):
        x = keras.layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))
    inputs = keras.utils.get_source_inputs(input_tensor)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))


# name → (constructor, scale and offset that bring pixels 0…255 to what it expects).
# EfficientNet rescales inside; the ResNets get [-1, 1] (for V2 its documented range; for V1, with
# no ImageNet weights to match, the same).
ENCODERS = {
    "EfficientNetB0": (keras.applications.EfficientNetB0, None),
    "EfficientNetB1": (keras.applications.EfficientNetB1, None),
    "ResNet50": (keras.applications.ResNet50, (1 / 127.5, -1.0)),
    "ResNet50V2": (keras.applications.ResNet50V2, (1 / 127.5, -1.0)),
    "Tiny": (tiny, None),
}


def encode(name: str, grey, weights: str | None = None):
    """Apply encoder ``name`` to grey pixels.

    Parameters
    ----------
    name : str
        A key of `ENCODERS`.
    grey : KerasTensor, shape (batch, h, w, 1), values 0 to 255
    weights : None or "imagenet"
        ``"imagenet"`` downloads them (needs internet).

    Returns
    -------
    KerasTensor, shape (batch, features)
        Global average pool of the last feature maps: 1280 (EfficientNet), 2048 (ResNet), 32 (Tiny).
    """
    constructor, affine = ENCODERS[name]
    x = keras.layers.Concatenate(name=f"{name}_grey_to_rgb")([grey, grey, grey])
    if affine is not None:
        x = keras.layers.Rescaling(*affine, name=f"{name}_rescale")(x)
    network = constructor(include_top=False, weights=weights, input_tensor=x, pooling="avg")
    return network.output


def build_encoder(
    name: str, size: int | None = None, weights: str | None = None, batch: int | None = None
) -> keras.Model:
    """Encoder ``name`` as a model: (batch, size, size, 1) grey → (batch, features).

    ``size`` None leaves height and width open, for training at several resolutions.
    """
    grey = keras.Input(batch_shape=(batch, size, size, 1), name="grey")
    return keras.Model(grey, encode(name, grey, weights), name=name)


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
