# SPDX-License-Identifier: Apache-2.0
"""Refusals: what each measure says of pictures whose answer is known, and what the device does."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageFilter

from conftest import EXAMPLES
from covid_edge import Predictor, quality
from covid_edge.bundle import Bundle
from covid_edge.errors import BundleError

pictures = arrays(np.uint8, (32, 48), elements=st.integers(0, 255))


@given(pictures)
def test_every_measure_stays_in_its_range(pixels):
    assert 0 <= quality.contrast(pixels) <= 255
    assert 0 <= quality.extremes(pixels) <= 1
    assert 0 <= quality.sharpness(pixels) <= 1020
    assert np.isfinite(quality.thumbnail(pixels)).all()


def test_contrast_is_the_span_of_all_but_a_tenth_of_the_pixels():
    ramp = np.arange(101, dtype=np.uint8).repeat(10).reshape(101, 10)
    assert quality.contrast(ramp) == 90


def test_extremes_are_counted_at_both_ends():
    pixels = np.full((10, 10), 128, np.uint8)
    pixels[0], pixels[1] = 0, 255
    assert quality.extremes(pixels) == 0.2


def test_sharpness_of_a_ramp_is_none_and_of_a_chequerboard_the_greatest():
    assert quality.sharpness(np.tile(np.arange(20, dtype=np.uint8), (20, 1))) == 0
    board = 255 * (np.indices((20, 20)).sum(0) % 2).astype(np.uint8)
    assert quality.sharpness(board) == 4 * 255


def test_a_thumbnail_does_not_depend_on_brightness_and_hardly_on_contrast():
    scan = np.random.default_rng(0).integers(60, 120, (96, 96), dtype=np.uint8)
    scan[:48] += 60
    assert np.allclose(quality.thumbnail(scan), quality.thumbnail(scan + 40), atol=1e-5)


@given(turn=st.integers(1, 3))
def test_the_likeliest_turn_is_told_with_its_log_odds(turn):
    weights = np.zeros((4, 257), np.float32)
    weights[turn, -1] = 2.5
    assert quality.turns(np.zeros((96, 96), np.uint8), weights) == (turn, 2.5)


def test_distance_is_one_where_every_feature_is_one_deviation_off():
    mean, deviation = np.float32([1, 2, 3]), np.float32([0.5, 1, 2])
    assert quality.distance(mean + deviation, mean, deviation) == 1
    assert quality.distance(mean, mean, deviation) == 0


@pytest.fixture
def spoiled(tmp_path):
    """Write an example after something was done to it."""

    def write(name: str, spoil) -> str:
        with Image.open(EXAMPLES / f"{name}.png") as scan:
            spoil(scan.convert("L")).save(tmp_path / "scan.png")
        return str(tmp_path / "scan.png")

    return write


SPOILT = {
    "empty": lambda scan: scan.point(lambda level: 100 + level // 64),
    "clipped": lambda scan: scan.point(lambda level: 255 * (level > 110)),
    "turned-90": lambda scan: scan.transpose(Image.Transpose.ROTATE_90),
    "turned-180": lambda scan: scan.transpose(Image.Transpose.ROTATE_180),
    "blurred": lambda scan: scan.filter(ImageFilter.GaussianBlur(scan.width / 20)),
}


@pytest.mark.parametrize("code", SPOILT)
def test_a_spoiled_scan_is_refused_by_its_code(shipped, spoiled, code):
    answer = Predictor(shipped, modality="xray").predict(spoiled("xray", SPOILT[code]))
    assert (answer.status, answer.refusal) == ("refused", code)
    assert answer.reason
    assert answer.label is answer.probability is None


@pytest.mark.parametrize("code", ["clipped", "turned-90", "turned-180", "blurred"])
def test_a_forced_answer_says_what_is_against_it(shipped, spoiled, code):
    predictor = Predictor(shipped, modality="xray", force=True)
    answer = predictor.predict(spoiled("xray", SPOILT[code]))
    assert (answer.status, answer.refusal) == ("ok", code)
    assert 0 <= answer.probability <= 1


def test_a_turned_scan_says_which_way_to_turn_it(shipped, spoiled):
    predictor = Predictor(shipped, modality="xray")
    left = predictor.predict(spoiled("xray", SPOILT["turned-90"]))
    assert left.reason == "turned by 90 degrees to the left; turn it upright"
    right = spoiled("xray", lambda scan: scan.transpose(Image.Transpose.ROTATE_270))
    assert "to the right" in predictor.predict(right).reason


@pytest.mark.parametrize(("name", "taken_for"), [("ct", "xray"), ("xray", "ct")])
def test_a_scan_taken_for_the_other_modality_is_far_from_training(shipped, name, taken_for):
    answer = Predictor(shipped, modality=taken_for).predict(EXAMPLES / f"{name}.png")
    assert (answer.status, answer.refusal) == ("refused", "far-from-training")


def test_a_good_scan_is_answered_on_alike_with_force_and_without(shipped):
    plain, forced = (
        Predictor(shipped, force=force).predict(EXAMPLES / "ct.png") for force in (False, True)
    )
    assert plain.refusal is forced.refusal is None
    assert plain.probability == forced.probability


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("turns", "AAA=", "4 times 257 numbers"),
        ("turns", "not Base64!", "numbers of 16 bits in Base64"),
        ("sharpness", None, "a number"),
    ],
)
def test_bundle_json_names_a_wrong_check(shipped, tmp_path, field, value, words):
    fields = json.loads((shipped / "bundle.json").read_text())
    fields["modalities"]["ct"]["checks"][field] = value
    (tmp_path / "bundle.json").write_text(json.dumps(fields))
    with pytest.raises(BundleError, match=rf"ct\.checks\.{field} must be {words}"):
        Bundle.load(tmp_path)


def test_the_command_line_tells_code_and_words_and_forces(run, spoiled):
    path = spoiled("ct", SPOILT["turned-90"])
    done = run("predict", "--json", "--modality", "ct", path)
    record = json.loads(done.stdout)
    assert (done.returncode, record["status"]) == (4, "refused")
    assert record["refusal"] == "turned-90"
    done = run("predict", "--json", "--modality", "ct", "--force", path)
    record = json.loads(done.stdout)
    assert (done.returncode, record["status"], record["refusal"]) == (0, "ok", "turned-90")
