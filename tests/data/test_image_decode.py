"""One file to pixels: kinds of image, fitting, refusals."""

from __future__ import annotations

import fcntl
import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import deep_png, picture
from PIL import Image

from aifs_tune.data.images.decode import MAX_PIXELS, Decoded, DecodeSettings, decode
from aifs_tune.data.images.decode_all import scaled

SETTINGS = DecodeSettings(size=8, channels="auto", fit="stretch")


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return io.BytesIO(file.getvalue())


def decoded(image: Image.Image, kind: str = "PNG", settings: DecodeSettings = SETTINGS, **options: Any) -> Decoded:
    return decode(encoded(image, kind, **options), settings)


@pytest.mark.parametrize(
    ("mode", "kind", "channels"),
    [
        ("1", "PNG", 1),
        ("L", "JPEG", 1),
        ("L", "TIFF", 1),
        ("LA", "PNG", 1),
        ("P", "PNG", 3),
        ("RGB", "JPEG", 3),
        ("RGB", "TIFF", 3),
        ("RGBA", "PNG", 3),
        ("CMYK", "JPEG", 3),
        ("CMYK", "TIFF", 3),
        ("YCbCr", "TIFF", 3),
        ("RGB", "BMP", 3),
        ("L", "BMP", 1),
        ("RGB", "WEBP", 3),
        ("RGB", "JPEG2000", 3),
        ("RGB", "PPM", 3),
        ("P", "GIF", 3),
    ],
)
def test_every_usual_kind_becomes_grey_or_rgb(mode: str, kind: str, channels: int) -> None:
    result = decoded(picture(1).convert(mode), kind)
    assert result.facts.problem == ""
    assert (result.facts.width, result.facts.height) == (20, 16)
    assert result.pixels is not None
    assert (result.pixels.shape, result.pixels.dtype) == ((8, 8, channels), np.uint8)


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_of_a_moving_picture_the_first_frame_is_read(kind: str) -> None:
    frames = [picture(seed) for seed in range(3)]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    moving = decoded(frames[0], kind, save_all=True, append_images=frames[1:], **lossless)
    still = decoded(frames[0], kind, **lossless)
    assert moving.facts.problem == ""
    assert (moving.facts.note, still.facts.note) == ("a moving picture, of which the first frame is read", "")
    np.testing.assert_array_equal(moving.pixels, still.pixels)


def test_three_equal_channels_are_one() -> None:
    result = decoded(picture(1, colour=False).convert("RGB"))
    assert result.pixels is not None
    assert result.pixels.shape == (8, 8, 1)


def test_grey_on_request_is_the_luma_of_itu_r_601() -> None:
    red = Image.new("RGB", (9, 9), (255, 0, 0))
    result = decoded(red, settings=DecodeSettings(8, "grey", "stretch"))
    assert result.pixels is not None
    assert set(result.pixels.ravel()) == {76}


def test_a_transparent_image_lies_on_black() -> None:
    image = Image.new("RGBA", (8, 8), (200, 100, 50, 128))
    image.putpixel((0, 0), (255, 255, 255, 0))
    result = decoded(image)
    assert result.pixels is not None
    assert result.pixels[0, 0].tolist() == [0] * result.pixels.shape[2]
    assert result.pixels[4, 4].tolist() == [100, 50, 25]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_values(kind: str) -> None:
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    result = decoded(Image.fromarray(values), kind)
    assert result.pixels is not None
    assert result.facts.bits == 16
    assert np.array_equal(result.pixels[..., 0], values)


@pytest.mark.parametrize(
    ("channels", "colour_type", "mode"), [(3, 2, "RGB;16"), (4, 6, "RGB;16"), (2, 4, "I;16")], ids=["RGB", "RGBA", "LA"]
)
def test_16_bit_colour_keeps_all_bits(channels: int, colour_type: int, mode: str) -> None:
    values = np.random.default_rng(channels).integers(0, 65536, (8, 8, channels), np.uint16)
    if channels != 3:
        values[..., -1] = 65535
        values[:4, :, -1] = 0
    result = decode(io.BytesIO(deep_png(values, colour_type)), SETTINGS)
    assert (result.facts.mode, result.facts.bits, result.facts.has_alpha) == (mode, 16, channels != 3)
    assert result.pixels is not None
    seen = values if channels == 3 else np.where(values[..., -1:] > 0, values, 0)[..., :-1]
    assert np.array_equal(result.pixels, seen)
    assert result.facts.ends == [[low, high] for low, high in zip(seen.min((0, 1)), seen.max((0, 1)), strict=True)]


def test_fit_says_what_becomes_of_the_longer_side() -> None:
    wide = Image.new("L", (24, 8))
    wide.paste(90, (8, 0, 16, 8))  # a bright square in the middle
    found = {fit: decoded(wide, settings=DecodeSettings(8, "auto", fit)).pixels for fit in ("stretch", "crop", "pad")}
    assert all(pixels is not None and pixels.shape == (8, 8, 1) for pixels in found.values())
    assert (found["crop"] == 90).all()
    assert found["stretch"][:, 0].max() < 45 < found["stretch"][:, 4].min()
    assert found["pad"][0].max() == 0 < found["pad"][4, 4] == 90


