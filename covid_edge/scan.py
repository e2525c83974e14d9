# SPDX-License-Identifier: Apache-2.0
"""Read one file as one whole grey picture, or say in a sentence why not.

Training and the device read scans by this one function; its rules decide what the networks see:

- The kind of file is told by its first bytes, never by its name.
- The size is judged from the header, before any pixel is decoded.
- A picture that is cut short or damaged is refused: half a picture is never answered on.
- Colour becomes grey by ITU-R 601 (Pillow's ``convert("L")``); transparency shows black.
- More than 8 bits are scaled linearly, from the least and greatest value held, to 0..255.
- EXIF orientation is applied.

DICOM has rules of its own, in :mod:`covid_edge.dicom`, which is imported when a file is one.
"""

from __future__ import annotations

import importlib
import os
import stat
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from .errors import ScanError

if TYPE_CHECKING:
    import PIL.Image

    from .dicom import Tags

__all__ = ["MAX_PIXELS", "MAX_SIDE", "Scan", "is_dicom", "read_scan"]

#: Pictures of more pixels than this (64 megapixels) are not decoded. A full-field digital
#: radiograph has about 10; Pillow's own guard against decompression bombs starts at 85.
MAX_PIXELS = 1 << 26

#: Nor are those with a longer side: the kernels reduce no larger scan.
MAX_SIDE = 2**15 - 1

_KINDS = {  # first bytes -> Pillow plugin
    b"\x89PNG\r\n\x1a\n": "Png",
    b"\xff\xd8\xff": "Jpeg",
    b"BM": "Bmp",
    b"II*\0": "Tiff",
    b"MM\0*": "Tiff",
    b"GIF87a": "Gif",
    b"GIF89a": "Gif",
}
_HEAD = 132  # bytes looked at: DICOM's mark comes last, after a preamble of 128
_BARE_DICOM = (b"\2\0", b"\10\0", b"\0\10")  # the first group of one without that: 0002, 0008

_ORIENTATION = 274  # EXIF and TIFF tag
_PHOTOMETRIC = 262  # TIFF tag; 0: white is zero


@dataclass(frozen=True, eq=False)
class Scan:
    """One picture.

    Attributes
    ----------
    path : str
        The file it came from.
    pixels : ndarray of uint8, shape (height, width)
        Grey, 0 black to 255 white, C-contiguous, read-only.
    source_mode : str
        Pillow's name of what the file held: ``"L"``, ``"RGB"``, ``"I;16"``...; of a DICOM file its
        photometric interpretation.
    tags : covid_edge.dicom.Tags or None
        What the tags of a DICOM file say of the picture.
    """

    path: str
    pixels: np.ndarray
    source_mode: str
    tags: Tags | None = None

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        return self.pixels.shape[1]


