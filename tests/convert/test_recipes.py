# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from covid_edge_convert.data import load_scans
from covid_edge_convert.recipes import PRESETS, Recipe, RecipeError
from covid_edge_convert.runs import RunFolder
from covid_edge_convert.train import train
from drawn import write_manifest_form


def changed(**fields) -> Recipe:
    return dataclasses.replace(PRESETS["toy"], **fields)


def test_a_schedule_reads_as_sizes_of_epochs():
    assert changed(schedule={"Tiny": "16x2,32"}).sizes("Tiny") == (16, 16, 32)


@pytest.mark.parametrize("text", ["", "x3", "32x", "32x0", "32x2;16", "big"])
def test_a_schedule_that_cannot_be_read_is_refused_before_training(text):
    with pytest.raises(RecipeError, match="SIZExEPOCHS"):
        changed(schedule={"Tiny": text})


def test_a_schedule_for_an_encoder_that_is_not_used_is_refused():
    with pytest.raises(RecipeError, match="nothing else"):
        changed(schedule={"Tiny": "32x1", "EfficientNetB7": "32x1"})


@pytest.mark.parametrize("field", ["halved", "start", "learns_from"])
def test_a_word_about_an_encoder_that_is_not_used_is_refused(field):
    with pytest.raises(RecipeError, match=f"{field} names EfficientNetB7"):
        changed(**{field: {"EfficientNetB7": "ct"}})


@pytest.mark.parametrize(("field", "value"), [("mirrored", ("CT",)), ("input_sizes", {"CT": 96})])
def test_a_word_about_a_modality_that_is_not_there_is_refused(field, value):
    with pytest.raises(RecipeError, match=f"{field} names CT; the modalities are xray, ct"):
        changed(**{field: value})


def test_the_student_of_a_modality_may_have_an_input_size_of_its_own():
    recipe = dataclasses.replace(PRESETS["lite"], input_size=64, input_sizes={"xray": 96})
    assert [recipe.spec(modality).size for modality in ("xray", "ct")] == [(96, 96), (64, 64)]


def test_only_students_have_input_sizes_of_their_modality():
    with pytest.raises(RecipeError, match="without a teacher input_sizes are not taken"):
        changed(input_sizes={"xray": 96})


@pytest.mark.parametrize("side", [0, True, "64", 64.0])
def test_an_input_size_that_is_no_number_of_pixels_is_refused(side):
    with pytest.raises(RecipeError, match="an input size is a whole number of pixels, not"):
        changed(input_size=side)


def test_a_student_has_one_encoder_a_modality_and_mmtl_two():
    with pytest.raises(RecipeError, match="with a teacher it takes 1"):
        changed(teacher="mmtl", halved=())
    with pytest.raises(RecipeError, match="without a teacher it takes 2"):
        dataclasses.replace(PRESETS["lite"], teacher=None)


def test_nothing_is_halved_for_a_student():
    with pytest.raises(RecipeError, match="a student looks at whole scans"):
        dataclasses.replace(PRESETS["lite"], halved=("EfficientNetLite0",))


def test_a_grown_encoder_is_trained_after_the_one_it_grows_from():
    grown = {"EfficientNetB0": "EfficientNetB1"}
    order = dataclasses.replace(PRESETS["default"], start=grown).order()
    assert order.index("EfficientNetB0") > order.index("EfficientNetB1")


@pytest.mark.parametrize("name", PRESETS)
def test_a_saved_recipe_is_read_back_as_it_was(tmp_path, name):
    PRESETS[name].save(tmp_path / "recipe.json")
    assert Recipe.load(tmp_path / "recipe.json") == PRESETS[name]


def test_a_start_that_is_not_there_is_told_before_anything_is_trained(tmp_path):
    scans = load_scans(write_manifest_form(tmp_path / "data"))
    recipe = dataclasses.replace(PRESETS["toy"], start={"Tiny": str(tmp_path / "absent.tgz")})
    with pytest.raises(RecipeError, match="absent.tgz, which Tiny begins with, is not there; `npm"):
        train(scans, recipe, RunFolder(tmp_path / "run"), verbose=0)
    assert not (tmp_path / "run").exists()
