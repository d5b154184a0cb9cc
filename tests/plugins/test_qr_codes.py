"""The plugin `qr_codes`: codes drawn here, images that are none, and images that are too large."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from typing import Any

import pytest
import zxingcpp
from PIL import Image

from gateway import Fact, OptionError
from gateway.plugins.qr_codes import MAX_CODES, Options, QrCodes, read_codes
from gateway.testing import a_message, run_plugin

WRAPPED = "https://www.google.com/url?q=https%3A%2F%2Fevil.test%2F"


def code(text: str, kind: str = "PNG", *, scale: int = 4) -> bytes:
    drawn: Any = zxingcpp.write_barcode_to_image(zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.QRCode), scale=scale)
    plane = memoryview(drawn)
    height, width = plane.shape or (0, 0)
    file = io.BytesIO()
    Image.frombytes("L", (width, height), bytes(plane)).convert("RGB").save(file, kind)
    return file.getvalue()


def empty(width: int, height: int) -> bytes:
    """A PNG that says it is so large, and has nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


async def facts(*images: tuple[str, bytes, str], **options: Any) -> list[tuple[str, object]]:
    message = a_message(attach=list(images))
    done = await run_plugin(QrCodes(Options.model_validate(options)), message=message)
    return [(fact.name, fact.value) for fact in done.findings if isinstance(fact, Fact)]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
async def test_an_address_in_a_code(kind: str) -> None:
    found = await facts(("a", code("https://Evil.test/x", kind), f"image/{kind.lower()}"))
    assert found == [("qr.url", "https://Evil.test/x"), ("qr.host", "evil.test")]


async def test_by_content_whatever_is_declared() -> None:
    assert ("qr.host", "evil.test") in await facts(("a.bin", code("https://evil.test/"), "application/octet-stream"))


async def test_what_redirectors_wrap_and_what_is_no_address() -> None:
    found = await facts(("a.png", code(WRAPPED), "image/png"), ("b.png", code("WIFI:S:x;;\n\u202e"), "image/png"))
    assert [value for name, value in found if name == "qr.host"] == ["www.google.com", "evil.test"]
    assert ("qr.url", "https://evil.test/") in found
    assert ("qr.text", "WIFI:S:x;;\ufffd\ufffd") in found


async def test_a_message_without_images_costs_no_process() -> None:
    assert await facts(("a.txt", b"x", "text/plain")) == []


async def test_bounds() -> None:
    one = code("https://evil.test/")
    assert await facts(*[(f"{n}.png", one, "image/png") for n in range(3)], images=2) == [
        ("qr.url", "https://evil.test/"),
        ("qr.host", "evil.test"),
        ("qr.passed_over", 1),
    ]
    assert await facts(("a.png", one, "image/png"), size=100) == [("qr.passed_over", 1)]
    assert await facts(("a.png", one, "image/png"), pixels=10_000) == [("qr.passed_over", 1)]
    assert await facts(("a.png", empty(60_000, 60_000), "image/png")) == [("qr.passed_over", 1)]


@pytest.mark.parametrize(
    "octets",
    [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff\xe0", b"BM" + b"\xff" * 60, b"II*\0" + b"\xff" * 60, b"no image"],
)
def test_what_cannot_be_read_is_counted(octets: bytes) -> None:
    assert read_codes([octets], 1_000_000).passed_over == 1


def test_torn_images_never_raise() -> None:
    whole = code("https://evil.test/", "JPEG")
    images = [whole[:at] for at in range(0, len(whole), max(1, len(whole) // 40))]
    assert set(read_codes(images, 1_000_000).texts) <= {"https://evil.test/"}


def test_codes_are_bounded() -> None:
    images = [code(f"https://{n}.test/") for n in range(MAX_CODES + 5)]
    assert len(read_codes(images, 1_000_000).texts) == MAX_CODES


@pytest.mark.parametrize("name", ["zxingcpp", "PIL"])
def test_without_a_library(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(OptionError, match=r"mailgateway\[qr\]"):
        QrCodes()
