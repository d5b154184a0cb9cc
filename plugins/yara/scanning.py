"""Looks through one message with compiled rules: in a process of the pool, since the library lets no thread run meanwhile."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from gateway import Message, Part
from gateway.handed import Handed, taken

FACTS = ("filename", "filepath", "extension", "filetype")
"""Variables that every rule may use; text, empty for the message as a whole."""
MAX_WHERE = 5
"""Places and patterns that are told of one rule."""
_MAX_META = 20
_MAX_VALUE = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is to be looked through."""

    rules: str
    """A file with compiled rules."""
    digest: str
    message: Handed
    whole: bool
    """The message as it came."""
    parts: bool
    limit: float
    """Seconds for all of it."""
    max_matches: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One rule that fits, wherever it does."""

    rule: str
    namespace: str
    tags: tuple[str, ...]
    meta: tuple[tuple[str, str | float | bool], ...]
    where: tuple[str, ...]
    """`message`, or the name of a part; the first few."""
    patterns: tuple[str, ...]
    """In the first place: `$a at 17`."""


class ScanError(Exception):
    """The message could not be looked through to its end, in words for the operator."""


def scan(work: Work) -> tuple[Match, ...]:
    """Every rule that fits, each once. ScanError, OSError."""
    import yara_x

    end = time.monotonic() + work.limit
    scanner = yara_x.Scanner(_rules(work.rules, work.digest))
    found: dict[tuple[str, str], Match] = {}
    with taken(work.message) as message:
        for where, facts, octets in _things(message, work):
            left = end - time.monotonic()
            if left <= 0:
                raise ScanError(f"not scanned to its end within {work.limit:.3g} s: {where} was next")
            scanner.set_timeout(max(1, math.ceil(left)))  # whole seconds only
            for name, value in zip(FACTS, facts, strict=True):
                scanner.set_global(name, value)
            try:
                results = scanner.scan_file(work.message.path) if octets is None else scanner.scan(octets)
            except yara_x.TimeoutError:
                raise ScanError(f"not scanned to its end within {work.limit:.3g} s: {where} took too long") from None
            except yara_x.ScanError as error:
                raise ScanError(f"{where}: {str(error)[:200]}") from None
            for rule in results.matching_rules:
                _note(found, rule, where, work.max_matches)
    return tuple(found.values())


def _things(message: Message, work: Work) -> Iterator[tuple[str, tuple[str, ...], bytes | None]]:
    """What to scan: its name for people, values for FACTS, and octets; None: those of the file that was handed over."""
    if work.whole:
        octets = message.octets
        yield "message", ("",) * len(FACTS), octets if isinstance(octets, bytes) else None
    if work.parts:
        for number, part in enumerate(message.parts):
            name = part.filename or f"part {number + 1}"
            yield name, _facts(part), part.content()


def _facts(part: Part) -> tuple[str, ...]:
    name = part.filename
    extension = "." + name.rpartition(".")[2].lower() if "." in name else ""
    return name, name, extension, part.detected_type or part.content_type


def _note(found: dict[tuple[str, str], Match], rule: Any, where: str, most: int) -> None:
    key = (rule.namespace, rule.identifier)
    known = found.get(key)
    if known is None:
        if len(found) >= most:
            return
        meta = tuple((name, _value(value)) for name, value in rule.metadata[:_MAX_META])
        found[key] = Match(
            rule=rule.identifier,
            namespace=rule.namespace,
            tags=tuple(rule.tags),
            meta=meta,
            where=(where,),
            patterns=tuple(_patterns(rule)),
        )
    elif len(known.where) < MAX_WHERE and where not in known.where:
        found[key] = Match(
            rule=known.rule,
            namespace=known.namespace,
            tags=known.tags,
            meta=known.meta,
            where=(*known.where, where),
            patterns=known.patterns,
        )


def _value(value: Any) -> str | float | bool:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return value[:_MAX_VALUE] if isinstance(value, str) else value


def _patterns(rule: Any) -> Iterator[str]:
    matching = (pattern for pattern in rule.patterns if pattern.matches)
    for _, pattern in zip(range(MAX_WHERE), matching, strict=False):
        yield f"{pattern.identifier} at {pattern.matches[0].offset}"


@lru_cache(maxsize=4)
def _rules(path: str, digest: str) -> Any:  # noqa: ARG001 - the path of one generation may be that of another one later
    import yara_x

    return yara_x.Rules.deserialize_from(io.BytesIO(Path(path).read_bytes()))
