# SPDX-License-Identifier: Apache-2.0
"""A student begins where its teacher has arrived: EfficientNet-Lite out of a trained EfficientNet.

The way of `covid_edge_convert.imagenet` backwards: swish becomes ReLU6, squeeze-and-excitation the
mean of its gates, and blocks that the Lite network lacks are left out.
"""

from __future__ import annotations

import keras
import numpy as np

from covid_edge_convert.imagenet import SHARPNESS
from covid_edge_convert.warm_start import channel_statistics, set_norms


def lighten(lite: keras.Model, full: keras.Model, pixels: np.ndarray) -> None:
    """Set the weights of ``lite`` in place to those of ``full``, as near as they come.

    Parameters
    ----------
    lite : keras.Model
        EfficientNetLite0, of `covid_edge_convert.backbones.build_encoder`.
    full : keras.Model
        EfficientNetB0 or B1, trained from `covid_edge_convert.imagenet.start_from_imagenet`: its
        BatchNorms before a swish are scaled up, and what follows is scaled down.
    pixels : ndarray of uint8, shape (n, s, s)
        Scans that gates and the statistics of BatchNorms are measured on.
    """
    gates = _mean_gates(full, pixels)
    affine = {}
    for layer in lite.layers:
        name = layer.name
        if isinstance(layer, (keras.layers.DepthwiseConv2D, keras.layers.Conv2D)):
            kernel = full.get_layer(name).get_weights()[0]
            if name == "stem_conv":
                kernel = kernel.sum(axis=2, keepdims=True)  # grey in all three channels
                # Pixels / 255 there, (pixels - 127) / 128 here.
                moved = 127 / 255 * kernel.sum(axis=(0, 1, 2))
                kernel = kernel * 128 / 255
            elif name.endswith("_dwconv"):
                kernel = kernel * SHARPNESS
            elif name.endswith("_project_conv"):
                gate = gates[name.removesuffix("_project_conv")]
                kernel = kernel * SHARPNESS * gate[None, None, :, None]
            layer.set_weights([kernel])
        elif isinstance(layer, keras.layers.BatchNormalization):
            norm = full.get_layer(name)
            gamma, beta, mean, variance = norm.get_weights()
            scale = gamma / np.sqrt(variance + norm.epsilon)
            shift = beta - scale * mean
            if name == "stem_bn":
                shift = shift + scale * moved
            # Those after a narrowing convolution go into no activation.
            sharp = 1.0 if name.endswith("_project_bn") else SHARPNESS
            affine[name] = (scale / sharp, shift / sharp)
    set_norms(lite, affine, pixels)


def _mean_gates(full: keras.Model, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """By block, what squeeze-and-excitation multiplies each channel with, on average."""
    blocks = [x.name.removesuffix("_se_expand") for x in full.layers if "_se_expand" in x.name]
    gates = [full.get_layer(f"{block}_se_expand").output for block in blocks]
    statistics = channel_statistics(full, gates, pixels)
    return {block: mean for block, (mean, _) in zip(blocks, statistics)}
