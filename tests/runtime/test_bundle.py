# SPDX-License-Identifier: Apache-2.0
"""A sound bundle is read as it is written; any other is one sentence that names what is wrong."""

from __future__ import annotations

import hashlib
import json
import math
from functools import reduce
from operator import getitem
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from conftest import TOY
from covid_edge.bundle import OPERATING_POINTS, SCHEMA, TARGETS, Bundle, Conformal, Threshold
from covid_edge.errors import BundleError
from covid_edge.preprocess import PreprocessSpec

TOY_CT = Bundle.load(TOY).modalities["ct"].models[0]


def edit(folder: Path, place: str, value: object) -> None:
    """Set one field of bundle.json, named by its dotted place; ``...`` removes it."""
    path = folder / "bundle.json"
    root = json.loads(path.read_text())
    *parents, key = (int(part) if part.isdigit() else part for part in place.split("."))
    parent = reduce(getitem, parents, root)
    if value is ...:
        del parent[key]
    else:
        parent[key] = value
    path.write_text(json.dumps(root))


def refuses(folder: Path, *words: str) -> None:
    with pytest.raises(BundleError) as caught:
        Bundle.load(folder)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(folder), *words):
        assert word in message


def test_what_is_written_is_read(toy):
    bundle = Bundle.load(toy)
    assert (bundle.name, bundle.version, bundle.system) == ("toy", "0.0.1", "mmtl")
    assert bundle.router.labels == ("ct", "other", "xray")
    assert bundle.router.accept == 0.8
    ct = bundle.modalities["ct"]
    assert ct.labels == ("non-covid", "covid")
    assert ct.preprocess == PreprocessSpec(None, 4.0, (8, 8), (2, 2), (32, 32))
    assert [model.target for model in ct.models] == ["cpu-int8", "fp32", "gpu-fp16"]
    int8, fp32, _ = ct.models
    assert (int8.calibration.scale, int8.calibration.bias) == (0.5, 0.25)
    assert fp32.calibration.bias == 0.5
    assert (int8.balanced.value, int8.sensitive.value) == (0.5, 0.3)
    assert int8.conformal == Conformal(0.1, 0.45, 0.55, "nothing")
    assert int8.file.path == toy / "ct.int8.tflite"
    assert bundle.extra["training"] == {"sources": []}


def test_its_identity_is_the_hash_of_bundle_json(toy):
    digest = hashlib.sha256((toy / "bundle.json").read_bytes()).hexdigest()
    assert Bundle.load(str(toy)).sha256 == digest


def test_files_are_named_by_use(toy):
    networks = [f"{m} {target}" for m in ("xray", "ct") for target in TARGETS[:3]]
    assert list(Bundle.load(toy).files) == ["router", *networks]


def test_the_reference_is_a_file_of_the_bundle(toy_copy):
    data = b"file,split\n"
    (toy_copy / "reference.csv").write_bytes(data)
    entry = {
        "file": "reference.csv",
        "sha256": hashlib.sha256(data).hexdigest(),
        "xxh3": xxhash.xxh3_128_hexdigest(data),
        "bytes": len(data),
    }
    edit(toy_copy, "reference", entry)
    Bundle.load(toy_copy).files["reference"].verify()


def test_sound_files_pass_both_checks(toy):
    for file in Bundle.load(toy).files.values():
        file.check()
        file.verify()


def test_no_such_folder(tmp_path):
    refuses(tmp_path / "nothing", "no bundle there")


def test_a_folder_without_bundle_json(tmp_path):
    refuses(tmp_path, "bundle.json", "no bundle there")


@pytest.mark.parametrize("text", ["", "{", "\xff", "[" * 100_000])
def test_not_json(toy_copy, text):
    (toy_copy / "bundle.json").write_text(text, encoding="latin-1")
    refuses(toy_copy, "bundle.json", "is not JSON")


def test_newer_schema(toy_copy):
    edit(toy_copy, "schema", SCHEMA + 1)
    refuses(toy_copy, f"schema {SCHEMA + 1}", "upgrade covid-edge")


def test_older_schema(toy_copy):
    edit(toy_copy, "schema", SCHEMA - 1)
    refuses(toy_copy, f"schema {SCHEMA - 1}", f"reads schema {SCHEMA}", "make the bundle again")


def test_two_files_for_one_target(toy_copy):
    edit(toy_copy, "modalities.ct.models.1.target", "cpu-int8")
    refuses(toy_copy, "is wrong: modalities.ct.models must be files of different targets")


