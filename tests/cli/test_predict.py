# SPDX-License-Identifier: Apache-2.0
"""``covid-edge predict``: what it prints, in which order, and how it ends."""

from __future__ import annotations

import json
import os
import re
import shutil

import pytest

from conftest import BRIGHT, DARK, DOUBTFUL, EXAMPLES, MIDDLE
from covid_edge.bundle import OPERATING_POINTS, SCHEMA
from covid_edge.cli import cli
from covid_edge.files import find_scans

KEYS = [
    "file",
    "status",
    "modality",
    "label",
    "labels",
    "probability",
    "threshold",
    "operating_point",
    "network",
    "refusal",
    "reason",
    "dicom",
    "latency_ms",
    "bundle",
    "heatmap",
    "series",
]


@pytest.fixture
def predict(run, toy):
    def call(*arguments, **options):
        return run("predict", "--bundle", toy, *arguments, **options)

    return call


def records(done) -> list[dict]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def sentence(text: str) -> bool:
    """One line for people, and no traceback."""
    return text.count("\n") == 1 and text.startswith("covid-edge: ")


def test_one_aligned_line_a_scan_and_the_notice_once(predict, flat):
    short, long = flat("a.png", 60), flat("longer name.png", MIDDLE)
    done = predict(short, long)
    assert done.returncode == 0
    assert done.stderr == "Toy bundle: its answers mean nothing.\n"
    first, second = done.stdout.splitlines()
    assert re.fullmatch(
        re.escape(str(short)) + r" +xray  covid      P\(covid\) 0\.8\d\d +\d+\.\d ms", first
    )
    assert second.startswith(f"{long}  ct  ")
    assert first.index("P(covid)") == second.index("P(covid)")


def test_a_refused_scan_says_why_and_ends_with_4(predict, flat):
    done = predict(flat("a.png", BRIGHT), flat("b.png", DARK))
    assert done.returncode == 4
    refused, answered = done.stdout.splitlines()
    assert "refused" in refused
    assert refused.endswith("ms  not a chest X-ray or chest CT")
    assert "xray" in answered


def test_an_uncertain_scan_says_what_remains_possible_and_ends_with_0(predict, flat):
    done = predict(flat("a.png", DOUBTFUL), flat("b.png", DARK))
    assert done.returncode == 0
    uncertain, other = done.stdout.splitlines()
    assert "  uncertain  P(covid) " in uncertain
    assert uncertain.endswith("ms  non-covid and covid both remain possible")
    assert uncertain.index("P(covid)") == other.index("P(covid)")


@pytest.mark.parametrize(
    ("point", "label"),
    [("conformal", "uncertain"), ("balanced", "non-covid"), ("sensitive", "covid")],
)
def test_the_operating_point_decides(run, toy_copy, flat, point, label):
    path = toy_copy / "bundle.json"
    root = json.loads(path.read_text())
    root["modalities"]["xray"]["models"][0]["operating_points"]["balanced"]["value"] = 0.53
    path.write_text(json.dumps(root))
    scan = flat("a.png", DOUBTFUL)
    done = run("predict", "--json", "--operating-point", point, "--bundle", toy_copy, scan)
    (record,) = records(done)
    assert (record["label"], record["operating_point"]) == (label, point)
    assert done.returncode == 0


def test_the_operating_points_of_the_command_are_those_of_bundles():
    (option,) = [
        option for option in cli.commands["predict"].params if option.name == "operating_point"
    ]
    assert tuple(option.type.choices) == OPERATING_POINTS


def test_an_unreadable_file_is_one_sentence_and_ends_with_3(predict, flat, tmp_path):
    done = predict(tmp_path / "nothing.png", flat("b.png", DARK))
    assert done.returncode == 3
    assert f"covid-edge: {tmp_path}/nothing.png: no such file\n" in done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_unreadable_wins_over_refused(predict, flat, tmp_path):
    done = predict(flat("a.png", BRIGHT), tmp_path / "nothing.png", flat("b.png", BRIGHT))
    assert done.returncode == 3


def test_json_has_these_keys_whatever_happens(predict, flat, tmp_path):
    done = predict(
        "--json", flat("ok.png", DARK), flat("bright.png", BRIGHT), tmp_path / "nothing.png"
    )
    assert done.returncode == 3
    ok, refused, error = records(done)
    for record in (ok, refused, error):
        assert list(record) == KEYS
        assert list(record["latency_ms"]) == ["read", "preprocess", "inference", "total"]
        assert list(record["bundle"]) == ["name", "version", "sha256"]
        assert re.fullmatch("[0-9a-f]{64}", record["bundle"]["sha256"])
    assert [record["status"] for record in (ok, refused, error)] == ["ok", "refused", "error"]
    assert (ok["modality"], ok["label"], ok["reason"]) == ("xray", "non-covid", None)
    assert 0 < ok["probability"] < ok["threshold"] == 0.5
    assert refused["reason"] == "not a chest X-ray or chest CT"
    assert (error["file"], error["reason"]) == (f"{tmp_path}/nothing.png", "no such file")
    assert (ok["labels"], ok["operating_point"]) == (["non-covid"], "conformal")
    assert ok["network"] == {"file": "xray.int8.tflite", "device": "cpu"}
    for key in KEYS[2:9]:
        assert refused[key] is error[key] is None


