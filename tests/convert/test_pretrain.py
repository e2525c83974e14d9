# SPDX-License-Identifier: Apache-2.0
import json

import keras
import numpy as np
import pytest

from covid_edge_convert.augment import augment
from covid_edge_convert.backbones import build_encoder
from covid_edge_convert.checkpoints import Checkpoints
from covid_edge_convert.data import load_scans
from covid_edge_convert.pretrain import (
    LARGE,
    LARGE_WEIGHT,
    TASKS,
    AugmentedScans,
    Schedule,
    Styles,
    masked_cross_entropy,
    pretrain,
    targets,
    with_range_penalty,
)
from drawn import write_manifest_form


def test_each_scan_is_asked_only_what_it_can_answer(tmp_path):
    scans = load_scans(write_manifest_form(tmp_path, per_cell=2))
    scans = scans.where(scans.modality != "other")
    answers, weight = np.split(targets(scans), 2, axis=1)
    xray, covid = scans.modality == "xray", scans.covid == 1
    asked = dict(zip(TASKS, (weight > 0).T))
    assert (asked["covid_xray"] == xray).all()
    assert (asked["covid_ct"] == ~xray).all()
    assert (asked["pneumonia"] == (xray & ~covid)).all()
    assert (answers[:, 0] == covid).all()


def test_the_loss_is_the_binary_cross_entropy_of_the_questions_asked():
    logits = np.array([[2.0, -3.0, 0.5, 1.0]], np.float32)
    answers = np.array([[1.0, 0.0, 1.0, 0.0]], np.float32)
    weight = np.array([[1.0, 0.0, 0.0, 0.5]], np.float32)
    loss = masked_cross_entropy(np.concatenate([answers, weight], 1), logits)
    each = keras.losses.binary_crossentropy(
        answers[..., None], logits[..., None], from_logits=True, label_smoothing=0.05
    )
    assert float(loss[0]) == pytest.approx(float(np.sum(np.asarray(each) * weight)), rel=1e-5)


def test_augmented_views_keep_the_range_of_pixels_and_the_size_asked_for():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 48), dtype=np.uint8)
    for _ in range(200):
        view = augment(image, 32, rng)
        assert view.shape == (32, 32)
        assert view.dtype == np.float32
        assert 0 <= view.min() <= view.max() <= 255


def test_a_stopped_pretraining_ends_where_an_unbroken_one_does(tmp_path, monkeypatch):
    scans = load_scans(write_manifest_form(tmp_path / "data", per_cell=4))
    scans = scans.where(scans.modality != "other")
    pixels = np.random.default_rng(0).integers(0, 256, (len(scans), 32, 32), dtype=np.uint8)
    schedule = Schedule((16, 16, 24), batch_size=4)

    def run(folder):
        pretrain("Tiny", pixels, scans, schedule, folder, seed=1, verbose=0)

    class PulledPlug(Exception):
        pass

    save, saved = Checkpoints.save, []

    def save_then_stop(self, epochs):
        save(self, epochs)
        if epochs not in saved:
            saved.append(epochs)
            raise PulledPlug

    monkeypatch.setattr(Checkpoints, "save", save_then_stop)
    for _ in schedule.sizes:  # stopped after every epoch, the last one included
        with pytest.raises(PulledPlug):
            run(tmp_path / "stopped")
    run(tmp_path / "stopped")
    monkeypatch.undo()
    run(tmp_path / "unbroken")

    log = (tmp_path / "stopped" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in log] == [0, 1, 2]
    weights = []
    for name in ("stopped", "unbroken"):
        encoder = build_encoder("Tiny")
        encoder.load_weights(tmp_path / name / "encoder.weights.h5")
        weights.append(encoder.get_weights())
    for stopped, unbroken in zip(*weights):
        np.testing.assert_allclose(stopped, unbroken, rtol=1e-4, atol=1e-5)


def test_a_view_without_lungs_is_no_evidence_for_either_answer(tmp_path, monkeypatch):
    monkeypatch.setattr("covid_edge_convert.pretrain.NO_LUNGS", 1.0)
    scans = load_scans(write_manifest_form(tmp_path, per_cell=4))
    scans = scans.where(scans.modality == "xray")
    pixels = np.full((len(scans), 24, 24), 90, np.uint8)
    lungs = np.zeros(pixels.shape, bool)
    lungs[: len(scans) // 2, 8:16, 8:16] = True  # none were found in the other half
    y = targets(scans)
    data = AugmentedScans(pixels, lungs, y, Styles(pixels, scans), 16, len(scans), 1, 0)
    views, asked = data[0]
    assert views.shape == (len(scans), 16, 16, 1)
    for row, answers in zip(data.order, asked):
        if lungs[row].any():
            assert (answers[:3] == 0.5).all()
            assert np.array_equal(answers[3:], y[row, 3:])
        else:
            assert np.array_equal(answers, y[row])


def test_only_what_exceeds_the_limit_before_a_swish_is_penalised():
    scan = keras.Input((4, 4, 1))
    large = keras.layers.Rescaling(2.0)(scan)
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.Activation("swish")(large))
    encoder = keras.Model(scan, features)
    model = keras.Model(scan, with_range_penalty(encoder, keras.layers.Dense(len(TASKS))(features)))
    pixels = np.zeros((2, 4, 4, 1), np.float32)
    pixels[1, 0, 0] = LARGE  # 2 x LARGE there, in one of 16 places
    penalty = model.predict(pixels, verbose=0)[:, len(TASKS)]
    assert penalty == pytest.approx([0.0, LARGE_WEIGHT * LARGE / 16])


def test_an_encoder_without_swish_has_no_penalty():
    encoder = build_encoder("Tiny")
    logits = keras.layers.Dense(len(TASKS))(encoder.output)
    assert with_range_penalty(encoder, logits) is logits
