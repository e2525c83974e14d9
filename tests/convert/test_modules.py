# SPDX-License-Identifier: Apache-2.0
import keras
import numpy as np
import pytest

from covid_edge_convert import modules
from covid_edge_convert.backbones import ENCODERS, build_encoder, grow


@pytest.mark.parametrize("name", [name for name in ENCODERS if name != "Tiny"])
def test_every_encoder_of_the_paper_takes_grey_and_gives_a_pooled_vector(name):
    encoder = build_encoder(name)
    width = 2048 if name.startswith("ResNet") else 1280
    assert encoder.output_shape == (None, width)


def test_a_grown_encoder_starts_with_its_seedlings_answers():
    keras.utils.set_random_seed(0)
    seedling, grown = build_encoder("EfficientNetB0"), build_encoder("EfficientNetB1")
    grow(grown, seedling)
    scans = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 1)).astype(np.float32)
    expected = seedling.predict(scans, verbose=0)
    np.testing.assert_allclose(grown.predict(scans, verbose=0), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("modality", ["xray", "ct"])
def test_the_task_specific_module_has_the_papers_widths(modality):
    module = modules.task_specific(modality)
    widths = [layer.units for layer in module.layers if isinstance(layer, keras.layers.Dense)]
    assert widths == [1120, 960, 800, 640, 1]
    dropouts = [layer.rate for layer in module.layers if isinstance(layer, keras.layers.Dropout)]
    assert dropouts == ([0.45] * 3 if modality == "ct" else [])


def test_the_generator_and_the_head_have_the_papers_widths():
    widths = [x.units for x in modules.generator().layers if isinstance(x, keras.layers.Dense)]
    assert widths == [960, 640, 960, 1280]
    widths = [x.units for x in modules.head("ct").layers if isinstance(x, keras.layers.Dense)]
    assert widths == [320, 80, 20, 1]


def test_each_player_of_the_game_learns_from_its_own_loss_only(monkeypatch):
    keras.utils.set_random_seed(0)
    mixer = modules.generator()
    monkeypatch.setattr(modules, "GAME_L2", 0.0)
    game = modules.adversarial_game(mixer)
    discriminator = game.get_layer("discriminator")
    x = np.random.default_rng(0).normal(size=(16, modules.EMBEDDING)).astype(np.float32)
    y = (np.arange(16) % 2)[:, None].astype(np.float32)

    def moved(weights: dict[str, float]) -> tuple[bool, bool]:
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        game.compile(
            keras.optimizers.SGD(0.1),
            loss={"discriminator": loss, "generator": loss, "covid": loss},
            loss_weights=weights,
            jit_compile=False,
        )
        before = [[w.copy() for w in part.get_weights()] for part in (mixer, discriminator)]
        game.train_on_batch(x, {"discriminator": y, "generator": 1 - y, "covid": y})
        return tuple(
            any((a != b).any() for a, b in zip(old, part.get_weights()))
            for old, part in zip(before, (mixer, discriminator))
        )

    assert moved({"discriminator": 1.0, "generator": 0.0, "covid": 0.0}) == (False, True)
    assert moved({"discriminator": 0.0, "generator": 1.0, "covid": 0.0}) == (True, False)
