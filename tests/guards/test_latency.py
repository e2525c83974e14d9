# SPDX-License-Identifier: Apache-2.0
"""The latency guard (``benchmarks/guard.py``) is red when, and only when, it should be."""

from __future__ import annotations

import shutil
import subprocess
from itertools import chain, repeat
from pathlib import Path

import pytest

import covid_edge
import guard
from conftest import TOY
from covid_edge import _kernels

# Appended to a module: each call of what it names takes 20 ms longer, where all of an answer of the
# toy bundle on a small picture takes about one.
SLOWED = """

import time


def _slowed(call):
    def slow(*arguments, **options):
        time.sleep(0.02)
        return call(*arguments, **options)

    return slow


{name} = _slowed({name})
"""


@pytest.fixture
def versions(tmp_path):
    """Two copies of the package, "base" and "head", which answer by the toy bundle."""
    for name in ("base", "head"):
        copy = tmp_path / name / "covid_edge"
        source = Path(covid_edge.__file__).parent
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("models", "__pycache__"))
        shutil.copy(_kernels.__file__, copy)
    running = []

    def start() -> dict[str, guard.Version]:
        running.extend(guard.Version(tmp_path / name, TOY) for name in ("base", "head"))
        return dict(zip(("base", "head"), running))

    yield tmp_path, start
    for version in running:
        version.__exit__()


def both(scan):
    """One scan, to be answered on as either modality."""
    return dict.fromkeys(guard.MODALITIES, scan)


@pytest.mark.parametrize(
    ("stage", "module", "name"),
    [
        ("read", "scan", "read_scan"),
        ("preprocess", "preprocess", "preprocess"),
        ("inference", "interpreter", "Interpreter.run"),
    ],
)
def test_a_stage_that_was_slowed_down_is_red(versions, flat, stage, module, name):
    folder, start = versions
    with open(folder / "head" / "covid_edge" / f"{module}.py", "a") as file:
        file.write(SLOWED.format(name=name))
    least = guard.quickest(start(), both(flat("a.png", 128)), rounds=3, processes=0)
    code, table = guard.verdict(least)
    assert code == 1
    red = {line[:18].strip() for line in table.splitlines() if "SLOWER" in line}
    assert {f"{m} {what}" for m in ("xray", "ct") for what in (stage, "total")} <= red


def test_a_start_that_was_slowed_down_is_red(versions, flat, monkeypatch):
    monkeypatch.setattr(guard, "AGAIN", 0)
    folder, start = versions
    with open(folder / "head" / "covid_edge" / "cli.py", "a") as file:
        file.write("\nimport time\n\ntime.sleep(3)\n")
    least = guard.quickest(start(), both(flat("a.png", 128)), rounds=1, processes=1)
    assert guard.changes(least)["xray process"] > guard.LIMIT
    assert guard.verdict(least)[0] == 1


def test_a_version_that_cannot_answer_is_named_with_its_error(versions, flat):
    folder, start = versions
    with open(folder / "head" / "covid_edge" / "predictor.py", "a") as file:
        file.write("\nraise RuntimeError('half a change')\n")
    with pytest.raises(guard.GuardError, match="head: RuntimeError: half a change"):
        guard.quickest(start(), both(flat("a.png", 128)), rounds=1, processes=0)


class Told:
    """A version whose answers take the times that it was told, and then always the last."""

    def __init__(self, *ms: float) -> None:
        self.asked = 0
        self._ms = chain(ms, repeat(ms[-1]))

    def warm(self, modality, scan):
        self.asked += 1
        return {f"{modality} total": next(self._ms)}


def test_the_quickest_of_many_counts():
    least = guard.quickest({"base": Told(9, 9, 1), "head": Told(1, 1, 9)}, both(None), 4, 0)
    assert least == {m + " total": {"base": 1, "head": 1} for m in ("xray", "ct")}


def test_what_looks_slower_is_measured_again_before_it_is_called_slower():
    disturbed = Told(*[9] * 6, 1)
    least = guard.quickest({"base": Told(1), "head": disturbed}, both(None), 3, 0)
    assert disturbed.asked == 12
    assert guard.verdict(least)[0] == 0


