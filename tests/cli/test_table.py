# SPDX-License-Identifier: Apache-2.0
"""``covid-edge predict --csv``: the table's columns, its cells, and how it ends."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import BRIGHT, DARK, DOUBTFUL, MIDDLE
from covid_edge.errors import ScanError
from covid_edge.table import COLUMNS, Table

BUNDLE = {"name": "toy", "version": "0.0.1", "sha256": "ab" * 32}


@pytest.fixture
def predict(run, toy, tmp_path):
    """Run ``predict --csv answers.csv``; the table is then in tmp_path."""

    def call(*arguments, **options):
        table = tmp_path / "answers.csv"
        return run("predict", "--bundle", toy, "--csv", table, *arguments, **options)

    return call


def rows(path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def flat(record: dict, before: str = "") -> dict[str, str]:
    """What a JSON line would be as strings in a table."""
    cells = {}
    for key, value in record.items():
        if isinstance(value, dict):
            cells.update(flat(value, f"{before}{key}."))
        elif isinstance(value, list):
            cells[before + key] = "|".join(value)
        else:
            cells[before + key] = "" if value is None else str(value)
    return cells


def test_a_row_says_what_the_json_line_says(predict, flat_scans, tmp_path):
    done = predict("--json", *flat_scans, tmp_path / "nothing.png")
    assert done.returncode == 3
    records = [flat(json.loads(line)) for line in done.stdout.splitlines()]
    table = rows(tmp_path / "answers.csv")
    assert [row["status"] for row in table] == ["ok", "ok", "ok", "refused", "error"]
    assert table[2]["labels"] == "non-covid|covid"
    for row, record in zip(table, records):
        assert tuple(row) == COLUMNS
        assert record.pop("dicom") == record.pop("series") == ""  # their columns are empty
        if row["status"] != "ok":
            assert record.pop("network") == ""
        assert row == {**dict.fromkeys(COLUMNS, ""), **record}


@pytest.fixture
def flat_scans(flat):
    scans = [("a", DARK), ("b", MIDDLE), ("c", DOUBTFUL), ("d", BRIGHT)]
    return [flat(f"{name}.png", brightness) for name, brightness in scans]


def test_the_text_on_stdout_is_the_same_as_without(run, predict, toy, flat):
    scan = flat("a.png", DARK)
    with_table, without = predict(scan), run("predict", "--bundle", toy, scan)
    assert with_table.stdout.split("P(")[0] == without.stdout.split("P(")[0]
    assert with_table.stderr == without.stderr


@pytest.mark.parametrize("arguments", [["--workers", 1], ["--workers", 3], ["-"]])
def test_the_rows_are_in_the_order_of_the_scans(predict, flat, tmp_path, arguments):
    scans = [flat(f"{number}.png", DARK) for number in range(8)]
    listing = "".join(f"{scan}\n" for scan in scans)
    done = predict(*arguments, *([] if "-" in arguments else scans), input=listing)
    assert done.returncode == 0
    assert [row["file"] for row in rows(tmp_path / "answers.csv")] == list(map(str, scans))


def test_lines_end_as_rfc_4180_has_it_and_text_is_quoted(predict, flat, tmp_path):
    predict(flat('a "b", c;d.png', DARK))
    header, row, end = (tmp_path / "answers.csv").read_bytes().split(b"\r\n")
    assert header.startswith(b'"file","status","modality"')
    assert row.startswith(f'"{tmp_path}/a ""b"", c;d.png","ok","xray",'.encode())
    assert end == b""


@pytest.fixture
def table_of(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")

    def write(*errors: ScanError) -> bytes:
        table = Table(str(folder / "answers.csv"), BUNDLE)
        for error in errors:
            table.add(error)
        table.finish()
        return (folder / "answers.csv").read_bytes()

    return write


def test_names_come_back_as_they_were(table_of):
    @settings(max_examples=50)
    @given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
    def check(name):
        text = table_of(ScanError(name, "is no picture")).decode()
        _, row = csv.reader(io.StringIO(text, newline=""))
        assert row[0] in (name, f"'{name}")

    check()


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_no_cell_is_a_formula(table_of, sign):
    text = table_of(ScanError(f"{sign}cmd()|' /C calc'!A0", f"{sign}1+1")).decode()
    _, row = csv.reader(io.StringIO(text, newline=""))
    assert row[0] == f"'{sign}cmd()|' /C calc'!A0"
    assert f"'{sign}1+1" in row


def test_bytes_of_a_name_that_are_no_text_are_written_as_json_has_them(table_of):
    name = os.fsdecode(b"odd \xff.png")
    assert b'"odd \\udcff.png"' in table_of(ScanError(name, "no such file"))


def test_a_bad_bundle_leaves_no_table(run, toy_copy, tmp_path, flat):
    (toy_copy / "bundle.json").write_text("{")
    done = run(
        "predict", "--bundle", toy_copy, "--csv", tmp_path / "answers.csv", flat("a.png", DARK)
    )
    assert done.returncode == 5
    assert not list(tmp_path.glob("answers*"))


def test_a_network_that_is_damaged_at_the_second_scan_loses_nothing(run, toy_copy, tmp_path, flat):
    (toy_copy / "ct.int8.tflite").write_bytes(bytes((toy_copy / "ct.int8.tflite").stat().st_size))
    scans = flat("a.png", DARK), flat("b.png", MIDDLE)
    table = tmp_path / "answers.csv"
    done = run("predict", "--workers", 1, "--bundle", toy_copy, "--csv", table, *scans)
    assert done.returncode == 5
    kept, why = done.stderr.splitlines()[-2:]
    assert kept == f"covid-edge: not finished; what was answered is in {table}.part"
    assert "ct.int8.tflite" in why
    assert not table.exists()
    assert [row["file"] for row in rows(f"{table}.part")] == [str(scans[0])]


@pytest.mark.parametrize("option", ["--csv", "--report"])
def test_a_file_that_cannot_be_written_fails_before_any_scan(run, toy, flat, tmp_path, option):
    done = run(
        "predict", "--bundle", toy, option, tmp_path / "nowhere" / "out", flat("a.png", DARK)
    )
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert (
        last == f"covid-edge: {tmp_path}/nowhere/out cannot be written: No such file or directory"
    )
    assert not done.stdout


@pytest.mark.parametrize("option", ["--csv", "--report"])
def test_a_scan_is_not_taken_for_the_file_to_write(run, toy, flat, option):
    scan = flat("a.png", DARK)
    before = scan.read_bytes()
    done = run("predict", "--bundle", toy, option, scan, scan)
    assert done.returncode == 2
    assert "named like a picture" in done.stderr
    assert scan.read_bytes() == before


def test_the_file_that_stdout_leads_to_is_not_replaced(toy, flat, tmp_path):
    out = tmp_path / "out.txt"
    command = [sys.executable, "-m", "covid_edge", "predict", "--bundle", str(toy)]
    command += ["--csv", str(out), str(flat("a.png", DARK))]
    with open(out, "w") as stdout:
        done = subprocess.run(
            command, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=120, check=False
        )
    assert done.returncode == 2
    assert f"{out} stands for what is written to already" in done.stderr


def test_table_and_page_cannot_be_one_file(run, toy, flat, tmp_path):
    files = ["--csv", tmp_path / "out", "--report", tmp_path / "." / "out"]
    done = run("predict", "--bundle", toy, *files, flat("a.png", DARK))
    assert done.returncode == 2
    assert f"--csv and --report are one file: {tmp_path}/out" in done.stderr
    assert not (tmp_path / "out").exists()


def limited(*arguments, size: int) -> subprocess.CompletedProcess[str]:
    """Run ``predict`` where no file may grow over `size` bytes: a disk that is nearly full."""
    resource = pytest.importorskip("resource")
    command = [sys.executable, "-m", "covid_edge", "predict", *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )


@pytest.mark.skipif(os.name == "nt", reason="limits of Unix")
def test_a_disk_that_fills_up_leaves_whole_rows_and_two_sentences(toy, flat, tmp_path):
    table = tmp_path / "answers.csv"
    scans = [flat("a.png", DARK)] * 20
    done = limited("--bundle", toy, "--csv", table, *scans, size=3000)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == [
        f"covid-edge: not finished; what was answered is in {table}.part",
        f"covid-edge: {table} cannot be written: File too large",
    ]
    assert not table.exists()
    kept = rows(f"{table}.part")
    assert 0 < len(kept) < 20
    assert all(len(row["bundle.sha256"]) == 64 for row in kept)
    assert len(done.stdout.splitlines()) == len(kept)


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_interrupted_it_keeps_what_was_answered_and_says_where(toy, flat, tmp_path):
    table, page = tmp_path / "answers.csv", tmp_path / "report.html"
    options = ["--bundle", toy, "--csv", table, "--report", page]
    process = subprocess.Popen(
        [sys.executable, "-m", "covid_edge", "predict", *map(str, options), "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    for name in ("a.png", "b.png"):
        process.stdin.write(f"{flat(name, DARK)}\n".encode())
        process.stdin.flush()
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=60)
    assert process.returncode == 130
    assert words.decode().split("\n")[1:-2] == [
        f"covid-edge: not finished; what was answered is in {table}.part",
        f"covid-edge: not finished; what was answered is in {page}.part",
    ]
    assert not table.exists()
    assert not page.exists()
    assert [os.path.basename(row["file"]) for row in rows(f"{table}.part")] == ["a.png", "b.png"]
    kept = (tmp_path / "report.html.part").read_text()
    assert "Not finished." in kept
    assert kept.count('<section class="scan"') == 2
    assert kept.endswith("</html>\n")


@pytest.mark.skipif(os.name == "nt", reason="signals of Unix")
def test_interrupted_before_the_first_answer_it_leaves_nothing(toy, tmp_path):
    table = tmp_path / "answers.csv"
    process = subprocess.Popen(
        [sys.executable, "-m", "covid_edge", "predict", "--bundle", toy, "--csv", table, "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    process.stderr.readline()  # the notice
    part = tmp_path / "answers.csv.part"
    while not (part.exists() and part.stat().st_size):
        time.sleep(0.01)
    time.sleep(1)  # until it waits for the list
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=60)
    assert process.returncode == 130
    assert not words.strip()
    assert not os.listdir(tmp_path)
