"""Text of a part by its charset (RFC 2046 4.1.2), as a reader gets to see it: declared rightly, wrongly or not at all.

What is declared is believed where the octets can be that. A byte order mark counts more; octets of UTF-16 are known by their zeros,
UTF-8 by its form, ISO-2022 by its escape sequences; the rest is windows-1252, as browsers have it. UTF-7 is read where it is declared,
as some mail clients do, and nowhere else; `Message.charsets` tells a rule of it. Linear; never raises.
"""

from __future__ import annotations

import codecs
import re

from gateway.words import codec_of, decode_charset

_LOOK = 2_048
_BOMS = (
    (codecs.BOM_UTF8, "utf_8"),
    (codecs.BOM_UTF32_LE, "utf_32_le"),
    (codecs.BOM_UTF32_BE, "utf_32_be"),
    (codecs.BOM_UTF16_LE, "utf_16_le"),
    (codecs.BOM_UTF16_BE, "utf_16_be"),
)
_WIDE = frozenset(("utf_16", "utf_16_le", "utf_16_be", "utf_32", "utf_32_le", "utf_32_be"))
_NARROW = frozenset(("", "ascii", "latin_1", "cp1252", "utf_8"))
_WIDER = {
    # What carries more letters under the same name, as the Encoding Standard of the WHATWG has it.
    "ascii": "cp1252",
    "latin_1": "cp1252",
    "iso8859_9": "cp1254",
    "iso8859_11": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
}
_ESCAPES = (
    (re.compile(rb"\x1b\$[@B]|\x1b\([JI]|\x1b\$\(D"), "iso2022_jp_ext"),
    (re.compile(rb"\x1b\$\)C"), "iso2022_kr"),
)
_META = re.compile(rb"<meta[^>]{0,300}?charset\s{0,10}=[\s\"']{0,10}([A-Za-z0-9_.:-]{1,40})", re.IGNORECASE)
_FOREIGN = re.compile(r"[^\x00-\x7f]")
_SIGN_OF_UTF8 = re.compile(rb"[\xc2-\xf4][\x80-\xbf]")


def read_text(octets: bytes, declared: str, *, is_html: bool = False) -> str:
    """The text. `declared`: as the part says, `` where it says nothing."""
    for mark, codec in _BOMS:
        if octets.startswith(mark):
            return octets[len(mark) :].decode(codec, "replace")
    codec = codec_of(declared)
    head = octets[:_LOOK]
    if codec in _NARROW or codec in _WIDE:
        wide = _wide(head)
        if wide:
            return octets.decode(wide if codec not in _WIDE or codec in {"utf_16", "utf_32"} else codec, "replace")
        if codec in _WIDE and b"\0" not in head:
            codec = ""  # said to be wide, and is not
    if codec in {"", "ascii"}:
        codec = _undeclared(head, is_html=is_html)
    if codec in _NARROW:
        return _narrow(octets, codec)
    return decode_charset(octets, _WIDER.get(codec, codec))


def _wide(head: bytes) -> str:
    """The codec of UTF-16 or UTF-32 without a mark (RFC 2781 4.3 calls it big-endian; programs write what their processor has)."""
    if head.count(0) * 4 < len(head) or len(head) < 4:
        return ""
    quarters = [head[n::4].count(0) for n in range(4)]
    most = len(head) // 4 * 0.6
    if quarters[1] > most and quarters[2] > most and (quarters[0] > most) != (quarters[3] > most):
        return "utf_32_be" if quarters[0] > most else "utf_32_le"
    even, odd = quarters[0] + quarters[2], quarters[1] + quarters[3]
    if even > 4 * odd:
        return "utf_16_be"
    return "utf_16_le" if odd > 4 * even else ""


def _undeclared(head: bytes, *, is_html: bool) -> str:
    if is_html and (found := _META.search(head)) is not None:
        codec = codec_of(found[1].decode("ascii"))
        if codec and codec not in _WIDE and codec != "utf_7":  # whoever could read this declaration reads no such text
            return codec
    if b"\x1b" in head:
        for pattern, codec in _ESCAPES:
            if pattern.search(head):
                return codec
    return ""


def _narrow(octets: bytes, codec: str) -> str:
    """UTF-8, ASCII or windows-1252: which of them it is shows."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        pass
    if codec not in {"latin_1", "cp1252"} and _SIGN_OF_UTF8.search(octets):
        text = octets.decode("utf-8", "replace")
        if text.count("\ufffd") * 2 <= len(_FOREIGN.findall(text)):
            return text  # some octets are broken, or the last character is cut off
    return octets.decode("cp1252", "replace")
