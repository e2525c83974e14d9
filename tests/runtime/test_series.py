# SPDX-License-Identifier: Apache-2.0
"""CT series: which files are one, and the order of their slices."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset
from pydicom.uid import EnhancedCTImageStorage

from covid_edge.dicom import Plane
from covid_edge.errors import ScanError
from covid_edge.files import name_scans
from covid_edge.series import in_order
from dicoms import image, save

AXIAL = [1, 0, 0, 0, 1, 0]  # rows to the left, columns to the back: the normal is to the head
FROM_ABOVE = [-1, 0, 0, 0, 1, 0]
CORONAL = [1, 0, 0, 0, 0, -1]


@pytest.fixture
def put(tmp_path):
    """Write a CT slice at a height (mm) and return its path."""

    def write(name: str, height: float | None = None, modality: str = "CT", **tags) -> str:
        if height is not None:
            tags["ImagePositionPatient"] = [-150, -150, height]
            tags.setdefault("ImageOrientationPatient", AXIAL)
        tags.setdefault("SeriesInstanceUID", "1.2.3")
        data = image(np.full((16, 16), 128, np.uint8), modality, **tags)
        return str(save(tmp_path / name, data))

    return write


def order(paths, **options) -> list[str]:
    """The last letters of the paths, in the order of the answers."""
    return "".join(scan.path[-1] for scan in name_scans(paths, sort=True, **options))


# --- The order of slices --------------------------------------------------------------------


def test_slices_go_from_the_feet_to_the_head_whatever_the_files_are_called(put):
    heights = dict(zip("abcdefgh", random.Random(0).sample(range(-100, 100), 8)))
    paths = [put(name, height) for name, height in heights.items()]
    assert order(paths) == "".join(sorted(heights, key=heights.get))


def test_positions_count_along_the_normal(put):
    paths = [put(n, z, ImageOrientationPatient=FROM_ABOVE) for n, z in zip("abc", (1, 3, 2))]
    assert order(paths) == "bca"


def test_a_tilted_gantry_is_no_obstacle(put):
    tilted = [1, 0, 0, 0, 0.94, -0.34]
    paths = [put(n, z, ImageOrientationPatient=tilted) for n, z in zip("abc", (30, 10, 20))]
    assert order(paths) == "bca"


def test_without_positions_it_is_slice_location_then_instance_number(put):
    places = [(3, 1), (1, 2), (2, 3)]
    located = [put(n, SliceLocation=z, InstanceNumber=k) for n, (z, k) in zip("abc", places)]
    assert order(located) == "bca"
    numbered = [put(n, InstanceNumber=k) for n, k in zip("def", (2, 3, 1))]
    assert order(numbered) == "fde"


def test_with_no_tag_at_all_it_is_the_order_given(put):
    assert order([put(name) for name in "bca"]) == "bca"


def test_one_slice_without_a_position_brings_all_to_the_next_tag(put):
    paths = [put("a", 1, SliceLocation=9), put("b", 2, SliceLocation=5), put("c", SliceLocation=7)]
    assert order(paths) == "bca"


def test_mixed_orientations_are_not_measured_along_one_normal(put):
    paths = [
        put("a", 30, InstanceNumber=2),
        put("b", 10, InstanceNumber=3),
        put("c", 20, InstanceNumber=1, ImageOrientationPatient=CORONAL),
    ]
    assert order(paths) == "cab"


def test_slices_of_one_place_go_by_instance_number_then_as_given(put):
    paths = [put(n, 5, InstanceNumber=k) for n, k in zip("abc", (3, 1, 2))]
    assert order([*paths, put("d", 4, InstanceNumber=9)]) == "dbca"
    assert order([put(name, 5) for name in "fge"]) == "fge"


@pytest.mark.parametrize("cosines", [[0] * 6, [1, 0, 0, 1, 0, 0]])
def test_orientations_that_are_none_do_not_count(put, cosines):
    tags = {"ImageOrientationPatient": cosines}
    paths = [put(n, 1, SliceLocation=k, **tags) for n, k in zip("ab", (2, 1))]
    assert order(paths) == "ba"


def test_damaged_tags_of_the_place_cost_the_order_and_no_slice(put, tmp_path):
    paths = [put("a", 2.5), put("b", 1.5)]
    whole = (tmp_path / "a").read_bytes()
    assert whole.count(b"\\2.5") == 1
    (tmp_path / "a").write_bytes(whole.replace(b"\\2.5", b"\\2x5"))
    assert order(paths) == "ab"


def test_order_is_stable_and_complete():
    planes = [Plane((0, 0, z), (0, 0, 1), None, None) for z in (2, 1, 2, 1)]
    assert in_order(planes) == [1, 3, 0, 2]
    assert in_order([]) == []


# --- Which files are a series ---------------------------------------------------------------


def series(paths, **options) -> list[tuple[str, tuple | None]]:
    scans = name_scans(paths, sort=True, show_names=True, **options)
    return [(scan.path[-1], scan.series and tuple(scan.series)) for scan in scans]


def test_interleaved_series_come_one_after_the_other(put):
    uids = {name: f"1.2.{k % 2}" for k, name in enumerate("abcdef")}
    paths = [put(name, -ord(name), SeriesInstanceUID=uid) for name, uid in uids.items()]
    assert series(paths) == [
        ("e", (1, 1, 3)),
        ("c", (1, 2, 3)),
        ("a", (1, 3, 3)),
        ("f", (2, 1, 3)),
        ("d", (2, 2, 3)),
        ("b", (2, 3, 3)),
    ]


def test_what_is_no_slice_keeps_its_place(put, tmp_path):
    Image.new("L", (16, 16)).save(tmp_path / "p.png")
    paths = [
        put("x", modality="CR"),
        put("a", 2),
        str(tmp_path / "p.png"),
        put("l", 3, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        put("b", 1),
        put("y", modality="CR"),
    ]
    found = series(paths)
    assert [letter for letter, _ in found] == ["x", "b", "a", "g", "l", "y"]
    assert [letter for letter, place in found if place] == ["b", "a"]


def test_a_single_slice_is_no_series_and_neither_are_slices_of_none(put):
    apart = [put("a", 2, SeriesInstanceUID="1.5"), put("b", 1, SeriesInstanceUID="1.6")]
    without = [put("c", 2, SeriesInstanceUID=""), put("d", 1, SeriesInstanceUID="")]
    assert series(apart + without) == [(letter, None) for letter in "abcd"]


def test_slices_are_called_by_their_place_among_the_answers(put):
    paths = [put("a", 3), put("b", 2), put("x", modality="CR"), put("c", 1)]
    names = [(scan.path[-1], scan.name) for scan in name_scans(paths, sort=True)]
    assert names == [("c", "scan 1"), ("b", "scan 2"), ("a", "scan 3"), ("x", "scan 4")]


def test_files_that_cannot_be_read_and_folders_that_cannot_stay_where_they_are(put, tmp_path):
    (tmp_path / "z").write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    problem = ScanError("folder", "cannot be opened")
    found = list(name_scans([put("a", 2), str(tmp_path / "z"), problem, put("b", 1)], sort=True))
    assert found[3] is problem
    assert [scan.path[-1] for scan in found[:3]] == ["b", "a", "z"]
    assert found[2].series is None


def test_unless_sorted_every_file_comes_before_the_next_is_looked_at(put):
    """As a list on standard input needs it, which may grow slowly."""
    first, second = put("a", 2), put("b", 1)
    seen = []

    def growing():
        for path in (first, second):
            seen.append(path)
            yield path

    scans = name_scans(growing())
    assert next(scans).path == first
    assert seen == [first]
    assert next(scans).series is None


# --- Files of several frames ----------------------------------------------------------------


def enhanced(heights, **tags) -> Dataset:
    """A multi-frame CT whose frames lie at these heights, by their functional groups."""
    data = image(np.zeros((len(heights), 16, 16), np.uint8), "CT", **tags)
    data.SOPClassUID = EnhancedCTImageStorage
    shared, across = Dataset(), Dataset()
    across.ImageOrientationPatient = AXIAL
    shared.PlaneOrientationSequence = [across]
    data.SharedFunctionalGroupsSequence = [shared]
    data.PerFrameFunctionalGroupsSequence = []
    for height in heights:
        group, place = Dataset(), Dataset()
        place.ImagePositionPatient = [0, 0, height]
        group.PlanePositionSequence = [place]
        data.PerFrameFunctionalGroupsSequence.append(group)
    return data


def test_the_frames_of_a_file_are_a_series_in_order_of_their_positions(tmp_path):
    path = str(save(tmp_path / "e", enhanced([30, 10, 20])))
    for sort in (True, False):
        found = list(name_scans([path], sort=sort))
        assert [scan.frame for scan in found] == [2, 3, 1]
        assert [scan.series for scan in found] == [(1, 1, 3), (1, 2, 3), (1, 3, 3)]
        assert {scan.name for scan in found} == {"scan 1"}


def test_a_file_of_frames_is_a_series_beside_single_slices_of_its_uid(put, tmp_path):
    path = str(save(tmp_path / "e", enhanced([1, 2], SeriesInstanceUID="1.2.3")))
    found = list(name_scans([put("a", 2), path, put("b", 1)], sort=True))
    assert [tuple(scan.series) for scan in found] == [(1, 1, 2), (1, 2, 2), (2, 1, 2), (2, 2, 2)]


def test_one_frame_that_is_chosen_is_no_series(tmp_path):
    path = str(save(tmp_path / "e", enhanced([30, 10, 20])))
    (scan,) = name_scans([path], frame=2, sort=True)
    assert (scan.frame, scan.series) == (2, None)


def test_too_few_functional_groups_cost_the_order_and_no_frame(tmp_path):
    data = enhanced([30, 10, 20])
    del data.PerFrameFunctionalGroupsSequence[2]
    path = str(save(tmp_path / "e", data))
    assert [scan.frame for scan in name_scans([path])] == [1, 2, 3]


def test_frames_of_another_modality_are_no_series(tmp_path):
    path = str(save(tmp_path / "m", image(np.zeros((3, 16, 16), np.uint8), "CR")))
    assert [scan.series for scan in name_scans([path], sort=True)] == [None] * 3
