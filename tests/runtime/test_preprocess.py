# SPDX-License-Identifier: Apache-2.0
"""PreprocessSpec keeps what it is given, and preprocess does what the spec says, in that order."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covid_edge import imgproc
from covid_edge.preprocess import PreprocessSpec, preprocess

SCAN = np.random.default_rng(0).integers(0, 256, (61, 47), dtype=np.uint8)

pairs = st.tuples(st.integers(1, 12), st.integers(1, 12))
specs = st.builds(
    PreprocessSpec,
    max_side=st.none() | st.integers(1, 80),
    clip_limit=st.none() | st.floats(0, 40),
    tile_grid=pairs,
    open_ksize=st.none() | st.tuples(st.integers(1, 4), st.integers(1, 4)),
    size=pairs,
)


def test_defaults_are_the_papers():
    spec = PreprocessSpec()
    assert (spec.clip_limit, spec.tile_grid, spec.open_ksize, spec.size) == (
        4.0,
        (8, 8),
        None,
        (224, 224),
    )


@given(specs)
def test_a_spec_survives_json(spec):
    assert PreprocessSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@settings(deadline=None)
@given(specs)
def test_preprocess_is_reduction_then_clahe_then_opening_then_resize(spec):
    expected = SCAN
    if spec.max_side is not None and spec.max_side < max(SCAN.shape):
        expected = imgproc.area_reduce(expected, spec.canonical_shape(SCAN.shape))
    if spec.clip_limit is not None:
        expected = imgproc.clahe(expected, spec.clip_limit, spec.tile_grid)
    if spec.open_ksize is not None:
        expected = imgproc.morph_open(expected, spec.open_ksize)
    expected = imgproc.resize(expected, spec.size)
    assert np.array_equal(preprocess(SCAN, spec), expected)


@pytest.mark.parametrize(
    ("shape", "canonical"),
    [
        ((2560, 2560), (640, 640)),
        ((2000, 1500), (640, 480)),
        ((1281, 1000), (640, 500)),  # 499.6
        ((10_000, 3), (640, 1)),  # never nothing
        ((640, 200), (640, 200)),
        ((30, 40), (30, 40)),  # never enlarged
    ],
)
def test_a_scan_is_reduced_to_the_longest_side_in_proportion(shape, canonical):
    assert PreprocessSpec(max_side=640).canonical_shape(shape) == canonical


def test_nothing_to_do_returns_the_pixels():
    spec = PreprocessSpec(clip_limit=None, size=SCAN.shape)
    assert np.array_equal(preprocess(SCAN, spec), SCAN)


def test_out_is_filled_and_returned():
    spec = PreprocessSpec(open_ksize=(2, 2), size=(32, 24))
    out = np.empty((32, 24), np.uint8)
    assert preprocess(SCAN, spec, out=out) is out
    assert np.array_equal(out, preprocess(SCAN, spec))


def test_the_scan_is_left_as_it_was():
    pixels = SCAN.copy()
    preprocess(pixels, PreprocessSpec(open_ksize=(2, 2)))
    assert np.array_equal(pixels, SCAN)


def test_read_only_pixels_are_taken():
    pixels = SCAN.copy()
    pixels.flags.writeable = False
    spec = PreprocessSpec(open_ksize=(2, 2))
    assert np.array_equal(preprocess(pixels, spec), preprocess(SCAN, spec))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_side", 0),
        ("max_side", 640.0),
        ("max_side", True),
        ("clip_limit", -1.0),
        ("clip_limit", float("nan")),
        ("clip_limit", float("inf")),
        ("clip_limit", "4"),
        ("clip_limit", True),
        ("tile_grid", None),
        ("tile_grid", (8,)),
        ("tile_grid", (8, 0)),
        ("tile_grid", (8.0, 8.0)),
        ("open_ksize", (2, -2)),
        ("open_ksize", "22"),
        ("size", 224),
        ("size", (224, True)),
    ],
)
def test_a_wrong_value_is_named(field, value):
    with pytest.raises(ValueError, match=field):
        PreprocessSpec(**{field: value})


@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_from_dict_guesses_nothing(change):
    fields = PreprocessSpec().to_dict()
    if change == "missing":
        del fields["clip_limit"]
    else:
        fields["gamma"] = 1
    with pytest.raises(ValueError, match="preprocess must hold"):
        PreprocessSpec.from_dict(fields)
