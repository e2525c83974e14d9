# SPDX-License-Identifier: Apache-2.0
"""Read one frame of a DICOM file as a grey picture, with what its tags say that the answer needs.

The order is that of the standard's grey-scale pipeline (PS3.4 N.2), and each step decides pixels:

1. Stored values as pydicom decodes them: without the bits above BitsStored, where overlays once
   were, and with the sign that the tags say where the codestream disagrees.
2. Modality LUT, or RescaleSlope and RescaleIntercept.
3. What was asked for (`window`); else the first VOI LUT, from its least entry to its greatest; else
   the first window; else :data:`LUNG` for CT that is rescaled to Hounsfield units. The window's
   bounds become 0 and 255. With none of these, up to 8 bits stored are kept as they are and more
   are scaled from the least value held to the greatest, as :mod:`covid_edge.scan` does.
4. MONOCHROME1 is inverted: last, since windows are meant for values that are not.
5. Padding (PixelPaddingValue, to PixelPaddingRangeLimit) is black and never counts as a value held.

Colour and palettes become grey by ITU-R 601, their whole range 0..255. Overlays are not drawn. Of
an enhanced multi-frame picture, a frame's own functional groups win over those that all share.

Nothing read here but :class:`Tags` and :class:`Layout` leaves this module: errors are sentences of
its own, and what pydicom warns of or logs, which quotes values, is silenced.
"""

from __future__ import annotations

import functools
import io
import logging
import math
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator, MutableSequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from .errors import ScanError
from .scan import MAX_PIXELS, MAX_SIDE

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = ["LUNG", "MAX_FRAMES", "Layout", "Plane", "Tags", "read_dicom", "read_layout"]

#: Center and width of the lung window, in Hounsfield units.
LUNG = (-600.0, 1500.0)

#: A file of more frames than this is not gone through; one of them can still be chosen.
MAX_FRAMES = 4096

# What is inflated of a deflated file at most, and what one decoded frame may take: as many bytes
# as a grey picture of MAX_PIXELS with 32 bits.
_MAX_BYTES = 4 * MAX_PIXELS

# Pixels that are computed on at a time, where that takes many bytes for each.
_BAND = 1 << 18

_INSTALL = 'pip install "covid-edge[dicom]"'

# Modality (0008,0060) -> what the bundle calls it. The standard names no DR, but some units do.
_MODALITIES = {"CR": "xray", "DX": "xray", "DR": "xray", "CT": "ct"}
# Those that say nothing about the picture.
_UNTOLD = {"", "OT", "SC"}

# What the names of body parts of which the chest is one contain (PS3.16 annex L, and usage).
_CHEST = ("CHEST", "THORA", "LUNG", "PULMO", "TRUNK", "WHOLEBODY", "WHOLE BODY")

# Tags that decide pixels; a frame may have its own.
_PIXELS = [
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "PixelRepresentation"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *(
        f"{segmented}{colour}PaletteColorLookupTable{part}"
        for colour in ("Red", "Green", "Blue")
        for segmented, part in (("", "Descriptor"), ("", "Data"), ("Segmented", "Data"))
    ),
]

_SHARED, _OF_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"

# What is read of a file, and nothing else of it is: pydicom passes over the values of other tags.
_READ = [
    *("AnatomicRegionSequence", "BodyPartExamined", "ImageType", "Modality", "SOPClassUID"),
    *(_SHARED, _OF_FRAME, *_PIXELS),
]

#: What identifies a picture: read only if asked for.
_IDS = ["PatientID", "AccessionNumber", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]

# What says where a slice lies; of a frame, in its functional groups.
_PLACE = ["ImagePositionPatient", "ImageOrientationPatient", "SliceLocation", "InstanceNumber"]

_RLE = "1.2.840.10008.1.2.5"

# Bytes before the value of encapsulated pixels: tag, VR, two that are reserved, length.
_ELEMENT = 12

_JPEG_END = b"\xff\xd9"

