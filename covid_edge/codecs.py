# SPDX-License-Identifier: Apache-2.0
"""imagecodecs as a decoding plugin of pydicom, for everything compressed but RLE and 8-bit JPEG.

One package holds libjpeg-turbo (lossless and 12-bit JPEG), CharLS (JPEG-LS) and OpenJPEG (JPEG 2000
and HTJ2K), and its decoders raise on damaged streams. Of those that pydicom knows by itself, GDCM
aborted the process on flipped bits in lossless JPEG, and pylibjpeg-libjpeg is under the GPL.
"""

from __future__ import annotations

import struct
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pydicom import uid
from pydicom.pixels import get_decoder

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import DecodeRunner

__all__ = ["PLUGIN", "declared_size", "register"]

#: What the plugin is called in pydicom.
PLUGIN = "imagecodecs"

_CODECS = {
    uid.JPEGExtended12Bit: "jpeg8",
    uid.JPEGLossless: "jpeg8",
    uid.JPEGLosslessSV1: "jpeg8",
    uid.JPEGLSLossless: "jpegls",
    uid.JPEGLSNearLossless: "jpegls",
    uid.JPEG2000Lossless: "jpeg2k",
    uid.JPEG2000: "jpeg2k",
    uid.HTJ2KLossless: "jpeg2k",
    uid.HTJ2KLosslessRPCL: "jpeg2k",
    uid.HTJ2K: "jpeg2k",
}

DECODER_DEPENDENCIES = dict.fromkeys(_CODECS, ("imagecodecs",))  # pydicom asks for it


def register() -> None:
    """Make the plugin known to pydicom, if imagecodecs is there and it is not known yet."""
    for syntax in _CODECS if is_available(uid.JPEG2000) else ():
        decoder = get_decoder(syntax)
        if PLUGIN not in decoder.available_plugins:
            decoder.add_plugin(PLUGIN, (__name__, "_decode_frame"))


def is_available(syntax: str) -> bool:
    return syntax in _CODECS and find_spec("imagecodecs") is not None


def _decode_frame(source: bytes, runner: DecodeRunner) -> bytes:
    import imagecodecs

    codec = _CODECS[runner.transfer_syntax]
    pixels = getattr(imagecodecs, f"{codec}_decode")(source)
    runner.set_option("bits_allocated", 8 * pixels.itemsize)
    runner.set_option("planar_configuration", 0)
    if codec == "jpeg2k" and runner.photometric_interpretation.startswith("YBR"):
        runner.set_option("photometric_interpretation", "RGB")  # OpenJPEG has undone it
    return pixels.tobytes()


def declared_size(source: bytes) -> tuple[int, int] | None:
    """Return the height and width that the header of a JPEG, JPEG-LS or JPEG 2000 stream declares.

    Decoders make room for that, whatever the DICOM tags say. None: there is no such header.
    """
    place = source.find(b"\xff\x4f\xff\x51", 0, 4096)
    if place >= 0 and len(source) >= place + 24:
        right, bottom, left, top = struct.unpack_from(">4I", source, place + 8)
        return bottom - top, right - left
    place = 2
    while source[:2] == b"\xff\xd8" and place + 9 <= len(source) and source[place] == 0xFF:
        kind, length = struct.unpack_from(">BH", source, place + 1)
        if kind == 0xFF:  # fill byte
            place += 1
        elif kind == 0xF7 or 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            return struct.unpack_from(">HH", source, place + 5)
        else:
            place += 2 + length
    return None
