# SPDX-License-Identifier: Apache-2.0
"""What read_scan makes of DICOM files: each rule of the grey-scale pipeline, or one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicoms import save
from pydicom import Dataset, dcmread
from pydicom.pixels import (
    apply_color_lut,
    apply_modality_lut,
    apply_voi,
    apply_windowing,
    pixel_array,
)
from pydicom.uid import (
    ExplicitVRLittleEndian,
)

from covid_edge.dicom import LUNG, read_tags
from covid_edge.errors import ScanError
from covid_edge.scan import read_scan

RAMP = np.linspace(0, 4095, 64 * 48).astype(np.uint16).reshape(64, 48)
SAMPLES = sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm"))

# Of these pydicom's own pipeline makes no picture, or the standard has none for them.
UNREAD = {
    "ExplVR_BigEndNoMeta.dcm": "bare DICOM",
    "ExplVR_LitEndNoMeta.dcm": "bare DICOM",
    "JPEG-lossy.dcm": "12 bits",
    "JPGExtended.dcm": "12 bits",
    "MR_truncated.dcm": "cut short",
    "UN_sequence.dcm": "without pixels",
    "badVR.dcm": "without pixels",
    "empty_charset_LEI.dcm": "without pixels",
    "meta_missing_tsyntax.dcm": "transfer syntax",
    "nested_priv_SQ.dcm": "without pixels",
    "no_meta.dcm": "bare DICOM",
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
    data, stored = dcmread(path), pixel_array(path, index=0)
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
    elif "WindowCenter" in data or data.Modality == "CT":
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
        frames = read_tags(path.name, file).frames
    scan = read_scan(path, 1 if frames > 1 else None)
    expected = by_pydicom(path)
    assert scan.pixels.shape == expected.shape
    # Half a step of rounding; of colours, Pillow's whole-number weights take one more.
    assert np.abs(scan.pixels - expected).max() <= (0.5001 if expected.ndim == 2 else 1)
