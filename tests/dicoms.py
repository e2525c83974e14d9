# SPDX-License-Identifier: Apache-2.0
"""DICOM files for tests, written by pydicom (and GDCM, which alone encodes lossless JPEG)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

_BY_GDCM = {JPEGLosslessSV1: "JPEGLosslessProcess14_1", JPEGLSLossless: "JPEGLSLossless"}


def image(stored: np.ndarray, modality: str = "CR", bits: int | None = None, **tags) -> Dataset:
    """Return a data set of these stored values: (frames x) rows x columns (x 3)."""
    data = Dataset()
    data.SOPClassUID = CTImageStorage if modality == "CT" else ComputedRadiographyImageStorage
    data.SOPInstanceUID = generate_uid()
    data.Modality = modality
    colour = stored.shape[-1] == 3
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
    if syntax in (RLELossless, JPEG2000Lossless):
        data.compress(syntax, encoding_plugin="pydicom" if syntax == RLELossless else "pylibjpeg")
    elif syntax not in _BY_GDCM:
        data.file_meta.TransferSyntaxUID = syntax
        if syntax.is_deflated or syntax.is_implicit_VR or not syntax.is_little_endian:
            swapped = data.BitsAllocated == 16 and not syntax.is_little_endian
            if swapped:
                data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()
    data.save_as(path, enforce_file_format=True)
    if syntax in _BY_GDCM:
        _compress(path, _BY_GDCM[syntax])
    return path


def _compress(path: Path, kind: str) -> None:
    import gdcm

    reader, change, writer = (
        gdcm.ImageReader(),
        gdcm.ImageChangeTransferSyntax(),
        gdcm.ImageWriter(),
    )
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, kind)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
