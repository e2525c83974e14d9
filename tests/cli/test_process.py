# SPDX-License-Identifier: Apache-2.0
"""``covid-edge`` as a process among others: pipes, signals, terminals."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys

import pytest

from conftest import DARK

pytestmark = pytest.mark.skipif(os.name == "nt", reason="pipes, signals and terminals of Unix")


@pytest.fixture
def start(toy):
    """Start ``covid-edge predict --json --bundle TOY`` and hand over its pipes."""
    started = []

    def call(*arguments, **options):
        command = [sys.executable, "-m", "covid_edge", "predict", "--bundle", toy, *arguments]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        process = subprocess.Popen(list(map(str, command)), **{**pipes, **options})
        started.append(process)
        return process

    yield call
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def test_each_line_is_flushed_as_it_is_ready(start, flat):
    process = start("--json", "-")
    for name in ("a.png", "b.png"):
        process.stdin.write(f"{flat(name, DARK)}\n".encode())
        process.stdin.flush()
        assert select.select([process.stdout], [], [], 60)[0], "no line before the list ended"
        assert json.loads(process.stdout.readline())["file"].endswith(name)
    process.stdin.close()
    assert process.wait(60) == 0


def test_interrupted_it_ends_quietly_with_130(start, flat):
    process = start("--json", "-")
    process.stdin.write(f"{flat('a.png', DARK)}\n".encode())
    process.stdin.flush()
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert process.stderr.read().strip() == b"Toy bundle: its answers mean nothing."


def test_interrupted_at_work_on_many_it_ends_quietly_with_130(start, flat):
    # Unbuffered: what readline had read ahead, communicate would not see.
    process = start("--json", "--workers", 2, *[flat("a.png", DARK)] * 3000, bufsize=0)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, words = process.communicate(timeout=60)
    assert process.returncode == 130
    assert len(out.splitlines()) < 2999
    assert all(json.loads(line)["status"] == "ok" for line in out.splitlines())
    assert words.strip() == b"Toy bundle: its answers mean nothing."


def test_a_closed_pipe_ends_it_quietly(start, flat):
    process = start("--json", *[flat("a.png", DARK)] * 200)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == -signal.SIGPIPE  # as `cat` ends
    assert process.stderr.read() == b"Toy bundle: its answers mean nothing.\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_is_one_sentence(start, flat):
    with open("/dev/full", "wb") as full:
        process = start(flat("a.png", DARK), stdout=full)
        assert process.wait(60) == 1
    last = process.stderr.read().splitlines()[-1]
    assert last == b"covid-edge: the output cannot be written: No space left on device"


def test_stdin_may_be_closed(toy, flat):
    command = f"'{sys.executable}' -m covid_edge predict --bundle '{toy}' '{flat('a.png', DARK)}'"
    done = subprocess.run(
        ["sh", "-c", f"{command} <&-"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0


def through_terminal(start, *arguments, **options) -> tuple[bytes, bytes]:
    """Run with stderr on a terminal; return what the terminal saw, and stdout."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    process = start(*arguments, stderr=theirs, **options)
    os.close(theirs)
    out = process.stdout.read()
    seen = b""
    try:
        while chunk := os.read(ours, 4096):
            seen += chunk
    except OSError:  # Linux: the other side has closed
        pass
    os.close(ours)
    process.wait(60)
    return seen, out


def test_many_scans_show_a_bar_on_a_terminal_and_none_of_it_in_the_answers(start, flat):
    seen, out = through_terminal(start, *[flat("a.png", DARK)] * 30)
    assert b"30/30" in seen
    lines = out.decode().splitlines()
    assert len(lines) == 30
    assert all(line.endswith(" ms") and line.isprintable() for line in lines)


def test_an_error_does_not_mix_with_the_bar(start, flat, tmp_path):
    scans = [flat("a.png", DARK)] * 15
    seen, _ = through_terminal(start, *scans, tmp_path / "nothing.png", *scans)
    sentence = f"covid-edge: {tmp_path}/nothing.png: no such file".encode()
    assert b"\x1b[K" + sentence + b"\r\n" in seen


def test_few_scans_show_no_bar(start, flat):
    seen, _ = through_terminal(start, flat("a.png", DARK))
    assert seen == b"Toy bundle: its answers mean nothing.\r\n"


def test_native_remarks_stay_off_stderr(run, toy, flat):
    done = run("predict", "--bundle", toy, flat("a.png", DARK))
    assert "XNNPACK" not in done.stderr
