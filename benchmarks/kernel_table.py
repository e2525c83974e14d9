# SPDX-License-Identifier: Apache-2.0
"""Measure all kernels against other libraries and against memory: a Markdown table and a plot.

    RAYON_NUM_THREADS=1 python benchmarks/kernel_table.py > kernels.md

writes kernels.png next to this script. kornia-rs takes its number of threads from the environment
at import; this script sets it to one if nobody did.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("RAYON_NUM_THREADS", "1")

import cv2
import numpy as np
from PIL import Image

from covid_edge import imgproc
from kernel_cases import CONTENTS, OPERATIONS, SIDES, Operation
from turns import in_turns

LIBRARIES = ("covid-edge", "cv2", "cv2, 2 threads", "kornia-rs", "scikit-image", "memory floor")
STYLES = dict(zip(LIBRARIES, ("k-", "b-", "c--", "g-", "r-", "k:")))
LONGEST = 0.5  # seconds for a library in one case; a slow one gets fewer rounds, at least one


def measure(
    operation: Operation, content: str, side: int, too_slow: set[tuple[str, str]]
) -> dict[str, float]:
    """Return ns per pixel of the input for each library that has the operation.

    A library that takes longer than LONGEST for a single call is noted in `too_slow`, and no more
    asked for this operation.
    """
    image, out = operation.image(content, side), operation.out(side)
    opencv = operation.opencv(image, out)
    calls = {"covid-edge": operation.ours(image, out), "cv2": opencv, "cv2, 2 threads": opencv}
    for name, maker in operation.others.items():
        if (operation.name, name) not in too_slow:
            calls[name] = maker(image, out)
    calls["memory floor"] = memory_floor(image, operation.passes)
    before = {"cv2": partial(cv2.setNumThreads, 1), "cv2, 2 threads": partial(cv2.setNumThreads, 2)}
    seconds = in_turns(calls, before=before, longest=LONGEST)
    too_slow |= {(operation.name, name) for name, time in seconds.items() if time > LONGEST}
    return {name: 1e9 * time / image.size for name, time in seconds.items()}


def memory_floor(image: np.ndarray, passes: int):
    """Read every pixel so many times, eight bytes at a time, and do as good as nothing with it."""
    words = image.reshape(-1).view(np.uint64)

    def read():
        for _ in range(passes):
            words.max()

    return read


def row(cells) -> str:
    return "| " + " | ".join(cells) + " |"


def table(results: dict[tuple[str, str, int], dict[str, float]]) -> str:
    """Return a Markdown table: ns per pixel, and how many times as long as ours in brackets."""
    lines = [row(["operation", "image", "side", *LIBRARIES]), row(["---"] * (3 + len(LIBRARIES)))]
    for (operation, content, side), times in results.items():
        ours = times["covid-edge"]
        cells = [operation, content, str(side), f"**{ours:.3f}**"]
        for name in LIBRARIES[1:]:
            cells.append(f"{times[name]:.3f} ({times[name] / ours:.2f})" if name in times else "")
        lines.append(row(cells))
    return "\n".join(lines)


def plot(results: dict[tuple[str, str, int], dict[str, float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(name for name, _, _ in results))
    columns = 4
    rows = -(-len(names) // columns)
    figure, panels = plt.subplots(
        rows, columns, figsize=(3 * columns, 2.4 * rows), sharex=True, squeeze=False
    )
    for panel, name in zip(panels.flat, names):
        for library in LIBRARIES:
            line = {
                side: times[library]
                for (operation, content, side), times in results.items()
                if (operation, content) == (name, "radiograph") and library in times
            }
            style = STYLES[library]
            panel.plot(list(line), list(line.values()), style, marker=".", label=library)
        panel.set(title=name, xscale="log", yscale="log", xticks=SIDES)
        panel.set_xticks([], minor=True)
        panel.set_xticklabels(map(str, SIDES), fontsize=7)
        panel.tick_params(axis="y", labelsize=7)
        panel.title.set_fontsize(9)
        panel.grid(alpha=0.3)
    for panel in panels.flat[len(names) :]:
        panel.axis("off")
    for panel in panels[:, 0]:
        panel.set_ylabel("ns per pixel", fontsize=8)
    # Every library has its line in some panel, though not in each.
    handles = {}
    for panel in panels.flat:
        for handle, label in zip(*panel.get_legend_handles_labels()):
            if len(handle.get_xdata()):
                handles[label] = handle
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncol=6, fontsize=8)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=80)
    # A few colours do, and make a small file.
    few = Image.open(drawn).convert("RGB").quantize(64, Image.Quantize.MAXCOVERAGE)
    few.save(path, optimize=True)


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES, help="default: %(default)s")
    parser.add_argument("--only", default="", help="operations whose name has this in it")
    parser.add_argument("--plot", type=Path, default=Path(__file__).with_name("kernels.png"))
    arguments = parser.parse_args()

    middle = min(arguments.sides, key=lambda side: abs(side - 1024))
    cases = [("radiograph", side) for side in sorted(arguments.sides)]
    cases += [(content, middle) for content in CONTENTS[1:]]
    results, too_slow = {}, set()
    for operation in OPERATIONS:
        if arguments.only not in operation.name:
            continue
        for content, side in cases:
            try:
                results[operation.name, content, side] = measure(operation, content, side, too_slow)
            except LookupError as error:
                print(error, file=sys.stderr)
    versions = [f"{name} {version(name)}" for name in ("kornia_rs", "scikit-image", "numpy")]
    print(f"{processor()}, {platform.system()}, variants: {imgproc.kernel_variants()}")
    print(f"OpenCV {cv2.__version__}, {', '.join(versions)}\n")
    print("ns per pixel of the input, in brackets how many times ours; medians, in turns.\n")
    print(table(results))
    plot(results, arguments.plot)


if __name__ == "__main__":
    main()
