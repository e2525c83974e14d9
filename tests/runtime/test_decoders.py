# SPDX-License-Identifier: Apache-2.0
"""Compressed DICOM: the device's decoders against other programs, on pydicom's own files.

| syntax | the device | the other program |
|---|---|---|
| JPEG, 8 bits | libjpeg-turbo, in Pillow | libjpeg of the JPEG committee |
| JPEG, 12 bits; lossless | libjpeg-turbo, in imagecodecs | the same |
| JPEG-LS | CharLS, in imagecodecs | the same |
| JPEG 2000 | OpenJPEG, in imagecodecs | another build of OpenJPEG |
| RLE | pydicom, in NumPy | pylibjpeg-rle, in Rust |

There is no sample in HTJ2K: test_dicom.py has one, which OpenJPH encodes and OpenJPEG decodes.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import dcmread
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit

from covid_edge import dicom

for program in ("pylibjpeg", "libjpeg", "openjpeg", "rle"):
    pytest.importorskip(program, reason="needs the decoders of pylibjpeg[libjpeg,openjpeg,rle]")

FOLDER = Path(pydicom.__file__).parent / "data" / "test_files"

# Those that the device refuses: test_dicom.py says why.
REFUSED = {"JPEG2000-embedded-sequence-delimiter", "SC_rgb_jpeg", "UN_sequence"}

# The one that the other program refuses: its scan header is not that of a sequential JPEG.
REFUSED_THERE = {"JPEG-lossy"}

# Of lossy JPEG the standard leaves the last bits of cosines and colours to the decoder.
LOSSY = {JPEGBaseline8Bit: 3, JPEGExtended12Bit: 1}


def compressed() -> list[Path]:
    """Return the samples whose pixels are compressed."""
    found = []
    for path in sorted(FOLDER.glob("*.dcm")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            syntax = dcmread(path, force=True).file_meta.get("TransferSyntaxUID")
        if syntax and syntax.is_encapsulated:
            found.append(path)
    return found


def stored(path: Path, frame: int) -> np.ndarray:
    with open(path, "rb") as file:
        return dicom._stored(path.name, file, dicom._header(path.name, file, []), frame)


@pytest.mark.filterwarnings("ignore")  # what pydicom has to say of its samples
@pytest.mark.parametrize("path", compressed(), ids=lambda path: path.stem)
def test_a_decoder_gives_the_values_that_another_program_gives(path, monkeypatch):
    if path.stem in REFUSED | REFUSED_THERE:
        pytest.skip("refused by one of the two")
    data = dcmread(path, stop_before_pixels=True)
    last = int(data.get("NumberOfFrames") or 1) - 1
    ours = [stored(path, frame) for frame in {0, last}]
    monkeypatch.setattr(dicom, "_plugins", lambda header: ("pylibjpeg",))
    theirs = [stored(path, frame) for frame in {0, last}]
    tolerance = LOSSY.get(data.file_meta.TransferSyntaxUID, 0)
    for mine, other in zip(ours, theirs):
        assert mine.dtype == other.dtype
        assert mine.shape == other.shape
        assert np.abs(mine.astype(np.int64) - other).max() <= tolerance
