# SPDX-License-Identifier: Apache-2.0
"""A file that grows is complete under its name, or holds whole pieces under that of a part."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from covid_edge import outfile
from covid_edge.errors import CovidEdgeError, UsageError
from covid_edge.outfile import OutFile


@pytest.fixture
def path(tmp_path):
    return tmp_path / "answers.csv"


def test_the_name_is_not_taken_before_the_file_is_finished(path):
    path.write_text("of an earlier run")
    file = OutFile(str(path), "one\n")
    file.write("two\n")
    assert path.read_text() == "of an earlier run"
    file.finish()
    assert path.read_text() == "one\ntwo\n"
    assert os.listdir(path.parent) == ["answers.csv"]


def test_a_piece_can_be_read_as_soon_as_it_is_written(path):
    file = OutFile(str(path))
    file.write("one\n")
    assert file.size == 4
    assert (path.parent / "answers.csv.part").read_text() == "one\n"
    assert file.keep() == f"{path}.part"


def test_what_was_discarded_is_gone(path):
    file = OutFile(str(path))
    file.write("one\n")
    file.discard()
    assert not os.listdir(path.parent)


def test_the_part_of_an_earlier_run_stays_as_it_is(path):
    parts = []
    for piece in ("one\n", "two\n", "three\n"):
        file = OutFile(str(path))
        file.write(piece)
        parts.append(file.keep())
    assert parts == [f"{path}.part", f"{path}.part-2", f"{path}.part-3"]
    assert [Path(part).read_text() for part in parts] == ["one\n", "two\n", "three\n"]


def test_copying_takes_what_is_left_of_the_other_file(path, monkeypatch):
    monkeypatch.setattr(outfile, "_BLOCK", 3)
    other = io.BytesIO(b"0123456789")
    other.seek(2)
    file = OutFile(str(path))
    file.copy(other)
    file.finish()
    assert path.read_text() == "23456789"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_is_one_sentence(path, monkeypatch):
    full = open("/dev/full", "wb", buffering=0)  # noqa: SIM115 (closed by keep)
    monkeypatch.setattr(outfile, "_create", lambda _: ("answers.csv.part", full))
    file = OutFile(str(path))
    with pytest.raises(CovidEdgeError, match=r"answers.csv cannot be written: No space left"):
        file.write("one\n")
    file.keep()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_what_breaks_off_a_write_leaves_no_half_a_piece(path, error):
    class Breaking(io.FileIO):
        def write(self, data):
            if b"two" in bytes(data):
                super().write(data[:3])
                raise error
            return super().write(data)

    file = OutFile(str(path))
    file.write("one\n")
    file._file.close()
    file._file = Breaking(file.part, "r+b")
    file._file.seek(4)
    with pytest.raises((KeyboardInterrupt, CovidEdgeError)):
        file.write("two\n")
    file.write("3\n")
    assert Path(file.keep()).read_text() == "one\n3\n"


def test_a_write_that_takes_less_than_all_goes_on(path):
    class Slow(io.FileIO):
        def write(self, data):
            return super().write(data[:2])

    file = OutFile(str(path))
    file._file.close()
    file._file = Slow(file.part, "wb")
    file.write("one two three\n")
    file.finish()
    assert path.read_text() == "one two three\n"


def test_a_link_leads_to_the_file_that_is_written(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "answers.csv"
    link.symlink_to(tmp_path / "elsewhere" / "real.csv")
    file = OutFile(str(link))
    file.write("one\n")
    file.finish()
    assert link.is_symlink()
    assert (tmp_path / "elsewhere" / "real.csv").read_text() == "one\n"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere/answers.csv", "cannot be written: No such file or directory"),
        ("folder", "it is there, and not a regular file"),
        ("folder/scan.PNG", "named like a picture"),
        ("a" * 255, "cannot be written: File name too long"),
    ],
)
def test_what_cannot_be_written_is_a_usage_error(tmp_path, name, words):
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=words):
        OutFile(str(tmp_path / name))


def test_a_disk_without_room_for_the_beginning_is_left_as_it_was(path, monkeypatch):
    class Full(io.FileIO):
        def write(self, data):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        outfile, "_create", lambda path: (f"{path}.part", Full(f"{path}.part", "x"))
    )
    with pytest.raises(CovidEdgeError, match="No space left"):
        OutFile(str(path), "one\n")
    assert not os.listdir(path.parent)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_device_is_not_replaced():
    with pytest.raises(UsageError, match="/dev/full cannot be written: it is there, and not a reg"):
        OutFile("/dev/full")
    assert not os.path.isfile("/dev/full")


def test_a_dash_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="^- stands for what is written to already"):
        OutFile("-")
    assert not os.listdir(tmp_path)
