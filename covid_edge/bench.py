# SPDX-License-Identifier: Apache-2.0
"""How long an answer takes on this machine, stage by stage: ``covid-edge bench``.

A millisecond says little on a machine that has neighbours or runs hot. So a fixed piece of work
(:class:`Workload`) is timed in turns with the scans, and what two reports are compared by is the
ratio of the two, each at its quickest: whatever slows the machine down slows both.

Every answer takes the whole road, router included; but what a *cold* process (a new one; the files
are in the system's cache, and packed weights where `covid_edge.weight_cache` keeps them) is asked
is ``predict --modality``, since a drawn scan need not be one to the router.
"""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__, imgproc
from .bundle import Bundle
from .errors import CovidEdgeError, SlowerError, UsageError
from .interpreter import runtime, runtime_version
from .predictor import Predictor

__all__ = [
    "LIMIT",
    "SCHEMA",
    "Sensors",
    "Workload",
    "board",
    "changes",
    "judge",
    "load",
    "measure",
    "report_file",
    "report_text",
    "save",
    "throttling",
]

#: The schema of a report.
SCHEMA = 1

#: How many times as long as in the baseline an answer may take; and how many times as quick it may
#: be before the baseline is said to be out of date.
LIMIT = 1.25

#: Side of the drawn scan, pixels.
SIDE = 1024

#: Cold processes of each modality that count.
COLD = 10

STAGES = ("read", "preprocess", "inference", "total")

_SLOWED = 1.10  # the workload, or the clock, from beginning to end: more than noise at its quickest
_SETTLING = 10  # runs of the workload at the beginning and at the end


@dataclass(frozen=True)
class Sensors:
    """What a board tells of itself; None where it does not.

    Attributes
    ----------
    governor : str or None
        Linux' policy of the clock (of the first core): ``"performance"``, ``"ondemand"``...
    clock_mhz : float or None
        Of the fastest core, now.
    temperature_c : float or None
        Of the hottest thermal zone, degrees Celsius.
    throttled : int or None
        How often cores were slowed down for heat since the start (x86).
    """

    governor: str | None
    clock_mhz: float | None
    temperature_c: float | None
    throttled: int | None

    @classmethod
    def read(cls, root: Path = Path("/")) -> Sensors:
        """Read them from Linux' ``/sys`` under `root`; elsewhere nothing is told."""
        cores = "sys/devices/system/cpu/cpu[0-9]*/"
        governors = sorted(root.glob(cores + "cpufreq/scaling_governor"))
        clocks = _numbers(root, cores + "cpufreq/scaling_cur_freq")  # kHz
        zones = _numbers(root, "sys/class/thermal/thermal_zone*/temp")  # thousandths of a degree
        counts = _numbers(root, cores + "thermal_throttle/core_throttle_count")
        return cls(
            _text(governors[0]) if governors else None,
            max(clocks) / 1e3 if clocks else None,
            max(zones) / 1e3 if zones else None,
            sum(counts) if counts else None,
        )


class Workload:
    """A fixed piece of work that no release of covid-edge changes: integers, floats, memory.

    Parameters
    ----------
    threads : int
        So many copies of it run at once, as an interpreter of so many threads shares the machine.
    """

    def __init__(self, threads: int = 1) -> None:
        rng = np.random.default_rng(0)
        self._text = rng.integers(0, 16, 1 << 17, np.uint8).tobytes()
        self._floats = [rng.random(1 << 19, np.float32) for _ in range(threads)]
        self._pool = ThreadPoolExecutor(threads)

    def __enter__(self) -> Workload:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def run(self, clock: Callable[[], float] = time.perf_counter) -> float:
        """Do it once and return the milliseconds that it took by a clock of seconds."""
        start = clock()
        list(self._pool.map(self._work, self._floats))
        return 1e3 * (clock() - start)

    def _work(self, floats: np.ndarray) -> None:
        zlib.compress(self._text, 6)
        for _ in range(4):
            np.sqrt(floats * floats)


