"""ICAP (RFC 3507) as far as a client that only asks needs it: requests, heads of answers, chunks. No I/O.

What a server found has no place in the RFC: `found` reads the fields that servers add for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Method: TypeAlias = Literal["RESPMOD", "REQMOD"]
MAX_HEAD = 65_536
"""Octets of the head of an answer."""
MAX_THREATS = 20
MAX_TTL = 86_400
CHUNK_LINE = 1_000
_STATUS = re.compile(r"ICAP/1\.[0-9] ([1-5][0-9]{2})(?: (.*))?")
_HTTP = re.compile(rb"HTTP/[0-9.]{1,5} ([1-5][0-9]{2})")
_PART = re.compile(r"(req-hdr|res-hdr|req-body|res-body|opt-body|null-body)\s*=\s*(\d{1,9})")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;.*)?")
_NOTHING = frozenset({"", "-", "0", "none", "clean", "ok", "no threats"})


class AnswerError(Exception):
    """Not what an ICAP server answers; in words for the operator, unescaped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The head of an answer."""

    status: int
    reason: str
    fields: tuple[tuple[str, str], ...]
    """Names in lower case; lines of a folded field with a line feed between them."""

    def field(self, name: str) -> str:
        """The first field of this name in lower case, or ``."""
        return next((value for key, value in self.fields if key == name), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What OPTIONS says of a service (RFC 3507 4.10.2)."""

    preview: int | None = None
    """Octets of the body that it wants to see first; None: it takes none."""
    allows_204: bool = False
    connections: int | None = None
    istag: str = ""
    ttl: float = 3600.0
    """Seconds for which this holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encapsulated:
    """What is in the body of an answer (RFC 3507 4.4.1)."""

    header: Literal["req-hdr", "res-hdr", ""] = ""
    """The last of its HTTP headers."""
    header_size: int = 0
    """Octets in front of the body, or all that there are."""
    has_body: bool = False


def options_request(uri: str, host: str) -> bytes:
    """RFC 3507 4.10."""
    return f"OPTIONS {uri} ICAP/1.0\r\nHost: {host}\r\nUser-Agent: mailgateway\r\nEncapsulated: null-body=0\r\n\r\n".encode()


def request(
    method: Method, uri: str, host: str, *, size: int, preview: int | None, allows_204: bool, more: Sequence[tuple[str, str]] = ()
) -> bytes:
    """What stands in front of the chunks of a message of this size, HTTP headers and all (RFC 3507 4.8, 4.9)."""
    about = f"Content-Type: message/rfc822\r\nContent-Length: {size}\r\n\r\n"
    where = "http://mailgateway.invalid/message.eml HTTP/1.1\r\nHost: mailgateway.invalid\r\n"
    if method == "REQMOD":
        headers = f"POST {where}{about}"
        encapsulated = f"req-hdr=0, req-body={len(headers)}"
    else:
        asked, answered = f"GET {where}\r\n", f"HTTP/1.1 200 OK\r\n{about}"
        headers = asked + answered
        encapsulated = f"req-hdr=0, res-hdr={len(asked)}, res-body={len(headers)}"
    lines = [
        f"{method} {uri} ICAP/1.0",
        f"Host: {host}",
        "User-Agent: mailgateway",
        *(f"{name}: {value}" for name, value in more),
    ]
    if allows_204:
        lines.append("Allow: 204")  # RFC 3507 4.6
    if preview is not None:
        lines.append(f"Preview: {preview}")  # RFC 3507 4.5
    lines += ["Connection: close", f"Encapsulated: {encapsulated}", "", ""]
    return ("\r\n".join(lines) + headers).encode("ascii")


def parse_head(octets: bytes) -> Head:
    """A head with its blank line. AnswerError."""
    lines = octets.decode("latin-1").replace("\r\n", "\n").rstrip("\n").split("\n")
    status = _STATUS.fullmatch(lines[0])
    if status is None:
        raise AnswerError(f"no answer of ICAP: {lines[0][:80]!r}")
    fields: list[tuple[str, str]] = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if line[:1] in {" ", "\t"} and fields:
            fields[-1] = (fields[-1][0], f"{fields[-1][1]}\n{line.strip()}")
        elif colon and name.strip():
            fields.append((name.strip().lower(), value.strip()))
        else:
            raise AnswerError(f"no field of an answer: {line[:80]!r}")
    return Head(status=int(status[1]), reason=status[2] or "", fields=tuple(fields))


def parse_abilities(head: Head, method: Method) -> Abilities:
    """Of the answer to OPTIONS. AnswerError where it cannot do what is asked of it."""
    if head.status != 200:
        raise AnswerError(f"no such service: {head.status} {head.reason[:100]}")
    methods = head.field("methods").upper()
    if methods and method not in re.split(r"[\s,]+", methods):
        raise AnswerError(f"this service does {methods[:60]}, not {method}")
    return Abilities(
        preview=_number(head.field("preview")),
        allows_204="204" in re.split(r"[\s,]+", head.field("allow")),
        connections=_number(head.field("max-connections")) or None,
        istag=head.field("istag").strip('"')[:100],
        ttl=float(min(_number(head.field("options-ttl")) or 3600, MAX_TTL)),
    )


def parse_encapsulated(head: Head) -> Encapsulated:
    """AnswerError for offsets that go backwards, or further than headers go."""
    parts = [(name, int(offset)) for name, offset in _PART.findall(head.field("encapsulated"))]
    if not parts:
        return Encapsulated()
    offsets = [offset for _, offset in parts]
    if offsets != sorted(offsets) or offsets[-1] > MAX_HEAD:
        raise AnswerError(f"a field Encapsulated of {head.field('encapsulated')[:80]!r}")
    headers = [name for name, _ in parts if name in {"req-hdr", "res-hdr"}]
    last: Literal["req-hdr", "res-hdr", ""] = ""
    if headers:
        last = "res-hdr" if headers[-1] == "res-hdr" else "req-hdr"
    return Encapsulated(header=last, header_size=offsets[-1], has_body=parts[-1][0] in {"req-body", "res-body"})


def http_status(headers: bytes) -> int | None:
    """Of the last HTTP response in these headers."""
    found = _HTTP.findall(headers)
    return int(found[-1]) if found else None


def chunk_size(line: bytes) -> int:
    """Octets of the next chunk; 0: there is none (RFC 9112 7.1). AnswerError."""
    found = _SIZE.fullmatch(line.rstrip(b"\r\n"))
    if found is None:
        raise AnswerError(f"no size of a chunk: {line[:40]!r}")
    return int(found[1], 16)


def found(head: Head, names: Sequence[str]) -> tuple[str, ...]:
    """What was found, by the fields of these names (draft-stecher-icap-subid and what products do)."""
    threats: dict[str, None] = {}
    for name in names:
        for key, value in head.fields:
            if key == name.lower():
                threats.update(dict.fromkeys(one for one in _threats(key, value) if one.lower() not in _NOTHING))
    return tuple(threats)[:MAX_THREATS]


def _threats(name: str, value: str) -> list[str]:
    if name == "x-infection-found":  # Type=0; Resolution=2; Threat=Eicar;
        return [one.strip()[7:] for one in value.split(";") if one.strip().lower().startswith("threat=")] or [value]
    if name == "x-violations-found":  # a number, then four lines for each: file name, threat, its number, what was done
        count, *lines = value.split("\n")
        return lines[1::4] if lines else [] if count.strip() == "0" else [value]
    return [value]


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
