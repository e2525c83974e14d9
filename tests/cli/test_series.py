# SPDX-License-Identifier: Apache-2.0
"""``covid-edge predict`` on CT series: slice by slice, and what they say together."""

from __future__ import annotations

import csv
import json
import math
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import ComputedRadiographyImageStorage

from conftest import BRIGHT, DARK, MIDDLE, TOY
from covid_edge.bundle import Bundle
from covid_edge.cli import main
from covid_edge.files import find_scans, name_scans
from covid_edge.many import predict_many
from covid_edge.predictor import Predictor
from covid_edge.report import record
from covid_edge.study import Study, sum_up
from dicoms import image, save

DARKER, BRIGHTER = MIDDLE - 12, MIDDLE + 20  # without COVID and with it, to the toy CT network


@pytest.fixture
def predict(toy, capsys):
    """Run ``covid-edge predict`` in this process; return its exit code and its two outputs."""

    def call(*arguments):
        code = main(["predict", "--bundle", str(toy), *map(str, arguments)])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def put(tmp_path):
    """Write a flat CT slice at a height (mm) and return its path."""

    def write(name: str, height: float, brightness: int = MIDDLE, uid: str = "1.2.3", **tags):
        path = tmp_path / "scans" / name
        path.parent.mkdir(exist_ok=True)
        tags = {
            "SeriesInstanceUID": uid,
            "ImagePositionPatient": [0, 0, height],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            **tags,
        }
        data = image(np.full((64, 64), brightness, np.uint8), tags.pop("modality", "CT"), **tags)
        return save(path, data)

    return write


@pytest.fixture
def folder(put, flat, tmp_path):
    """Of two series, interleaved: three slices, two; and a plain picture among them."""
    put("a.dcm", 3, DARKER)
    put("b.dcm", 1, MIDDLE, "1.2.4")
    put("c.dcm", 1, BRIGHTER)
    flat("scans/d.png", DARK)
    put("e.dcm", 2, MIDDLE)
    put("f.dcm", 0, BRIGHTER, "1.2.4")
    return tmp_path / "scans"