def board(root: Path = Path("/")) -> str:
    """Return what this computer calls itself: the board's model, or else its processor's."""
    model = _text(root / "proc/device-tree/model")
    if model:
        return model.rstrip("\0")
    found = re.search(r"^model name\s*: (.+)$", _text(root / "proc/cpuinfo") or "", re.MULTILINE)
    name = found[1] if found else platform.processor() or platform.machine()
    return " ".join(re.sub(r"\((R|TM)\)|\bCPU\b", " ", name).split())


def measure(bundle: Bundle, threads: int, rounds: int) -> dict[str, Any]:
    """Time answers on a drawn scan.

    Parameters
    ----------
    bundle : Bundle
    threads : int
        Interpreters of 1, 2, 4... and of this many threads are timed.
    rounds : int
        Answers of each modality and number of threads that count.

    Returns
    -------
    dict
        The report, of plain values. Times are in milliseconds; ``relative`` is the quickest answer
        by the quickest run of the workload beside it; ``peak_mb`` counts 2**20 bytes.

    Raises
    ------
    CovidEdgeError
        As :class:`~covid_edge.Predictor` and its :meth:`~covid_edge.Predictor.predict`.
    """
    package, _ = runtime()
    for file in bundle.files.values():
        file.check()
    counts = sorted({threads, *(2**k for k in range(threads.bit_length()) if 2**k < threads)})
    with tempfile.TemporaryDirectory() as folder, Workload() as workload:
        scan = _draw(Path(folder))
        # By the processor's time, which passes only while this process has a core: neighbours take
        # cores away, but it is heat that makes them slow.
        first = [workload.run(time.process_time) for _ in range(_SETTLING)]
        before = Sensors.read()  # under load: an idle clock is a slow one
        # While this process is still small: a child's peak memory is never less than its parent's.
        rows = _cold(bundle, scan, workload)
        speeds = {}
        for count in counts:
            warm, speeds[str(count)] = _warm(bundle, scan, count, rounds)
            rows += warm
        last = [workload.run(time.process_time) for _ in range(_SETTLING)]
        after = Sensors.read()
    return {
        "schema": SCHEMA,
        "version": __version__,
        "board": board(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "governor": before.governor,
        "temperature_c": [before.temperature_c, after.temperature_c],
        "clock_mhz": [before.clock_mhz, after.clock_mhz],
        "throttling": throttling(before, after, min(last) / min(first)),
        "python": platform.python_version(),
        "interpreter": {"name": package, "version": runtime_version(package)},
        "kernels": imgproc.kernel_variants(),
        "bundle": {"name": bundle.name, "version": bundle.version, "sha256": bundle.sha256},
        "side": SIDE,
        "rounds": rounds,
        "workload_ms": speeds,
        "rows": rows,
    }


def throttling(before: Sensors, after: Sensors, slowed: float) -> list[str]:
    """Return what speaks for a processor that was slowed down meanwhile, a phrase each.

    Parameters
    ----------
    before, after : Sensors
    slowed : float
        The workload's least processor time at the end by that at the beginning.
    """
    signs = []
    if before.throttled is not None and after.throttled is not None:
        times = after.throttled - before.throttled
        if times > 0:
            signs.append(f"the processor counted {times} slowdowns for heat")
    if before.clock_mhz and after.clock_mhz and before.clock_mhz > _SLOWED * after.clock_mhz:
        signs.append(f"the clock fell from {before.clock_mhz:.0f} to {after.clock_mhz:.0f} MHz")
    if slowed > _SLOWED:
        signs.append(f"the workload took {slowed:.2f} times the processor's time at the end")
    return signs


def changes(report: dict[str, Any], baseline: dict[str, Any]) -> list[dict[str, Any]]:
    """Return, for each row that both reports have, how many times as long it takes now.

    Raises
    ------
    UsageError
        They have no row in common.
    """
    before = {_key(row): row["relative"] for row in baseline["rows"]}
    found = [
        {
            **{name: row[name] for name in ("modality", "start", "threads")},
            "ratio": round(row["relative"] / before[_key(row)], 3),
        }
        for row in report["rows"]
        if _key(row) in before
    ]
    if not found:
        raise UsageError("the baseline has no modality of this bundle; make one with --save")
    return found


def judge(found: list[dict[str, Any]], against: Path) -> None:
    """Return if nothing is slower than the baseline by more than :data:`LIMIT`.

    Raises
    ------
    SlowerError
        Something is.
    """
    slower = [change for change in found if change["ratio"] > LIMIT]
    if slower:
        which = ", ".join(f"{_title(change)} {change['ratio']:.2f} times" for change in slower)
        raise SlowerError(
            f"slower than {against}, where at most {LIMIT} times as long is allowed: {which}; find "
            "out why, or make another baseline with --save"
        )


def report_file(path: str | os.PathLike[str]) -> Path:
    """Return the file meant by `path`: in a folder, the one that is named after this board."""
    path = Path(path)
    if not path.is_dir():
        return path
    return path / (re.sub(r"[^a-z0-9.]+", "-", board().lower()).strip("-") + ".json")


def load(path: Path) -> dict[str, Any]:
    """Read a report.

    Raises
    ------
    UsageError
        The file is missing or is no report of this schema.
    """
    try:
        report = json.loads(path.read_bytes())
        if report["schema"] != SCHEMA:
            raise ValueError
        for row in report["rows"]:
            _key(row)
            if not row["relative"] > 0:
                raise ValueError
        report["board"]
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read ({error.strerror}); make a baseline with --save"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(
            f"{path} is no report of this version of covid-edge bench; make one with --save"
        ) from None
    return report


