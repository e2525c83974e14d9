# SPDX-License-Identifier: Apache-2.0
"""``covid-edge predict`` on DICOM: tags beside the router, frames, and nothing that identifies."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, Sequence, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.uid import SecondaryCaptureImageStorage

from conftest import BRIGHT, DARK, EXAMPLES, MIDDLE, TOY
from covid_edge.cli import main
from dicoms import image, save


@pytest.fixture
def predict(toy, capsys):
    """Run ``covid-edge predict`` in this process, which is quicker than one of its own."""

    def call(*arguments):
        command = ["covid-edge", "predict", "--bundle", toy, *arguments]
        code = main([str(argument) for argument in command[1:]])
        said = capsys.readouterr()
        return subprocess.CompletedProcess(command, code, said.out, said.err)

    return call


@pytest.fixture
def put(tmp_path):
    """Write a DICOM picture of one brightness and return its path."""

    def write(brightness: int, modality: str = "CR", name: str = "a.dcm", **tags):
        frames = tags.pop("frames", None)
        shape = (64, 64) if frames is None else (frames, 64, 64)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return save(path, image(np.full(shape, brightness, np.uint8), modality, **tags))

    return write


def records(done) -> list[dict]:
    return [json.loads(line) for line in done.stdout.splitlines()]


# --- Tags and the router --------------------------------------------------------------------


@pytest.mark.parametrize("modality", ["CR", "DX", "DR"])
def test_an_xray_whose_tags_say_so_is_answered(predict, put, modality):
    done = predict("--json", put(DARK, modality, BodyPartExamined="CHEST"))
    (record,) = records(done)
    assert done.returncode == 0
    assert (record["file"], record["modality"]) == ("scan 1", "xray")
    assert record["dicom"] == {
        "modality": "xray",
        "frame": 1,
        "frames": 1,
        "contradictions": [],
        "ids": None,
    }


def test_where_tags_and_picture_disagree_the_tags_decide_and_the_answer_says_so(predict, put):
    path = put(DARK, "CT")  # an X-ray to the toy router
    text, (record,) = predict(path).stdout, records(predict("--json", path))
    assert (record["status"], record["modality"]) == ("ok", "ct")
    assert record["dicom"]["contradictions"] == ["modality"]
    assert text.rstrip().endswith("its tags say another modality")


def test_what_the_router_takes_for_no_chest_scan_is_refused_whatever_the_tags_say(predict, put):
    done = predict("--json", put(BRIGHT, "CT", BodyPartExamined="CHEST"))
    (record,) = records(done)
    assert done.returncode == 4
    assert record["reason"] == "not a chest X-ray or chest CT"
    assert record["dicom"]["contradictions"] == ["modality"]


def test_tags_that_agree_settle_what_the_router_is_not_sure_of(predict, put):
    doubtful = 85  # half way between X-ray and CT
    told, untold = (records(predict("--json", put(doubtful, tag)))[0] for tag in ("CT", "OT"))
    assert untold["reason"].startswith("not clearly")
    assert (told["status"], told["modality"]) == ("ok", "ct")


def test_another_modality_is_refused(predict, put):
    (record,) = records(predict("--json", put(DARK, "MR")))
    assert record["reason"] == "not a chest X-ray or chest CT: its tags say another modality"
    assert record["dicom"]["modality"] == "other"


def test_a_localizer_is_refused(predict, put):
    path = put(MIDDLE, "CT", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    assert records(predict("--json", path))[0]["reason"] == "a localizer, not a slice of CT"


def test_another_part_of_the_body_is_said(predict, put):
    path = put(DARK, "DX", BodyPartExamined="KNEE")
    done = predict(path)
    assert done.returncode == 0
    assert done.stdout.rstrip().endswith("its tags say another part of the body than the chest")
    assert records(predict("--json", path))[0]["dicom"]["contradictions"] == ["body-part"]


def test_a_capture_that_does_not_say_its_modality_goes_by_the_router(predict, put):
    path = put(MIDDLE, "OT", SOPClassUID=SecondaryCaptureImageStorage)
    (record,) = records(predict("--json", path))
    assert (record["modality"], record["dicom"]["modality"]) == ("ct", None)


def test_modality_overrides_the_tags_and_the_answer_says_so(predict, put):
    (record,) = records(predict("--json", "--modality", "ct", put(DARK, "CR")))
    assert record["modality"] == "ct"
    assert record["dicom"]["contradictions"] == ["modality"]


# --- Frames and windows ---------------------------------------------------------------------


def test_every_frame_is_answered_unless_one_is_chosen(predict, put):
    path = put(MIDDLE, "CT", frames=3)
    *every, _ = records(predict("--json", path))  # the last is of all together
    assert [record["dicom"]["frame"] for record in every] == [1, 2, 3]
    (second,) = records(predict("--json", "--frame", 2, path))
    assert (second["dicom"]["frame"], second["dicom"]["frames"]) == (2, 3)
    assert predict(path).stdout.splitlines()[2].startswith("scan 1 frame 3  ct ")


def test_too_many_frames_are_refused_before_any_is_decoded(predict, put):
    path = put(MIDDLE, "CT")
    data = dcmread(path)
    data.NumberOfFrames = 1_000_000
    data.save_as(path)
    done = predict(path)
    assert done.returncode == 3
    assert "scan 1: holds 1000000 frames" in done.stderr


@pytest.mark.parametrize("form", ["40/400", "40,400"])
def test_a_window_is_a_center_and_a_width(predict, put, form):
    path = put(DARK)
    (record,) = records(predict("--json", "--window", form, path))
    assert record["status"] == "ok"  # 30 of -160..240 is 121: a CT to the toy router
    assert record["dicom"]["contradictions"] == ["modality"]


@pytest.mark.parametrize("window", ["40", "40/0", "a/b", "nan/5", "40/inf"])
def test_what_is_no_window_ends_with_2(predict, put, window):
    assert predict("--window", window, put(DARK)).returncode == 2


# --- Folders --------------------------------------------------------------------------------


def test_a_folder_yields_dicom_files_of_any_name_but_the_dicomdir(predict, put, tmp_path):
    for name in ("d/IM0001", "d/1.2.840.1", "d/b.dcm", "d/DICOMDIR"):
        put(DARK, name=name)
    (tmp_path / "d" / "README").write_text("no picture")
    done = predict("--json", tmp_path / "d")
    assert [record["file"] for record in records(done)] == ["scan 1", "scan 2", "scan 3"]


# --- Nothing that identifies ----------------------------------------------------------------

# Tags of PS3.15 table E.1-1 that hold text, numbers, dates or UIDs.
IDENTIFYING = [
    "AccessionNumber",
    "AcquisitionComments",
    "AcquisitionDate",
    "AcquisitionTime",
    "AcquisitionUID",
    "AdditionalPatientHistory",
    "AdmissionID",
    "AdmittingDiagnosesDescription",
    "ContentDate",
    "ContentTime",
    "CurrentPatientLocation",
    "DerivationDescription",
    "DetectorID",
    "DeviceSerialNumber",
    "DeviceUID",
    "EthnicGroup",
    "FrameOfReferenceUID",
    "GantryID",
    "ImageComments",
    "InstanceCreationDate",
    "InstanceCreatorUID",
    "InstitutionAddress",
    "InstitutionName",
    "InstitutionalDepartmentName",
    "IssuerOfPatientID",
    "MedicalRecordLocator",
    "MilitaryRank",
    "NameOfPhysiciansReadingStudy",
    "Occupation",
    "OperatorsName",
    "OtherPatientNames",
    "PatientAddress",
    "PatientAge",
    "PatientBirthDate",
    "PatientBirthName",
    "PatientBirthTime",
    "PatientComments",
    "PatientID",
    "PatientInsurancePlanCodeSequence",
    "PatientMotherBirthName",
    "PatientName",
    "PatientReligiousPreference",
    "PatientSex",
    "PatientSize",
    "PatientTelephoneNumbers",
    "PatientWeight",
    "PerformedProcedureStepDescription",
    "PerformedProcedureStepID",
    "PerformedStationName",
    "PerformingPhysicianName",
    "PhysiciansOfRecord",
    "PlateID",
    "ProtocolName",
    "ReasonForStudy",
    "ReferringPhysicianAddress",
    "ReferringPhysicianName",
    "RegionOfResidence",
    "RequestAttributesSequence",
    "RequestedProcedureDescription",
    "RequestedProcedureID",
    "RequestingPhysician",
    "ResponsibleOrganization",
    "ResponsiblePerson",
    "SOPInstanceUID",
    "ScheduledProcedureStepID",
    "SeriesDate",
    "SeriesDescription",
    "SeriesInstanceUID",
    "SeriesTime",
    "SpecialNeeds",
    "StationName",
    "StudyComments",
    "StudyDate",
    "StudyDescription",
    "StudyID",
    "StudyInstanceUID",
    "StudyTime",
    "VisitComments",
]


def planted(brightness: int, modality: str = "CR", **tags) -> tuple[Dataset, set[str]]:
    """Return a picture with a marker of its own in every identifying tag, and the markers."""
    data, markers = image(np.full((64, 64), brightness, np.uint8), modality, **tags), set()
    for number, keyword in enumerate(IDENTIFYING, 100):
        kind = dictionary_VR(keyword)
        if kind == "SQ":
            item = Dataset()
            item.CodeMeaning = marker = f"MARK{number}"
            setattr(data, keyword, Sequence([item]))
        else:
            marker = {
                "UI": f"1.2.3.77{number}77.4",
                "DA": f"18{number % 90 + 10}1111",
                "TM": f"2359{number % 50 + 10}.7777",
                "DS": f"77{number}.77",
                "AS": f"{number}Y",
            }.get(kind, f"MARK{number}")
            setattr(data, keyword, marker)
        markers.add(marker)
    return data, markers


@pytest.fixture(scope="module")
def telling(tmp_path_factory):
    """A folder of files and names full of markers, of every outcome, and the markers."""
    folder = tmp_path_factory.mktemp("scans") / "MARKFOLDER"
    folder.mkdir()
    data, markers = planted(DARK)
    whole = save(folder / "MARKNAME1.dcm", data).read_bytes()
    save(folder / "MARKNAME2", planted(BRIGHT)[0])
    save(folder / "MARKNAME3.dcm", planted(DARK, "MR")[0])
    save(folder / "MARKNAME4.dcm", planted(DARK, "CT", WindowCenter=1, WindowWidth=0)[0])
    save(folder / "MARKNAME5.dcm", planted(DARK, BodyPartExamined="MARKPART")[0])
    save(folder / "MARKNAME6.dcm", planted(DARK, PhotometricInterpretation="MARKKIND")[0])
    report = planted(DARK)[0]
    del report.PixelData
    save(folder / "MARKNAME7.dcm", report)
    for number, length in enumerate((100, 200, 700, 1500, 2500, len(whole) - 50)):
        (folder / f"MARKCUT{number}.dcm").write_bytes(whole[:length])
    (folder / "MARKBARE.dcm").write_bytes(whole[132:])
    for number, place in enumerate(range(132, 3000, 197)):
        damaged = bytearray(whole)
        damaged[place : place + 3] = b"\xff\xff\x41"
        (folder / f"MARKBAD{number:02}.dcm").write_bytes(damaged)
    return folder, markers | {"MARK"}


@pytest.mark.parametrize("arguments", [[], ["--json", "--workers", "1"]])
def test_nothing_that_identifies_comes_out(run, toy, telling, arguments):
    folder, markers = telling
    done = run("predict", "--bundle", toy, *arguments, folder)
    said = done.stdout + done.stderr
    assert "scan 1" in said
    assert "Traceback" not in said
    assert [marker for marker in markers if marker in said] == []


def test_nothing_that_identifies_comes_out_in_a_table_or_a_page(run, toy, telling, tmp_path):
    folder, markers = telling
    table, page = tmp_path / "answers.csv", tmp_path / "report.html"
    run("predict", "--bundle", toy, "--csv", table, "--report", page, folder)
    said = table.read_text() + page.read_text()
    assert "scan 1" in said
    assert 'class="pixels"' in said  # the pictures themselves are found all the same
    assert [marker for marker in markers if marker in said] == []


def test_pictures_of_heatmaps_are_not_named_after_dicom_files(run, shipped, tmp_path):
    scan = np.asarray(Image.open(EXAMPLES / "xray.png").convert("L"))
    save(tmp_path / "MARKNAME.dcm", image(scan, "CR"))
    run("predict", "--heatmap", tmp_path / "maps", tmp_path / "MARKNAME.dcm")
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["scan 1.png"]


def test_a_page_names_the_frame_and_says_what_contradicts_the_picture(run, toy, put, tmp_path):
    page = tmp_path / "report.html"
    scan = put(DARK, "CT", frames=3)
    run("predict", "--bundle", toy, "--frame", 2, "--report", page, scan)
    said = page.read_text()
    assert "scan 1 frame 2" in said
    assert said.count('class="why"') == 1


def test_nothing_that_identifies_comes_out_through_pythons_logs_and_warnings(telling):
    """Where a program that uses covid-edge logs everything and shows every warning."""
    folder, markers = telling
    code = (
        "import logging, pathlib, sys, warnings\n"
        "from covid_edge.files import find_scans, name_scans\n"
        "from covid_edge.many import predict_many\n"
        "logging.basicConfig(level=logging.DEBUG)\n"
        "warnings.simplefilter('always')\n"
        "scans = name_scans(find_scans([sys.argv[1]], ()))\n"
        "for answer in predict_many(scans, bundle=sys.argv[2]):\n"
        "    print(repr(answer), str(answer))\n"
    )
    command = [sys.executable, "-c", code, str(folder), str(TOY)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    said = done.stdout + done.stderr
    assert "scan 1" in said
    assert [marker for marker in markers if marker in said] == []


def test_include_ids_shows_paths_and_ids(predict, telling):
    path = telling[0] / "MARKNAME1.dcm"
    (record,) = records(predict("--json", "--include-ids", path))
    assert record["file"] == str(path)
    assert record["dicom"]["ids"]["PatientID"].startswith("MARK")
    assert set(record["dicom"]["ids"]) == {
        "PatientID",
        "AccessionNumber",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "SOPInstanceUID",
    }
