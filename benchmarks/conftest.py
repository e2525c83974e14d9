# SPDX-License-Identifier: Apache-2.0
"""Side-by-side timing: two ways of doing one thing, in turns, in one run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from turns import in_turns

ROUNDS = 15
COMPARISONS = pytest.StashKey[list]()


def pytest_configure(config):
    config.stash[COMPARISONS] = []


@pytest.fixture
def versus(benchmark, request) -> Callable[..., None]:
    """Time `ours` with pytest-benchmark, then `ours` and `theirs` in turns.

    What disturbs a machine for longer than a call (heat, neighbours) falls on both. The ratio of
    the medians, theirs to ours, goes to ``extra_info`` and to a table at the end of the run.
    """

    def measure(ours: Callable[[], object], theirs: Callable[[], object], rival: str) -> None:
        benchmark.pedantic(ours, rounds=ROUNDS, warmup_rounds=2)
        seconds = in_turns({"ours": ours, "theirs": theirs}, ROUNDS)
        mine, other = 1e3 * seconds["ours"], 1e3 * seconds["theirs"]
        benchmark.extra_info.update(
            {"ours_ms": mine, f"{rival}_ms": other, f"{rival}_to_ours": other / mine}
        )
        request.config.stash[COMPARISONS].append((request.node.name, mine, rival, other))

    return measure


def pytest_terminal_summary(terminalreporter, config):
    rows = config.stash[COMPARISONS]
    if not rows:
        return
    terminalreporter.section("side by side, median of ms, in turns")
    for name, mine, rival, other in rows:
        terminalreporter.write_line(
            f"{name:<56} ours {mine:9.3f}   {rival} {other:9.3f}   {rival}/ours {other / mine:5.2f}"
        )