_MONOCHROME = ("MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True)
class Tags:
    """What the tags of a DICOM file say that an answer needs: nothing that identifies anyone.

    Attributes
    ----------
    modality : str or None
        ``"xray"``, ``"ct"``, ``"other"`` (MR, US...), or None: they do not say.
    chest : bool or None
        Whether the part of the body is the chest or has it in it; None: they do not say.
    localizer : bool
        A scout view of CT, which is no slice.
    frame, frames : int
        Which frame was read, from 1, and how many there are.
    ids : dict of str or None
        PatientID, AccessionNumber and UIDs, if they were asked for.
    """

    modality: str | None = None
    chest: bool | None = None
    localizer: bool = False
    frame: int = 1
    frames: int = 1
    ids: dict[str, str] | None = None


class Plane(NamedTuple):
    """Where a slice lies, as far as its tags say; lengths in mm, in the patient's system.

    Attributes
    ----------
    position, normal : tuple of 3 floats, or None
        The centre of its first pixel, and the unit vector at a right angle to it (PS3.3
        C.7.6.2.1.1).
    location, number : float or None
        SliceLocation and InstanceNumber.
    """

    position: tuple[float, ...] | None
    normal: tuple[float, ...] | None
    location: float | None
    number: float | None


class Layout(NamedTuple):
    """Which slices of which series a file holds. It identifies them: it is not to be shown.

    Attributes
    ----------
    frames : int
        How many there are, at least 1.
    series : str or None
        SeriesInstanceUID of slices of CT, empty if they have none; None of anything else.
    planes : tuple of Plane
        Of each slice; empty if they are none, or more than :data:`MAX_FRAMES`.
    """

    frames: int
    series: str | None = None
    planes: tuple[Plane, ...] = ()


def read_dicom(
    name: str,
    file: BinaryIO,
    frame: int | None = None,
    window: tuple[float, float] | None = None,
    include_ids: bool = False,
) -> tuple[np.ndarray, str, Tags]:
    """Decode one frame.

    Parameters
    ----------
    name : str
        What errors call the file.
    file : binary file
        It, opened.
    frame : int, optional
        Which one, from 1; None if there is but one.
    window : tuple of float, optional
        Center and width to use, in the units of the rescaled values, whatever the file says.
    include_ids : bool
        Whether to read what identifies the picture.

    Returns
    -------
    pixels : ndarray of uint8, shape (height, width)
    photometric_interpretation : str
    tags : Tags

    Raises
    ------
    ScanError
        It holds no picture, too large a one or several, is cut short or damaged, or pydicom or a
        decoder is not installed.
    """
    with _reading(name):
        file = _inflated(name, file)
        header = _header(name, file, _IDS if include_ids else [])
        tags = _tags(header, frame, include_ids)
        if not 0 < tags.frame <= tags.frames:
            raise ScanError(name, f"holds {tags.frames} frames, and no frame {tags.frame}")
        if frame is None and tags.frames > 1:
            raise ScanError(name, f"holds {tags.frames} frames; choose one (--frame)")
        stored = _stored(name, file, header, tags.frame - 1)
        display = _display(header, tags.frame - 1)
        if header.PhotometricInterpretation in _MONOCHROME:
            pixels = _grey(name, stored, display, window, tags.modality)
        else:
            pixels = _colour(stored, display)
        pixels.flags.writeable = False
        return pixels, str(header.PhotometricInterpretation), tags


def read_layout(name: str, file: BinaryIO) -> Layout:
    """Return which slices a file holds, without decoding anything.

    Raises
    ------
    ScanError
        As :func:`read_dicom`, as far as the tags show.
    """
    with _reading(name):
        header = _header(name, _inflated(name, file), ["SeriesInstanceUID", *_PLACE])
        tags = _tags(header, None, False)
        frames = max(1, tags.frames)
        if tags.modality != "ct" or tags.localizer or frames > MAX_FRAMES:
            return Layout(frames)
        try:
            planes = tuple(_plane(header, index) for index in range(frames))
        except Exception:  # damaged tags of the place alone shall not cost the answers
            planes = (Plane(None, None, None, None),) * frames
        return Layout(frames, str(header.get("SeriesInstanceUID") or ""), planes)


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Make a sentence of everything that can go wrong, and silence pydicom meanwhile."""
    try:
        import pydicom  # noqa: F401
    except ImportError:
        raise ScanError(name, f"a DICOM file: reading it needs pydicom; {_INSTALL}") from None
    # Warnings' filters belong to the whole process, so one thread at a time; decoders keep
    # Python's lock anyway.
    logger = logging.getLogger("pydicom")
    with _silence, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        propagate, logger.propagate = logger.propagate, False
        logger.addHandler(_NOWHERE)
        try:
            yield
        except ScanError:
            raise
        except MemoryError:
            raise ScanError(name, "not enough memory to decode it") from None
        except Exception as error:  # as with pictures, damaged bytes make them raise anything
            kind = type(error).__name__  # no more of it: messages quote what the file holds
            raise ScanError(name, f"a damaged DICOM file, or one cut short ({kind})") from None
        finally:
            logger.removeHandler(_NOWHERE)
            logger.propagate = propagate


_silence = threading.RLock()
_NOWHERE = logging.NullHandler()


def _inflated(name: str, file: BinaryIO) -> BinaryIO:
    """Return `file`, or of a deflated one what it inflates to, if that is no more than may be."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.filereader import read_dataset, read_preamble
    from pydicom.filewriter import write_file_meta_info
    from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

    file.seek(0)
    read_preamble(file, force=False)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return file
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    data = inflater.decompress(file.read(), _MAX_BYTES)
    if inflater.unconsumed_tail:
        raise ScanError(name, f"inflates to more than the {_MAX_BYTES >> 20} MiB that are read")
    if not inflater.eof:
        raise ScanError(name, "a DICOM file cut short")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    plain = io.BytesIO()
    plain.write(bytes(128) + b"DICM")
    write_file_meta_info(plain, FileMetaDataset(meta), enforce_standard=False)
    plain.write(data)
    return plain


def _header(name: str, file: BinaryIO, also: list[str]) -> Dataset:
    """Return the tags that are needed, and `also` these, checked as far as they can be so far."""
    from pydicom import dcmread
    from pydicom.uid import UID

    file.seek(0)
    header = dcmread(file, stop_before_pixels=True, specific_tags=_READ + also)
    if not header.file_meta.get("TransferSyntaxUID"):
        raise ScanError(name, "a DICOM file that does not say how it is encoded (transfer syntax)")
    if "Rows" not in header or "Columns" not in header or not file.read(1):
        kind = UID(header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID", ""))
        kind = f" ({kind.name})" if kind.type == "SOP Class" else ""
        cut = ", or cut short before them" if "Rows" in header or "Image" in kind else ""
        raise ScanError(name, f"a DICOM file without pixels{cut}{kind}")
    width, height = int(header.Columns), int(header.Rows)
    if width * height > MAX_PIXELS:
        size = f"{width} x {height}"
        raise ScanError(name, f"{size} pixels are more than the {MAX_PIXELS:,} that are read")
    if max(width, height) > MAX_SIDE:
        raise ScanError(name, f"a side of {max(width, height)} pixels is over {MAX_SIDE}")
    size = width * height * int(header.SamplesPerPixel) * int(header.BitsAllocated) // 8
    if size > _MAX_BYTES:
        raise ScanError(name, f"a frame of {size >> 20} MiB is over the {_MAX_BYTES >> 20} read")
    if width < 1 or height < 1:
        raise ScanError(name, "a DICOM file without pixels: its picture has no size")
    return header


def _tags(header: Dataset, frame: int | None, include_ids: bool) -> Tags:
    told = _text(header, "Modality")
    modality = _MODALITIES.get(told, None if told in _UNTOLD else "other")
    parts = _text(header, "BodyPartExamined")
    if not parts and header.get("AnatomicRegionSequence"):
        parts = _text(header.AnatomicRegionSequence[0], "CodeMeaning")
    kinds = header.get("ImageType") or ()
    return Tags(
        modality=modality,
        chest=any(word in parts for word in _CHEST) if parts else None,
        localizer="LOCALIZER" in ([kinds] if isinstance(kinds, str) else list(kinds)),
        frame=frame or 1,
        frames=int(header.get("NumberOfFrames") or 1),
        ids={key: str(header.get(key, "")) for key in _IDS} if include_ids else None,
    )


def _plane(header: Dataset, index: int) -> Plane:
    said = {}
    for group in _groups(header, index):
        said.update((keyword, group[keyword].value) for keyword in _PLACE if keyword in group)
    position, cosines, location, number = (
        _finite(said.get(keyword), count) for keyword, count in zip(_PLACE, (3, 6, 1, 1))
    )
    normal = None
    if cosines:
        (x, y, z), (u, v, w) = cosines[:3], cosines[3:]
        normal = (y * w - z * v, z * u - x * w, x * v - y * u)
        length = math.hypot(*normal)
        normal = tuple(part / length for part in normal) if length > 0.5 else None
    return Plane(position, normal, location and location[0], number and number[0])


def _finite(value: Any, count: int) -> tuple[float, ...] | None:
    """Return so many finite numbers, or None if these are not what the tag holds."""
    try:
        numbers = tuple(map(float, [value] if count == 1 else value))
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def _text(data: Dataset, keyword: str) -> str:
    return str(data.get(keyword) or "").strip().upper()


def _stored(name: str, file: BinaryIO, header: Dataset, index: int) -> np.ndarray:
    """Return the stored values of a frame: rows x columns, and samples if there are several."""
    from pydicom.encaps import get_frame
    from pydicom.pixels import get_decoder, pixel_array
    from pydicom.uid import JPEG2000TransferSyntaxes

    from .codecs import declared_size, register

    register()
    syntax = header.file_meta.TransferSyntaxUID
    known = f" ({syntax.name})" if not syntax.is_private and syntax.name != syntax else ""
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise ScanError(name, f"compressed in a way that is not read{known}") from None
    available = decoder.available_plugins if syntax.is_encapsulated else ()
    plugin = next((plugin for plugin in _plugins(header) if plugin in available), "")
    if syntax.is_encapsulated and not plugin:
        raise ScanError(name, f"compressed in a way{known} that needs a decoder; {_INSTALL}")
    if syntax.is_encapsulated and syntax != _RLE:
        file.seek(_ELEMENT - 1, io.SEEK_CUR)  # from the first byte of the pixels' tag
        frames = int(header.get("NumberOfFrames") or 1)
        frame = get_frame(file, index, number_of_frames=frames)
        # libjpeg makes up what is missing; padding, of whatever byte, may follow the end. JPEG 2000
        # may end without its mark, and its decoder says.
        if syntax not in JPEG2000TransferSyntaxes and _JPEG_END not in frame.rstrip(b"\0")[-4:]:
            raise ScanError(name, "a DICOM file whose compressed picture is cut short")
        if declared_size(frame) != (header.Rows, header.Columns):
            raise ScanError(name, "its tags and its compressed picture are not of one size")
    return pixel_array(file, index=index, decoding_plugin=plugin)


def _plugins(header: Dataset) -> tuple[str, ...]:
    """Return pydicom's plugins that may decode a file, best first.

    Not GDCM and libjpeg, for what :mod:`covid_edge.codecs` says.
    """
    from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit

    syntax = header.file_meta.TransferSyntaxUID
    if syntax == JPEGBaseline8Bit or syntax == JPEGExtended12Bit and header.BitsStored == 8:
        return ("pillow",)
    if syntax == JPEGExtended12Bit:
        return ("imagecodecs",)
    return ("imagecodecs", "pydicom", "pillow")


def _display(header: Dataset, index: int) -> Dataset:
    """Return what decides a frame's pixels: its own groups win over shared ones, these over all."""
    from pydicom import Dataset

    flat = Dataset()
    flat.file_meta = header.file_meta
    flat.set_original_encoding(*header.original_encoding)
    for group in _groups(header, index):
        for keyword in _PIXELS:
            if keyword in group:
                flat[keyword] = group[keyword]
    return flat


def _groups(header: Dataset, index: int) -> list[Dataset]:
    """Return what holds a frame's tags: the later ones win."""
    groups = [header]
    for keyword, item in ((_SHARED, 0), (_OF_FRAME, index)):
        if header.get(keyword):
            inner = [element.value for element in header[keyword][item] if element.VR == "SQ"]
            groups += [group for sequence in inner for group in sequence]
    return groups


def _colour(stored: np.ndarray, display: Dataset) -> np.ndarray:
    """Return the grey of colours, which are ready to be shown: their whole range is 0..255."""
    from pydicom.pixels import apply_color_lut

    if display.PhotometricInterpretation == "PALETTE COLOR":
        bits = int(display.RedPaletteColorLookupTableDescriptor[2])

        def shade(codes: np.ndarray) -> np.ndarray:
            # Wider than they are: pydicom subtracts in the type of what it is given.
            return _grey_of(apply_color_lut(codes.astype(np.int64), display), bits)

        return _each_once(stored, shade)
    if stored.ndim != 3:
        raise ValueError("colour of one sample")
    bits = int(display.BitsStored)
    return np.concatenate([_grey_of(band, bits) for band in _bands(stored)])


def _grey_of(colours: np.ndarray, bits: int) -> np.ndarray:
    """Return the grey of red, green and blue in the last axis, as Pillow's ``convert("L")``."""
    grey = np.full(colours.shape[:-1], 0x8000, np.uint32 if bits <= 16 else np.uint64)
    for n, weight in enumerate((19595, 38470, 7471)):
        grey += weight * colours[..., n].astype(grey.dtype)
    return _scaled(grey >> 16, 0, 2**bits - 1)


def _grey(
    name: str,
    stored: np.ndarray,
    display: Dataset,
    window: tuple[float, float] | None,
    modality: str | None,
) -> np.ndarray:
    if stored.ndim != 2:
        raise ValueError("grey of several samples")
    function = "LINEAR"
    lut = display.get("VOILUTSequence") if window is None else None
    rescaled = _number(display, "RescaleSlope") is not None
    if window is None and not lut:
        window = _window(display)
        function = display.get("VOILUTFunction") or function
        if window is None and modality == "ct" and rescaled:
            window = LUNG

    def values_of(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = _modality_values(codes, display)
        if not np.isfinite(values).all():
            raise ScanError(name, "holds values that are not finite numbers")
        return values, ~_is_padding(codes, display)

    @functools.cache
    def extremes() -> tuple[float, float]:
        parts = (values[held] for values, held in map(values_of, _codes(stored)))
        ends = [(part.min(), part.max()) for part in parts if part.size] or [(0, 0)]
        return min(low for low, _ in ends), max(high for _, high in ends)

    def shade(codes: np.ndarray) -> np.ndarray:
        values, held = values_of(codes)
        if lut:
            table = _lut(lut[0], display)
            grey = _scaled(_look_up(lut[0], table, values), table.min(), table.max())
        elif window is not None:
            grey = _windowed(name, values, window, function)
        elif int(display.BitsStored) <= 8 and values is codes and codes.dtype.kind == "u":
            grey = _scaled(values, 0, 2 ** int(display.BitsStored) - 1)
        else:
            grey = _scaled(values, *extremes())
        if display.PhotometricInterpretation == "MONOCHROME1":
            grey = 255 - grey
        return grey * held

    return _each_once(stored, shade)


def _each_once(stored: np.ndarray, shade: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return ``shade(stored)`` for a `shade` that looks at each value by itself, in less memory."""
    if _is_wide(stored):
        return np.concatenate([shade(band) for band in _bands(stored)])
    (codes,) = _codes(stored)
    table = np.zeros(1 << 8 * codes.itemsize, np.uint8)
    table[_places(codes)] = shade(codes)
    pixels = np.empty(stored.shape, np.uint8)
    for row, out in zip(stored, pixels):
        out[:] = table[_places(row)]
    return pixels


def _codes(stored: np.ndarray) -> Iterator[np.ndarray]:
    """Yield, in parts, each value that is stored at least once: of up to 16 bits, once."""
    if _is_wide(stored):
        yield from _bands(stored)
        return
    present = np.zeros(1 << 8 * stored.itemsize, bool)
    for row in stored:
        present[_places(row)] = True
    kind = stored.dtype.newbyteorder("=")
    yield np.flatnonzero(present).astype(f"u{kind.itemsize}").view(kind)


def _is_wide(stored: np.ndarray) -> bool:
    """Whether there may be about as many values as pixels."""
    return stored.dtype.kind == "f" or stored.itemsize > 2


def _places(codes: np.ndarray) -> np.ndarray:
    """Return the places of values of up to 16 bits in a table of all of them."""
    codes = codes.astype(codes.dtype.newbyteorder("="), order="C", copy=False)
    return codes.view(f"u{codes.itemsize}")


def _bands(pixels: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows of a picture, about :data:`_BAND` pixels at a time."""
    rows = max(1, _BAND // pixels.shape[1])
    for top in range(0, len(pixels), rows):
        yield pixels[top : top + rows]


def _is_padding(codes: np.ndarray, display: Dataset) -> np.ndarray:
    first = _number(display, "PixelPaddingValue")
    if first is None or codes.dtype.kind == "f":
        return np.zeros(codes.shape, bool)
    last = _number(display, "PixelPaddingRangeLimit")
    # In the type of the pixels, and without the bits that they have lost.
    unused = codes.itemsize * 8 - min(int(display.BitsStored), codes.itemsize * 8)
    ends = np.array([first, first if last is None else last]).astype(np.int64).astype(codes.dtype)
    ends = ends << unused >> unused
    return (codes >= ends.min()) & (codes <= ends.max())


def _modality_values(codes: np.ndarray, display: Dataset) -> np.ndarray:
    if display.get("ModalityLUTSequence"):
        item = display.ModalityLUTSequence[0]
        return _look_up(item, _lut(item, display), codes)
    slope, intercept = (_number(display, f"Rescale{part}") for part in ("Slope", "Intercept"))
    if slope is None or intercept is None or (slope, intercept) == (1, 0):
        return codes
    return codes * slope + intercept


def _lut(item: Dataset, display: Dataset) -> np.ndarray:
    """Return the entries of a lookup table, which are packed in bytes or words of either order."""
    entries, data = int(item.LUTDescriptor[0]) or 1 << 16, item["LUTData"].value
    if not isinstance(data, bytes):
        return np.atleast_1d(np.asarray(data, np.uint16))[:entries]
    kind = "u1" if len(data) < 2 * entries else "<u2" if display.original_encoding[1] else ">u2"
    return np.frombuffer(data, kind, entries)


def _look_up(item: Dataset, table: np.ndarray, values: np.ndarray) -> np.ndarray:
    # Not pydicom's apply_voi: it counts entries of 8 bits in 8 bits, so none comes after 255.
    first = int(item.LUTDescriptor[1])
    places = np.rint(values).astype(np.int64) - first
    return table[np.clip(places, 0, len(table) - 1)]


def _window(display: Dataset) -> tuple[float, float] | None:
    """Return the first center and width of a file."""
    center, width = (_number(display, f"Window{part}") for part in ("Center", "Width"))
    return None if center is None or width is None else (center, width)


def _windowed(
    name: str, values: np.ndarray, window: tuple[float, float], function: str
) -> np.ndarray:
    from pydicom import Dataset
    from pydicom.pixels import apply_windowing

    screen = Dataset()  # of 8 bits, to which pydicom maps the window
    screen.PhotometricInterpretation = "MONOCHROME2"
    screen.BitsStored, screen.PixelRepresentation = 8, 0
    screen.WindowCenter, screen.WindowWidth = window
    screen.VOILUTFunction = function
    try:
        return np.rint(apply_windowing(values, screen)).astype(np.uint8)
    except ValueError:
        raise ScanError(name, "its window cannot be applied; choose one with --window") from None


def _number(data: Dataset, keyword: str) -> float | None:
    """Return the first value of a tag, or None if it has none."""
    value = data.get(keyword)
    first = value[0] if isinstance(value, MutableSequence) and value else value
    return None if first in (None, "", []) else float(first)


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scale linearly from `low`..`high` to 0..255, and no further."""
    low, high = float(low), float(high)
    scaled = (values.astype(np.float64) - low) * (255 / (high - low) if high > low else 0.0)
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
