# SPDX-License-Identifier: Apache-2.0
import json

import keras
import numpy as np
import pytest
from covid_edge_convert.augment import augment
from covid_edge_convert.data import load_scans
from covid_edge_convert.pretrain import (
    TASKS,
    AugmentedScans,
    Schedule,
    masked_cross_entropy,
    pretrain,
    targets,
)
from drawn import write_manifest_form


def test_a_schedule_reads_as_sizes_of_epochs():
    assert Schedule.parse("80x2,112") == (80, 80, 112)
    assert Schedule((80, 80, 112)).phases() == [(80, 0, 2), (112, 2, 3)]


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


def test_an_epoch_is_the_same_whether_the_run_was_resumed_or_not():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 16), dtype=np.uint8)
    y = np.zeros((8, 8), np.float32)
    unbroken = AugmentedScans(pixels, y, 16, 4, seed=1, first_epoch=0)
    unbroken.on_epoch_end()
    resumed = AugmentedScans(pixels, y, 16, 4, seed=1, first_epoch=1)
    np.testing.assert_array_equal(unbroken[1][0], resumed[1][0])


def test_a_stopped_pretraining_goes_on_from_its_last_epoch(tmp_path, monkeypatch):
    scans = load_scans(write_manifest_form(tmp_path / "data", per_cell=4))
    scans = scans.where(scans.modality != "other")
    pixels = np.random.default_rng(0).integers(0, 256, (len(scans), 32, 32), dtype=np.uint8)
    schedule = Schedule((16, 16, 24), batch_size=4)
    folder = tmp_path / "encoder"

    class PulledPlug(Exception):
        pass

    original = AugmentedScans.on_epoch_end

    def stop_after_the_second(self):
        original(self)
        if self.epoch == 2:
            raise PulledPlug

    with monkeypatch.context() as patch:
        patch.setattr(AugmentedScans, "on_epoch_end", stop_after_the_second)
        with pytest.raises(PulledPlug):
            pretrain("Tiny", pixels, scans, schedule, folder, seed=1, verbose=0)
    pretrain("Tiny", pixels, scans, schedule, folder, seed=1, verbose=0)
    epochs = [json.loads(line)["epoch"] for line in (folder / "log.jsonl").read_text().splitlines()]
    # The second epoch was cut off before its checkpoint, so it runs again; the first does not.
    assert epochs in ([0, 1, 2], [0, 1, 1, 2])
    assert (folder / "encoder.weights.h5").is_file()