def records(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def without_times(out: str) -> list[dict]:
    return [{**record, "latency_ms": None} for record in records(out)]


def test_a_folder_is_answered_series_after_series_slice_by_slice(predict, folder):
    code, out, _ = predict("--json", folder)
    assert code == 0
    places = [
        (r["file"].rpartition("/")[2], r["status"], *(r["series"] or {}).values())[:5]
        for r in records(out)
    ]
    assert places == [
        ("scan 1", "ok", 1, 1, 3),
        ("scan 2", "ok", 1, 2, 3),
        ("scan 3", "ok", 1, 3, 3),
        ("series 1", "series", 1, None, 3),
        ("scan 4", "ok", 2, 1, 2),
        ("scan 5", "ok", 2, 2, 2),
        ("series 2", "series", 2, None, 2),
        ("d.png", "ok"),
    ]


def test_together_is_the_mean_of_the_log_odds(predict, folder):
    *slices, together = records(predict("--json", folder)[1])[:4]
    odds = [math.log(r["probability"] / (1 - r["probability"])) for r in slices]
    assert len(set(odds)) == 3
    assert together["probability"] == pytest.approx(1 / (1 + math.exp(-sum(odds) / 3)), abs=1e-9)
    assert together["probability"] > 0.55  # where the toy bundle excludes non-COVID
    assert (together["label"], together["labels"]) == ("covid", ["covid"])
    assert together["series"] == {
        "number": 1,
        "slice": None,
        "slices": 3,
        "answered": 3,
        "refused": 0,
        "failed": 0,
        "rule": "mean-log-odds",
    }
    for key in ("modality", "threshold", "operating_point", "network", "bundle"):
        assert together[key] == slices[0][key]
    assert list(together) == list(slices[0])


@pytest.mark.parametrize(
    ("point", "label"), [("conformal", "uncertain"), ("balanced", "non-covid")]
)
def test_the_bundles_rule_for_slices_makes_the_label(predict, put, point, label):
    paths = put("a.dcm", 1, MIDDLE - 18), put("b.dcm", 2, MIDDLE - 8)
    *_, together = records(predict("--json", "--operating-point", point, *paths)[1])
    assert 0.45 < together["probability"] < 0.5  # both labels remain possible here
    assert (together["label"], together["operating_point"]) == (label, point)


def test_a_line_for_people(predict, put, folder):
    put("g.dcm", 9, BRIGHT)
    code, out, _ = predict(folder)
    (line,) = [line for line in out.splitlines() if line.startswith("series 1 ")]
    assert code == 4
    assert line.endswith("  4 slices together: 3 answered, 1 refused")
    assert "  ct    covid      P(covid) 0." in line
    assert {line.index("  ct  ") for line in out.splitlines() if "  ct  " in line} == {
        len(str(folder / "d.png"))
    }


def test_what_is_refused_or_cannot_be_read_is_counted_and_does_not_count(predict, put):
    answered = put("a.dcm", 1, BRIGHTER)
    alone = records(predict("--json", answered)[1])[0]
    put("b.dcm", 2, BRIGHT)  # no chest scan, to the toy router
    cut = put("c.dcm", 3, DARKER)
    cut.write_bytes(cut.read_bytes()[:-100])
    code, out, _ = predict("--json", answered.parent)
    *slices, together = records(out)
    assert code == 3
    assert [r["status"] for r in slices] == ["ok", "refused", "error"]
    assert slices[2]["series"] == {"number": 1, "slice": 3, "slices": 3}
    assert together["series"]["answered"] == 1
    assert (together["series"]["refused"], together["series"]["failed"]) == (1, 1)
    assert together["probability"] == pytest.approx(alone["probability"], abs=1e-9)


def test_a_series_without_an_answer_has_no_probability(predict, put):
    paths = [put("a.dcm", 1, BRIGHT), put("b.dcm", 2, BRIGHT)]
    code, out, _ = predict("--json", *paths)
    together = records(out)[-1]
    assert code == 4
    assert together["reason"] == "none of its slices was answered"
    assert together["label"] is together["probability"] is together["network"] is None
    assert "2 slices together: 0 answered, 2 refused" in predict(*paths)[1]


def test_a_folder_of_plain_pictures_stays_a_batch(predict, flat, tmp_path):
    for name in ("a.png", "b.png"):
        flat(f"scans/{name}", MIDDLE)
    out = records(predict("--json", tmp_path / "scans")[1])
    assert [(r["status"], r["series"]) for r in out] == [("ok", None)] * 2


def test_xrays_of_one_series_stay_a_batch(predict, put):
    tags = {"modality": "CR", "SOPClassUID": ComputedRadiographyImageStorage}
    paths = [put("a.dcm", 2, DARK, **tags), put("b.dcm", 1, DARK, **tags)]
    out = records(predict("--json", *paths)[1])
    assert [(r["status"], r["series"]) for r in out] == [("ok", None)] * 2


def test_a_list_on_standard_input_is_answered_as_it_comes(run, toy, folder):
    paths = "\n".join(map(str, sorted(folder.iterdir())))
    done = run("predict", "--bundle", toy, "--json", "-", input=paths)
    assert [r["status"] for r in records(done.stdout)] == ["ok"] * 6


def test_workers_change_neither_answers_nor_order(predict, put, folder):
    (folder / "broken.dcm").write_bytes(put("b2.dcm", 5, uid="1.2.4").read_bytes()[:-10])
    one = predict("--json", "--workers", 1, folder)
    two = predict("--json", "--workers", 2, folder)
    assert one[0] == two[0] == 3
    assert without_times(one[1]) == without_times(two[1])


def test_an_executor_changes_nothing_either(put, folder):
    (folder / "broken.dcm").write_bytes(put("b2.dcm", 5, uid="1.2.4").read_bytes()[:-10])
    bundle = Bundle.load(TOY)
    scans = list(name_scans(find_scans([str(folder)], ()), sort=True))
    with Pickling(2) as executor:
        here, there = (
            list(sum_up(predict_many(scans, pool, workers=2, bundle=TOY), bundle))
            for pool in (None, executor)
        )
    plain = [[{**record(one, {}), "latency_ms": None} for one in all_] for all_ in (here, there)]
    assert plain[0] == plain[1]
    assert [one["status"] for one in plain[0]].count("series") == 2
    assert [one["series"]["failed"] for one in plain[0] if one["status"] == "series"] == [0, 1]


class Pickling(ThreadPoolExecutor):
    """Hands over what it is given and gives as processes do."""

    def submit(self, fn, /, *args):
        task = pickle.dumps((fn, args))

        def run():
            fn, args = pickle.loads(task)
            return pickle.loads(pickle.dumps(fn(*args)))

        return super().submit(run)


def test_the_table_has_a_row_for_each_series(predict, folder, tmp_path):
    _, out, _ = predict("--json", "--csv", tmp_path / "t.csv", folder)
    with open(tmp_path / "t.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == [r["status"] for r in records(out)]
    assert [row["series.number"] for row in rows] == [*"1111222", ""]
    assert (rows[3]["series.answered"], rows[3]["series.rule"]) == ("3", "mean-log-odds")
    assert float(rows[3]["probability"]) == records(out)[3]["probability"]


def test_the_page_has_a_section_for_each_series_and_counts_scans(predict, folder, tmp_path):
    predict("--report", tmp_path / "r.html", folder)
    page = (tmp_path / "r.html").read_text()
    assert page.count('<section class="scan"') == 8
    assert "Overview of 6 files" in page
    (section,) = [part for part in page.split("<section") if "</span> series 1</h2>" in part]
    assert "Chest CT series" in section
    assert "3: 3 answered, 0 refused, 0 failed" in section
    assert "No error rate is promised of a series" in section
    assert 'class="needle"' in section
    assert "<figure" not in section


def test_a_series_without_an_answer_says_so_on_the_page(predict, put, tmp_path):
    predict("--report", tmp_path / "r.html", put("a.dcm", 1, BRIGHT), put("b.dcm", 2, BRIGHT))
    page = (tmp_path / "r.html").read_text()
    assert "None of its slices was answered." in page


def test_no_uid_and_no_name_comes_out(run, toy, put, tmp_path):
    for number in range(4):
        put(
            f"MARKNAME{number}.dcm",
            number,
            BRIGHT if number == 3 else MIDDLE,
            f"1.2.77777.{number % 2}",
            StudyInstanceUID="1.2.77777.9",
            SeriesDescription="MARKSERIES",
            PatientName="MARK^PATIENT",
            SliceLocation=77777,
            InstanceNumber=77777,
        )
    cut = tmp_path / "scans" / "MARKNAME0.dcm"
    cut.write_bytes(cut.read_bytes()[:-9])
    table, page = tmp_path / "t.csv", tmp_path / "r.html"
    arguments = ["--json", "--csv", table, "--report", page, tmp_path / "scans"]
    done = run("predict", "--bundle", toy, *arguments)
    said = done.stdout + done.stderr + table.read_text() + page.read_text()
    assert "series 2" in said
    assert [marker for marker in ("MARK", "1.2.77777", "77777") if marker in said] == []


def test_a_series_is_summed_up_as_soon_as_its_last_slice_is_answered(folder):
    scans = list(name_scans(find_scans([str(folder)], ()), sort=True))
    asked = []

    def answers():
        predictor = Predictor(TOY)
        for scan in scans:
            asked.append(scan)
            yield predictor.predict(scan)

    for outcome in sum_up(answers(), Bundle.load(TOY)):
        if isinstance(outcome, Study):
            assert asked[-1].series.slice == outcome.slices
            assert asked[-1].series.number == outcome.number
    assert len(asked) == 6


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_hold_the_volume(put):
    """400 slices of 512 x 512 would make 100 MB."""
    pixels = np.full((512, 512), MIDDLE, np.uint8)
    for number in range(400):
        put(f"{number}.dcm", number, Rows=512, Columns=512, PixelData=pixels.tobytes())
    folder = str(put("400.dcm", 400).parent)
    predictor = Predictor(TOY)
    scans = list(name_scans(find_scans([folder], ()), sort=True))
    outcomes = sum_up(map(predictor.predict, scans), predictor.bundle)
    for _ in range(50):
        next(outcomes)
    before = resident()
    *_, together = outcomes
    assert together.answered == 401
    assert (resident() - before) * 4096 < 20e6
