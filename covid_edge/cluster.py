# SPDX-License-Identifier: Apache-2.0
"""Executors of other machines, by address: ``dask://host:port`` is the scheduler of a Dask cluster.

Scheduler and workers need covid-edge of this version, and the workers see the scans under the paths
that they have here. Only extra ``[cluster]`` brings Dask.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from textwrap import shorten

from .errors import UsageError, WorkerError

__all__ = ["PATIENCE", "connect"]

#: Seconds to wait for a cluster's scheduler and its first worker.
REACHABLE = 10

#: Seconds to wait for one answer: a worker may be lost and started again meanwhile.
PATIENCE = 120


@contextmanager
def connect(address: str) -> Iterator[tuple[Executor, int]]:
    """Connect to a cluster for the length of a ``with`` block.

    Parameters
    ----------
    address : str
        ``dask://host:port``

    Yields
    ------
    executor : concurrent.futures.Executor
    workers : int
        How many scans it can work on at a time, as it now is.

    Raises
    ------
    UsageError
        The address is of another kind, or Dask is not installed.
    WorkerError
        No scheduler answers there, or it has no workers.
    """
    scheme, _, place = address.partition("://")
    if scheme != "dask" or not place:
        raise UsageError(f"executor {address!r} is unknown: it must be dask://host:port")
    try:
        import distributed
    except ImportError as error:
        raise UsageError(
            f"{address} needs Dask ({error}); pip install 'covid-edge[cluster]'"
        ) from None
    _silence()
    try:
        client = distributed.Client(f"tcp://{place}", timeout=REACHABLE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise WorkerError(
            f"{address} cannot be reached ({shorten(str(error), 200)}); is `dask scheduler` "
            "running there?"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=REACHABLE)
        except distributed.TimeoutError:
            raise WorkerError(
                f"{address} has no workers; start one with `dask worker {place}`"
            ) from None
        # Pure tasks would share one answer between files of one name at different times.
        yield client.get_executor(pure=False), sum(client.nthreads().values())


def _silence() -> None:
    # What is lost is told in one sentence, not by Dask's own log.
    import logging

    for name in ("distributed", "distributed.client", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
