# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0: EfficientNetB0 for chips that know neither swish nor squeeze-and-excitation.

After the TensorFlow TPU models (``efficientnet/lite``): ReLU6, no squeeze-and-excitation, and
a stem and a top of fixed width. Layers are named as in ``keras.applications.EfficientNetB0``.
"""

from __future__ import annotations

import keras

# Kernel, stride, expansion, channels and repeats of each stage.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
DROP_CONNECT = 0.2  # of the last block; earlier ones less


def efficientnet_lite0(include_top, weights, input_tensor, pooling):
    """Build the network on ``input_tensor``, with the signature of keras.applications.

    Parameters
    ----------
    include_top, weights
        Ignored: no top, random weights (`covid_edge_convert.imagenet` has trained ones).
    input_tensor : KerasTensor, shape (batch, h, w, channels)
        Pixels as (grey - 127) / 128. One channel will do: the stem's kernels of three equal ones
        can be summed.
    pooling
        Ignored: always the global average.

    Returns
    -------
    keras.Model
        With features of shape (batch, 1280).
    """
    del include_top, weights, pooling
    x = _activated(_convolution(input_tensor, 32, 3, 2, "stem_conv"), "stem")
    repeats, done = sum(stage[-1] for stage in STAGES), 0
    for number, (kernel, stride, expand, filters, count) in enumerate(STAGES, 1):
        for k in range(count):
            name = f"block{number}{chr(ord('a') + k)}"
            drop = DROP_CONNECT * done / repeats
            x = _block(x, kernel, stride if k == 0 else 1, expand, filters, drop, name)
            done += 1
    x = _activated(_convolution(x, 1280, 1, 1, "top_conv"), "top")
    x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
    return keras.Model(keras.utils.get_source_inputs(input_tensor), x, name="efficientnet_lite0")


def _block(x, kernel: int, stride: int, expand: int, filters: int, drop: float, name: str):
    """Inverted residual: widen, filter each channel, narrow; around it a shortcut if it fits."""
    short, width = x, x.shape[-1]
    if expand > 1:
        widened = _convolution(x, expand * width, 1, 1, f"{name}_expand_conv")
        x = _activated(widened, f"{name}_expand")
    x = keras.layers.DepthwiseConv2D(
        kernel, stride, padding="same", use_bias=False, name=f"{name}_dwconv"
    )(x)
    x = _convolution(_activated(x, name), filters, 1, 1, f"{name}_project_conv")
    x = keras.layers.BatchNormalization(name=f"{name}_project_bn")(x)
    if stride == 1 and width == filters:
        if drop:
            x = keras.layers.Dropout(drop, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")(x)
        x = keras.layers.Add(name=f"{name}_add")([x, short])
    return x


def _convolution(x, filters: int, kernel: int, stride: int, name: str):
    convolution = keras.layers.Conv2D(
        filters, kernel, stride, padding="same", use_bias=False, name=name
    )
    return convolution(x)


def _activated(x, name: str):
    x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
    return keras.layers.ReLU(6.0, name=f"{name}_activation")(x)