def test_json_errors_are_lines_not_sentences(predict, tmp_path):
    done = predict("--json", tmp_path / "nothing.png")
    assert done.stderr == "Toy bundle: its answers mean nothing.\n"
    assert len(records(done)) == 1


def test_a_folder_is_searched_to_any_depth_in_order(predict, flat, tmp_path):
    folder = tmp_path / "scans"
    for name in ("b/2.png", "b/1.PNG", "a.jpg", "c/d/e.tif", "b.png"):
        flat(f"scans/{name}", DARK)
    (folder / "notes.txt").write_text("no picture")
    flat("scans/.hidden.png", DARK)
    flat("scans/.cache/x.png", DARK)
    done = predict("--json", folder)
    assert done.returncode == 0
    found = [os.path.relpath(record["file"], folder) for record in records(done)]
    assert found == ["a.jpg", "b.png", "b/1.PNG", "b/2.png", "c/d/e.tif"]


def test_a_named_file_is_tried_whatever_it_is_called(predict, flat, tmp_path):
    path = tmp_path / "scan.dat"
    shutil.copy(flat("a.png", DARK), path)
    assert predict(path).returncode == 0


def test_one_bad_file_in_a_folder_never_stops_the_rest(predict, flat, tmp_path):
    for name in ("1.png", "3.png", "5.png"):
        flat(f"scans/{name}", DARK)
    (tmp_path / "scans/2.png").write_text("text")
    data = flat("scans/4.png", DARK).read_bytes()
    (tmp_path / "scans/4.png").write_bytes(data[: len(data) // 2])
    done = predict("--json", tmp_path / "scans")
    assert done.returncode == 3
    statuses = [record["status"] for record in records(done)]
    assert statuses == ["ok", "error", "ok", "error", "ok"]


def test_a_folder_without_pictures_ends_with_3(predict, tmp_path):
    (tmp_path / "empty").mkdir()
    done = predict(tmp_path / "empty")
    assert done.returncode == 3
    assert "holds no pictures" in done.stderr


def test_a_folder_that_cannot_be_opened_is_told(tmp_path, monkeypatch):
    def denied(name):
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr(os, "scandir", denied)  # chmod would not stop root
    (error,) = find_scans([str(tmp_path)], ())
    assert str(error) == f"{tmp_path}: cannot be opened: Permission denied"


def test_a_list_on_standard_input(predict, flat, tmp_path):
    flat("scans/two words.png", DARK)
    listing = f"{flat('a.png', DARK)}\n\n{tmp_path / 'scans'}\r\n{tmp_path / 'nothing.png'}"
    done = predict("--json", "-", input=listing)
    assert done.returncode == 3
    names = [os.path.basename(record["file"]) for record in records(done)]
    assert names == ["a.png", "two words.png", "nothing.png"]


def test_an_empty_list_ends_with_3(predict):
    done = predict("-", input="\n")
    assert done.returncode == 3
    assert "standard input is empty" in done.stderr


def test_modality_overrides_the_router(predict, flat):
    done = predict("--json", "--modality", "ct", flat("a.png", BRIGHT))
    assert records(done)[0]["modality"] == "ct"


def test_threads_are_taken(predict, flat):
    assert predict("--threads", "2", flat("a.png", DARK)).returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="such names are not allowed there")
def test_a_name_that_is_no_text_stays_on_one_line(predict, tmp_path, flat):
    path = os.fsencode(tmp_path) + b"/odd\n\xff.png"
    shutil.copy(flat("a.png", DARK), path)
    human, machine = predict(os.fsdecode(path)), predict("--json", os.fsdecode(path))
    assert human.returncode == machine.returncode == 0
    assert len(human.stdout.splitlines()) == 1
    assert records(machine)[0]["file"] == os.fsdecode(path)


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict"],
        ["predict", "--threads", "0", "a.png"],
        ["predict", "--threads", "many", "a.png"],
        ["predict", "--modality", "mri", "a.png"],
        ["predict", "--device", "npu", "a.png"],
        ["predict", "--operating-point", "bold", "a.png"],
        ["predict", "--nonsense", "a.png"],
        ["nonsense"],
    ],
)
def test_usage_errors_end_with_2(run, arguments):
    done = run(*arguments)
    assert done.returncode == 2
    assert "Usage: covid-edge" in done.stderr
    assert not done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--device", "edgetpu"], "holds no file of xray for device 'edgetpu'"),
        (["--device", "gpu", "--delegate", "libnothing.so"], "libnothing.so cannot be loaded"),
    ],
)
def test_a_device_that_cannot_be_had_ends_with_6(predict, flat, arguments, words):
    done = predict(*arguments, flat("a.png", DARK))
    assert done.returncode == 6
    last = done.stderr.splitlines(keepends=True)[-1]
    assert sentence(last)
    assert words in last
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_auto_says_once_which_device_answers(predict, flat):
    done = predict("--json", "--device", "auto", flat("a.png", DARK), flat("b.png", DARK))
    assert done.returncode == 0
    (device,) = {record["network"]["device"] for record in records(done)}
    assert done.stderr == f"device: {device}\nToy bundle: its answers mean nothing.\n"


