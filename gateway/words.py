"""Text of header fields: RFC 2047 encoded words, RFC 2231 parameters, charsets. Tolerant, bounded, linear in its input.

What a mail client would show is what is wanted here, not what the RFC allows.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator
from encodings.aliases import aliases
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

_FOLD: Final = re.compile(rb"\r?\n(?=[ \t])")
_WORD: Final = re.compile(r"=\?([^?\s]{1,60})\?([bBqQ])\?([^?]*+)\?=")  # RFC 2047 2, spaces inside are tolerated as clients do
_NOT_BASE64: Final = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"))
_PIECE = 256 * 1024
_QUOTED: Final = re.compile(rb"=([0-9A-Fa-f]{2})")
_NO_LETTERS: Final = re.compile(r"[^a-z0-9]+")
_PREFIX: Final = re.compile(r"\A(?:x_|cs)(?=[a-z])")
_PARAMETER: Final = re.compile(r"[;\s]*+([^\s=;\"]++)\s*+=\s*+(\"(?:[^\"\\]|\\.)*+\"?|[^;]*+)|[;\s]*+[^;\s]++|[;\s]++", re.DOTALL)
_SECTION: Final = re.compile(r"([^*]++)(?:\*(\d{1,4}))?(\*)?")

# Codecs that are no charset of text, or slow on hostile input.
_NOT_TEXT: Final = frozenset(
    ("base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec", "idna", "punycode", "mbcs")
)
_MORE: Final = {
    "windows_874": "cp874",
    "iso_8859_8_i": "iso8859_8",
    "iso_8859_8_e": "iso8859_8",
    "unicode": "utf_16",
    "utf_8_sig": "utf_8",
}
"""Names of charsets that Python does not have."""
_CODECS: Final = (frozenset(aliases.values()) | {"cp874", "utf_8", "latin_1", "ascii", "utf_16", "utf_32", "utf_7"}) - _NOT_TEXT
_MAX_PARAMETERS: Final = 200
_MAX_CHARSET: Final = 60
"""Characters of a name whose codec is remembered."""


def unfold(octets: bytes) -> bytes:
    """The field body on one line (RFC 5322 2.2.3)."""
    return _FOLD.sub(b"", octets)


def decode_octets(octets: bytes) -> str:
    """8-bit octets of a header: UTF-8 (RFC 6532) where they are, else one character for each octet."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def codec_of(charset: str) -> str:
    """The name of the codec for a charset, or `` for one that cannot be read."""
    return _usual_codec(charset) if len(charset) <= _MAX_CHARSET else _codec(charset)


@lru_cache(maxsize=128)
def _usual_codec(charset: str) -> str:
    return _codec(charset)


def _codec(charset: str) -> str:
    # codecs.lookup remembers every name it was asked: only names known beforehand get there.
    name = _NO_LETTERS.sub("_", charset.lower().partition("*")[0]).strip("_")
    name = _PREFIX.sub("", name)
    codec = aliases.get(name) or _MORE.get(name, name)
    return codec if codec in _CODECS else ""


def decode_charset(octets: bytes, charset: str) -> str:
    """Text of a named charset; an unknown one is read as `decode_octets` does. Never raises."""
    codec = codec_of(charset)
    if codec in {"", "utf_8", "ascii"}:
        return decode_octets(octets)
    try:
        text = octets.decode(codec, "replace")
        # UTF-7 can spell half a surrogate pair, which is no text.
        return text.encode("utf-8", "replace").decode() if codec == "utf_7" else text
    except (LookupError, ValueError):  # a codec that is not built in here, or that knows no `replace`
        return decode_octets(octets)


def decode_base64(octets: bytes) -> bytes:
    """What can be read of base64 (RFC 2045 6.8): foreign octets and wrong padding are passed over."""
    if len(octets) <= _PIECE:
        clean = octets.translate(None, _NOT_BASE64)
        odd = len(clean) % 4
        # Six bits alone are no octet.
        return binascii.a2b_base64(clean + b"=" * (4 - odd) if odd > 1 else clean[:-1] if odd else clean)
    # In a thread, others get their turn between two pieces.
    return b"".join(base64_pieces(octets[at : at + _PIECE] for at in range(0, len(octets), _PIECE)))