@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from(["stretch", "crop", "pad"]), st.integers(8, 40))
def test_any_size_becomes_the_square(width: int, height: int, fit: Any, size: int) -> None:
    result = decoded(picture(3, (width, height)), settings=DecodeSettings(size, "rgb", fit))
    assert result.pixels is not None
    assert result.pixels.shape[:2] == (size, size)


def test_a_shrunk_jpeg_is_antialiased_as_a_whole_one() -> None:
    ramp = np.add.outer(np.arange(512), np.arange(512)) / 4
    image = Image.fromarray(ramp.astype(np.uint8))
    small, whole = decoded(image, "JPEG", quality=95).pixels, decoded(image, "PNG").pixels
    assert np.abs(small.astype(int) - whole.astype(int)).max() <= 2


def test_the_orientation_in_exif_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = picture(5, (8, 8))
    assert np.array_equal(decoded(image, exif=exif.tobytes()).pixels, decoded(image).pixels)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (io.BytesIO(b"hello"), "is no image of a known format"),
        (io.BytesIO(b""), "is no image of a known format"),
        (encoded(picture(0), "PCX"), "is no image of a known format"),
        (io.BytesIO(b"\x89PNG\r\n\x1a\nrubbish"), "is a damaged or unsupported PNG file"),
        (encoded(picture(0), "TIFF", save_all=True, append_images=[picture(1)]), "has 2 frames; allowed: 1"),
        (encoded(picture(0), "PNG", save_all=True, append_images=[picture(1)] * 2), "has 3 frames; allowed: 1"),
        (encoded(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "TIFF"), "has no finite pixel"),
        (encoded(Image.new("LAB", (4, 4)), "TIFF"), "has the pixel mode LAB"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason(file: io.BytesIO, said: str) -> None:
    file.seek(0)
    result = decode(file, SETTINGS)
    assert result.pixels is None
    assert result.facts.problem.startswith(said)


@pytest.mark.parametrize(("width", "height"), [(MAX_PIXELS // 1000 + 1, 1000), (60_000, 60_000)])
def test_a_bomb_is_refused_by_its_header(width: int, height: int) -> None:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    checksum = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    idat = zlib.compress(b"")
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + checksum
    png += struct.pack(">I", len(idat)) + b"IDAT" + idat + struct.pack(">I", zlib.crc32(b"IDAT" + idat))
    assert "pixels; allowed: at most 64,000,000" in decode(io.BytesIO(png), SETTINGS).facts.problem


def test_the_preview_behind_a_camera_picture_is_no_frame() -> None:
    result = decode(encoded(picture(0), "MPO", save_all=True, append_images=[picture(1)]), SETTINGS)
    assert result.facts.problem == ""


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_truncated_image_is_damaged(kind: str, share: float) -> None:
    whole = encoded(picture(0, (200, 150)), kind).getvalue()
    result = decode(io.BytesIO(whole[: int(share * len(whole))]), SETTINGS)
    assert result.pixels is None
    assert "damaged" in result.facts.problem


@given(st.data())
def test_no_rubbish_raises(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "TIFF"]))
    content = bytearray(encoded(picture(0, (9, 7)).convert(data.draw(st.sampled_from(["L", "RGB"]))), kind).getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    result = decode(io.BytesIO(bytes(content)), SETTINGS)
    assert (result.pixels is None) == bool(result.facts.problem)


def test_the_largest_image_needs_little_memory(tmp_path: Path) -> None:
    file = tmp_path / "large.png"
    Image.new("RGBA", (8000, 8000), (9, 9, 9, 99)).save(file, compress_level=1)
    code = (
        "from pathlib import Path; from aifs_tune.data.images.decode import DecodeSettings, decode\n"
        f"found = decode(open({str(file)!r}, 'rb'), DecodeSettings(64, 'auto', 'stretch'))\n"
        "assert found.pixels is not None, found\n"
        "print(next(line for line in Path('/proc/self/status').read_text().splitlines() if 'VmHWM' in line).split()[1])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 640 * 1024  # KiB


def test_large_images_are_decoded_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr("fcntl.flock", lambda descriptor, operation: calls.append((descriptor, operation)))
    decode(encoded(Image.new("L", (1000, 1000))), SETTINGS, lock=17)
    assert calls == []
    decode(encoded(Image.new("L", (3000, 3000))), SETTINGS, lock=17)
    assert calls == [(17, fcntl.LOCK_EX), (17, fcntl.LOCK_UN)]


@given(st.integers(0, 65534), st.integers(1, 65535))
def test_16_bit_values_are_scaled_linearly(low: int, width: int) -> None:
    high = min(low + width, 65535)
    values = np.array([low, high, 0, 65535, (low + high) // 2], np.uint16)
    result = scaled(values, (low, high)).astype(int)
    assert result[:4].tolist() == [0, 255, 0, 255]
    assert abs(result[4] - 255 * ((low + high) // 2 - low) / (high - low)) <= 0.51
