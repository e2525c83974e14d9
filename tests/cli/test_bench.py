# SPDX-License-Identifier: Apache-2.0
"""``covid-edge bench``: what it reports, how reports are compared, and how it ends."""

from __future__ import annotations

import json
import re
import sys

import pytest

from conftest import TOY
from covid_edge import bench
from covid_edge.bench import Sensors, throttling
from covid_edge.cli import main
from covid_edge.errors import CovidEdgeError

ROWS = [
    (modality, start, threads)
    for start, threads in (("cold", 1), ("warm", 1), ("warm", 2))
    for modality in ("xray", "ct")
]


@pytest.fixture(scope="module")
def saved(run, tmp_path_factory):
    """A report of the toy bundle, as ``--save`` wrote it.

    From a process of its own: a child's peak memory is never less than its parent's, and the one
    that runs tests may have loaded TensorFlow.
    """
    path = tmp_path_factory.mktemp("reports") / "report.json"
    done = run("bench", "--bundle", TOY, "--threads", 2, "--rounds", 3, "--save", path)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def measured(saved, monkeypatch):
    """``covid-edge bench`` in this process, measuring what `saved` says."""
    monkeypatch.setattr(bench, "measure", lambda *_: json.loads(saved.read_text()))
    return lambda *arguments: main(["bench", *map(str, arguments)])


@pytest.fixture
def baseline(saved, tmp_path):
    """Write a baseline in which the first row took so many times as long as in `saved`."""

    def write(times: float):
        report = json.loads(saved.read_text())
        report["rows"][0]["relative"] *= times
        path = tmp_path / "baseline.json"
        path.write_text(json.dumps(report))
        return path

    return write


def test_a_report_has_every_stage_cold_and_warm_of_each_number_of_threads(saved):
    report = json.loads(saved.read_text())
    assert [(row["modality"], row["start"], row["threads"]) for row in report["rows"]] == ROWS
    for row in report["rows"]:
        assert list(row["ms"]) == ["read", "preprocess", "inference", "total"]
        for spread in row["ms"].values():
            assert 0 < spread["min"] <= spread["p50"] <= spread["p95"]
        assert row["relative"] > 0
    assert list(report["workload_ms"]) == ["1", "2"]
    assert report["bundle"]["name"] == "toy"
    assert report["board"] == bench.board()


def test_the_bundle_that_ships_is_timed_though_it_would_refuse_what_is_drawn(run, shipped):
    done = run("bench", "--bundle", shipped, "--threads", 1, "--rounds", 1, "--json")
    assert done.returncode == 0, done.stderr
    for row in json.loads(done.stdout)["rows"]:
        assert row["ms"]["inference"]["min"] > 1  # a refusal takes no time


def test_peak_memory_is_that_of_a_cold_process(saved):
    peaks = [row["peak_mb"] for row in json.loads(saved.read_text())["rows"]]
    assert all(20 < peak < 500 for peak in peaks[:2])
    assert peaks[2:] == [None] * 4


def test_the_whole_is_longer_than_its_stages(saved):
    for row in json.loads(saved.read_text())["rows"]:
        stages = [row["ms"][name]["min"] for name in ("read", "preprocess", "inference")]
        assert sum(stages) <= row["ms"]["total"]["min"]


def test_threads_are_doubled_up_to_the_number_asked_for(toy, monkeypatch):
    monkeypatch.setattr(bench, "COLD", 1)
    report = bench.measure(bench.Bundle.load(toy), threads=3, rounds=1)
    assert [row["threads"] for row in report["rows"] if row["modality"] == "ct"] == [1, 1, 2, 3]


def test_the_text_has_a_line_for_each_row(measured, capsys):
    assert measured() == 0
    out = capsys.readouterr().out
    assert re.search(r"^board +\S", out, re.MULTILINE)
    assert re.search(r"^throttling +\S", out, re.MULTILINE)
    for modality, start, threads in ROWS:
        title = f"{modality} {start}, {threads} thread"
        assert len([line for line in out.splitlines() if line.startswith(title)]) == 1


