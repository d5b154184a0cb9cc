"""Every reading of an attachment's transfer encoding (RFC 2045 6): clients and scanners disagree about broken ones, so all are looked at."""

from __future__ import annotations

import binascii
import quopri
import re

from gateway.content import Octets as Content
from gateway.words import decode_base64

_BASE64_LINE = re.compile(rb"[ \t]*(?:[A-Za-z0-9+/]{4}){4,}[A-Za-z0-9+/=]{0,4}[ \t]*\r?$", re.MULTILINE)
_PADDING = re.compile(rb"={1,2}")
_UU_BEGIN = re.compile(rb"^begin(?:-base64)? [0-7]{3,4} ?([^\r\n]{0,255})\r?\n", re.MULTILINE)
_MOST_PIECES = 10_000
BASE64 = frozenset(("base64", "base-64", "b64", "x-base64", "b"))
QUOTED = frozenset(("quoted-printable", "quotedprintable", "quoted_printable", "qp"))
UU = frozenset(("x-uuencode", "uuencode", "x-uue", "uue", "x-uu"))
PLAIN = frozenset(("", "7bit", "8bit", "binary", "7-bit", "8-bit"))


def encoding_word(encoding: str) -> str:
    """The mechanism without comment, parameter or quotes: clients go by this much of it."""
    return re.sub(r"\([^)]*\)", " ", encoding).strip(" \t\"'").partition(";")[0].strip(" \t\"'").lower()


def readings(octets: bytes, encoding: str) -> list[bytes]:
    """What these octets may decode to, the likeliest first, each once, none empty but the first."""
    word = encoding_word(encoding)
    found: list[bytes]
    if word in BASE64:
        found = _base64(octets)
    elif word in QUOTED:
        found = [quopri.decodestring(octets)]
        if _is_base64(octets):
            found.append(decode_base64(octets))
    elif word in UU:
        found = [uudecode(octets) or octets]
    else:
        found = [octets]
        if _is_base64(octets):
            found.append(decode_base64(octets))
    first, *others = found
    return [first, *(one for one in dict.fromkeys(others) if one and one != first)]


def _base64(octets: bytes) -> list[bytes]:
    """Passing over the padding within, beginning anew behind it, ending with it; and what stands there when it is no base64."""
    found = [decode_base64(octets)]
    end = octets.find(b"=")
    if end >= 0 and decode_base64(octets[end:]):
        pieces = _PADDING.split(octets, _MOST_PIECES)
        found.append(b"".join(map(decode_base64, pieces)))
        found.append(decode_base64(pieces[0]))
    head = octets[:4_096].lstrip()
    if head and not _is_base64(octets, least=1):  # a client may show it as it is
        found.append(octets)
    cut = _BASE64_LINE.search(octets)
    if cut is not None and octets[: cut.start()].strip():  # lines in front that are no base64, which shift all that follows
        found.append(decode_base64(octets[cut.start() :]))
    return found


def _is_base64(octets: bytes, least: int = 16) -> bool:
    """The first lines look like nothing else."""
    lines = [line.strip() for line in octets[:4_096].splitlines()[:20] if line.strip()]
    if len(octets) > 4_096:
        lines = lines[:-1] or lines
    whole = b"".join(lines)
    return len(whole) >= least and len(whole.split()) == 1 and re.fullmatch(rb"[A-Za-z0-9+/]+={0,2}", whole) is not None


def uudecode(octets: bytes) -> bytes:
    """The first uuencoded file, or what can be read of it; empty where there is none."""
    begin = _UU_BEGIN.search(octets)
    if begin is None:
        return b""
    found: list[bytes] = []
    for line in octets[begin.end() :].splitlines():
        if line.strip() in (b"end", b"`"):
            break
        try:
            found.append(binascii.a2b_uu(line))
        except binascii.Error:
            length = (((line[0] - 32) & 63) * 4 + 5) // 3 if line else 0
            try:
                found.append(binascii.a2b_uu(line[:length]))
            except binascii.Error:
                continue
    return b"".join(found)


def has_uuencoded(octets: Content, start: int, end: int) -> bool:
    """There is a line there that begins a uuencoded file."""
    at = octets.find(b"begin", start, end)
    for _ in range(1_000):
        if at < 0:
            return False
        if (at == start or octets[at - 1 : at] == b"\n") and _UU_BEGIN.match(octets[at : min(at + 300, end)]):
            return True
        at = octets.find(b"begin", at + 5, end)
    return False


def uuencoded(octets: bytes, most: int) -> list[tuple[str, bytes]]:
    """Files within text that a client shows as attachments: their names and octets."""
    found: list[tuple[str, bytes]] = []
    for begin in _UU_BEGIN.finditer(octets):
        if len(found) >= most:
            break
        content = uudecode(octets[begin.start() :])
        if content:
            found.append((begin[1].decode("latin-1").strip(), content))
    return found