def test_no_interpreter_ends_with_6(predict, flat, tmp_path):
    for package in ("ai_edge_litert", "tflite_runtime"):
        (tmp_path / "hide" / package).mkdir(parents=True)
        (tmp_path / "hide" / package / "__init__.py").touch()
    done = predict(
        flat("a.png", DARK),
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                [str(tmp_path / "hide"), os.environ.get("PYTHONPATH", "")]
            ),
        },
    )
    assert done.returncode == 6
    assert sentence(done.stderr)
    assert "pip install ai-edge-litert" in done.stderr


def change_byte(folder):
    path = folder / "xray.int8.tflite"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def lose_model(folder):
    (folder / "xray.int8.tflite").unlink()


def renew_schema(folder):
    path = folder / "bundle.json"
    path.write_text(path.read_text().replace(f'"schema": {SCHEMA}', f'"schema": {SCHEMA + 1}'))


def break_json(folder):
    (folder / "bundle.json").write_text("{")


def lose_everything(folder):
    shutil.rmtree(folder)


def swap_model_for_text(folder):
    """A file that has the right hash and is no model."""
    import hashlib

    import xxhash

    path = folder / "bundle.json"
    root = json.loads(path.read_text())
    data = b"not a model at all"
    (folder / "xray.int8.tflite").write_bytes(data)
    root["modalities"]["xray"]["models"][0].update(
        sha256=hashlib.sha256(data).hexdigest(),
        xxh3=xxhash.xxh3_128_hexdigest(data),
        bytes=len(data),
    )
    path.write_text(json.dumps(root))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (change_byte, "xray.int8.tflite is not the file that bundle.json describes"),
        (lose_model, "xray.int8.tflite is missing"),
        (renew_schema, f"schema {SCHEMA + 1}"),
        (break_json, "is not JSON"),
        (lose_everything, "no bundle there"),
        (swap_model_for_text, "cannot be loaded by"),
    ],
)
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_bad_bundle_is_one_sentence_and_ends_with_5(run, toy_copy, flat, damage, words, form):
    damage(toy_copy)
    done = run("predict", *form, "--bundle", toy_copy, flat("a.png", DARK))
    assert done.returncode == 5
    last = done.stderr.splitlines(keepends=True)[-1]
    assert sentence(last)
    assert words in last
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_the_examples_are_answered_by_a_shipped_bundle(run, each_shipped):
    done = run("predict", "--json", "--bundle", each_shipped.name, EXAMPLES)
    assert done.returncode == 0
    assert {record["bundle"]["name"] for record in records(done)} == {each_shipped.name}
    answers = {os.path.basename(record["file"]): record for record in records(done)}
    assert {name: record["modality"] for name, record in answers.items()} == {
        "ct.png": "ct",
        "xray.png": "xray",
    }


@pytest.mark.parametrize("command", [("predict", EXAMPLES), ("info",), ("bench",)])
def test_an_unknown_bundle_is_one_sentence_that_names_those_that_ship(run, shipped, command):
    done = run(*command, "--bundle", "light")
    assert done.returncode == 5
    assert "light is no folder here and no bundle that ships with covid-edge (" in done.stderr
    assert "mmtl" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_workers_change_neither_answers_nor_order(predict, flat, tmp_path):
    for number in range(5):
        flat(f"scans/{number}a.png", DARK)
        flat(f"scans/{number}b.png", MIDDLE)
    (tmp_path / "scans" / "2c.png").write_bytes(b"no picture")
    one, three, all_cores = (
        [
            {**record, "latency_ms": None}
            for record in records(predict("--json", *workers, tmp_path / "scans"))
        ]
        for workers in (["--workers", 1], ["--workers", 3], [])
    )
    assert one == three == all_cores
    assert len(one) == 11


def test_workers_must_be_at_least_1(predict, flat):
    done = predict("--workers", 0, flat("a.png", DARK))
    assert done.returncode == 2
    assert "--workers" in done.stderr
