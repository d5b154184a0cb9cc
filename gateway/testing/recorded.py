"""A tape as a file that plays by itself: a dialogue (`gateway.testing.dialogue`), or a pytest case around one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.testing.tape import Line, Tape
from gateway.trace import Record

DATE = re.compile(r"\w{3},\\? +\d{1,2}\\? \w{3}\\? \d{4}\\? \d\d:\d\d:\d\d\\? (?:\\?\+|\\?-)\d{4}")
_ID = re.compile(r"\b1[0-9A-Z]{13}(?:-\d+)?\b")
_SIGNATURES = frozenset({"dkim-signature", "arc-seal", "arc-message-signature", "arc-authentication-results"})
"""Fields of ours that differ each time in more than a date."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a session was held in, as far as playing it needs that."""

    title: str
    config_file: str
    """Relative to the folder of the file that is made."""
    more_config: Sequence[str] = ()
    """Lines of TOML laid over it."""
    client: str = ""
    """The address that the client was said to have; `` for its own, loopback."""
    is_tls: bool = False
    """It counted as TLS."""
    listener: str = ""
    keywords: Sequence[str] = ()
    """What the next hop offered."""
    zones: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
    """What DNS answered."""
    records: Sequence[Record] = ()
    """Of the session's transactions."""
    is_hung_up: bool = False
    """The client closed the connection."""


def dialogue_text(tape: Tape, around: Surroundings) -> str:
    """The dialogue."""
    return "\n".join([*_header(around), "---", *_body(tape, around), *_facts(around.records)]) + "\n"


def pytest_text(tape: Tape, around: Surroundings, *, name: str) -> str:
    """A test module with the dialogue in it."""
    session = dialogue_text(tape, around)
    quotable = '"""' not in session and not session.rstrip("\n").endswith(("\\", '"'))
    written = f'r"""\n{session}"""' if quotable else repr("\n" + session)
    title = around.title.replace("\\", "").replace('"', "'")
    return (
        f'"""{title}."""\n\nfrom pathlib import Path\n\nfrom gateway.testing import play_session\n\n'
        f"SESSION = {written}\n\n\n"
        f"async def test_{re.sub(r'[^0-9a-z]+', '_', name.lower())}(tmp_path: Path) -> None:\n"
        f"    await play_session(__file__, text=SESSION, directory=tmp_path)\n"
    )


def _header(around: Surroundings) -> Iterator[str]:
    yield f"title: {' '.join(around.title.split())}"
    yield "rfc: 5321"
    yield f"config-file: {around.config_file}"
    yield "config:"
    yield "  [relay]"
    yield "  max_messages = 1"
    yield '  idle_limit = "50ms"'
    yield from (f"  {line}" for line in around.more_config)
    if around.zones:
        yield "  [dns.zones]"
    for zone, kinds in around.zones.items():
        shown = ", ".join(f"{kind} = {_toml(list(values))}" for kind, values in kinds.items())
        yield f"  {_toml(zone)} = {{ {shown} }}" if shown else f"  {_toml(zone)} = {{}}"
    if around.client:
        yield f"client: {around.client}"
    if around.is_tls:
        yield "tls: assumed"
    if around.listener:
        yield f"listener: {around.listener}"
    yield "hello: by hand"
    yield f"next-hop: {', '.join(around.keywords)}"


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _body(tape: Tape, around: Surroundings) -> Iterator[str]:
    said = {line.octets for line in tape.lines if line.who == "C"}
    of_signature = False
    for line in tape.lines:
        if line.who == "G" and line.is_content:
            of_signature = _is_signature(line.octets, of_signature=of_signature) and line.octets not in said
            yield _content(line, said, of_signature=of_signature)
        else:
            of_signature = False
            yield _line(line)
    if around.is_hung_up:
        yield "C^"


def _line(line: Line) -> str:
    if line.who == "N^":
        return "N^"
    text = line.octets.decode("utf-8", "replace")
    if line.ending != b"\r\n" or "�" in text or not all(one.isprintable() or one == "\t" for one in text):
        return f"{line.who}! {line.octets + line.ending!r}"
    if line.who == "S":
        return _reply(text)
    return f"{line.who}: {text}".rstrip() if not text else f"{line.who}: {text}"


def _reply(text: str) -> str:
    """Identifiers are new each time."""
    if not _ID.search(text):
        return f"S: {text}"
    shown = re.sub(rf"\({_ID.pattern}\)", "(ID)", text)
    return f"S: {shown}" if not _ID.search(shown) else f"S~ {_general(text)}"


def _content(line: Line, said: set[bytes], *, of_signature: bool) -> str:
    if of_signature:
        name, colon, _ = line.octets.decode("ascii", "replace").partition(":")
        return f"G~ {re.escape(name)}:.*" if colon and not name.startswith((" ", "\t")) else r"G~ [ \t].*"
    text = line.octets.decode("utf-8", "replace")
    if line.octets in said or not (_ID.search(text) or DATE.search(text)) or "�" in text:
        return _line(line)
    return f"G~ {_general(text)}"


def _general(text: str) -> str:
    """A regular expression for the line with other identifiers and another date."""
    escaped = re.escape(text)
    return DATE.sub(r"\\w{3}, \\d+ \\w{3} \\d{4} [0-9:]{8} [+-]\\d{4}", _ID.sub(r"[0-9A-Z-]+", escaped.replace("\\-", "-")))


def _is_signature(octets: bytes, *, of_signature: bool) -> bool:
    if octets[:1] in (b" ", b"\t"):
        return of_signature
    return octets.partition(b":")[0].decode("ascii", "replace").lower() in _SIGNATURES


def _facts(records: Sequence[Record]) -> Iterator[str]:
    if not records:
        return
    last = records[-1]
    yield f"= transactions {len(records)}"
    if last["verdict"]:
        yield f"= verdict {last['verdict']}"
    if last["recipients"]:
        yield f"= fates {','.join(row['fate'] for row in last['recipients'])}"
