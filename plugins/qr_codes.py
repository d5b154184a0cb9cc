"""Addresses in QR codes: images are decoded in a process of their own, within bounds. Shows work for `run_in_process`.

What a camera would open is no link that a filter of text sees. Only whole images of common kinds are looked at; documents are not.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from gateway import Context, Fact, Message, Part, Plugin, PluginOptions, Size, hook, host_of, library, unwrap

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")
TYPES = frozenset(("image/png", "image/jpeg", "image/gif", "image/bmp", "image/x-ms-bmp", "image/webp", "image/tiff"))
SIDE = 2_000
"""Pixels: what is larger is made smaller before it is searched."""
MAX_CODES = 20
MAX_TEXT = 2_000


class Options(PluginOptions):
    """How much is looked at."""

    images: int = Field(default=10, ge=1, le=100)
    """Images of one message."""
    size: Size = Field(default=5_000_000, le=50_000_000)
    """Octets of one image, decoded from its transfer encoding; a larger one is passed over."""
    pixels: int = Field(default=20_000_000, ge=10_000, le=100_000_000)
    """Pixels of one image; one with more is passed over, before anything of it is decoded."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was read of some images."""

    texts: tuple[str, ...]
    passed_over: int
    """Images that are too large, or cannot be read."""


class QrCodes(Plugin[Options]):
    """Gives facts, and decides nothing."""

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        """OptionError without the libraries."""
        super().__init__(options, name=name, context=context)
        library("zxingcpp", extra="qr")
        library("PIL", extra="qr")

    @hook
    async def check(self, message: Message) -> list[Fact]:
        """`qr.url` and `qr.host` for each address, `qr.text` for what is none, `qr.passed_over` where something was not looked at."""
        images = [part for part in message.parts if _is_image(part)]
        if not images:
            return []
        chosen = [part.content() for part in images[: self.options.images] if part.end - part.body_start <= 2 * self.options.size]
        small = [octets for octets in chosen if len(octets) <= self.options.size]
        found = await self.context.run_in_process(read_codes, small, self.options.pixels) if small else Found((), 0)
        passed_over = found.passed_over + len(images) - len(small)
        facts = [fact for text in found.texts for fact in _facts(text)]
        if passed_over:
            facts.append(Fact(name="qr.passed_over", value=passed_over))
        return facts


def _is_image(part: Part) -> bool:
    return part.content_type in TYPES or part.detected_type in TYPES


def _facts(text: str) -> list[Fact]:
    """An address as its host and what redirectors wrap, or the text."""
    host = host_of(text) if "://" in text or text[:4].lower() == "www." else ""
    if not host:
        return [Fact(name="qr.text", value=text)]
    facts = [Fact(name="qr.url", value=text), Fact(name="qr.host", value=host)]
    target = unwrap(text)
    return [*facts, Fact(name="qr.url", value=target), Fact(name="qr.host", value=host_of(target))] if target else facts


def read_codes(images: list[bytes], pixels: int) -> Found:
    """In a process of the pool: the texts of all QR codes, each once. Never raises."""
    texts: dict[str, None] = {}
    passed_over = 0
    for octets in images:
        try:
            for text in _read(octets, pixels):
                clean = "".join(c if c.isprintable() else "\ufffd" for c in text[:MAX_TEXT])
                if clean:
                    texts.setdefault(clean.encode("utf-8", "replace").decode())
        except Exception:  # noqa: BLE001 - an image of a stranger, and its decoders raise what they like
            passed_over += 1
    return Found(tuple(texts)[:MAX_CODES], passed_over)


def _read(octets: bytes, pixels: int) -> list[str]:
    import zxingcpp
    from PIL import Image

    with Image.open(io.BytesIO(octets), formats=FORMATS) as image:
        width, height = image.size
        if width * height > pixels:
            raise ValueError("too many pixels")
        image.draft("L", (SIDE, SIDE))  # a large JPEG is decoded smaller
        grey = image.convert("L")
    grey.thumbnail((SIDE, SIDE))
    width, height = grey.size
    plane = memoryview(grey.tobytes()).cast("B", (height, width))
    found: list[Any] = zxingcpp.read_barcodes(plane, formats=zxingcpp.BarcodeFormats([zxingcpp.BarcodeFormat.QRCode]))
    return [str(code.text) for code in found]
