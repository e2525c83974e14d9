# SPDX-License-Identifier: Apache-2.0
"""Graphs for the Edge TPU: a student whole; of MMTL each encoder, and all that comes after them.

The chip keeps 8 MB of weights; what is more it fetches anew at every run. In files of their own
EfficientNetB0 and B1 stay on it, and only the ResNets come through the cable.

::

    scan ┬→ task-specific encoder ─ features ┐
         └→ [mean of 2x2] → shared encoder ──┴→ head → logit

The halving is inside the encoder's graph, so all files of a modality take the same pixels. The head
reads the encoders' bytes as they are: its inputs have the scale and zero point of their outputs.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from covid_edge.interpreter import Chain, runtime
from covid_edge_convert.backbones import ENCODERS
from covid_edge_convert.recipes import ROLES, Recipe
from covid_edge_convert.runs import RunFolder
from covid_edge_convert.systems import answer, load_encoder, load_student, scan_input

# Inputs of the head.
FEATURES = {role: f"{role}_features" for role in ROLES}
# Global means over larger maps have been refused by the compiler (google-coral/edgetpu #461, #183):
# they become a mean of the means of 7x7 blocks.
MEAN_SIDE = 28
BLOCK = 7


def whole_student(modality: str, recipe: Recipe, run: RunFolder) -> keras.Model:
    """Student: (1, s, s, 1) **scan** → (1, 1) COVID logit, as the chip takes it."""
    return for_chip(load_student(modality, recipe, run), scan_input(modality, recipe))


def encoder_part(modality: str, name: str, recipe: Recipe, run: RunFolder) -> keras.Model:
    """Encoder: (1, s, s, 1) **scan** → (1, features), as the chip takes it."""
    scan = scan_input(modality, recipe)
    pixels = keras.layers.AveragePooling2D(2)(scan) if name in recipe.halved else scan
    encoder = for_chip(load_encoder(name, run), keras.Input(batch_shape=pixels.shape))
    return keras.Model(scan, encoder(pixels), name=f"{name}_part")


def head_part(modality: str, recipe: Recipe, run: RunFolder) -> keras.Model:
    """(1, features) of each encoder, inputs named by `FEATURES` → (1, 1) COVID logit."""
    pooled = [
        keras.Input(batch_shape=(1, ENCODERS[name].features), name=FEATURES[role])
        for role, name in zip(ROLES, recipe.encoders[modality])
    ]
    head = keras.Model(pooled, answer(modality, recipe, run, pooled), name=f"head_{modality}")
    return for_chip(head)


def for_chip(model: keras.Model, entry=None) -> keras.Model:
    """The same network in operations that the Edge TPU has; weights are shared with ``model``.

    LeakyReLU becomes a PReLU of constant slope, a global mean over a large map a mean of means.

    Parameters
    ----------
    model : keras.Model
        LeakyReLU in it follows vectors alone.
    entry : KerasTensor, optional
        Input of fixed shape, for a model whose own is open.
    """

    def layer_for(layer):
        if isinstance(layer, keras.layers.LeakyReLU):
            slope = keras.initializers.Constant(layer.negative_slope)
            return keras.layers.PReLU(slope, name=layer.name)
        if isinstance(layer, keras.Model):
            return for_chip(layer)
        return layer

    def call(layer, *arguments, **options):
        if isinstance(layer, keras.layers.GlobalAveragePooling2D):
            (maps,) = arguments
            side = maps.shape[1]
            if side is not None and side > MEAN_SIDE and side % BLOCK == 0:
                arguments = (keras.layers.AveragePooling2D(BLOCK)(maps),)
        return layer(*arguments, **options)

    return keras.models.clone_model(
        model, input_tensors=entry, clone_function=layer_for, call_function=call
    )


def run_parts(files: dict[str, Path], pixels: np.ndarray) -> np.ndarray:
    """Logits of the three files of a modality, on the CPU.

    Parameters
    ----------
    files : dict
        ``task_specific``, ``shared`` and ``head`` → TFLite file.
    pixels : ndarray of uint8, shape (n, s, s)

    Returns
    -------
    ndarray of float32, shape (n, 1)
    """
    chain = Chain(encoders(files), files["head"])
    return np.stack([chain.run(image) for image in tqdm(pixels, files["head"].stem, leave=False)])


def encoders(files: dict[str, Path]) -> list[Path]:
    """The encoders' files of a modality, in the order of the head's inputs."""
    _, module = runtime()
    inputs = module.Interpreter(str(files["head"])).get_input_details()
    return [files[role] for entry in inputs for role in ROLES if FEATURES[role] in entry["name"]]


def features_of(path: Path, pixels: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """What an encoder's quantised file gives, and the range of all that it could give.

    Returns
    -------
    (features, (low, high))
        ndarray of float32, shape (n, features); the values of the bytes 0 and 255.
    """
    runner = _runner(path)
    scale, zero_point = next(iter(runner.get_output_details().values()))["quantization"]
    stored = np.concatenate(
        [
            _only(runner(scan=image[None, ..., None]))
            for image in tqdm(pixels, path.stem, leave=False)
        ]
    )
    features = np.float32(scale) * (stored.astype(np.float32) - zero_point)
    return features, (scale * (0 - zero_point), scale * (255 - zero_point))


def _runner(path: Path):
    _, module = runtime()
    return module.Interpreter(str(path)).get_signature_runner()


def _only(outputs: dict[str, np.ndarray]) -> np.ndarray:
    (output,) = outputs.values()
    return output
