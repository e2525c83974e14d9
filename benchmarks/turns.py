# SPDX-License-Identifier: Apache-2.0
"""Time several ways of doing one thing, in turns: what disturbs the machine falls on all."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from time import perf_counter

SHORTEST = 2e-4  # seconds; quicker calls are timed several at once


def in_turns(
    calls: Mapping[str, Callable[[], object]],
    rounds: int = 15,
    before: Mapping[str, Callable[[], object]] | None = None,
    longest: float = float("inf"),
) -> dict[str, float]:
    """Return the median seconds of each call.

    `before` names what is to be done before a call is timed. Of a call that takes long, as many
    rounds are made as fit in `longest` seconds; if not one does, its first time is what counts.
    """
    before = before or {}
    repeats, limits = {}, {}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for name, call in calls.items():
        before.get(name, int)()
        once = timed(call, 1)
        if once < longest:
            once = timed(call, 1)
        repeats[name] = max(1, round(SHORTEST / once))
        limits[name] = int(min(rounds, longest / once))
        if limits[name] == 0:
            seconds[name].append(once)
    for turn in range(rounds):
        for name, call in calls.items():
            if turn < limits[name]:
                before.get(name, int)()
                call()  # so that the timed calls find the caches as it left them
                seconds[name].append(timed(call, repeats[name]))
    return {name: statistics.median(times) for name, times in seconds.items()}


def timed(call: Callable[[], object], repeats: int) -> float:
    start = perf_counter()
    for _ in range(repeats):
        call()
    return (perf_counter() - start) / repeats
