# SPDX-License-Identifier: Apache-2.0
"""Packed weights are kept for the next process: privately, checked, or not at all."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from conftest import EXAMPLES
from covid_edge import Predictor, weight_cache
from covid_edge.bundle import Bundle, ModelFile
from covid_edge.cli import main
from covid_edge.interpreter import CachedInterpreter, Interpreter
from covid_edge.weight_cache import cached_interpreter

pytest.importorskip("ai_edge_litert.compiled_model", reason="tflite-runtime has no such cache")

PIXELS = np.random.default_rng(0).integers(0, 100, (32, 32), dtype=np.uint8)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's folder, not there yet; a network of any size is worth it."""
    folder = tmp_path / "cache" / "covid-edge"
    monkeypatch.setenv("COVID_EDGE_CACHE", str(folder))
    monkeypatch.setattr(weight_cache, "SMALLEST", 0)
    return folder


@pytest.fixture
def model(toy: Path) -> ModelFile:
    return Bundle.load(toy).modalities["xray"].model("cpu-int8").file


def only(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_the_first_use_writes_a_private_file(cache, model):
    assert cached_interpreter(model, 1) is not None
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert stat.S_IMODE(only(cache).stat().st_mode) == 0o400


def test_the_next_use_takes_the_file_as_it_is(cache, model, monkeypatch):
    cached_interpreter(model, 1)
    before = only(cache).stat()
    monkeypatch.delattr(weight_cache, "_made")
    network = cached_interpreter(model, 1)
    network.run(PIXELS)
    after = only(cache).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("use", ["first", "second"])
def test_answers_are_those_of_the_interpreter(cache, model, use):
    network = cached_interpreter(model, 1)
    if use == "second":
        network = cached_interpreter(model, 1)
    assert network.run(PIXELS).tobytes() == Interpreter(model.path).run(PIXELS).tobytes()


@pytest.mark.parametrize("modality", ["xray", "ct"])
def test_a_shipped_network_gives_the_same_answer_and_heatmap(cache, shipped, modality):
    plain, cached = Predictor(shipped, heatmap=True), Predictor(shipped, heatmap=True)
    cached.weight_cache = True
    scan = EXAMPLES / f"{modality}.png"
    expected, answer = plain.predict(scan), cached.predict(scan)
    assert {type(network) for network in cached._networks.values()} == {CachedInterpreter}
    assert answer.probability == expected.probability
    assert answer.heatmap.tobytes() == expected.heatmap.tobytes()


def test_a_damaged_file_is_made_anew(cache, model):
    cached_interpreter(model, 1)
    path = only(cache)
    whole = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert cached_interpreter(model, 1) is not None
    assert only(cache).read_bytes() == whole


def test_another_build_of_litert_has_another_file(cache, model, monkeypatch):
    cached_interpreter(model, 1)
    monkeypatch.setattr(weight_cache, "runtime_build", lambda: "a later one")
    cached_interpreter(model, 1)
    assert len(list(cache.iterdir())) == 2


def test_another_kind_of_processor_has_another_file(model, monkeypatch):
    def key(flags: str) -> str:
        lines = f"processor : 0\ncpu MHz : {np.random.default_rng().random()}\nflags : {flags}\n"
        path = Path(os.environ["COVID_EDGE_CACHE"]) / "cpuinfo"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(lines)
        monkeypatch.setattr(weight_cache, "_CPUINFO", str(path))
        return weight_cache._key(model)

    assert key("sse2 avx2") == key("sse2 avx2") != key("sse2")


def test_a_folder_that_others_may_write_to_is_not_used(cache, model):
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    assert cached_interpreter(model, 1) is None
    assert not list(cache.iterdir())


def test_a_folder_of_another_user_is_not_used(cache, model, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert cached_interpreter(model, 1) is None


def test_a_link_is_not_followed(cache, model, tmp_path):
    cache.parent.mkdir(parents=True)
    cache.symlink_to(tmp_path)
    assert cached_interpreter(model, 1) is None


@pytest.mark.parametrize("name", ["", "here"])
def test_no_absolute_name_means_no_cache(cache, model, monkeypatch, name):
    monkeypatch.setenv("COVID_EDGE_CACHE", name)
    assert cached_interpreter(model, 1) is None
    assert not Path("here").exists()


def test_a_full_disk_is_left_alone(cache, model, monkeypatch):
    room = SimpleNamespace(free=model.bytes)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: room)
    assert cached_interpreter(model, 1) is None
    assert not list(cache.iterdir())


def test_what_cannot_be_written_is_no_error(cache, model):
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder should be")
    assert cached_interpreter(model, 1) is None


def test_a_small_network_is_not_worth_it(cache, model, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("COVID_EDGE_CACHE", str(cache))
    assert cached_interpreter(model, 1) is None
    assert not cache.exists()


def test_only_the_newest_files_stay(cache, model, monkeypatch):
    for build in range(weight_cache.KEPT + 2):
        monkeypatch.setattr(weight_cache, "runtime_build", lambda build=build: str(build))
        cached_interpreter(model, 1)
        for path in cache.iterdir():
            os.utime(path, ns=(0, path.stat().st_mtime_ns - 10**9))
    assert len(list(cache.iterdir())) == weight_cache.KEPT


def test_what_a_killed_process_left_goes_after_an_hour(cache, model):
    old, new = cache / "part-old", cache / "part-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
    cache.chmod(0o700)
    os.utime(old, (0, 0))
    cached_interpreter(model, 1)
    assert not old.exists()
    assert new.exists()


def test_one_scan_keeps_weights_and_many_at_a_time_do_not(cache, toy, capsys):
    scan = str(EXAMPLES / "xray.png")
    assert main(["predict", "--bundle", str(toy), "--modality", "xray", scan, scan]) == 0
    assert not cache.exists()
    assert main(["predict", "--bundle", str(toy), "--modality", "xray", scan]) == 0
    assert only(cache).suffix == ".xnnpack"
