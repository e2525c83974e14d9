# SPDX-License-Identifier: Apache-2.0
"""``covid-edge predict --report``: beside which other options, and with which exit code."""

from __future__ import annotations

import json

import pytest

from conftest import BRIGHT, DARK, MIDDLE


@pytest.mark.parametrize("arguments", [["--json", "--workers", 1], ["--workers", 2], ["-"]])
def test_a_page_and_a_table_beside_the_answers(run, toy, flat, tmp_path, arguments):
    scans = [flat("a.png", DARK), flat("b.png", MIDDLE), flat("c.png", BRIGHT)]
    files = ["--report", tmp_path / "report.html", "--csv", tmp_path / "answers.csv"]
    given = arguments if "-" in arguments else [*arguments, *scans]
    listing = "".join(f"{scan}\n" for scan in scans)
    done = run("predict", "--bundle", toy, *files, *given, input=listing)
    assert done.returncode == 4
    assert done.stderr == "Toy bundle: its answers mean nothing.\n"
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    if "--json" in arguments:
        assert [json.loads(line)["status"] for line in lines] == ["ok", "ok", "refused"]
    text = (tmp_path / "report.html").read_text()
    places = [text.index(f"</span> {scan}</h2>") for scan in scans]
    assert places == sorted(places)
    assert text.count("data:image/jpeg") == 3
    assert "Not finished" not in text
    assert len((tmp_path / "answers.csv").read_text().splitlines()) == 4


def test_help_names_both_options(run):
    words = run("predict", "--help").stdout
    assert "--csv FILE" in words
    assert "--report FILE" in words
