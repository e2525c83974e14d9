# SPDX-License-Identifier: Apache-2.0
"""Packed weights are kept for the next process: privately, checked, or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

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


@pytest.fixture
def key(model, tmp_path, monkeypatch):
    """A function: flags of the processor, and of how many cores → key."""

    def key(flags: str, cores: int = 1) -> str:
        clocks = np.random.default_rng().uniform(800, 12000, cores)
        lines = [
            f"processor : {k}\ncpu MHz : {clock}\nflags : {flags}\n\n"
            for k, clock in enumerate(clocks)
        ]
        (tmp_path / "cpuinfo").write_text("".join(lines))
        monkeypatch.setattr(weight_cache, "_CPUINFO", str(tmp_path / "cpuinfo"))
        return weight_cache._key(model)

    return key


def test_another_kind_of_processor_has_another_file(key):
    assert key("sse2 avx2") == key("sse2 avx2") != key("sse2")


def test_many_cores_whose_clocks_change_are_one_kind(key):
    assert len({key("x" * 1000, cores=64) for _ in range(20)}) == 1


def test_a_folder_that_others_may_write_to_is_not_used(cache, model):
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    assert cached_interpreter(model, 1) is None
    assert not list(cache.iterdir())


def test_a_folder_of_another_user_is_not_used(cache, model, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert cached_interpreter(model, 1) is None


@pytest.mark.parametrize("end", ["", "/"])
def test_a_link_is_not_followed(cache, model, tmp_path, monkeypatch, end):
    cache.parent.mkdir(parents=True)
    cache.symlink_to(tmp_path)
    monkeypatch.setenv("COVID_EDGE_CACHE", f"{cache}{end}")
    assert cached_interpreter(model, 1) is None


@pytest.mark.parametrize("name", ["", "here"])
def test_no_absolute_name_means_no_cache(cache, model, monkeypatch, name):
    monkeypatch.setenv("COVID_EDGE_CACHE", name)
    assert cached_interpreter(model, 1) is None
    assert not Path("here").exists()


def test_on_a_full_disk_the_network_is_there_and_nothing_is_left(cache, model, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "sendfile", full)
    network = cached_interpreter(model, 1)
    assert network.run(PIXELS).tobytes() == Interpreter(model.path).run(PIXELS).tobytes()
    assert not list(cache.iterdir())


def test_where_files_must_be_short_there_is_no_cache(cache, model):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (model.bytes, limits[1]))
    try:
        assert cached_interpreter(model, 1) is None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_what_cannot_be_written_is_no_error(cache, model):
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder should be")
    assert cached_interpreter(model, 1) is None


def test_the_home_of_another_user_is_left_alone(tmp_path, model, cache, monkeypatch):
    monkeypatch.delenv("COVID_EDGE_CACHE")
    monkeypatch.setenv("HOME", "/")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert weight_cache._private_folder() is None


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


def test_files_of_others_are_not_touched(cache, model, monkeypatch):
    cache.mkdir(parents=True, mode=0o700)
    theirs = [cache / f"{number}.xnnpack" for number in range(weight_cache.KEPT + 1)]
    for path in theirs:
        path.write_text("something else")
    cached_interpreter(model, 1)
    assert {path.read_text() for path in theirs} == {"something else"}


def test_a_file_that_others_may_write_to_is_not_used(cache, model):
    cached_interpreter(model, 1)
    path = only(cache)
    path.chmod(0o666)
    assert weight_cache._find(str(cache), weight_cache._key(model)) is None


def test_one_scan_keeps_weights_and_many_at_a_time_do_not(cache, toy, capsys):
    scan = str(EXAMPLES / "xray.png")
    assert main(["predict", "--bundle", str(toy), "--modality", "xray", scan, scan]) == 0
    assert not cache.exists()
    assert main(["predict", "--bundle", str(toy), "--modality", "xray", scan]) == 0
    assert only(cache).suffix == ".xnnpack"