def test_a_missing_model_file(toy_copy):
    (toy_copy / "ct.int8.tflite").unlink()
    refuses(toy_copy, "ct.int8.tflite is missing")


def test_a_truncated_model_file(toy_copy):
    path = toy_copy / "ct.int8.tflite"
    path.write_bytes(path.read_bytes()[:-1])
    refuses(toy_copy, "ct.int8.tflite has", "bytes where bundle.json says")


@pytest.mark.parametrize(("check", "name"), [("check", "XXH3"), ("verify", "SHA-256")])
def test_a_changed_byte_fails_both_checks(toy_copy, check, name):
    path = toy_copy / "ct.int8.tflite"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    file = Bundle.load(toy_copy).files["ct cpu-int8"]
    with pytest.raises(BundleError, match=rf"ct\.int8\.tflite is not the file .* {name} differs"):
        getattr(file, check)()


@pytest.mark.parametrize("value", [None, [], "text", 1])
def test_bundle_json_that_is_no_object(toy_copy, value):
    (toy_copy / "bundle.json").write_text(json.dumps(value))
    refuses(toy_copy, "must be an object")


@pytest.mark.parametrize(
    "place",
    [
        "schema",
        "name",
        "version",
        "system",
        "notice",
        "router",
        "router.file",
        "router.preprocess",
        "router.labels",
        "router.temperature",
        "router.accept",
        "modalities",
        "modalities.ct.models",
        "modalities.ct.models.0.target",
        "modalities.ct.models.0.sha256",
        "modalities.ct.models.0.xxh3",
        "modalities.ct.models.0.bytes",
        "modalities.ct.preprocess.size",
        "modalities.ct.labels",
        "modalities.ct.models.0.calibration",
        "modalities.ct.models.0.calibration.scale",
        "modalities.ct.models.0.operating_points",
        "modalities.ct.models.0.operating_points.balanced",
        "modalities.ct.models.0.operating_points.balanced.value",
        "modalities.ct.models.0.operating_points.sensitive.chosen",
        "modalities.ct.models.0.conformal",
        "modalities.ct.models.0.conformal.alpha",
        "modalities.ct.models.0.conformal.covid_from",
        "modalities.ct.models.0.conformal.non_covid_to",
        "modalities.ct.models.0.conformal.fitted_on",
    ],
)
@pytest.mark.parametrize("value", [..., None, [1], True], ids=["missing", "null", "list", "true"])
def test_a_field_that_is_missing_or_of_the_wrong_type_is_named(toy_copy, place, value):
    edit(toy_copy, place, value)
    refuses(toy_copy, "is wrong: ", place.rsplit(".", 1)[-1])


@pytest.mark.parametrize(
    ("place", "value", "word"),
    [
        ("modalities", {}, "one modality or more"),
        ("modalities.ct.models", [], "a list of one object or more"),
        ("modalities.ct.models.1", "fp32", "modalities.ct.models[1] must be an object"),
        ("modalities.ct.models.0.target", "npu", "models[0].target must be one of cpu-int8, fp32"),
        ("modalities.ct.models.0.file", "../ct.int8.tflite", "own folder"),
        ("modalities.ct.models.0.file", "/etc/passwd", "own folder"),
        ("modalities.ct.models.0.sha256", "abc", "64 hexadecimal digits"),
        ("modalities.ct.models.0.xxh3", "g" * 32, "32 hexadecimal digits"),
        ("modalities.ct.mirrored", ..., "ct.mirrored must be true or false, and is missing"),
        ("modalities.ct.mirrored", 1, "ct.mirrored must be true or false"),
        ("modalities.ct.labels", ["covid", "covid"], "different labels"),
        ("modalities.ct.labels", ["a", "b", "c"], "two labels"),
        ("modalities.ct.models.0.calibration.scale", -1, "more than 0"),
        ("modalities.ct.models.0.calibration.bias", float("nan"), "finite"),
        ("modalities.ct.labels", ["non-covid", "uncertain"], "other words than 'uncertain'"),
        ("modalities.ct.models.0.operating_points.balanced.value", 1.5, "from 0 to 1"),
        ("modalities.ct.models.0.operating_points.sensitive.value", -0.1, "from 0 to 1"),
        ("modalities.ct.models.0.conformal.alpha", 0, "more than 0 and less than 1"),
        ("modalities.ct.models.0.conformal.alpha", 1.0, "more than 0 and less than 1"),
        ("modalities.ct.models.0.conformal.alpha", float("nan"), "finite"),
        ("modalities.ct.models.0.conformal.covid_from", 1.5, "from 0 to 1"),
        ("modalities.ct.models.0.conformal.non_covid_to", float("inf"), "from 0 to 1"),
        ("modalities.ct.models.0.encoders", [], "a list of one object or more"),
        (
            "modalities.ct.models.0.encoders",
            [{"file": "a", "sha256": "0" * 64, "xxh3": "0" * 32, "bytes": 1}],
            "models[0].encoders must be absent but for an edgetpu",
        ),
        ("modalities.ct.preprocess.size", [0, 32], "size must be two whole numbers"),
        ("router.temperature", 0, "more than 0"),
        ("router.labels", ["ct", "mri"], "router.labels"),
    ],
)
def test_a_value_out_of_range_is_named(toy_copy, place, value, word):
    edit(toy_copy, place, value)
    refuses(toy_copy, "is wrong: ", word)


