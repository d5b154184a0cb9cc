"""The protocol of spamd (spamassassin's spamd/PROTOCOL, version 1.5): a request with its headers, an answer with its own. No I/O.

Names and numbers that come back are taken only in the form that they have in SpamAssassin; of a report only the table at its end, since
what stands in front of it shows the message.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

Command: TypeAlias = Literal["CHECK", "SYMBOLS", "REPORT", "HEADERS", "PING"]
MAX_HEAD = 16_384
MAX_BODY = 1_000_000
"""Octets of an answer's body."""
MAX_SYMBOLS = 500
MAX_FIELDS = 50
_VERSION = "1.5"
_STATUS = re.compile(rb"SPAMD/[0-9.]{1,10} (\d{1,4})(?: ([^\r\n]*))?")
_SPAM = re.compile(r"(true|yes|false|no)\s*;\s*(-?[0-9.]{1,20})\s*/\s*(-?[0-9.]{1,20})", re.IGNORECASE)
_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_RULER = re.compile(r"^-{4} -{10,} -{10,}[ \t]*$", re.MULTILINE)
_ROW = re.compile(r"^ ?(-?\d{1,6}(?:\.\d{1,6})?)[ \t]+([A-Za-z_][A-Za-z0-9_]{0,99})[ \t]*(.*)$")
_TESTS = re.compile(r"\btests=(.*?)(?=\s+[a-z_]+=|$)", re.DOTALL)


class AnswerError(Exception):
    """Not what spamd answers, or that it could not do it; in words for the operator, unescaped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbol:
    """A rule that fits."""

    name: str
    points: float | None = None
    """Where a report tells them."""
    about: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What spamd said of a message."""

    is_spam: bool
    score: float
    threshold: float
    symbols: tuple[Symbol, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()
    """Header fields whose names begin with X-Spam-, with their folding."""


def render(command: Command, size: int, user: str = "") -> bytes:
    """What stands in front of a message of this size."""
    lines = [f"{command} SPAMC/{_VERSION}", f"Content-length: {size}"]
    if user:
        lines.append(f"User: {user}")
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("ascii")


def parse_head(octets: bytes) -> dict[str, str]:
    """The headers of an answer, by name in lower case; what stands in front of its body, blank line and all. AnswerError."""
    first, *lines = octets.rstrip(b"\r\n").split(b"\n")
    found = _STATUS.fullmatch(first.rstrip(b"\r"))
    if found is None:
        raise AnswerError(f"no answer of spamd: {first[:80]!r}")
    if int(found[1]) != 0:
        raise AnswerError(f"spamd could not do it: {int(found[1])} {(found[2] or b'').decode('latin-1')[:200]}")
    headers = {}
    for line in lines:
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon:
            raise AnswerError(f"no header of an answer: {line[:80]!r}")
        headers[name.strip().lower()] = value.strip()
    return headers


def body_size(headers: dict[str, str]) -> int | None:
    """Octets of the body; None: as many as come. AnswerError."""
    text = headers.get("content-length")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or int(text[:10]) > MAX_BODY:
        raise AnswerError(f"a body of {text[:20]!r} octets, at most {MAX_BODY} are read")
    return int(text)


def parse_answer(command: Command, headers: dict[str, str], body: bytes) -> Said:
    """All of it. AnswerError."""
    found = _SPAM.match(headers.get("spam", ""))
    if found is None:
        raise AnswerError(f"no score in its answer: {headers.get('spam', 'no header Spam')[:80]!r}")
    score, threshold = _number(found[2]), _number(found[3])
    if score is None or threshold is None:
        raise AnswerError(f"no score in its answer: {found[0]!r}")
    text = body.decode("latin-1").replace("\r\n", "\n")
    symbols: tuple[Symbol, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()
    match command:
        case "SYMBOLS":
            symbols = parse_symbols(text)
        case "REPORT":
            symbols = parse_report(text)
        case "HEADERS":
            fields = parse_fields(text)
            status = next((value for name, value in fields if name.lower() == "x-spam-status"), "")
            tests = _TESTS.search(status)
            symbols = parse_symbols(tests[1]) if tests else ()
        case _:
            pass
    return Said(is_spam=found[1].lower() in {"true", "yes"}, score=score, threshold=threshold, symbols=symbols, fields=fields)


def parse_symbols(text: str) -> tuple[Symbol, ...]:
    """`A,B,C`, or `none`."""
    names = (one.strip() for one in text.split(","))
    known = dict.fromkeys(name for name in names if _SYMBOL.fullmatch(name) and name != "none")
    return tuple(Symbol(name=name) for name in list(known)[:MAX_SYMBOLS])


def parse_report(text: str) -> tuple[Symbol, ...]:
    """The rows of its table: points, name, description."""
    ruler = None
    for ruler in _RULER.finditer(text):  # noqa: B007 - the last one
        pass
    if ruler is None:
        return ()
    found: dict[str, Symbol] = {}
    for line in text[ruler.end() :].splitlines():
        row = _ROW.match(line)
        if row is not None and len(found) < MAX_SYMBOLS:
            found.setdefault(row[2], Symbol(name=row[2], points=_number(row[1]), about=row[3].strip()[:200]))
    return tuple(found.values())


def parse_fields(text: str) -> tuple[tuple[str, str], ...]:
    """Those of SpamAssassin in a header section. Other fields, and what no field may be, are left out."""
    fields: list[tuple[str, str]] = []
    for line in text.split("\n"):
        if not line:
            break
        if line[0] in " \t":
            if fields and line.strip():
                fields[-1] = (fields[-1][0], f"{fields[-1][1]}\r\n{line}")
            continue
        name, colon, value = line.partition(":")
        fields.append((name if colon else "", value.strip()))
    return tuple((name, value) for name, value in fields if name.lower().startswith("x-spam-"))[:MAX_FIELDS]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
