# SPDX-License-Identifier: Apache-2.0
"""DICOM files for tests, written by pydicom, and compressed by imagecodecs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

_ENCODERS = {
    HTJ2KLossless: ("htj2k", {"reversible": True}),
    JPEG2000Lossless: ("jpeg2k", {"codecformat": "j2k", "level": 0, "reversible": True}),
    JPEGLosslessSV1: ("jpeg8", {"lossless": True, "predictor": 1}),
    JPEGLSLossless: ("jpegls", {}),
}


def image(stored: np.ndarray, modality: str = "CR", bits: int | None = None, **tags) -> Dataset:
    """Return a data set of these stored values: (frames x) rows x columns (x 3)."""
    data = Dataset()
    data.SOPClassUID = CTImageStorage if modality == "CT" else ComputedRadiographyImageStorage
    data.SOPInstanceUID = generate_uid()
    data.Modality = modality
    colour = stored.ndim > 2 and stored.shape[-1] == 3
    rows, columns = stored.shape[-3:-1] if colour else stored.shape[-2:]
    data.Rows, data.Columns = rows, columns
    data.SamplesPerPixel = 3 if colour else 1
    if colour:
        data.PlanarConfiguration = 0
    if stored.ndim - colour > 2:
        data.NumberOfFrames = len(stored)
    data.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    data.BitsAllocated = 8 * stored.itemsize
    data.BitsStored = bits or data.BitsAllocated
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(stored.dtype.kind == "i")
    data.PixelData = np.ascontiguousarray(stored).tobytes()
    data["PixelData"].VR = "OB" if stored.itemsize == 1 else "OW"
    for keyword, value in tags.items():
        setattr(data, keyword, value)
    return data


def save(path: Path, data: Dataset, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write `data` as a DICOM file in a transfer syntax."""
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if syntax == RLELossless:
        data.compress(syntax, encoding_plugin="pydicom", generate_instance_uid=False)
    elif syntax in _ENCODERS:
        data.PixelData = encapsulate([_encoded(data, *_ENCODERS[syntax])])
        data["PixelData"].VR = "OB"
    elif not syntax.is_little_endian:
        data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()
    data.file_meta.TransferSyntaxUID = syntax
    data.save_as(path, enforce_file_format=True)
    return path


def _encoded(data: Dataset, codec: str, options: dict) -> bytes:
    import imagecodecs

    stored = data.pixel_array
    bits = {"bitspersample": data.BitsStored} if codec in ("jpeg2k", "jpeg8") else {}
    return bytes(getattr(imagecodecs, f"{codec}_encode")(stored, **bits, **options))
