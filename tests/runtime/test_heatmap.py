# SPDX-License-Identifier: Apache-2.0
"""Heatmaps on the device: what they show, and what is written where."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image

from conftest import EXAMPLES, TOY
from covid_edge import Predictor, heatmap
from covid_edge.bundle import Bundle
from covid_edge.errors import BundleError, CovidEdgeError, UsageError
from covid_edge.heatmap import GRID, draw, overlay, write

GREY = np.full((40, 60), 100, np.uint8)


def half_for_half_against() -> np.ndarray:
    """The left half speaks for COVID, the right half against."""
    return np.repeat(np.float32([[1, -1]]), GRID // 2, 1).repeat(GRID, 0)


def test_an_overlay_is_red_where_the_map_is_positive_and_blue_where_negative():
    picture = np.asarray(overlay(GREY, half_for_half_against())).astype(int)
    assert picture.shape == (40, 60, 3)
    left, right = picture[20, 5], picture[20, 55]
    assert left[0] > 100 > left[2]
    assert right[2] > 100 > right[0]


def test_where_nothing_speaks_the_scan_stays_as_it_is():
    blank = np.zeros((GRID, GRID), np.float32)
    assert (np.asarray(overlay(GREY, blank)) == 100).all()
    only_left = np.maximum(half_for_half_against(), 0)
    assert (np.asarray(overlay(GREY, only_left))[:, 40:] == 100).all()


def test_the_upper_rows_of_a_drawing_are_the_overlay_and_a_strip_follows():
    drawn = np.asarray(draw(GREY, half_for_half_against(), "Not for diagnosis."))
    assert (drawn[:40] == np.asarray(overlay(GREY, half_for_half_against()))).all()
    bar = drawn[41].astype(int)
    assert bar[0, 2] > bar[0, 0]  # against, on the left
    assert bar[-1, 0] > bar[-1, 2]
    assert (drawn[52:] > 128).any()  # words


@pytest.mark.parametrize("width", [32, 200, 3000])
def test_a_notice_takes_more_lines_where_the_scan_is_narrow(width):
    pixels, blank = np.zeros((40, width), np.uint8), np.zeros((GRID, GRID), np.float32)
    few, many = (draw(pixels, blank, text).size for text in ("a", "word " * 40))
    assert few[0] == many[0] == width
    assert many[1] >= few[1]


def test_a_file_holds_the_pixels_of_its_picture(tmp_path):
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (31, 17, 3), dtype=np.uint8))
    path = write(picture, tmp_path, "a")
    assert path == str(tmp_path / "a.png")
    with Image.open(path) as found:
        found.load()
        assert found.format == "PNG"
        assert (np.asarray(found) == np.asarray(picture)).all()
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_nothing_that_is_there_is_written_over(tmp_path):
    (tmp_path / "a.png").write_text("the scan itself")
    picture = Image.new("RGB", (4, 4))
    assert write(picture, tmp_path, "a") == str(tmp_path / "a-2.png")
    assert write(picture, tmp_path, "a") == str(tmp_path / "a-3.png")
    assert (tmp_path / "a.png").read_text() == "the scan itself"


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    def no_room(picture):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(heatmap, "_png", no_room)
    with pytest.raises(CovidEdgeError, match=r"a\.png cannot be written: No space left on device"):
        write(Image.new("RGB", (4, 4)), tmp_path, "a")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_is_told_before_any_scan_is_read(shipped, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot be written to .*file: File exists"):
        Predictor(shipped, heatmap_dir=tmp_path / "file")


def test_a_bundle_without_the_outputs_says_so_in_a_sentence():
    with pytest.raises(UsageError, match=r"xray\.int8\.tflite of bundle toy gives no heatmaps"):
        Predictor(TOY, heatmap=True)


@pytest.mark.parametrize("name", ["ct", "xray"])
def test_a_map_adds_up_to_the_log_odds_of_the_answer(shipped, name):
    answer = Predictor(shipped, heatmap=True).predict(EXAMPLES / f"{name}.png")
    assert answer.heatmap.shape == (GRID, GRID)
    log_odds = math.log(answer.probability / (1 - answer.probability))
    assert answer.heatmap.sum() == pytest.approx(log_odds, abs=1e-3)
    assert answer.heatmap_file is None


def test_of_a_symmetric_ct_the_map_is_symmetric(shipped, tmp_path):
    half = np.asarray(Image.open(EXAMPLES / "ct.png").convert("L"))[:, :200]
    Image.fromarray(np.hstack([half, half[:, ::-1]])).save(tmp_path / "ct.png")
    heatmap = (
        Predictor(shipped, heatmap=True, force=True, modality="ct")
        .predict(tmp_path / "ct.png")
        .heatmap
    )
    assert np.corrcoef(heatmap.ravel(), heatmap[:, ::-1].ravel())[0, 1] > 0.99


def test_the_answer_is_the_same_with_a_map_as_without(shipped, tmp_path):
    plain = Predictor(shipped).predict(EXAMPLES / "ct.png")
    mapped = Predictor(shipped, heatmap_dir=tmp_path).predict(EXAMPLES / "ct.png")
    assert plain.probability == mapped.probability
    assert plain.heatmap is None
    assert plain.to_dict()["heatmap"] is None


def test_a_scan_can_be_answered_on_again_and_again(shipped):
    predictor = Predictor(shipped, heatmap=True)
    first, second = (predictor.predict(EXAMPLES / "ct.png").heatmap for _ in range(2))
    assert (first == second).all()


def test_a_plan_that_is_not_the_files_is_a_damaged_bundle(shipped, tmp_path):
    fields = json.loads((shipped / "bundle.json").read_text())
    for model in (fields["modalities"][name]["models"][0] for name in ("ct", "xray")):
        model["heatmap"]["head"][0]["weights"] = 10**6
    for path in shipped.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "bundle.json").unlink()
    (tmp_path / "bundle.json").write_text(json.dumps(fields))
    with pytest.raises(BundleError, match=r"ct\.int8\.tflite is not as bundle\.json's heatmap"):
        Predictor(tmp_path, heatmap=True).predict(EXAMPLES / "ct.png")


def test_bundle_json_names_a_wrong_field_of_a_plan(shipped, tmp_path):
    fields = json.loads((shipped / "bundle.json").read_text())
    fields["modalities"]["ct"]["models"][0]["heatmap"]["branches"][0]["map"] = -1
    (tmp_path / "bundle.json").write_text(json.dumps(fields))
    with pytest.raises(BundleError, match=r"ct\.models\[0\]\.heatmap\.branches\[0\]\.map must be"):
        Bundle.load(tmp_path)


def test_the_command_line_names_the_pictures(run, shipped, tmp_path):
    done = run("predict", "--json", "--workers", 2, "--heatmap", tmp_path / "why", EXAMPLES)
    assert done.returncode == 0
    for line in map(json.loads, done.stdout.splitlines()):
        with Image.open(EXAMPLES / line["file"]) as scan, Image.open(line["heatmap"]) as picture:
            assert picture.width == scan.width
            assert picture.height > scan.height


def test_the_command_line_refuses_a_bundle_without_maps(run, tmp_path):
    done = run("predict", "--bundle", TOY, "--heatmap", tmp_path, EXAMPLES / "ct.png")
    assert (done.returncode, done.stdout) == (2, "")
    assert "gives no heatmaps" in done.stderr
