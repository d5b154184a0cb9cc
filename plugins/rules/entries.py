"""Kinds of named lists: how an entry is written, how it is compared, and what is looked for.

A value is found whatever its case; domains with all below them, addresses with `@example.org` for everybody there, networks by the
addresses in them, words wherever they stand in a text.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from socket import AF_INET, AF_INET6, inet_pton

from gateway import a_labels
from gateway.plugins.rules.table import IPV4, Building, Digests, Ranges, Table, TooManyError

MAX_LINE = 1_000
"""Characters of an entry."""
MAX_LABELS = 20
MAX_WORDS = 5
"""Of one entry."""
WORDS_LOOKED_AT = 100_000
"""Different words of one text."""
_WORD = re.compile(r"\w+(?:['’\-]\w+)*")
_HASH = re.compile(r"[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{128}")


@dataclass(frozen=True, slots=True)
class EntryKind:
    """One kind of list."""

    name: str
    example: str
    """For messages."""
    add: Callable[[Building, str], None]
    """ValueError for what is no such entry."""
    found: Callable[[Table, str], bool]
    """Whether a value is in it."""


def _domain(text: str) -> str:
    """A domain for comparing, or ``."""
    name = text.lower() if text.isascii() else (a_labels(text) or "")
    return name.removesuffix(".")


def _key_of_address(text: str) -> str:
    local_part, _, domain = text.strip("<> ").rpartition("@")
    return f"{local_part.casefold()}@{_domain(domain)}"


def _add_address(building: Building, text: str) -> None:
    key = _key_of_address(text)
    if "@" not in text or not _is_domain(key.rpartition("@")[2]):
        raise ValueError(text)
    building.add(key.encode("utf-8", "replace"), 1 if key.startswith("@") else 0)


def _has_address(table: Table, value: str) -> bool:
    assert isinstance(table, Digests)
    key = _key_of_address(value)
    if key.encode("utf-8", "replace") in table:
        return True
    return bool(table.header.high) and f"@{key.rpartition('@')[2]}".encode("utf-8", "replace") in table


def _is_domain(name: str) -> bool:
    return bool(name) and not any(c.isspace() for c in name) and all(0 < len(label) < 64 for label in name.split("."))


def _add_domain(building: Building, text: str) -> None:
    name = _domain(text.removeprefix("*").removeprefix("."))
    if not _is_domain(name) or "@" in name or "*" in name or "/" in name:
        raise ValueError(text)
    building.add(name.encode("utf-8", "replace"), min(255, name.count(".") + 1))


def _has_domain(table: Table, value: str) -> bool:
    """The domain, one above it, or so the domain of an address."""
    assert isinstance(table, Digests)
    name = _domain(value.rpartition("@")[2])
    labels = name.count(".") + 1
    low, high = table.header.low, table.header.high
    while name:
        if low <= labels <= high and name.encode("utf-8", "replace") in table:
            return True
        labels -= 1
        name = name.partition(".")[2]
        if labels < low:
            return False
    return False


def _add_network(building: Building, text: str) -> None:
    network = ipaddress.ip_network(text, strict=False)
    front = IPV4 if network.version == 4 else b""
    building.add_range(front + network.network_address.packed, front + network.broadcast_address.packed)


def _has_network(table: Table, value: str) -> bool:
    assert isinstance(table, Ranges)
    try:
        packed = inet_pton(AF_INET6, value) if ":" in value else IPV4 + inet_pton(AF_INET, value)
    except (OSError, ValueError):
        return False
    return packed in table


def _add_words(building: Building, text: str) -> None:
    words = _WORD.findall(text.casefold())
    if not 0 < len(words) <= MAX_WORDS:
        raise ValueError(text)
    building.add(" ".join(words).encode("utf-8", "replace"), len(words))


def _has_words(table: Table, value: str) -> bool:
    assert isinstance(table, Digests)
    words = _WORD.findall(value.casefold())
    for count in range(max(1, table.header.low), table.header.high + 1):
        phrases: Iterable[str] = words if count == 1 else map(" ".join, zip(*(words[at:] for at in range(count)), strict=False))
        for looked_at, phrase in enumerate(dict.fromkeys(phrases)):
            if looked_at >= WORDS_LOOKED_AT:
                break
            if phrase.encode("utf-8", "replace") in table:
                return True
    return False


def _add_hash(building: Building, text: str) -> None:
    key = text.lower()
    if not _HASH.fullmatch(key):
        raise ValueError(text)
    building.add(key.encode())


def _has_hash(table: Table, value: str) -> bool:
    assert isinstance(table, Digests)
    return value.lower().encode("utf-8", "replace") in table


KINDS = {
    one.name: one
    for one in (
        EntryKind("addresses", "alice@example.org, or @example.org for everybody there", _add_address, _has_address),
        EntryKind("domains", "example.org, which is everything below it too", _add_domain, _has_domain),
        EntryKind("networks", "192.0.2.0/24 or 2001:db8::1", _add_network, _has_network),
        EntryKind("words", f"a word, or up to {MAX_WORDS} that follow each other", _add_words, _has_words),
        EntryKind("hashes", "a digest in hexadecimal, mostly of SHA-256", _add_hash, _has_hash),
    )
}


def lines_of(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """The entries of a text with their numbers of line; `#` at the beginning of a line or after a blank begins a comment."""
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if "#" in text:
            text = "" if text.startswith("#") else re.split(r"\s#", text, maxsplit=1)[0].rstrip()
        if text:
            yield number, text


def add_entry(kind: EntryKind, building: Building, text: str) -> None:
    """One entry. ValueError says what is allowed."""
    if len(text) > MAX_LINE:
        raise ValueError(f"found more than {MAX_LINE} characters; allowed: {kind.example}")
    try:
        kind.add(building, text)
    except TooManyError:
        raise
    except ValueError as error:
        raise ValueError(f"found {text[:80]!r}; allowed: {kind.example}") from error
