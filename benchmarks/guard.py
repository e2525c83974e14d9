# SPDX-License-Identifier: Apache-2.0
"""Has this change made covid-edge slower? Two versions of it, in turns, in one run.

    python benchmarks/guard.py [BASE]

builds the commit BASE and the working tree alike, each in a folder of its own, and asks both for
the same answers in turns. BASE is by default where this branch left main, and on main itself the
commit before. What counts is the quickest of many, since noise only ever adds time.

Exit codes: 0 nothing is slower by more than a quarter and a millisecond (what is faster by a
quarter is said, since it may be work that is no longer done), or there is no earlier commit; 1
something is slower; 2 a version cannot be built or run.

What is to take longer is said by the commit that makes it so, in a trailer that names rows of the
table: ``Slower: ct inference, ct total``. It is shown, and not red, while that commit is not yet in
the base.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Set
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent
LIMIT = 1.25  # times as long as the base
FLOOR = 1.0  # ms; what takes less than that longer is no matter to who waits for an answer
MODALITIES = ("xray", "ct")
STAGES = ("read", "preprocess", "inference", "total")
ROUNDS = 40  # warm answers of each version and modality
PROCESSES = 8  # cold ones
SECONDS = 25  # for either; on a slow machine it is fewer rounds, but FEWEST at least
FEWEST = 4
AGAIN = 3  # times that what looks slower is measured anew, as long each, before it is called slower

# One version of covid-edge, in a process of its own: a path and a modality a line, milliseconds
# back. It uses nothing but what the README promises, so that old versions can be asked too.
ANSWER = """
import json, sys
from dataclasses import asdict
from covid_edge import Predictor
bundle = sys.argv[1] or None
predictors = {name: Predictor(bundle, modality=name) for name in sys.argv[2:]}
for line in sys.stdin:
    name, path = line.rstrip("\\n").split(" ", 1)
    print(json.dumps(asdict(predictors[name].predict(path).latency_ms)), flush=True)