def save(report: dict[str, Any], path: Path) -> None:
    """Write a report, whole or not at all.

    Raises
    ------
    CovidEdgeError
        It cannot be written.
    """
    partial = path.with_name(path.name + ".part")
    try:
        partial.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise CovidEdgeError(f"{path} cannot be written: {error.strerror}") from None


def report_text(report: dict[str, Any], found: list[dict[str, Any]] | None = None) -> str:
    """Return a report, and how it compares with its baseline, as lines for people."""

    def told(values: list[float | None], unit: str) -> str:
        if None in values:
            return "not told by this board"
        return " to ".join(f"{value:.0f}" for value in values) + f" {unit}"

    bundle, interpreter = report["bundle"], report["interpreter"]
    speeds = ", ".join(f"{ms:.2f} ms x{count}" for count, ms in report["workload_ms"].items())
    head = [
        ("board", f"{report['board']}, {report['cores']} cores, {report['machine']}"),
        ("governor", report["governor"] or "not told by this board"),
        ("clock", told(report["clock_mhz"], "MHz")),
        ("temperature", told(report["temperature_c"], "°C")),
        ("throttling", "; ".join(report["throttling"]) or "none noticed"),
        ("interpreter", f"{interpreter['name']} {interpreter['version']}"),
        ("bundle", f"{bundle['name']} {bundle['version']}"),
        ("workload", f"{speeds} (what times are compared by)"),
    ]
    lines = [f"{title:<11}  {text}" for title, text in head]
    lines += ["", f"{'ms: p50 / p95':<22}" + "".join(f"{stage:>17}" for stage in STAGES)]
    lines[-1] += f"{'peak memory':>14}"
    for row in report["rows"]:
        spreads = (row["ms"][stage] for stage in STAGES)
        cells = (f"{spread['p50']:.2f} / {spread['p95']:.2f}" for spread in spreads)
        peak = f"{row['peak_mb']:>11.0f} MB" if row["peak_mb"] else ""
        lines.append(f"{_title(row):<22}" + "".join(f"{cell:>17}" for cell in cells) + peak)
    if found is not None:
        lines += ["", "times as long as in the baseline, by the workload:"]
        for change in found:
            ratio = change["ratio"]
            verdict = "  slower" if ratio > LIMIT else ""
            if ratio < 1 / LIMIT:
                verdict = "  faster: the baseline is out of date"
            lines.append(f"{_title(change):<22}{ratio:>6.2f}{verdict}")
    return "\n".join(line.rstrip() for line in lines)


