# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest

from covid_edge_convert.data import load_scans
from covid_edge_convert.lungs import load_lungs, lung_mask
from covid_edge_convert.shortcuts import (
    borders_only,
    centre_only,
    lungs_blacked_out,
)
from drawn import drawn_scan, ellipse, write_manifest_form

DRAWN_LUNGS = {
    "xray": ellipse(0.3, 0.45, 0.16, 0.32) | ellipse(0.7, 0.45, 0.16, 0.32),
    "ct": ellipse(0.3, 0.5, 0.15, 0.22) | ellipse(0.7, 0.5, 0.15, 0.22),
}


@pytest.fixture(params=["xray", "ct"])
def modality(request):
    return request.param


@pytest.mark.parametrize("covid", [False, True])
def test_the_mask_covers_the_drawn_lungs_and_little_else(modality, covid):
    scan = drawn_scan(modality, covid, np.random.default_rng(0))
    mask, found = lung_mask(scan, modality)
    lungs = DRAWN_LUNGS[modality]
    assert found
    assert mask[lungs].mean() > 0.98
    assert mask[~lungs].mean() < 0.25


def test_a_mask_has_the_shape_of_its_scan(modality):
    scan = drawn_scan(modality, False, np.random.default_rng(0))
    mask, _ = lung_mask(cv2.resize(scan, (300, 170)), modality)
    assert mask.shape == (170, 300)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_where_no_lungs_are_twoellipses_stand_for_them(modality, level):
    mask, found = lung_mask(np.full((90, 120), level, np.uint8), modality)
    assert not found
    assert mask[45, 35]
    assert mask[45, 85]
    assert not mask[45, 60]


def test_blacked_out_lungs_are_black_and_the_rest_is_as_it_was(modality):
    scan = drawn_scan(modality, True, np.random.default_rng(1))
    picture = lungs_blacked_out(scan, modality)
    lungs = DRAWN_LUNGS[modality]
    outside = ~cv2.dilate(lungs.astype(np.uint8), np.ones((25, 25))).astype(bool)
    assert (picture[lungs] == 0).mean() > 0.98
    assert (picture[outside] == scan[outside]).all()


def test_borders_and_centre_share_the_scan_between_them():
    scan = np.random.default_rng(0).integers(1, 256, (100, 60), np.uint8)
    borders, centre = borders_only(scan, "ct"), centre_only(scan, "ct")
    assert ((borders == 0) != (centre == 0)).all()
    assert (np.maximum(borders, centre) == scan).all()
    assert (centre[15:85, 9:51] == scan[15:85, 9:51]).all()
    assert not centre[:15].any()
    assert not centre[:, :9].any()


def test_masks_of_a_table_are_those_of_its_scans_and_are_kept(tmp_path):
    scans = load_scans(write_manifest_form(tmp_path / "data", per_cell=1))
    scans = scans.where(scans.modality != "other")
    masks = load_lungs(scans, 96, tmp_path / "cache")
    assert masks.shape == (len(scans), 96, 96)
    for mask, modality in zip(masks, scans.modality):
        assert mask[DRAWN_LUNGS[modality]].mean() > 0.95
    (kept,) = (tmp_path / "cache").iterdir()
    np.save(kept, ~masks)  # what a second call reads
    assert np.array_equal(load_lungs(scans, 96, tmp_path / "cache"), ~masks)


def test_where_no_lung_is_found_the_mask_is_empty(tmp_path):
    scans = load_scans(write_manifest_form(tmp_path / "data", per_cell=1))
    scans = scans.where(scans.modality == "xray")
    for name in scans.file:
        cv2.imwrite(str(scans.root / name), np.full((96, 96), 128, np.uint8))
    assert not load_lungs(scans, 48).any()