def read_scan(
    path: str | os.PathLike[str],
    frame: int | None = None,
    window: tuple[float, float] | None = None,
    include_ids: bool = False,
) -> Scan:
    """Decode a PNG, JPEG, BMP, TIFF, WebP, GIF or DICOM file to grey pixels.

    Parameters
    ----------
    path : str or path-like
        The file. It must be a regular file holding one picture.
    frame, window, include_ids
        Of a DICOM file alone: see :func:`covid_edge.dicom.read_dicom`.

    Returns
    -------
    Scan

    Raises
    ------
    ScanError
        The file is missing, unreadable, empty, not a picture of these kinds, over
        :data:`MAX_PIXELS` or :data:`MAX_SIDE`, of several frames or pages, cut short or damaged.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb", opener=_open_regular) as file:
            if _has_dicom_mark(file.read(_HEAD)):
                from .dicom import read_dicom

                return Scan(name, *read_dicom(name, file, frame, window, include_ids))
            file.seek(0)
            return Scan(name, *_decode(name, file))
    except ScanError:
        raise
    except FileNotFoundError:
        raise ScanError(name, "no such file") from None
    except IsADirectoryError:
        raise ScanError(name, "a folder, not a file") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        reason = getattr(error, "strerror", None) or str(error)
        raise ScanError(name, f"cannot be opened: {reason}") from None


def is_dicom(path: str | os.PathLike[str]) -> bool:
    """Return whether a file can be read and begins as a DICOM file does."""
    try:
        with open(path, "rb", opener=_open_regular) as file:
            return _has_dicom_mark(file.read(_HEAD))
    except (OSError, ScanError, ValueError):
        return False


def _has_dicom_mark(head: bytes) -> bool:
    return head[128:] == b"DICM"


def _open_regular(name: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a named pipe that nobody writes to would wait for ever.
    descriptor = os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # open() itself refuses a folder
        return descriptor
    os.close(descriptor)
    raise ScanError(name, "not a regular file")


def _decode(name: str, file: BinaryIO) -> tuple[np.ndarray, str]:
    plugin = _plugin(name, file)
    file.seek(0)
    # A decoder fed with damaged bytes may raise nearly anything (Pillow's plugins: OSError,
    # SyntaxError, struct.error, KeyError, OverflowError...), and all of it means one thing.
    try:
        with plugin(file) as image:
            _check_header(name, image)
            if image.format == "PNG":
                _check_png_chunks(name, file)
            mode = image.mode
            return _grey(name, image), mode
    except ScanError:
        raise
    except MemoryError:
        raise ScanError(name, "not enough memory to decode it") from None
    except Exception as error:
        raise ScanError(name, f"damaged or cut short: {error}") from error


def _plugin(name: str, file: BinaryIO) -> type[PIL.Image.Image]:
    """Return the one Pillow class that reads this file; importing all of them takes longer."""
    head = file.read(_HEAD)
    if not head:
        raise ScanError(name, "the file is empty")
    kind = next((kind for mark, kind in _KINDS.items() if head.startswith(mark)), None)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        kind = "WebP"
    if kind is None and head[:2] in _BARE_DICOM:
        raise ScanError(name, "a bare DICOM data set, or no picture; export it as a DICOM file")
    if kind is None:
        raise ScanError(name, "not a picture (PNG, JPEG, BMP, TIFF, WebP, GIF or DICOM)")
    return getattr(importlib.import_module(f"PIL.{kind}ImagePlugin"), f"{kind}ImageFile")


def _check_header(name: str, image: PIL.Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        size = f"{image.width} x {image.height}"
        raise ScanError(name, f"{size} pixels are more than the {MAX_PIXELS:,} that are read")
    if max(image.size) > MAX_SIDE:
        raise ScanError(name, f"a side of {max(image.size)} pixels is over {MAX_SIDE}")
    frames = getattr(image, "n_frames", 1)
    if frames != 1:
        raise ScanError(name, f"holds {frames} frames or pages; give one picture a file")


def _check_png_chunks(name: str, file: BinaryIO) -> None:
    """Walk all chunks to IEND: Pillow neither checks the CRC of pixels nor misses a lost end."""
    here = file.tell()
    left = file.seek(0, os.SEEK_END) - file.seek(8)
    kind = b""
    while kind != b"IEND":
        left -= 12  # length, kind and CRC
        length, kind = struct.unpack(">I4s", file.read(8)) if left >= 0 else (0, b"")
        left -= length
        if left < 0:
            raise ScanError(name, "the PNG is cut short")
        crc = zlib.crc32(file.read(length), zlib.crc32(kind))
        if crc != int.from_bytes(file.read(4), "big"):
            raise ScanError(name, f"the PNG is damaged: wrong CRC of chunk {kind!r}")
    file.seek(here)


def _grey(name: str, image: PIL.Image.Image) -> np.ndarray:
    from PIL import Image, ImageFile

    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ScanError(name, "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on: set it to False")
    image.load()
    # The tag is asked of the file itself: conversions below return pictures without it.
    orientation = image.getexif().get(_ORIENTATION, 1)
    white_is_zero = image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == 0
    if orientation != 1:
        from PIL import ImageOps

        image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        pixels = _stretch(name, np.asarray(image))
        # Of 16 bits Pillow hands out what is stored; of 8 it has already turned white to 255.
        return np.invert(pixels) if white_is_zero else pixels
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    return np.asarray(image.convert("L"))


def _stretch(name: str, values: np.ndarray) -> np.ndarray:
    """Scale linearly so that the least value becomes 0 and the greatest 255."""
    low, high = values.min().item(), values.max().item()
    if not np.isfinite(high - low):
        raise ScanError(name, "holds values that are not finite numbers")
    scale = 255 / (high - low) if high > low else 0.0
    scaled = np.subtract(values, low, dtype=np.float64)
    scaled *= scale
    return np.rint(scaled, out=scaled).astype(np.uint8)
