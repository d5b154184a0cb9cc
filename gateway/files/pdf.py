"""PDF (ISO 32000): encrypted, with JavaScript or launching programs, and the files embedded in it. By search: no object is followed."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

from gateway.encryption import is_encrypted_pdf
from gateway.files.found import Budget, Found, LimitError, MalformedError, Member, Octets, Sign, Trouble
from gateway.files.streams import feed

_HEX = re.compile(rb"#([0-9A-Fa-f]{2})")
_WORDS = (
    (re.compile(rb"/(?:JavaScript|JS)\b"), "javascript"),
    (re.compile(rb"/Launch\b"), "launch"),
    (re.compile(rb"/(?:OpenAction|AA)\b"), "open-action"),
    (re.compile(rb"/XFA\b"), "xfa"),
)
_EMBEDDED = re.compile(rb"/Type\s{0,20}/EmbeddedFile\b")
_STREAM = re.compile(rb"(?<!end)stream\r?\n")
_FILE_NAME = re.compile(rb"/U?F\s{0,20}\(((?:[^()\\]|\\.){1,500})\)", re.DOTALL)
_MOST_FILES = 200
_NEAR = 4_096
_OBJECT_STREAM = re.compile(rb"/Type\s{0,20}/ObjStm\b")
_MOST_OBJECT_STREAMS = 200


def read(octets: Octets, budget: Budget) -> Iterator[Found]:
    """Names are compared as they are written and with their `#xx` resolved."""
    plain = bytes(octets)
    if is_encrypted_pdf(plain):
        yield Sign(is_encrypted=True)
    yield from _signs(_without_streams(plain))
    budget.look()
    for found in list(_OBJECT_STREAM.finditer(plain))[:_MOST_OBJECT_STREAMS]:  # what they hold says the same things
        content = _content(plain, found.start(), budget)
        if content is not None:
            yield from _signs(bytes(content))
    names = [_text(one[1]) for one in _FILE_NAME.finditer(plain)]
    for number, found in enumerate(_EMBEDDED.finditer(plain)):
        if number >= _MOST_FILES:
            yield Trouble("files-count", f"pdf: more than {_MOST_FILES} files")
            return
        yield Sign(word="embedded-file")
        name = names[number] if number < len(names) else f"embedded-{number + 1}"
        try:
            content = _content(plain, found.start(), budget)
        except LimitError as error:
            if error.is_final:
                raise
            yield Member(names=(name,), trouble=error)
            continue
        yield Member(names=(name,), content=content)


def _without_streams(octets: bytes) -> bytes:
    """The objects without their streams, in which three octets that look like a name are no surprise."""
    found, at = [], 0
    while (start := _STREAM.search(octets, at)) is not None:
        end = octets.find(b"endstream", start.end())
        if end < 0:
            break
        found.append(octets[at : start.start()])
        at = end + 9
    found.append(octets[at:])
    return b"".join(found)


def _signs(octets: bytes) -> Iterator[Found]:
    resolved = _HEX.sub(lambda pair: bytes.fromhex(pair[1].decode()), octets) if _HEX.search(octets) else octets
    for pattern, word in _WORDS:
        if pattern.search(octets) or (resolved is not octets and pattern.search(resolved)):
            yield Sign(word=word)


def _content(octets: bytes, at: int, budget: Budget) -> Octets | None:
    """Of the stream whose dictionary is here; None where it is packed in a way that is not read. LimitError: a final one, or its own."""
    start = _STREAM.search(octets, at, at + _NEAR)
    if start is None:
        return None
    end = octets.find(b"endstream", start.end())
    end = len(octets) if end < 0 else end
    begin = octets.rfind(b"obj", max(0, at - _NEAR), at)
    dictionary = octets[max(begin, 0) : start.start()]
    if b"/Filter" not in dictionary:
        return budget.take(octets[start.end() : end].removesuffix(b"\n").removesuffix(b"\r"))
    if b"FlateDecode" not in dictionary and b"/Fl" not in dictionary:
        return None
    try:
        return budget.collect(_lenient(memoryview(octets)[start.end() :]), max(1, end - start.end()))
    except zlib.error:
        return None


def _lenient(view: memoryview) -> Iterator[bytes]:
    try:
        yield from feed(zlib.decompressobj(), view)
    except MalformedError:
        return


def _text(raw: bytes) -> str:
    """ISO 32000 7.9.2."""
    raw = re.sub(rb"\\(.)", rb"\1", raw, flags=re.DOTALL)
    if raw.startswith(b"\xfe\xff"):
        return raw[2:].decode("utf-16-be", "replace")
    return raw.decode("latin-1")