def base64_pieces(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same, of octets that come in pieces."""
    left = b""
    for piece in pieces:
        clean = left + piece.translate(None, _NOT_BASE64)
        whole = len(clean) // 4 * 4
        yield binascii.a2b_base64(clean[:whole])
        left = clean[whole:]
    if len(left) > 1:  # six bits alone are no octet
        yield binascii.a2b_base64(left + b"=" * (4 - len(left)))


def decode_words(text: str) -> str:
    """A field body with its encoded words decoded; space between two of them goes (RFC 2047 6.2)."""
    if "=?" not in text:
        return text
    result: list[str] = []
    pending: list[bytes] = []
    charset = ""
    at = 0
    for word in _WORD.finditer(text):
        start = word.start()
        between = text[at:start]
        if between.strip() or at == 0 or word[1].lower() != charset:
            # Words of one charset that follow each other are joined first: a character may be cut in two.
            if pending:
                result.append(decode_charset(b"".join(pending), charset))
                pending.clear()
            if between.strip() or at == 0:
                result.append(between)
        pending.append(_word_octets(word[2], word[3]))
        charset = word[1].lower()
        at = word.end()
    result.append(decode_charset(b"".join(pending), charset))
    result.append(text[at:])
    return "".join(result)


def _word_octets(encoding: str, text: str) -> bytes:
    octets = text.encode("utf-8", "replace")
    if encoding in "bB":
        return decode_base64(octets)
    return _QUOTED.sub(lambda pair: bytes.fromhex(pair[1].decode()), octets.replace(b"_", b" "))


def encode_words(text: str) -> str:
    """Text with its non-ASCII words as encoded words (RFC 2047), each short enough; folds stay where they are."""
    if text.isascii():
        return text
    lines = text.split("\r\n")
    return "\r\n".join(line if line.isascii() else _encode_line(line) for line in lines)


def _encode_line(line: str) -> str:
    words = re.split(r"([ \t]+)", line)
    foreign = [n for n, word in enumerate(words) if not word.isascii()]
    first, last = foreign[0], foreign[-1]
    # All from the first to the last foreign word as one run, so that the space between is not lost.
    run = "".join(words[first : last + 1])
    return "".join(words[:first]) + encoded_run(run) + "".join(words[last + 1 :])


def encoded_run(text: str) -> str:
    """Text as encoded words of at most 75 characters, one on a line (RFC 2047 2)."""
    pieces: list[bytes] = [b""]
    for character in text:
        octets = character.encode("utf-8", "replace")
        if len(pieces[-1]) + len(octets) > 45:  # 60 characters of base64 and 12 of frame
            pieces.append(b"")
        pieces[-1] += octets
    return "\r\n ".join(f"=?utf-8?B?{binascii.b2a_base64(piece, newline=False).decode()}?=" for piece in pieces)


def parse_parameters(text: str) -> tuple[str, list[tuple[str, str]]]:
    """A `Content-Type`-like body: the value before the first `;` and the parameters, in order, raw (RFC 2045 5.1)."""
    value, _, rest = text.partition(";")
    parameters: list[tuple[str, str]] = []
    for found in _PARAMETER.finditer(rest):
        if found[1] is None:
            continue
        if len(parameters) >= _MAX_PARAMETERS:
            break
        raw = found[2].strip()
        if raw[:1] == '"':
            raw = re.sub(r"\\(.)", r"\1", raw[1:].removesuffix('"'), flags=re.DOTALL)
        parameters.append((found[1].lower(), raw))
    return value.strip().lower(), parameters


def parameter_values(parameters: list[tuple[str, str]], name: str) -> list[str]:
    """Every reading of one parameter, the most likely first: RFC 2231 `name*`, `name*0…`, then plain with RFC 2047."""
    plain: list[str] = []
    sections: dict[int, tuple[str, bool]] = {}
    for key, value in parameters:
        found = _SECTION.fullmatch(key)
        if found is None or found[1] != name:
            continue
        if found[2] is None and found[3] is None:
            plain.append(decode_words(value))
        else:
            sections.setdefault(int(found[2] or 0), (value, found[3] is not None))
    result = [_join_sections(sections)] if sections else []
    return [value for value in dict.fromkeys(result + plain) if value]


def _join_sections(sections: dict[int, tuple[str, bool]]) -> str:
    """RFC 2231 3 and 4: sections in order of number up to the first that is missing; the first names the charset."""
    charset = ""
    octets: list[bytes] = []
    for number in range(min(sections), max(sections) + 1):
        if number not in sections:
            break
        value, is_extended = sections[number]
        if is_extended and not octets and value.count("'") >= 2:
            charset, _, value = value.split("'", 2)
        octets.append(unquote_to_bytes(value) if is_extended else value.encode("utf-8", "replace"))
    return decode_words(decode_charset(b"".join(octets), charset))
