# SPDX-License-Identifier: Apache-2.0
"""What read_scan makes of every kind of file: one whole grey picture, or one clear sentence."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageFile

from covid_edge.errors import CovidEdgeError, ScanError
from covid_edge.scan import MAX_PIXELS, MAX_SIDE, Scan, read_scan

RAMP = np.arange(48 * 40, dtype=np.uint32).reshape(48, 40)
GREY = (RAMP % 251).astype(np.uint8)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(mode: str, size: tuple[int, int] = (40, 48), seed: int = 0) -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    shape = (size[1], size[0], channels) if channels > 1 else (size[1], size[0])
    values = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Image.frombytes(mode, size, values.tobytes())


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", zlib.crc32(kind + data))


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header promises this size and whose pixels are a few bytes."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [
            png_chunk(b"IHDR", header),
            png_chunk(b"IDAT", zlib.compress(bytes(1000))),
            png_chunk(b"IEND", b""),
        ]
    )


@pytest.fixture
def put(tmp_path: Path):
    def write(data: bytes | Image.Image, name: str = "scan.png", **options: object) -> Path:
        path = tmp_path / name
        if isinstance(data, bytes):
            path.write_bytes(data)
        else:
            data.save(path, **options)
        return path

    return write


# --- What is read ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.gif"])
def test_a_grey_picture_keeps_its_pixels(put, name):
    scan = read_scan(put(Image.fromarray(GREY), name))
    assert np.array_equal(scan.pixels, GREY)
    assert (scan.height, scan.width) == (48, 40)


def test_pixels_are_grey_bytes_in_rows_and_read_only(put):
    scan = read_scan(put(Image.fromarray(GREY)))
    assert scan.pixels.dtype == np.uint8
    assert scan.pixels.flags.c_contiguous
    assert not scan.pixels.flags.writeable


def test_path_and_source_mode_are_kept(put):
    path = put(noise("RGB"))
    scan = read_scan(str(path))
    assert (scan.path, scan.source_mode) == (str(path), "RGB")


def test_a_jpeg_is_read_as_pillow_reads_it(put):
    path = put(noise("RGB"), "a.jpg", quality=90)
    with Image.open(path) as image:
        assert np.array_equal(read_scan(path).pixels, np.asarray(image.convert("L")))


def test_a_webp_is_read(put):
    path = put(noise("RGB"), "a.webp", lossless=True)
    assert np.array_equal(read_scan(path).pixels, np.asarray(noise("RGB").convert("L")))


def test_the_kind_is_told_by_content_not_by_name(put):
    path = put(encode(Image.fromarray(GREY), "PNG"), "a.jpg")
    assert np.array_equal(read_scan(path).pixels, GREY)


def test_colour_becomes_grey_by_itu_r_601(put):
    image = Image.new("RGB", (3, 1))
    image.putdata([(255, 0, 0), (0, 255, 0), (0, 0, 255)])
    assert read_scan(put(image)).pixels.tolist() == [[76, 150, 29]]  # 255 * .299, .587, .114


def test_sixteen_bits_are_scaled_from_least_to_greatest(put):
    values = np.array([[1000, 1001, 2020, 3040]], dtype=np.uint16)  # 255 steps of 8
    scan = read_scan(put(Image.fromarray(values)))
    assert scan.pixels.tolist() == [[0, 0, 128, 255]]
    assert scan.source_mode.startswith("I")


def test_sixteen_bits_are_never_clipped(put):
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    assert len(np.unique(read_scan(put(Image.fromarray(values))).pixels)) == 256


def test_flat_sixteen_bits_are_black(put):
    values = np.full((40, 40), 5000, np.uint16)
    assert not read_scan(put(Image.fromarray(values))).pixels.any()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_sixteen_bits_follow_the_formula(put, values):
    low, high = int(values.min()), int(values.max())
    exact = (values.astype(float) - low) * 255 / max(high - low, 1)
    assert np.abs(read_scan(put(Image.fromarray(values))).pixels - exact).max() <= 0.5 + 1e-9


def test_signed_and_floating_tiffs_are_scaled_too(put):
    floats = put(Image.fromarray(np.float32([[-1000.0, 0.0, 1000.0]])), "f.tif")
    wide = put(Image.fromarray(np.int32([[-70000, 0, 70000]])), "i.tif")
    assert read_scan(floats).pixels.tolist() == [[0, 128, 255]]
    assert read_scan(wide).pixels.tolist() == [[0, 128, 255]]


def test_white_is_zero_is_inverted_at_sixteen_bits_as_at_eight(put):
    values = np.array([[0, 1000, 2000]], dtype=np.uint16)
    path = put(Image.fromarray(values), "a.tif", tiffinfo={262: 0})
    assert read_scan(path).pixels.tolist() == [[255, 127, 0]]


def test_opaque_alpha_is_dropped(put):
    image = noise("RGB")
    grey = np.asarray(image.convert("L"))
    image.putalpha(255)
    assert np.array_equal(read_scan(put(image)).pixels, grey)


def test_transparency_shows_black(put):
    image = Image.new("RGBA", (2, 1), (200, 200, 200, 0))
    image.putpixel((1, 0), (200, 200, 200, 128))
    assert read_scan(put(image)).pixels.tolist() == [[0, 100]]


def test_grey_with_alpha_is_read(put):
    image = Image.new("LA", (2, 1), (200, 0))
    image.putpixel((1, 0), (200, 255))
    assert read_scan(put(image)).pixels.tolist() == [[0, 200]]


def test_a_palette_is_looked_up(put):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 10, 10, 200, 200, 200])
    image.putpixel((1, 0), 1)
    assert read_scan(put(image)).pixels.tolist() == [[10, 200]]


def test_a_transparent_palette_entry_shows_black(put):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 10, 10, 200, 200, 200])
    image.putpixel((1, 0), 1)
    assert read_scan(put(image, transparency=1)).pixels.tolist() == [[10, 0]]


def test_one_bit_is_black_and_white(put):
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    assert read_scan(put(image)).pixels.tolist() == [[0, 255]]


def test_a_cmyk_jpeg_is_read_as_it_looks(put):
    image = Image.new("CMYK", (40, 40), (0, 0, 0, 55))  # 55 of 255 black: grey 200
    pixels = read_scan(put(image, "a.jpg", quality=100)).pixels
    assert np.abs(pixels.astype(int) - 200).max() <= 1


def test_exif_orientation_is_applied(put):
    exif = Image.Exif()
    exif[274] = 6  # the camera was turned: rotate by 270 degrees
    path = put(Image.fromarray(GREY), exif=exif)
    assert np.array_equal(read_scan(path).pixels, np.rot90(GREY, -1))


def test_a_single_pixel_is_a_picture(put):
    assert read_scan(put(Image.new("L", (1, 1), 7))).pixels.tolist() == [[7]]


# --- What is refused ------------------------------------------------------------------------


def refuses(path: object, *words: str) -> None:
    with pytest.raises(ScanError) as caught:
        read_scan(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_scan_error_is_a_value_error_of_exit_code_3():
    error = ScanError("a.png", "the file is empty")
    assert isinstance(error, (CovidEdgeError, ValueError))
    assert (error.exit_code, error.path, error.reason) == (3, "a.png", "the file is empty")


def test_missing_file(tmp_path):
    refuses(tmp_path / "nothing.png", "no such file")


def test_folder(tmp_path):
    refuses(tmp_path, "folder")


def test_name_with_a_null_character():
    refuses("a\0b.png", "cannot be opened", "null")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    refuses(tmp_path / "pipe.png", "not a regular file")


def test_unreadable_permission(put, monkeypatch):
    path = put(Image.fromarray(GREY))

    def denied(name, *_):  # chmod would not stop root
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr(os, "open", denied)
    refuses(path, "Permission denied")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
)
def test_unreadable_permission_for_real(put):
    path = put(Image.fromarray(GREY))
    path.chmod(0)
    refuses(path, "Permission denied")


def test_empty_file(put):
    refuses(put(b""), "empty")


def test_text_named_png(put):
    refuses(put(b"This is no picture.\n"), "not a picture", "PNG, JPEG")


def test_a_bare_dicom_data_set_is_named(put):
    refuses(put(bytes.fromhex("0800 0500 4353 0a00") + b"ISO_IR 100"), "bare DICOM", "export")


def test_gigantic_size_is_refused_from_the_header(put):
    refuses(put(png_claiming(20_000, 20_000)), "20000 x 20000", f"{MAX_PIXELS:,}")


def test_a_side_longer_than_the_kernels_reduce(put):
    refuses(put(png_claiming(MAX_SIDE + 1, 100)), f"{MAX_SIDE + 1} pixels is over {MAX_SIDE}")


def test_the_limit_itself_is_not_too_large(put):
    refuses(put(png_claiming(1 << 13, 1 << 13)), "cut short")  # read on, and found short
    refuses(put(png_claiming((1 << 13) + 1, 1 << 13)), "8193 x 8192")


def test_a_decompression_bomb_raises_no_warning_of_pillow(put):
    path = put(png_claiming(9_500, 9_500))  # 90 megapixels: where Pillow warns
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refuses(path, "9500 x 9500")


@pytest.mark.parametrize(("name", "kind"), [("a.gif", "GIF"), ("a.png", "PNG"), ("a.tif", "TIFF")])
def test_several_frames_or_pages(put, name, kind):
    frames = [noise("L", seed=seed) for seed in range(3)]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:])
    refuses(put(data, name), "3 frames or pages")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated(put, kind, share):
    data = encode(noise("L", (200, 200)).convert("RGB" if kind == "WEBP" else "L"), kind)
    refuses(put(data[: int(share * len(data))]), "cut short")


def test_truncated_progressive_jpeg(put):
    data = encode(noise("L", (200, 200)), "JPEG", progressive=True)
    refuses(put(data[: len(data) // 2]), "cut short")


def test_png_cut_anywhere_is_refused(put):
    data = encode(noise("L", (8, 8)), "PNG")
    for length in range(len(data)):
        refuses(put(data[:length]))


def test_png_with_any_bit_changed_is_refused_or_as_before(put):
    data = encode(noise("L", (6, 6)), "PNG")
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        refuses(put(bytes(damaged)))


def test_half_pictures_are_refused_when_pillow_was_told_to_let_them_pass(put, monkeypatch):
    data = encode(noise("L", (200, 200)), "JPEG")
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    refuses(put(data[: len(data) // 2]), "LOAD_TRUNCATED_IMAGES")


def test_values_that_are_not_finite(put):
    path = put(Image.fromarray(np.float32([[0, np.nan, 1]])), "a.tif")
    refuses(path, "finite")


# --- Properties -----------------------------------------------------------------------------

SEEDS = [
    encode(noise("L", (12, 9)), "PNG"),
    encode(noise("P", (12, 9)), "PNG"),
    encode(noise("RGB", (12, 9)), "JPEG"),
    encode(noise("L", (12, 9)), "GIF"),
    encode(noise("L", (12, 9)), "BMP"),
    encode(noise("L", (12, 9)), "TIFF"),
    encode(noise("RGB", (12, 9)), "WEBP"),
]


def reads_or_refuses(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on what it meets
        try:
            scan = read_scan(path)
        except ScanError:
            return
    assert isinstance(scan, Scan)
    assert (scan.pixels.dtype, scan.pixels.ndim) == (np.uint8, 2)


@settings(
    max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(data=st.binary(max_size=200))
def test_random_bytes_are_refused_or_read(put, data):
    reads_or_refuses(put(data))


@settings(
    max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    seed=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.integers(0, 20),
)
def test_damaged_pictures_are_refused_or_read(put, seed, edits, cut):
    data = bytearray(seed)
    for place, value in edits:
        data[place % len(data)] = value
    reads_or_refuses(put(bytes(data[: len(data) - cut])))
