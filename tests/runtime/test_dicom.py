# SPDX-License-Identifier: Apache-2.0
"""What read_scan makes of DICOM files: each rule of the grey-scale pipeline, or one sentence."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset, Sequence, dcmread
from pydicom.pixels import (
    apply_color_lut,
    apply_modality_lut,
    apply_voi,
    apply_windowing,
    pixel_array,
)
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from covid_edge import dicom
from covid_edge.dicom import LUNG, read_layout
from covid_edge.errors import ScanError
from covid_edge.scan import MAX_PIXELS, read_scan
from dicoms import image, save
from fuzz_dicom import mutate, outcome, seeds

RAMP = np.linspace(0, 4095, 64 * 48).astype(np.uint16).reshape(64, 48)
SAMPLES = sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm"))

# Of these a sentence is made: they hold no picture, are no DICOM files, or damaged.
UNREAD = {
    "ExplVR_BigEndNoMeta.dcm": "bare DICOM",
    "ExplVR_LitEndNoMeta.dcm": "bare DICOM",
    "JPEG2000-embedded-sequence-delimiter.dcm": "not of one size",
    "MR_truncated.dcm": "cut short",
    "SC_rgb_jpeg.dcm": "damaged",  # implicit VR, which nothing compressed may have
    "UN_sequence.dcm": "without pixels",
    "badVR.dcm": "damaged",
    "empty_charset_LEI.dcm": "without pixels",
    "meta_missing_tsyntax.dcm": "transfer syntax",
    "nested_priv_SQ.dcm": "without pixels",
    "no_meta.dcm": "not a picture",
    "no_meta_group_length.dcm": "without pixels",
    "priv_SQ.dcm": "without pixels",
    "reportsi.dcm": "without pixels (Basic Text SR Storage)",
    "reportsi_with_empty_number_tags.dcm": "without pixels (Basic Text SR Storage)",
    "rtplan.dcm": "without pixels (RT Plan Storage)",
    "rtplan_truncated.dcm": "without pixels (RT Plan Storage)",
    "rtstruct.dcm": "bare DICOM",
    "test-SR.dcm": "without pixels (Comprehensive SR Storage)",
    "waveform_ecg.dcm": "without pixels (12-lead ECG Waveform Storage)",
}


@pytest.fixture
def put(tmp_path: Path):
    def write(data: Dataset | bytes, syntax: str = ExplicitVRLittleEndian) -> Path:
        path = tmp_path / "scan.dcm"
        if isinstance(data, bytes):
            path.write_bytes(data)
            return path
        return save(path, data, syntax)

    return write


def refuses(path: Path, *words: str, **options: object) -> None:
    with pytest.raises(ScanError) as caught:
        read_scan(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def row(*values: int, kind: type = np.uint16) -> np.ndarray:
    return np.array([values], kind)


# --- pydicom's own files, through its own pipeline ------------------------------------------


def by_pydicom(path: Path) -> np.ndarray:
    """Return what pydicom's functions make of the first frame, 0..255 and not rounded."""
    data = dcmread(path)
    stored = pixel_array(data, index=0)
    if data.PhotometricInterpretation == "PALETTE COLOR":
        stored = apply_color_lut(stored, data)
    if stored.ndim == 3:
        bits = 8 * stored.itemsize
        weights = np.array([0.299, 0.587, 0.114])
        return stored.astype(float) @ weights * (255 / (2**bits - 1))
    values = apply_modality_lut(stored, data)
    if data.get("VOILUTSequence"):
        shown = apply_voi(values, data)
        low, high = 0, max(item for item in data.VOILUTSequence[0].LUTData)
    elif "WindowCenter" in data or data.get("Modality") == "CT":
        if "WindowCenter" not in data:
            data.WindowCenter, data.WindowWidth = LUNG
        shown = apply_windowing(values, data)
        low, high = apply_windowing(np.array([-1e12, 1e12]), data)
    elif data.BitsStored <= 8:
        shown, low, high = values, 0, 2**data.BitsStored - 1
    else:
        shown, low, high = values, values.min(), values.max()
    grey = (shown.astype(float) - low) * (255 / ((high - low) or 1))
    return 255 - grey if data.PhotometricInterpretation == "MONOCHROME1" else grey


