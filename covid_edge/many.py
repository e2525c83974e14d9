# SPDX-License-Identifier: Apache-2.0
"""Many scans at a time, answered in their order, on this computer or on any executor.

::

    paths ──► feeder (a thread) ──► executor: at most `flight` scans ──► line ──► answers, in order

The feeder may wait for the next path while answers go out, so that a list that grows slowly is
answered as it grows. It stops while `flight` scans are under way or wait for an earlier one, so
that memory does not depend on how many paths there are.

Here the executor is one of threads: the interpreter and the kernels let go of Python's lock while
they compute. Elsewhere nothing of an executor is used but ``submit`` and its futures.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from queue import Empty, SimpleQueue
from textwrap import shorten
from typing import Any, Union

from .bundle import Bundle
from .errors import BundleError, CovidEdgeError, ScanError, UsageError, WorkerError
from .files import Source
from .predictor import Prediction, Predictor

__all__ = ["predict_many"]

#: Scans in flight for each that can be in work: enough that a slow one keeps no worker idle.
IN_FLIGHT = 4

PathLike = Union[str, "os.PathLike[str]", Source]
Outcome = Union[Prediction, ScanError]
Submit = Callable[[Source], "Future[Any]"]
Result = Callable[[Source, "Future[Any]"], Outcome]


def predict_many(
    paths: Iterable[PathLike | ScanError],
    executor: Executor | None = None,
    *,
    workers: int | None = None,
    timeout: float | None = None,
    **settings: Any,
) -> Iterator[Outcome]:
    """Answer on many scans, several at a time, each as soon as all before it are answered.

    Parameters
    ----------
    paths : iterable of str, path-like or Source
        Scans. Read by another thread, no further ahead than the scans in flight. A ScanError among
        them is yielded in its turn, so that what `covid_edge.files.find_scans` finds, or
        `name_scans` makes of it, goes in as it is.
    executor : concurrent.futures.Executor, optional
        What runs the scans: that of a Dask client, Ray's, or one of processes, which must not be
        forked (networks may be loaded here). It is left open. Its processes import covid_edge, see
        the same files under the same absolute paths, and load the same bundle, once each. None:
        threads of this process.
    workers : int, optional
        Scans that can be in work at a time. Four times as many are in flight. None: the processor
        cores that this process may use, divided by `threads` if the scans run here; one where
        networks run here on another device than the CPU.
    timeout : float, optional
        Seconds to wait for one answer of `executor`; None is for ever.
    **settings
        As :class:`covid_edge.Predictor` takes them: `bundle`, `threads` (of the interpreter, for
        each scan in work), `modality`...

    Yields
    ------
    Prediction or ScanError
        One for each path, in their order; a file that could not be read stops nothing.

    Raises
    ------
    UsageError, BundleError, DeviceError
        As :class:`covid_edge.Predictor`. Those of another machine name it.
    WorkerError
        `executor` failed: a worker was lost, cannot import covid_edge, or gave no answer in time.

    Examples
    --------
    >>> from covid_edge import predict_many
    >>> [answer.modality for answer in predict_many(["examples/ct.png", "examples/xray.png"])]
    ['ct', 'xray']
    """
    if workers is not None and (
        isinstance(workers, bool) or not isinstance(workers, int) or workers < 1
    ):
        raise UsageError(f"workers must be a whole number of at least 1, not {workers!r}")
    if executor is None:
        predictors = _Predictors(settings)
        return _here(predictors, paths, workers or predictors.workers())
    settings["bundle"] = _portable(settings.get("bundle"))
    task = partial(_answer_there, Bundle.load(settings["bundle"]).sha256, tuple(settings.items()))

    def submit(source: Source) -> Future[Any]:
        there = replace(source, path=os.path.abspath(source.path), alias=source.name)
        try:
            return executor.submit(task, there)
        except Exception as error:
            raise _lost(source.name, error) from error

    def result(source: Source, future: Future[Any]) -> Outcome:
        try:
            outcome = future.result(timeout)
        except Exception as error:
            raise _lost(source.name, error) from error
        if isinstance(outcome, CovidEdgeError) and not isinstance(outcome, ScanError):
            raise outcome
        return outcome

    return _in_order(submit, result, paths, IN_FLIGHT * (workers or _cores()))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _here(
    predictors: _Predictors, paths: Iterable[PathLike | ScanError], workers: int
) -> Iterator[Outcome]:
    threads = ThreadPoolExecutor(workers, thread_name_prefix="covid-edge")
    try:
        submit = partial(threads.submit, predictors.answer)
        yield from _in_order(submit, _result, paths, IN_FLIGHT * workers)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def _result(_: Source, future: Future[Any]) -> Outcome:
    return future.result()


def _in_order(
    submit: Submit, result: Result, paths: Iterable[PathLike | ScanError], flight: int
) -> Iterator[Outcome]:
    """Yield the result of each path in order, with at most `flight` submitted and not yielded."""
    room = threading.Semaphore(flight)
    line: SimpleQueue[tuple[Source, Future[Any]] | ScanError | _End] = SimpleQueue()
    stopped = threading.Event()

    def feed() -> None:
        try:
            for path in paths:
                room.acquire()
                if stopped.is_set():
                    return
                if isinstance(path, ScanError):
                    line.put(path)
                    continue
                source = Source.of(path)
                future = submit(source)
                line.put((source, future))
                if stopped.is_set():  # perhaps too late for the one who empties the line
                    future.cancel()
                    return
            line.put(_End(None))
        except BaseException as error:  # raised again where the answers are awaited
            line.put(_End(error))

    threading.Thread(target=feed, name="covid-edge-feeder", daemon=True).start()
    turn: Any = None
    try:
        while not isinstance(turn := line.get(), _End):
            yield turn if isinstance(turn, ScanError) else result(*turn)
            room.release()
        if turn.error is not None:
            raise turn.error
    finally:
        stopped.set()
        room.release()
        while turn is not None:
            if isinstance(turn, tuple):
                turn[1].cancel()
            try:
                turn = line.get_nowait()
            except Empty:
                turn = None


class _End:
    """The end of the line, with what ended it before its time if anything did."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class _Predictors:
    """As many Predictors as scans are in work at a time, made when needed and used again."""

    def __init__(self, settings: dict[str, Any]) -> None:
        first = Predictor(**settings)
        self.bundle = first.bundle
        # The device too, since "auto" may have taken long to find it.
        self._settings = {**settings, "bundle": first.bundle, "device": first.device}
        self._idle = [first]

    def workers(self) -> int:
        """Return how many are of use: one device other than the CPU has enough to do with one."""
        threads = self._settings.get("threads", 1)
        return max(1, _cores() // threads) if self._settings["device"] == "cpu" else 1

    def answer(self, source: Source) -> Outcome:
        try:
            predictor = self._idle.pop()
        except IndexError:
            predictor = Predictor(**self._settings)
        try:
            return predictor.predict(source)
        except ScanError as error:
            # A new one: that one's traceback would hold on to the picture.
            return ScanError(error.path, error.reason, error.series)
        finally:
            self._idle.append(predictor)


# What follows runs in the processes of an executor.

_loading = threading.Lock()


def _answer_there(
    sha256: str, settings: tuple[tuple[str, Any], ...], source: Source
) -> Prediction | CovidEdgeError:
    """Return what is said of `source`; errors too, since not all are pickled."""
    try:
        with _loading:
            predictors = _predictors(sha256, settings)
        return predictors.answer(source)
    except CovidEdgeError as error:
        import platform

        return type(error)(f"on {platform.node()}: {error}")


@lru_cache(maxsize=1)  # a process that is given another bundle or other settings drops the first
def _predictors(sha256: str, settings: tuple[tuple[str, Any], ...]) -> _Predictors:
    predictors = _Predictors(dict(settings))
    bundle = predictors.bundle
    if bundle.sha256 != sha256:
        raise BundleError(
            f"{bundle.path} holds bundle {bundle.name} {bundle.version} of SHA-256 "
            f"{bundle.sha256[:12]}, where {sha256[:12]} was asked for; install the same bundle on "
            "every machine"
        )
    return predictors


def _portable(bundle: PathLike | Bundle | None) -> str | None:
    """Return what stands for `bundle` in any folder: shipped ones go by name."""
    if isinstance(bundle, Bundle):
        bundle = bundle.path
    if bundle is None:
        return None
    return os.path.abspath(bundle) if os.path.isdir(bundle) else os.fspath(bundle)


def _lost(path: str, error: BaseException) -> WorkerError:
    kind = type(error).__name__
    if kind == "TimeoutError":  # that of concurrent.futures is another before Python 3.11
        return WorkerError(f"{path}: the executor gave no answer in time; are its workers alive?")
    why = shorten(f"{kind}: {error}".rstrip(": "), 300, placeholder="...")
    return WorkerError(
        f"{path}: the executor lost it ({why}); see that its workers live and that this version "
        "of covid-edge is installed there"
    )
