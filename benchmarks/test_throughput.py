# SPDX-License-Identifier: Apache-2.0
"""Many scans: all cores against one, and the memory of thousands of answers."""

from __future__ import annotations

import csv
import itertools
import os
import random
from pathlib import Path

import pytest

from covid_edge import predict_many
from turns import timed

DATA = Path(os.environ.get("COVID_EDGE_DATA", Path(__file__).parents[2] / "shared" / "data"))
SCANS = 150
ROUNDS = 3
ANSWERS = 5000
SETTLED = 200


@pytest.fixture(scope="module")
def scans() -> list[Path]:
    """Scans of the test split, X-ray and CT, in random order."""
    path = DATA / "manifest.csv"
    if not path.is_file():
        pytest.skip(f"no scans at {DATA}: name a folder with manifest.csv in COVID_EDGE_DATA")
    with open(path, newline="", encoding="utf-8") as stream:
        test = [DATA / row["file"] for row in csv.DictReader(stream) if row["split"] == "test"]
    return random.Random(0).sample(test, SCANS)


def test_folder_all_cores_against_one(benchmark, scans):
    """From paths to answers, the loading of the networks included, in turns."""

    def predict(workers: int | None) -> None:
        for _ in predict_many(scans, workers=workers):
            pass

    benchmark.pedantic(predict, (None,), rounds=1, warmup_rounds=1)
    alone, together = [], []
    for _ in range(ROUNDS):
        alone.append(SCANS / timed(lambda: predict(1), 1))
        together.append(SCANS / timed(lambda: predict(None), 1))
    benchmark.extra_info.update(
        one_core_scans_per_s=alone,
        all_cores_scans_per_s=together,
        ratios=[many / one for many, one in zip(together, alone)],
    )


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads Linux's /proc")
def test_memory_of_thousands(benchmark, scans):
    """Resident memory, MB, after the first scans and the most and least of it from there on."""
    answers = predict_many(itertools.islice(itertools.cycle(scans), ANSWERS))
    after = []

    def predict() -> None:
        for _ in answers:
            after.append(resident_mb())

    benchmark.pedantic(predict, rounds=1)
    assert len(after) == ANSWERS
    settled = after[SETTLED - 1]
    benchmark.extra_info.update(
        after_settling=settled, least=min(after[SETTLED:]), most=max(after[SETTLED:])
    )


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