@pytest.mark.filterwarnings("ignore")  # what pydicom has to say of its samples
@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_gives_the_pixels_of_pydicoms_pipeline_or_a_sentence(path):
    if path.name in UNREAD:
        return refuses(path, UNREAD[path.name])
    with open(path, "rb") as file:
        frames = read_layout(path.name, file).frames
    scan = read_scan(path, 1 if frames > 1 else None)
    expected = by_pydicom(path)
    assert scan.pixels.shape == expected.shape
    # Half a step of rounding; Pillow's whole-number weights and another JPEG decoder take one more.
    lossy = dcmread(path).file_meta.TransferSyntaxUID in (JPEGBaseline8Bit, JPEGExtended12Bit)
    assert np.abs(scan.pixels - expected).max() <= (
        0.5001 if expected.ndim == 2 and not lossy else 2
    )


# --- Each rule, worked by hand --------------------------------------------------------------


def test_a_window_becomes_0_to_255_and_what_is_outside_is_clipped(put):
    stored = row(0, 100, 150, 200, 4000)  # (x - 149.5) / 99 + 0.5 of 255
    data = image(stored, bits=12, WindowCenter=150, WindowWidth=100)
    assert read_scan(put(data)).pixels.tolist() == [[0, 0, 129, 255, 255]]


def test_rescale_comes_before_the_window(put):
    stored = row(0, 1000, 2000)
    data = image(stored, bits=12, RescaleSlope=2, RescaleIntercept=-1000)
    data.WindowCenter, data.WindowWidth = 1000.5, 2001  # -1000, 1000 and 3000 of 0..2000
    assert read_scan(put(data)).pixels.tolist() == [[0, 128, 255]]


def test_monochrome1_is_inverted_after_the_window(put):
    stored = row(0, 100, 200, 4000)
    data = image(stored, bits=12, WindowCenter=150, WindowWidth=100)
    upright = read_scan(put(data)).pixels
    data.PhotometricInterpretation = "MONOCHROME1"
    assert np.array_equal(read_scan(put(data)).pixels, 255 - upright)


def test_of_several_windows_the_first_is_used(put):
    data = image(RAMP, bits=12, WindowCenter=[1000, 50], WindowWidth=[500, 10])
    several = read_scan(put(data)).pixels
    data.WindowCenter, data.WindowWidth = 1000, 500
    assert np.array_equal(read_scan(put(data)).pixels, several)


def test_the_window_that_is_asked_for_wins_over_that_of_the_file(put):
    path = put(image(row(0, 100, 200), bits=12, WindowCenter=2000, WindowWidth=100))
    assert read_scan(path, window=(100.5, 201)).pixels.tolist() == [[0, 128, 255]]


def test_ct_in_hounsfield_units_without_a_window_gets_that_of_the_lungs(put):
    stored = row(-2000, -1350, -600, 150, 1000, kind=np.int16)
    data = image(stored, "CT", RescaleSlope=1, RescaleIntercept=0)
    assert read_scan(put(data)).pixels.tolist() == [[0, 0, 128, 255, 255]]


def test_ct_that_is_not_rescaled_does_not(put):
    stored = row(0, 1, 2, 255, kind=np.uint8)
    assert np.array_equal(read_scan(put(image(stored, "CT"))).pixels, stored)


def test_more_than_8_bits_without_a_window_are_scaled_by_what_they_hold(put):
    assert read_scan(put(image(row(1000, 2020, 3040), bits=12))).pixels.tolist() == [[0, 128, 255]]


def test_8_bits_without_a_window_are_kept(put):
    stored = row(20, 30, 40, kind=np.uint8)
    assert np.array_equal(read_scan(put(image(stored))).pixels, stored)


