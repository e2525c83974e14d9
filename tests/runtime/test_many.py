# SPDX-License-Identifier: Apache-2.0
"""``predict_many``: order, how many scans are in flight, and what becomes of errors."""

from __future__ import annotations

import itertools
import pickle
import sys
import threading
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import BRIGHT, DARK, MIDDLE, TOY
from covid_edge import Predictor, predict_many
from covid_edge.bundle import Bundle
from covid_edge.errors import BundleError, CovidEdgeError, ScanError, UsageError, WorkerError
from covid_edge.files import Source
from covid_edge.many import IN_FLIGHT, _answer_there


class Shuffled(Executor):
    """Runs what waits in random order, and only while somebody waits for a result.

    `failing` is the number of the task, counted from 0, that it loses.
    """

    def __init__(self, random: Random, failing: int | None = None) -> None:
        self.random, self.failing = random, failing
        self.lock = threading.Lock()
        self.futures: list[Future] = []
        self.waiting: list[tuple[Future, partial]] = []
        self.received = self.most_in_flight = 0

    def submit(self, fn, /, *args):
        future = Awaited(self)
        with self.lock:
            self.futures.append(future)
            self.waiting.append((future, partial(fn, *args)))
            self.most_in_flight = max(self.most_in_flight, len(self.futures) - self.received)
        return future

    def run_one(self) -> None:
        with self.lock:
            future, task = self.waiting.pop(self.random.randrange(len(self.waiting)))
            number = self.futures.index(future)
        if number == self.failing:
            future.set_exception(RuntimeError("the worker has gone"))
        else:
            future.set_result(pickle.loads(pickle.dumps(task())))


class Awaited(Future):
    def __init__(self, executor: Shuffled) -> None:
        super().__init__()
        self.executor = executor

    def result(self, timeout=None):
        while not self.done():
            self.executor.run_one()
        return super().result(timeout)


def feeder_has_ended() -> None:
    for thread in threading.enumerate():
        if thread.name == "covid-edge-feeder":
            thread.join(60)
            assert not thread.is_alive()


@settings(deadline=None)
@given(count=st.integers(0, 60), workers=st.integers(1, 5), seed=st.integers(0, 2**32))
def test_any_executor_keeps_the_order_with_few_scans_in_flight(count, workers, seed):
    executor = Shuffled(Random(seed))
    names = [f"/nothing/{number}.png" for number in range(count)]
    answers = []
    for answer in predict_many(names, executor, workers=workers, bundle=TOY):
        executor.received += 1
        answers.append(answer.path)
    assert answers == names
    assert executor.most_in_flight <= IN_FLIGHT * workers


@settings(deadline=None)
@given(data=st.data(), workers=st.integers(1, 5), seed=st.integers(0, 2**32))
def test_a_scan_that_the_executor_loses_ends_it_after_those_before(data, workers, seed):
    count = data.draw(st.integers(1, 60))
    failing = data.draw(st.integers(0, count - 1))
    executor = Shuffled(Random(seed), failing)
    names = [f"/nothing/{number}.png" for number in range(count)]
    answers = predict_many(names, executor, workers=workers, bundle=TOY)
    assert [answer.path for answer in itertools.islice(answers, failing)] == names[:failing]
    with pytest.raises(WorkerError) as raised:
        next(answers)
    assert str(raised.value).startswith(
        f"{names[failing]}: the executor lost it (RuntimeError: the worker has gone)"
    )
    feeder_has_ended()
    assert all(future.done() for future in executor.futures), "the rest is cancelled"


@settings(deadline=None)
@given(taken=st.integers(1, 20), workers=st.integers(1, 5), seed=st.integers(0, 2**32))
def test_whoever_stops_early_leaves_nothing_in_flight(taken, workers, seed):
    executor = Shuffled(Random(seed))
    read = []

    def endless():
        for number in itertools.count():
            read.append(number)
            yield f"/nothing/{number}.png"

    answers = predict_many(endless(), executor, workers=workers, bundle=TOY)
    assert len(list(itertools.islice(answers, taken))) == taken
    answers.close()
    feeder_has_ended()
    assert all(future.done() for future in executor.futures)
    assert len(read) <= taken + IN_FLIGHT * workers + 1


def plain(prediction) -> dict:
    return {**prediction.to_dict(), "latency_ms": None}


@pytest.mark.parametrize("pool", [None, ThreadPoolExecutor, ProcessPoolExecutor])
def test_every_executor_answers_as_one_predictor_does(flat, monkeypatch, tmp_path, pool):
    monkeypatch.chdir(tmp_path)
    brightness = itertools.cycle([DARK, MIDDLE, BRIGHT])
    names = [flat(f"{number}.png", next(brightness)).name for number in range(12)]
    one = Predictor(TOY)
    expected = [plain(one.predict(name)) for name in names]
    context = {"mp_context": get_context("spawn")} if pool is ProcessPoolExecutor else {}
    executor = pool and pool(2, **context)
    answers = list(predict_many(names, executor, workers=2, bundle=TOY))
    assert [plain(answer) for answer in answers] == expected
    if executor is not None:
        executor.shutdown()


