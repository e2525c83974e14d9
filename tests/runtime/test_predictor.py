# SPDX-License-Identifier: Apache-2.0
"""From file to answer, on the toy bundle, whose answers NumPy can foretell."""

from __future__ import annotations

import json
import math
import threading
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest
from PIL import Image

import covid_edge
from conftest import BRIGHT, DARK, DOUBTFUL, EXAMPLES, MIDDLE
from covid_edge import Prediction, Predictor, predictor
from covid_edge.bundle import Bundle
from covid_edge.errors import BundleError, ScanError, UsageError
from covid_edge.interpreter import Interpreter
from covid_edge.predictor import MIN_SIDE


def probability(logit: float) -> float:
    return 1 / (1 + math.exp(-(0.5 * logit + 0.25)))  # the toy's calibration


def test_the_public_names_are_these():
    assert covid_edge.__all__ == ["Prediction", "Predictor", "__version__", "predict_many"]
    assert set(covid_edge.__all__) <= set(dir(covid_edge))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        covid_edge.nothing  # noqa: B018


def test_a_dark_picture_is_an_xray_and_bright_enough_to_be_covid(toy, flat):
    answer = Predictor(toy).predict(flat("a.png", 60))
    assert (answer.status, answer.modality, answer.label) == ("ok", "xray", "covid")
    assert answer.probability == pytest.approx(probability((60 - 40) / 8), abs=0.01)
    assert (answer.labels, answer.threshold, answer.reason) == (("covid",), 0.5, None)


def test_a_darker_one_is_not(toy, flat):
    answer = Predictor(toy).predict(flat("a.png", 10))
    assert (answer.modality, answer.label) == ("xray", "non-covid")
    assert answer.probability == pytest.approx(probability((10 - 40) / 8), abs=0.01)


def test_a_middling_picture_is_a_ct(toy, flat):
    assert Predictor(toy).predict(flat("a.png", MIDDLE)).modality == "ct"


def test_a_bright_picture_is_refused(toy, flat):
    answer = Predictor(toy).predict(flat("a.png", BRIGHT))
    assert answer.status == "refused"
    assert answer.reason == "not a chest X-ray or chest CT"
    assert answer.modality is answer.label is answer.probability is answer.threshold is None
    assert answer.labels is answer.operating_point is answer.network is None


def test_an_answer_in_doubt_is_refused(toy, flat):
    answer = Predictor(toy).predict(flat("a.png", 84))  # between X-ray and CT
    assert answer.status == "refused"
    assert answer.reason.startswith("not clearly a chest X-ray or chest CT (")


@pytest.mark.parametrize("size", [(1, 1), (MIN_SIDE - 1, 500), (500, MIN_SIDE - 1)])
def test_a_small_picture_is_refused(toy, flat, size):
    answer = Predictor(toy).predict(flat("a.png", DARK, size))
    assert answer.status == "refused"
    assert answer.reason.startswith(f"too small: {size[0]} x {size[1]} pixels")


def test_the_least_side_is_enough(toy, flat):
    assert Predictor(toy).predict(flat("a.png", DARK, (MIN_SIDE, MIN_SIDE))).status == "ok"


def test_modality_overrides_the_router(toy, flat):
    answer = Predictor(toy, modality="ct").predict(flat("a.png", BRIGHT))
    assert (answer.status, answer.modality) == ("ok", "ct")


def test_modality_does_not_override_the_least_size(toy, flat):
    assert Predictor(toy, modality="ct").predict(flat("a.png", DARK, (1, 1))).status == "refused"


@pytest.mark.parametrize("mirrored", [False, True])
def test_where_the_bundle_says_so_the_mirror_image_counts_as_much_as_the_scan(
    toy_copy, tmp_path, monkeypatch, mirrored
):
    class UpperLeft(Interpreter):
        def run(self, pixels):
            return pixels[0, :1] / np.float32(100)

    monkeypatch.setattr(predictor, "Interpreter", UpperLeft)
    fields = json.loads((toy_copy / "bundle.json").read_text())
    fields["modalities"]["xray"]["mirrored"] = mirrored
    (toy_copy / "bundle.json").write_text(json.dumps(fields))
    scan = np.repeat(np.uint8([[200, 100]]), 32, axis=1)
    Image.fromarray(np.repeat(scan, 64, axis=0)).save(tmp_path / "scan.png")
    answer = Predictor(toy_copy, modality="xray").predict(tmp_path / "scan.png")
    assert answer.probability == pytest.approx(probability(1.5 if mirrored else 2.0), abs=1e-6)


def test_the_label_turns_at_the_threshold(toy, toy_copy, flat):
    scan = flat("a.png", 60)
    exact = Predictor(toy).predict(scan).probability
    path = toy_copy / "bundle.json"
    root = json.loads(path.read_text())
    for value, label in ((exact, "covid"), (math.nextafter(exact, 1), "non-covid")):
        root["modalities"]["xray"]["models"][0]["operating_points"]["balanced"]["value"] = value
        path.write_text(json.dumps(root))
        answer = Predictor(toy_copy, operating_point="balanced").predict(scan)
        assert (answer.label, answer.labels, answer.threshold) == (label, (label,), value)


def test_where_neither_label_can_be_excluded_the_answer_is_uncertain(toy, flat):
    answer = Predictor(toy).predict(flat("a.png", DOUBTFUL))
    assert (answer.status, answer.label) == ("ok", "uncertain")
    assert answer.labels == ("non-covid", "covid")
    assert answer.probability == pytest.approx(0.5, abs=0.01)
    assert (answer.operating_point, answer.threshold) == ("conformal", 0.5)