@pytest.mark.parametrize(
    ("head", "code", "note"),
    [(12.4, 0, ""), (12.6, 1, "SLOWER"), (8.1, 0, ""), (7.9, 0, "faster: is that meant?")],
)
def test_more_than_a_quarter_slower_is_red_and_faster_is_said(head, code, note):
    found, table = guard.verdict({"ct total": {"base": 10.0, "head": head}})
    assert found == code
    (line,) = table.splitlines()[1:]
    assert note in line
    assert ("SLOWER" in line, "faster" in line) == ("SLOWER" in note, "faster" in note)


def test_what_a_commit_says_is_slower_is_said_and_not_red():
    least = {f"ct {stage}": {"base": 10.0, "head": 20.0} for stage in ("inference", "total")}
    assert guard.verdict(least, {"ct inference"})[0] == 1
    found, table = guard.verdict(least, set(least))
    assert found == 0
    assert table.count("slower, as a commit says") == 2


def test_what_takes_less_than_a_millisecond_longer_is_said_and_not_red():
    found, table = guard.verdict({"ct preprocess": {"base": 0.3, "head": 1.2}})
    assert found == 0
    assert "slower, by less than 1.0 ms" in table


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """An empty repository, on main, which the guard takes for its own."""

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=nobody", "-c", "user.email=nobody@localhost"]
        command = ["git", *who, *arguments]
        done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q", "-b", "main")
    monkeypatch.setattr(guard, "ROOT", tmp_path)
    return git


def commit(git, message: str = "a commit") -> str:
    git("commit", "-q", "--allow-empty", "-m", message)
    return git("rev-parse", "HEAD")


def test_without_an_earlier_commit_it_skips_and_says_so(repository, monkeypatch, capsys):
    commit(repository)
    monkeypatch.setattr("sys.argv", ["guard.py"])
    assert guard.main() == 0
    assert capsys.readouterr().out == (
        "guard: skipped, since there is no earlier commit here to compare with\n"
    )


def test_on_main_the_base_is_the_commit_before(repository):
    before = commit(repository)
    commit(repository)
    assert guard.base_commit() == before


def test_on_a_branch_the_base_is_where_it_left_main(repository):
    fork = commit(repository)
    repository("checkout", "-q", "-b", "branch")
    commit(repository)
    commit(repository)
    assert guard.base_commit() == fork


def test_what_is_to_be_slower_stands_in_the_trailers_of_the_commits_since_the_base(repository):
    commit(repository, "an earlier one\n\nSlower: xray read")
    base = commit(repository)
    assert guard.meant_slower(base) == set()
    commit(repository, "Look twice\n\nWhy.\n\nSlower: ct inference, ct total")
    commit(repository, "And more\n\nSlower: ct process")
    commit(repository)
    assert guard.meant_slower(base) == {"ct inference", "ct total", "ct process"}


def test_the_head_is_the_working_tree_as_git_would_take_it(repository, tmp_path_factory):
    folder = Path(repository("rev-parse", "--show-toplevel"))
    for name in ("kept.py", "changed.py", "deleted.py"):
        (folder / name).write_text("before")
    (folder / ".gitignore").write_text("*.o\n")
    repository("add", "-A")
    head = commit(repository)
    (folder / "changed.py").write_text("after")
    (folder / "new.py").write_text("new")
    (folder / "left.o").write_text("ignored")
    (folder / "deleted.py").unlink()
    copies = tmp_path_factory.mktemp("copies")
    now = guard.working_tree(copies / "head")
    then = guard.checkout(head, copies / "base")
    assert {p.name for p in now.iterdir()} == {".gitignore", "kept.py", "changed.py", "new.py"}
    assert {p.name for p in then.iterdir()} == {
        ".gitignore",
        "kept.py",
        "changed.py",
        "deleted.py",
    }
    assert (now / "changed.py").read_text() == "after"
    assert (then / "changed.py").read_text() == "before"


def test_a_commit_that_does_not_exist_ends_with_2(repository, monkeypatch, capsys):
    commit(repository)
    monkeypatch.setattr("sys.argv", ["guard.py", "nothing"])
    assert guard.main() == 2
    said = capsys.readouterr().err
    assert said.startswith("guard: nothing: ")
    assert said.count("\n") == 1