def _draw(folder: Path) -> Path:
    """Write a PNG of smooth shapes with grain, as a radiograph has them."""
    from PIL import Image

    rng = np.random.default_rng(0)
    shapes = imgproc.resize(rng.integers(30, 220, (12, 12), np.uint8), (SIDE, SIDE))
    path = folder / "scan.png"
    Image.fromarray(shapes + rng.integers(0, 20, shapes.shape, np.uint8)).save(path)
    return path


def _cold(bundle: Bundle, scan: Path, workload: Workload) -> list[dict[str, Any]]:
    rows = []
    for name in bundle.modalities:
        command = [sys.executable, "-m", "covid_edge", "predict", "--json", "--modality", name]
        # What is drawn looks like no chest, and a refusal would be no answer.
        command += ["--force", "--bundle", str(bundle.path), str(scan)]
        _process(command)  # fills the system's cache
        times, speeds, peaks = [], [], []
        for _ in range(COLD):
            speeds.append(workload.run())
            ms, peak = _process(command)
            times.append(ms)
            peaks.append(peak)
        peak = max(peaks) if None not in peaks else None
        rows.append(_row(name, "cold", 1, times, speeds, peak))
    return rows


def _process(command: list[str]) -> tuple[dict[str, float], float | None]:
    """Return the milliseconds of each stage and of the whole process, and its peak memory (MB)."""
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, peak = child.stdout.read(), None
    said = child.stderr.read()
    if hasattr(os, "wait4"):
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
        peak = usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    child.wait()
    total = 1e3 * (time.perf_counter() - start)
    child.stdout.close()
    child.stderr.close()
    if child.returncode:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        raise CovidEdgeError(f"a cold process ended with {child.returncode}: {last}")
    return {**json.loads(out)["latency_ms"], "total": total}, peak


def _warm(
    bundle: Bundle, scan: Path, threads: int, rounds: int
) -> tuple[list[dict[str, Any]], float]:
    """Return the rows of one number of threads, and the workload's quickest time beside them."""
    predictors = {
        name: Predictor(_routed(bundle, name), threads, force=True) for name in bundle.modalities
    }
    times: dict[str, list[dict[str, float]]] = {name: [] for name in predictors}
    speeds = []
    with Workload(threads) as workload:
        for turn in range(-2, rounds):  # two that do not count
            speed = workload.run()
            for name, predictor in predictors.items():
                latency = predictor.predict(scan).latency_ms
                if turn >= 0:
                    times[name].append({stage: getattr(latency, stage) for stage in STAGES})
            if turn >= 0:
                speeds.append(speed)
    rows = [_row(name, "warm", threads, times[name], speeds, None) for name in predictors]
    return rows, round(min(speeds), 3)


def _routed(bundle: Bundle, name: str) -> Bundle:
    """Return the bundle with a router that works as ever, but calls everything `name`."""
    router = bundle.router
    always = router._replace(labels=(name,) * len(router.labels), accept=0.0)
    return bundle._replace(router=always)


def _row(
    modality: str,
    start: str,
    threads: int,
    times: list[dict[str, float]],
    speeds: list[float],
    peak: float | None,
) -> dict[str, Any]:
    quickest = min(time["total"] for time in times)
    return {
        "modality": modality,
        "start": start,
        "threads": threads,
        "ms": {stage: _spread([time[stage] for time in times]) for stage in STAGES},
        "relative": round(quickest / min(speeds), 4),
        "peak_mb": peak and round(peak, 1),
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "min": round(min(values), 3),
        "p50": round(statistics.median(values), 3),
        "p95": round(float(np.quantile(values, 0.95)), 3),
    }


def _key(row: dict[str, Any]) -> tuple[str, str, int]:
    return row["modality"], row["start"], row["threads"]


def _title(row: dict[str, Any]) -> str:
    modality, start, threads = _key(row)
    return f"{modality} {start}, {threads} thread{'s' if threads > 1 else ''}"


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def _numbers(root: Path, pattern: str) -> list[int]:
    texts = (_text(path) for path in root.glob(pattern))
    return [int(text) for text in texts if text and text.lstrip("-").isdigit()]
