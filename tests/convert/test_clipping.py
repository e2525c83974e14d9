# SPDX-License-Identifier: Apache-2.0
import keras
import numpy as np
import pytest

from covid_edge_convert.clipping import STEPS, best_range
from covid_edge_convert.quantize import as_input, run_model, write_fp32, write_int8


def error(values, low, high):
    step = (high - low) / STEPS
    shown = np.clip(np.round((values - low) / step), 0, STEPS) * step + low
    return np.mean((shown - values) ** 2)


def test_values_that_fill_their_range_keep_it():
    values = np.linspace(-1, 3, 10_000, dtype=np.float32)[:, None]
    assert best_range(values) == pytest.approx((-1, 3))


def test_an_outlier_does_not_make_all_steps_coarse():
    values = np.random.default_rng(0).uniform(0, 1, (1_000_000, 1)).astype(np.float32)
    values[0] = 8.0
    low, high = best_range(values)
    assert low == 0
    assert high < 6
    assert error(values, low, high) < error(values, 0.0, 8.0)


def test_values_too_rare_to_be_drawn_are_inside_where_there_are_steps_for_them():
    values = np.linspace(0, 1, 10_000, dtype=np.float32)[:, None]
    assert best_range(values, ends=(1.01,)) == pytest.approx((0.0, 1.01))


def test_a_large_channel_does_not_take_the_steps_of_the_small_ones():
    rng = np.random.default_rng(0)
    large, small = rng.exponential(100, (20_000, 1)), rng.exponential(0.5, (20_000, 15))
    values = np.concatenate([large, small], axis=1).astype(np.float32)
    low, high = best_range(values)
    assert high < 0.4 * large.max()
    relative = [error(values[:, 1], *ends) for ends in ((low, high), (0, float(large.max())))]
    assert relative[0] < 0.3 * relative[1]


@pytest.mark.parametrize("values", [np.zeros((5, 1)), np.full((5, 1), 2.0), np.full((5, 1), -2.0)])
def test_zero_is_always_inside(values):
    low, high = best_range(values.astype(np.float32))
    assert low <= 0 <= high


def outlying() -> keras.Model:
    """A channel of 1 and a channel of 100, brought together again: int8 loses the first."""
    scan = keras.Input(batch_shape=(1, 8, 8, 1), name="scan")
    x = keras.layers.Rescaling(1 / 255)(scan)
    wide = keras.layers.Conv2D(2, 1, use_bias=False, activation="swish", name="early")
    x = keras.layers.Conv2D(1, 1, use_bias=False, name="late")(wide(x))
    x = keras.layers.Dense(1, use_bias=False)(keras.layers.Flatten()(x))
    model = keras.Model(scan, x)
    wide.set_weights([np.array([1.0, 100.0]).reshape(1, 1, 1, 2)])
    model.get_layer("late").set_weights([np.array([1.0, 0.0]).reshape(1, 1, 2, 1)])
    model.layers[-1].set_weights([np.full((64, 1), 1 / 64)])
    return model


def test_what_is_kept_in_float_answers_as_full_precision_does(tmp_path):
    scans = np.random.default_rng(1).integers(0, 256, (24, 8, 8), dtype=np.uint8)
    scans //= np.arange(1, 25, dtype=np.uint8)[:, None, None]
    write_fp32(outlying(), tmp_path / "fp32.tflite")
    write_int8(outlying(), as_input(scans), tmp_path / "int8.tflite")
    write_int8(outlying(), as_input(scans), tmp_path / "mixed.tflite", keep_float="early|late")
    fp32, int8, mixed = (
        run_model(tmp_path / f"{k}.tflite", scans) for k in ("fp32", "int8", "mixed")
    )
    assert np.abs(mixed - fp32).max() < 0.2 * np.abs(int8 - fp32).max()


def test_what_lies_far_below_zero_takes_no_steps_from_swish():
    values = np.random.default_rng(0).normal(-15, 12, (20_000, 1)).astype(np.float32)
    low, high = best_range(values, lambda x: x / (1 + np.exp(-x)))
    assert low > -15
    assert high > 15
    assert best_range(values)[0] < 2 * low