"""


class GuardError(Exception):
    """A version of covid-edge cannot be built or run."""


class Version:
    """One version of covid-edge, installed in a folder, and its process that waits for scans.

    Parameters
    ----------
    folder : Path
        Holds the package ``covid_edge``, built.
    bundle : Path, optional
        None: the one in the package.
    """

    def __init__(self, folder: Path, bundle: Path | None = None) -> None:
        self._bundle = str(bundle or "")
        self._environment = {**os.environ, "PYTHONPATH": str(folder), "OPENBLAS_NUM_THREADS": "1"}
        self._folder = folder
        # In that folder, since Python looks where it is started before it looks in PYTHONPATH.
        self._process = subprocess.Popen(
            [sys.executable, "-c", ANSWER, self._bundle, *MODALITIES],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=self._environment,
        )

    def __enter__(self) -> Version:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def warm(self, modality: str, scan: Path) -> dict[str, float]:
        """Milliseconds of each stage of one answer."""
        try:
            self._process.stdin.write(f"{modality} {scan}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # what it died of is told below
        line = self._process.stdout.readline()
        if not line:
            raise GuardError(f"{self._folder}: {_last_line(self._process.stderr.read())}")
        return {f"{modality} {stage}": ms for stage, ms in json.loads(line).items()}

    def cold(self, modality: str, scan: Path) -> dict[str, float]:
        """Milliseconds of a whole process."""
        command = [sys.executable, "-m", "covid_edge", "predict", "--modality", modality]
        command += ["--bundle", self._bundle] if self._bundle else []
        start = time.perf_counter()
        done = subprocess.run(
            [*command, str(scan)],
            capture_output=True,
            text=True,
            cwd=self._folder,
            env=self._environment,
            check=False,
        )
        ms = 1e3 * (time.perf_counter() - start)
        if done.returncode:
            raise GuardError(f"{self._folder}: {_last_line(done.stderr)}")
        return {f"{modality} process": ms}


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def quickest(
    versions: dict[str, Version],
    scans: dict[str, Path],
    rounds: int = ROUNDS,
    processes: int = PROCESSES,
) -> dict[str, dict[str, float]]:
    """Return the least milliseconds of everything: what is timed → version → ms.

    `scans` holds one of each modality that is answered on: a refusal takes no time.

    What looks slower than LIMIT in "head" than in "base" is measured again before it is believed.
    """
    least: dict[str, dict[str, float]] = {}

    def turns(ways: list[str], rounds: int) -> None:
        end = time.monotonic() + SECONDS
        for turn in range(rounds):
            if turn >= FEWEST and time.monotonic() > end:
                break
            # Each version is the first of a round as often as the other.
            for name in sorted(versions, reverse=turn % 2 == 1):
                for way in ways:
                    for modality, scan in scans.items():
                        for what, ms in getattr(versions[name], way)(modality, scan).items():
                            known = least.setdefault(what, {})
                            known[name] = min(ms, known.get(name, ms))

    turns(["warm"], rounds)
    turns(["cold"], processes)
    for _ in range(AGAIN):
        slower = [what for what, ms in least.items() if is_slower(ms)]
        if not slower:
            break
        if any(what.endswith("process") for what in slower):
            turns(["cold"], processes)
        if not all(what.endswith("process") for what in slower):
            turns(["warm"], rounds)
    return least


def is_slower(ms: dict[str, float]) -> bool:
    """Whether "head" takes longer than "base" by more than a quarter, and by something."""
    return ms["head"] > LIMIT * ms["base"] and ms["head"] - ms["base"] > FLOOR


def changes(least: dict[str, dict[str, float]]) -> dict[str, float]:
    """How many times as long as in "base" everything takes in "head"."""
    return {what: ms["head"] / ms["base"] for what, ms in least.items()}


def verdict(least: dict[str, dict[str, float]], meant: Set[str] = frozenset()) -> tuple[int, str]:
    """Return the exit code and the table; what is in `meant` may be slower."""
    lines = [f"{'ms, at best':<18}{'base':>9}{'head':>9}  times as long"]
    code = 0
    for what, change in changes(least).items():
        note = ""
        if is_slower(least[what]) and what in meant:
            note = "  slower, as a commit says"
        elif is_slower(least[what]):
            code, note = 1, f"  SLOWER: at most {LIMIT} is allowed"
        elif change > LIMIT:
            note = f"  slower, by less than {FLOOR} ms"
        elif change < 1 / LIMIT:
            note = "  faster: is that meant?"
        ms = least[what]
        lines.append(f"{what:<18}{ms['base']:>9.2f}{ms['head']:>9.2f}  {change:5.2f}{note}")
    return code, "\n".join(lines)


def draw(folder: Path) -> dict[str, Path]:
    """Write the scans that are answered on: the example of each modality, of 1024x1024 pixels."""
    scans = {modality: folder / f"{modality}.png" for modality in MODALITIES}
    for path in scans.values():
        with Image.open(ROOT / "examples" / path.name) as image:
            large = image.convert("L").resize((1024, 1024), Image.Resampling.BICUBIC)
        Image.fromarray(np.asarray(large)).save(path)
    return scans


def base_commit() -> str | None:
    """Where this branch left main, or else the commit before; None if there is none."""
    for main in ("origin/main", "main"):
        fork = _git("merge-base", "HEAD", main)
        if fork and fork != _git("rev-parse", "HEAD"):
            return fork
    return _git("rev-parse", "--verify", "--quiet", "HEAD~1")


def meant_slower(base: str) -> set[str]:
    """What commits since `base` say takes longer, by the names of the table's rows."""
    trailers = "--format=%(trailers:key=Slower,valueonly)"
    said = _git("log", trailers, f"{base}..HEAD") or ""
    return {what.strip() for what in said.replace("\n", ",").split(",")} - {""}


def _git(*arguments: str) -> str | None:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def checkout(commit: str, folder: Path) -> Path:
    """Write the files of a commit into `folder`."""
    folder.mkdir()
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True)
    if archive.returncode:
        raise GuardError(f"{commit}: {_last_line(archive.stderr.decode())}")
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    return folder


def working_tree(folder: Path) -> Path:
    """Copy what git would take of the working tree into `folder`."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True).stdout
    present = b"\0".join(
        name for name in names.split(b"\0") if os.path.lexists(ROOT / name.decode())
    )
    pack = ["tar", "-c", "--null", "--verbatim-files-from", "-T", "-"]
    packed = subprocess.run(pack, cwd=ROOT, input=present, capture_output=True, check=True)
    folder.mkdir()
    subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, check=True)
    return folder


def install(source: Path, folder: Path) -> Path:
    """Build the sources of a version and install the package alone into `folder`."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--target",
        folder,
        source,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise GuardError(f"{source.name} cannot be built: {_last_line(done.stderr)}")
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", nargs="?", help="a commit; default: where this branch left main")
    base = parser.parse_args().base or base_commit()
    if base is None:
        print("guard: skipped, since there is no earlier commit here to compare with")
        return 0
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        try:
            sources = {
                "base": checkout(base, folder / "base source"),
                "head": working_tree(folder / "head source"),
            }
            versions = {
                name: stack.enter_context(Version(install(source, folder / name)))
                for name, source in sources.items()
            }
            code, table = verdict(quickest(versions, draw(folder)), meant_slower(base))
        except GuardError as error:
            print(f"guard: {error}", file=sys.stderr)
            return 2
    print(f"base is {_git('log', '-1', '--format=%h %s', base)}\n{table}")
    return code


if __name__ == "__main__":
    sys.exit(main())