@pytest.mark.parametrize("point", ["balanced", "sensitive"])
def test_a_threshold_is_never_uncertain(toy, flat, point):
    answer = Predictor(toy, operating_point=point).predict(flat("a.png", DOUBTFUL))
    assert answer.label in ("non-covid", "covid")
    assert answer.labels == (answer.label,)
    assert answer.operating_point == point


def test_the_sensitive_threshold_finds_what_the_balanced_one_misses(toy, flat):
    scan = flat("a.png", DARK)
    points = {point: Predictor(toy, operating_point=point) for point in ("balanced", "sensitive")}
    answers = {point: predictor.predict(scan) for point, predictor in points.items()}
    assert (answers["balanced"].label, answers["sensitive"].label) == ("non-covid", "covid")
    assert answers["sensitive"].threshold == 0.3


def test_unknown_operating_point(toy):
    with pytest.raises(UsageError, match="no operating point is called 'bold'; there is conform"):
        Predictor(toy, operating_point="bold")


def test_a_file_that_cannot_be_read_raises(toy, tmp_path):
    with pytest.raises(ScanError, match="no such file"):
        Predictor(toy).predict(tmp_path / "nothing.png")


def test_after_an_error_the_next_scan_is_answered(toy, flat, tmp_path):
    predictor = Predictor(toy)
    with pytest.raises(ScanError):
        predictor.predict(tmp_path / "nothing.png")
    assert predictor.predict(flat("a.png", DARK)).status == "ok"


def test_latency_adds_up(toy, flat):
    spent = Predictor(toy).predict(flat("a.png", DARK)).latency_ms
    assert min(spent.read, spent.preprocess, spent.inference) > 0
    assert spent.total >= spent.read + spent.preprocess + spent.inference - 0.01


def test_a_prediction_is_frozen_and_plain(toy, flat):
    answer = Predictor(toy).predict(flat("a.png", DARK))
    with pytest.raises(FrozenInstanceError):
        answer.label = "covid"
    record = answer.to_dict()
    hidden = ("source", "heatmap_file")
    names = [field.name for field in fields(Prediction) if field.name not in hidden]
    assert list(record) == [*names, "series"]
    assert json.loads(json.dumps(record)) == record
    assert record["bundle"] == {
        "name": "toy",
        "version": "0.0.1",
        "sha256": Bundle.load(toy).sha256,
    }


def test_only_the_networks_that_a_scan_needs_are_read(toy_copy, flat):
    damage(toy_copy / "ct.int8.tflite")
    predictor = Predictor(toy_copy)
    assert predictor.predict(flat("a.png", DARK)).modality == "xray"
    with pytest.raises(BundleError, match=r"ct\.int8\.tflite is not the file"):
        predictor.predict(flat("b.png", MIDDLE))


def test_a_damaged_router_answers_nothing(toy_copy, flat):
    damage(toy_copy / "router.int8.tflite")
    with pytest.raises(BundleError, match=r"router\.int8\.tflite is not the file"):
        Predictor(toy_copy).predict(flat("a.png", DARK))


def test_a_network_that_is_not_what_bundle_json_says(toy_copy, flat):
    path = toy_copy / "bundle.json"
    root = json.loads(path.read_text())
    root["modalities"]["xray"]["preprocess"]["size"] = [30, 30]
    path.write_text(json.dumps(root))
    with pytest.raises(BundleError, match=r"takes \(32, 32\) .* says \(30, 30\)"):
        Predictor(toy_copy).predict(flat("a.png", DARK))


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2"])
def test_threads_must_be_a_number_of_threads(toy, threads):
    with pytest.raises(UsageError, match="threads must be"):
        Predictor(toy, threads=threads)


def test_unknown_modality(toy):
    with pytest.raises(UsageError, match="knows no 'mri'; it knows xray, ct"):
        Predictor(toy, modality="mri")


def test_unknown_device(toy):
    with pytest.raises(UsageError, match="no device is called 'npu'"):
        Predictor(toy, device="npu")


def test_threads_get_the_same_answer(toy, flat):
    scans = [flat(f"{level}.png", level) for level in (10, 30, 60, 110, 128, 150, 230)]
    alone = {scan: Predictor(toy).predict(scan).probability for scan in scans}
    shared = Predictor(toy)
    wrong = []

    def work(seed: int) -> None:
        for i in np.random.default_rng(seed).integers(0, len(scans), 30):
            answer = shared.predict(scans[i])
            if (answer.file, answer.probability) != (str(scans[i]), alone[scans[i]]):
                wrong.append(answer)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_interpreter_threads_do_not_change_the_answer(toy, flat):
    scan = flat("a.png", 60)
    answers = {Predictor(toy, threads=n).predict(scan).probability for n in (1, 2, 4)}
    assert len(answers) == 1


@pytest.mark.parametrize("name", ["xray", "ct"])
def test_a_shipped_bundle_knows_the_examples(each_shipped, name):
    answer = Predictor(each_shipped.name).predict(EXAMPLES / f"{name}.png")
    assert (answer.status, answer.modality) == ("ok", name)
    assert 0 <= answer.probability <= 1


def test_the_shipped_bundle_refuses_what_is_no_chest_scan(shipped, tmp_path):
    rows, columns = np.mgrid[:200, :200]
    chessboard = np.uint8(255 * ((rows // 25 + columns // 25) % 2))
    Image.fromarray(chessboard).save(tmp_path / "chess.png")
    assert Predictor().predict(tmp_path / "chess.png").status == "refused"


def damage(path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