def test_padding_is_black_and_no_value(put):
    stored = row(-2000, 0, 102, 255, kind=np.int16)
    data = image(stored, "CR", PixelPaddingValue=-2000)
    assert read_scan(put(data)).pixels.tolist() == [[0, 0, 102, 255]]
    data.PhotometricInterpretation = "MONOCHROME1"
    assert read_scan(put(data)).pixels.tolist() == [[0, 255, 153, 0]]


def test_padding_may_be_a_range(put):
    stored = row(0, 5, 10, 112, 265)
    data = image(stored, bits=12, PixelPaddingValue=0, PixelPaddingRangeLimit=5)
    assert read_scan(put(data)).pixels.tolist() == [[0, 0, 0, 102, 255]]


def lut(first: int, bits: int, entries: list[int]) -> Sequence:
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item.LUTData = entries
    item["LUTData"].VR = "US"
    return Sequence([item])


def test_a_voi_lut_is_looked_up_and_wins_over_a_window(put):
    data = image(row(0, 10, 11, 12, 99), bits=12, VOILUTSequence=lut(10, 16, [100, 140, 200]))
    data.WindowCenter, data.WindowWidth = 5, 10
    assert read_scan(put(data)).pixels.tolist() == [[0, 0, 102, 255, 255]]


def test_a_voi_lut_of_8_bits_has_entries_after_the_256th(put):
    entries = [n // 4 for n in range(1024)]
    data = image(row(0, 400, 1023), bits=12, VOILUTSequence=lut(0, 8, entries))
    assert read_scan(put(data)).pixels.tolist() == [[0, 100, 255]]


def test_a_modality_lut_comes_before_the_window(put):
    data = image(row(0, 1, 2), bits=12, ModalityLUTSequence=lut(0, 16, [500, 100, 300]))
    data.WindowCenter, data.WindowWidth = 300.5, 401
    assert read_scan(put(data)).pixels.tolist() == [[255, 0, 128]]


def test_bits_above_those_stored_are_dropped(put):
    stored = row(0, 2048, 4095)
    overlaid = stored | 0x8000  # where overlays once were
    assert read_scan(put(image(overlaid, bits=12))).pixels.tolist() == [[0, 128, 255]]


def test_a_codestream_of_another_sign_than_the_tags_is_mended():
    (path,) = [path for path in SAMPLES if path.name == "J2K_pixelrep_mismatch.dcm"]
    data = dcmread(path)
    assert data.PixelRepresentation == 1
    pixels = read_scan(path, window=(0, 2000)).pixels  # it holds -2000 in its corners
    assert pixels[0, 0] == 0


def test_colour_becomes_grey_by_itu_r_601(put):
    stored = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert read_scan(put(image(stored))).pixels.tolist() == [[76, 150, 29]]


def test_a_palette_is_looked_up(put):
    data = image(row(0, 1, 2, kind=np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(data, f"{colour}PaletteColorLookupTableDescriptor", [4, 0, 16])
        table = np.array([0, 65535, 32768, 0], np.uint16).tobytes()
        setattr(data, f"{colour}PaletteColorLookupTableData", table)
    assert read_scan(put(data)).pixels.tolist() == [[0, 255, 128]]


def test_a_frame_is_chosen_and_its_own_tags_win(put):
    data = image(np.stack([RAMP, RAMP]), "CT", bits=12)
    shared, own = Dataset(), [Dataset(), Dataset()]
    rescale, window = Dataset(), Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept = 1, -1024
    window.WindowCenter, window.WindowWidth = 40, 400
    shared.PixelValueTransformationSequence = Sequence([rescale])
    own[1].FrameVOILUTSequence = Sequence([window])
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    data.PerFrameFunctionalGroupsSequence = Sequence(own)
    path = put(data)
    lung, soft = (read_scan(path, frame).pixels for frame in (1, 2))
    assert np.array_equal(lung, read_scan(path, 1, window=LUNG).pixels)
    assert np.array_equal(soft, read_scan(path, 1, window=(40, 400)).pixels)
    assert read_scan(path, 2).tags.frames == 2


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEG2000Lossless,
        HTJ2KLossless,
        JPEGLosslessSV1,
        JPEGLSLossless,
    ],
    ids=lambda syntax: syntax.keyword,
)
def test_a_transfer_syntax_changes_no_pixel(put, syntax):
    plain = read_scan(put(image(RAMP, bits=12, WindowCenter=2000, WindowWidth=3000))).pixels
    path = put(image(RAMP, bits=12, WindowCenter=2000, WindowWidth=3000), syntax)
    assert dcmread(path).file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(read_scan(path).pixels, plain)


# --- What is refused ------------------------------------------------------------------------


def test_a_file_of_several_frames_without_a_choice(put):
    path = put(image(np.stack([RAMP, RAMP]), bits=12))
    refuses(path, "2 frames", "--frame")
    refuses(path, "holds 2 frames, and no frame 3", frame=3)


def test_too_many_pixels_are_refused_from_the_header(put):
    refuses(put(image(RAMP, Rows=20_000, Columns=20_000)), f"{MAX_PIXELS:,}")


def test_a_longer_side_than_the_kernels_reduce(put):
    refuses(put(image(RAMP, Rows=1, Columns=40_000)), "a side of 40000 pixels")


def test_a_codestream_that_is_larger_than_the_tags_say(put):
    data = dcmread(put(image(RAMP, bits=12), JPEG2000Lossless))
    data.Rows, data.Columns = 6, 4
    path = put(b"")
    data.save_as(path)
    refuses(path, "not of one size")


def test_a_deflated_file_that_inflates_to_more_than_fits(put, monkeypatch):
    path = put(image(RAMP, bits=12), DeflatedExplicitVRLittleEndian)
    monkeypatch.setattr(dicom, "_MAX_BYTES", 1000)
    refuses(path, "inflates to more")


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("share", [0.4, 0.7, 0.9])
def test_a_file_that_is_cut_short(put, syntax, share):
    whole = put(image(np.random.default_rng(0).permuted(RAMP), bits=12), syntax).read_bytes()
    refuses(put(whole[: int(share * len(whole))]), "DICOM file", "cut short")


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless])
def test_half_a_codestream_in_a_whole_file(put, syntax):
    from pydicom.encaps import encapsulate, get_frame

    path = put(image(np.random.default_rng(0).permuted(RAMP), bits=12), syntax)
    data = dcmread(path)
    frame = get_frame(data.PixelData, 0, number_of_frames=1)
    data.PixelData = encapsulate([frame[: len(frame) // 4 * 2]])
    data.save_as(path)
    refuses(path, "cut short")


def test_a_file_without_pixels_says_what_it_is(put):
    data = image(RAMP, bits=12)
    del data.PixelData
    refuses(put(data), "without pixels", "Computed Radiography Image Storage")


def test_a_dicomdir():
    refuses(SAMPLES[0].parent / "dicomdirtests" / "DICOMDIR", "without pixels", "Media Storage")


def test_a_window_of_no_width(put):
    refuses(put(image(RAMP, bits=12, WindowCenter=100, WindowWidth=0)), "window", "--window")


def test_without_pydicom_it_says_how_to_install_it(put, monkeypatch):
    path = put(image(RAMP, bits=12))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    refuses(path, "needs pydicom", 'pip install "covid-edge[dicom]"')


def test_without_a_decoder_it_says_how_to_install_one(put, monkeypatch):
    path = put(image(RAMP, bits=12), JPEGLSLossless)
    monkeypatch.setattr(dicom, "_plugins", lambda header: ())
    refuses(path, "JPEG-LS", 'pip install "covid-edge[dicom]"')


def test_pydicoms_own_words_go_nowhere(put, caplog, recwarn):
    path = put(image(RAMP, bits=12))
    data = path.read_bytes().replace(b"DS", b"DT").replace(b"CR", b"\xff\xfe")
    path.write_bytes(data)
    read_scan(path)
    assert not caplog.records
    assert not list(recwarn)


def test_mutated_files_are_read_or_refused(tmp_path):
    chance, samples, path = random.Random(1), seeds(), tmp_path / "mutated.dcm"
    for number in range(300):
        path.write_bytes(mutate(samples[number % len(samples)], chance))
        outcome(path)