def test_json_is_the_saved_report_on_one_line(measured, saved, capsys):
    assert measured("--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == json.loads(saved.read_text())


def test_as_quick_as_the_baseline_ends_with_0(measured, saved, capsys):
    assert measured("--compare", saved) == 0
    assert capsys.readouterr().out.count("  1.00\n") == len(ROWS)


def test_slower_than_the_baseline_ends_with_8_and_says_what_is(measured, baseline, capsys):
    path = baseline(1 / 1.26)
    assert measured("--compare", path) == 8
    out, said = capsys.readouterr()
    assert "xray cold, 1 thread     1.26  slower\n" in out
    assert said == (
        f"covid-edge: slower than {path}, where at most 1.25 times as long is allowed: xray cold, "
        "1 thread 1.26 times; find out why, or make another baseline with --save\n"
    )


@pytest.mark.parametrize("times", [1 / 1.24, 1.24])
def test_a_change_within_a_quarter_is_neither(measured, baseline, capsys, times):
    assert measured("--compare", baseline(times)) == 0
    out = capsys.readouterr().out
    assert "slower" not in out
    assert "faster" not in out


def test_faster_than_the_baseline_is_marked_and_ends_with_0(measured, baseline, capsys):
    assert measured("--compare", baseline(1.26)) == 0
    out = capsys.readouterr().out
    assert "xray cold, 1 thread     0.79  faster: the baseline is out of date\n" in out


def test_changes_are_in_the_json(measured, baseline, capsys):
    assert measured("--json", "--compare", baseline(1 / 2)) == 8
    changes = json.loads(capsys.readouterr().out)["changes"]
    assert changes[0] == {"modality": "xray", "start": "cold", "threads": 1, "ratio": 2.0}
    assert [change["ratio"] for change in changes[1:]] == [1.0] * 5


def test_a_machine_twice_as_slow_is_not_a_slower_answer():
    """Both the answers and the workload take twice as long: the ratios stay."""
    ms = {"read": 1.0, "preprocess": 1.0, "inference": 1.0, "total": 4.0}
    twice = {stage: 2 * value for stage, value in ms.items()}
    then = bench._row("ct", "warm", 1, [ms], [5.0], None)
    now = bench._row("ct", "warm", 1, [twice], [10.0], None)
    (change,) = bench.changes({"rows": [now]}, {"rows": [then]})
    assert change["ratio"] == 1


def test_another_board_is_said(measured, saved, tmp_path, capsys):
    report = {**json.loads(saved.read_text()), "board": "Another Board"}
    path = tmp_path / "baseline.json"
    path.write_text(json.dumps(report))
    assert measured("--compare", path) == 0
    assert capsys.readouterr().err == "The baseline is of another board: Another Board.\n"


def test_a_folder_stands_for_the_file_named_after_the_board(measured, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "board", lambda: "Raspberry Pi 4 Model B Rev 1.4")
    assert measured("--save", tmp_path) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["raspberry-pi-4-model-b-rev-1.4.json"]
    assert measured("--compare", tmp_path) == 0


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"schema": 0}', '{"schema": 1, "board": "x", "rows": [{}]}']
)
def test_what_is_no_report_ends_with_2(measured, tmp_path, capsys, content):
    path = tmp_path / "baseline.json"
    path.write_text(content)
    assert measured("--compare", path) == 2
    out, said = capsys.readouterr()
    assert out == ""
    assert said == (
        f"covid-edge: {path} is no report of this version of covid-edge bench; make one with "
        "--save\n"
    )


def test_a_baseline_that_is_not_there_ends_with_2_before_anything_is_timed(run, tmp_path):
    done = run("bench", "--compare", tmp_path / "nothing.json", "--bundle", "nor this")
    assert done.returncode == 2
    assert done.stderr == (
        f"covid-edge: {tmp_path}/nothing.json cannot be read (No such file or directory); make a "
        "baseline with --save\n"
    )


def test_a_baseline_of_other_modalities_ends_with_2(measured, baseline, capsys):
    path = baseline(1)
    path.write_text(path.read_text().replace('"xray"', '"mri"').replace('"ct"', '"pet"'))
    assert measured("--compare", path) == 2
    assert "no modality of this bundle" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_ends_with_1_and_was_printed(measured, tmp_path, capsys):
    path = tmp_path / "nowhere" / "report.json"
    assert measured("--save", path) == 1
    out, said = capsys.readouterr()
    assert "xray cold" in out
    assert said == f"covid-edge: {path} cannot be written: No such file or directory\n"


def test_a_damaged_bundle_ends_with_5(run, toy_copy):
    path = toy_copy / "ct.int8.tflite"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    done = run("bench", "--bundle", toy_copy)
    assert (done.returncode, done.stdout) == (5, "")
    assert "ct.int8.tflite is not the file" in done.stderr


def test_a_cold_process_that_fails_is_named_with_its_reason():
    fails = [sys.executable, "-c", "import sys; sys.exit('no network')"]
    with pytest.raises(CovidEdgeError, match="a cold process ended with 1: no network"):
        bench._process(fails)


@pytest.fixture
def machine(tmp_path):
    """Write files under a root of its own, as a board's /sys and /proc have them."""

    def write(files: dict[str, str]):
        for path, text in files.items():
            target = tmp_path / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        return tmp_path

    return write


def test_sensors_of_a_board_that_tells(machine):
    root = machine(
        files={
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "600000\n",
            "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "1500000\n",
            "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "3\n",
            "sys/class/thermal/thermal_zone0/temp": "48312\n",
            "sys/class/thermal/thermal_zone1/temp": "51000\n",
        }
    )
    assert Sensors.read(root) == Sensors("ondemand", 1500.0, 51.0, 3)


def test_sensors_of_a_board_that_does_not_tell(tmp_path):
    assert Sensors.read(tmp_path) == Sensors(None, None, None, None)


def test_a_board_is_named_by_its_model(machine):
    root = machine(
        files={
            "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
            "proc/cpuinfo": "model name\t: ARMv8 Processor\n",
        }
    )
    assert bench.board(root) == "Raspberry Pi 4 Model B Rev 1.4"


def test_a_board_without_a_model_is_named_by_its_processor(machine):
    cpuinfo = "processor\t: 0\nmodel name\t: Intel(R) Core(TM) i5-1 CPU @ 2.00GHz\n"
    assert bench.board(machine({"proc/cpuinfo": cpuinfo})) == "Intel Core i5-1 @ 2.00GHz"


COOL = Sensors("performance", 1500.0, 50.0, 3)


@pytest.mark.parametrize(
    ("after", "slowed", "signs"),
    [
        (COOL, 1.09, []),
        (COOL, 1.2, ["the workload took 1.20 times the processor's time at the end"]),
        (Sensors("performance", 1000.0, 82.0, 3), 1, ["the clock fell from 1500 to 1000 MHz"]),
        (
            Sensors("performance", 1500.0, 82.0, 5),
            1,
            ["the processor counted 2 slowdowns for heat"],
        ),
        (Sensors(None, None, None, None), 1, []),
    ],
)
def test_throttling_is_noticed(after, slowed, signs):
    assert throttling(COOL, after, slowed) == signs
