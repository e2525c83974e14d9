# SPDX-License-Identifier: Apache-2.0
"""DICOM files with bits flipped, cut short and with tags swapped: read, or refused in a sentence.

The seeds are the sample files that pydicom carries. Run by itself it tries as many as it is told,
and says what became of them, and how much memory it took::

    python tests/fuzz_dicom.py 20000
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from covid_edge.dicom import read_layout
from covid_edge.errors import ScanError
from covid_edge.scan import MAX_PIXELS, Scan, read_scan

#: Larger ones (of 60 to 2,000 kB) are not more varied, and slower.
MAX_BYTES = 150_000


def seeds() -> list[bytes]:
    """Return pydicom's sample files, those that are no pictures among them."""
    import pydicom

    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    files = sorted(path for path in folder.glob("*.dcm") if path.stat().st_size < MAX_BYTES)
    return [path.read_bytes() for path in files]


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Return `data` with one to eight bits flipped, cut, or with values or tags exchanged."""
    data = bytearray(data)
    end = len(data)
    # Most of the time among the tags, which come first: pixels are many and all alike.
    reach = end if chance.random() < 0.3 else min(end, 2500)
    for _ in range(chance.randint(1, 8)):
        kind = chance.choice(("bit", "byte", "cut", "swap", "copy", "number"))
        here, there = chance.randrange(128, reach), chance.randrange(128, reach)
        if kind == "bit":
            data[here] ^= 1 << chance.randrange(8)
        elif kind == "byte":
            data[here] = chance.randrange(256)
        elif kind == "cut" and chance.random() < 0.2:
            del data[chance.randrange(128, end) :]
        elif kind == "swap":
            data[here : here + 4], data[there : there + 4] = (
                data[there : there + 4],
                data[here : here + 4],
            )
        elif kind == "copy":
            length = chance.choice((2, 4, 8, 64))
            data[here : here + length] = data[there : there + length]
        else:  # a number of those at which programs err
            data[here : here + 2] = chance.choice((b"\0\0", b"\1\0", b"\xff\xff", b"\xff\x7f"))
        end = len(data)
        reach = min(reach, end)
        if end < 140:
            break
    return bytes(data)


def outcome(path: Path) -> str:
    """Read a file as ``predict`` does; return "read", or why it was not, without its numbers."""
    try:
        frame = None
        with open(path, "rb") as file:
            if read_layout(str(path), file).frames > 1:
                frame = 1
    except ScanError:
        pass  # to be found again below, or this was a file without DICOM's mark
    try:
        scan = read_scan(path, frame)
    except ScanError as error:
        reason = error.reason
    else:
        return _checked(scan)
    assert "\n" not in reason, reason
    assert len(reason) < 200, reason
    return "".join(letter for letter in reason if not letter.isdigit())


def _checked(scan: Scan) -> str:
    assert scan.pixels.dtype == "uint8"
    assert 0 < scan.pixels.size <= MAX_PIXELS
    return "read"


def main(count: int) -> None:
    import resource
    import time
    import warnings

    warnings.simplefilter("ignore")
    chance, samples, found = random.Random(0), seeds(), Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mutated.dcm"
        for number in range(count):
            path.write_bytes(mutate(samples[number % len(samples)], chance))
            start = time.perf_counter()
            found[outcome(path)] += 1
            slowest = max(slowest, time.perf_counter() - start)
    for reason, times in found.most_common():
        print(f"{times:6}  {reason}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{count} files, the slowest in {slowest:.1f} s, peak memory {peak >> 10} MB")


if __name__ == "__main__":
    main(int(sys.argv[1]))