def test_as_many_scans_are_in_work_as_there_are_workers(flat, monkeypatch):
    meet = threading.Barrier(3)
    predict = Predictor.predict

    def together(self, path):
        meet.wait(60)
        return predict(self, path)

    monkeypatch.setattr(Predictor, "predict", together)
    answers = list(predict_many([flat("a.png", DARK)] * 6, workers=3, bundle=TOY))
    assert [answer.modality for answer in answers] == ["xray"] * 6


def test_an_answer_does_not_wait_for_the_next_path(flat):
    first, second = flat("a.png", DARK), flat("b.png", MIDDLE)
    answered = threading.Event()

    def slow_list():
        yield first
        assert answered.wait(60), "the first answer was held back"
        yield second

    modalities = []
    for answer in predict_many(slow_list(), workers=2, bundle=TOY):
        modalities.append(answer.modality)
        answered.set()
    assert modalities == ["xray", "ct"]


def test_unreadable_files_are_yielded_in_their_turn(flat, tmp_path):
    found = ScanError("folder", "cannot be opened")
    paths = [flat("a.png", DARK), tmp_path / "nothing.png", found, flat("b.png", DARK)]
    first, second, third, fourth = predict_many(paths, workers=2, bundle=TOY)
    assert (first.status, fourth.status) == ("ok", "ok")
    assert (second.path, second.reason) == (str(tmp_path / "nothing.png"), "no such file")
    assert third is found


def test_an_error_of_the_list_itself_is_raised_as_it_is(flat):
    def broken():
        yield flat("a.png", DARK)
        raise LookupError("the list broke off")

    answers = predict_many(broken(), workers=2, bundle=TOY)
    assert next(answers).status == "ok"
    with pytest.raises(LookupError, match="broke off"):
        next(answers)


def test_a_damaged_network_is_raised(toy_copy, flat):
    path = toy_copy / "xray.int8.tflite"
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    scans = [flat("a.png", MIDDLE), flat("b.png", DARK), flat("c.png", MIDDLE)]
    answers = predict_many(scans, workers=2, bundle=toy_copy)
    assert next(answers).modality == "ct"
    with pytest.raises(BundleError, match=r"xray\.int8\.tflite is not the file"):
        next(answers)


def test_another_machine_names_itself_and_its_bundle():
    answer = _answer_there("0" * 64, (("bundle", str(TOY)),), Source("a.png"))
    assert isinstance(answer, BundleError)
    sha256 = Bundle.load(TOY).sha256
    assert f"of SHA-256 {sha256[:12]}, where 000000000000 was asked for" in str(answer)
    assert str(answer).startswith("on ")


def test_an_executor_that_gives_no_answer_in_time_is_an_error(flat):
    class Asleep(Executor):
        def submit(self, fn, /, *args):
            return Future()

    with pytest.raises(WorkerError, match=r"a\.png: the executor gave no answer in time"):
        next(predict_many([flat("a.png", DARK)], Asleep(), timeout=0.01, bundle=TOY))


def test_an_executor_that_takes_nothing_more_is_an_error(flat):
    closed = ThreadPoolExecutor(1)
    closed.shutdown()
    with pytest.raises(WorkerError, match=r"a\.png: the executor lost it \(RuntimeError: cannot"):
        next(predict_many([flat("a.png", DARK)], closed, bundle=TOY))


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2"])
def test_workers_must_be_a_whole_number_of_at_least_1(workers):
    with pytest.raises(UsageError, match="workers must be a whole number of at least 1"):
        predict_many([], workers=workers, bundle=TOY)


@pytest.mark.parametrize("wrong", [{"modality": "mri"}, {"threads": 0}, {"device": "abacus"}])
def test_wrong_settings_are_raised_before_any_scan(wrong):
    with pytest.raises(CovidEdgeError):
        predict_many([], bundle=TOY, **wrong)


def test_wrong_settings_are_raised_by_an_executor_too(flat):
    answers = predict_many([flat("a.png", DARK)], Shuffled(Random(0)), bundle=TOY, modality="mri")
    with pytest.raises(UsageError, match="knows no 'mri'"):
        next(answers)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_stays_flat(flat):
    """One picture kept of each scan would make 94 MB."""
    scan = flat("a.png", DARK, size=(256, 256))
    answers = predict_many(itertools.repeat(scan, 1700), workers=2, bundle=TOY)
    for _ in range(200):
        next(answers)
    before = resident()
    for _ in answers:
        pass
    assert resident() <= 1.05 * before