@pytest.mark.parametrize(
    ("bounds", "probability", "labels"),
    [
        ((0.4, 0.7), 0.39, ("non-covid",)),
        ((0.4, 0.7), 0.40, ("non-covid", "covid")),
        ((0.4, 0.7), 0.70, ("non-covid", "covid")),
        ((0.4, 0.7), 0.71, ("covid",)),
        # Crossed bounds exclude both labels between them: there the threshold of 0.5 decides.
        ((0.7, 0.4), 0.40, ("non-covid",)),
        ((0.7, 0.4), 0.49, ("non-covid",)),
        ((0.7, 0.4), 0.50, ("covid",)),
        ((0.7, 0.4), 0.70, ("covid",)),
        ((0.0, 1.0), 0.00, ("non-covid", "covid")),  # set on too few scans to promise anything
        ((0.0, 1.0), 1.00, ("non-covid", "covid")),
    ],
)
def test_conformal_bounds_exclude_what_lies_beyond_them(bounds, probability, labels):
    ct = TOY_CT._replace(conformal=Conformal(0.1, *bounds, ""))
    assert ct.possible(probability, "conformal") == labels


@pytest.mark.parametrize(("point", "threshold"), [("balanced", 0.5), ("sensitive", 0.3)])
def test_a_threshold_belongs_to_the_positive_label(point, threshold):
    assert TOY_CT.threshold(point) == threshold
    assert TOY_CT.possible(threshold, point) == ("covid",)
    assert TOY_CT.possible(math.nextafter(threshold, 0), point) == ("non-covid",)


@pytest.mark.parametrize(("mirrored", "logit"), [(False, 7.0), (True, 8.0)])
def test_a_mirror_image_counts_as_much_as_the_scan(mirrored, logit):
    network = SimpleNamespace(run=lambda pixels: pixels[0, :1].astype(np.float32))
    modality = Bundle.load(TOY).modalities["ct"]._replace(mirrored=mirrored)
    assert modality.logit(network, np.uint8([[7, 8, 9]])) == logit


unit = st.floats(0, 1)


@given(unit, unit, unit, unit, unit, st.sampled_from(OPERATING_POINTS))
def test_a_higher_probability_never_speaks_more_against_covid(p, q, low, high, threshold, point):
    bounds, middle = Conformal(0.1, low, high, ""), Threshold(threshold, "")
    ct = TOY_CT._replace(conformal=bounds, balanced=middle, sensitive=middle)
    # Ranks of the three answers: non-covid, both, covid.
    rank = [("non-covid",), ("non-covid", "covid"), ("covid",)].index
    assert rank(ct.possible(min(p, q), point)) <= rank(ct.possible(max(p, q), point))


def test_a_shipped_bundle_is_sound_and_found_by_name(each_shipped):
    bundle = Bundle.load(each_shipped.name)
    assert bundle.path == each_shipped
    assert set(bundle.modalities) == {"xray", "ct"}
    for file in bundle.files.values():
        file.check()
        file.verify()


def test_mmtl_is_taken_unless_another_is_named(shipped):
    assert Bundle.load().path == shipped


def test_an_unknown_name_is_answered_with_the_names_that_ship(shipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refuses(Path("light"), "light is no folder here", "mmtl", "name one of those")


def test_a_folder_here_comes_before_a_shipped_bundle_of_its_name(shipped, toy_copy, monkeypatch):
    monkeypatch.chdir(toy_copy.parent)
    toy_copy.rename("mmtl")
    assert Bundle.load("mmtl").name != "mmtl"
