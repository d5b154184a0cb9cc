"""Looks through one message with compiled rules: in a process of the pool, since the library lets no thread run meanwhile."""

from __future__ import annotations

import io
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

from gateway import File, Message, Part
from gateway.files.parts import given, wanted
from gateway.files.values import FileBounds
from gateway.files.walking import Walk
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
    files: FileBounds | None
    """What is in attachments, to these limits; None: not."""
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
    """`message`, the name of a part, or where a file lies in one; the first few."""
    patterns: tuple[str, ...]
    """In the first place: `$a at 17`."""


class ScanError(Exception):
    """The message could not be looked through to its end, in words for the operator."""


class _OverError(BaseException):
    """The time is over. No Exception: what passes over everything does not pass over this."""


def prepare(rules: str, digest: str) -> None:
    """Load the rules where `scan` will need them."""
    _rules(rules, digest)


def scan(work: Work) -> tuple[Match, ...]:
    """Every rule that fits, each once. ScanError, OSError."""
    scanning = _Scanning(work)
    with taken(work.message) as message:
        if work.whole:
            octets = message.octets
            scanning.look("message", ("",) * len(FACTS), octets if isinstance(octets, bytes) else None)
        if work.parts:
            for number, part in enumerate(message.parts):
                scanning.look(part.filename or f"part {number + 1}", _facts(part), part.content())
        if work.files is not None:
            _look_into_files(scanning, message, replace(work.files, time=max(scanning.left, 0.1)))
    return tuple(scanning.found.values())


class _Scanning:
    """Of one message."""

    def __init__(self, work: Work) -> None:
        import yara_x

        self._yara_x = yara_x
        self._work = work
        self._end = time.monotonic() + work.limit
        self._scanner = yara_x.Scanner(_rules(work.rules, work.digest))
        self.found: dict[tuple[str, str], Match] = {}

    @property
    def left(self) -> float:
        """Seconds."""
        return self._end - time.monotonic()

    def look(self, where: str, facts: tuple[str, ...], octets: bytes | None) -> None:
        """One thing: its name for people, values for FACTS; None: the file that was handed over. ScanError."""
        left = self.left
        if left <= 0:
            raise ScanError(f"not scanned to its end within {self._work.limit:.3g} s: {where} was next")
        self._scanner.set_timeout(max(1, int(left)))  # whole seconds only
        for name, value in zip(FACTS, facts, strict=True):
            self._scanner.set_global(name, value)
        try:
            results = self._scanner.scan_file(self._work.message.path) if octets is None else self._scanner.scan(octets)
        except self._yara_x.TimeoutError:
            raise ScanError(f"not scanned to its end within {self._work.limit:.3g} s: {where} took too long") from None
        except self._yara_x.ScanError as error:
            raise ScanError(f"{where}: {str(error)[:200]}") from None
        for rule in results.matching_rules:
            _note(self.found, rule, where, self._work.max_matches)


def _look_into_files(scanning: _Scanning, message: Message, bounds: FileBounds) -> None:
    """What is in attachments, to the limits of `[limits] files_…`; attachments themselves are parts. ScanError."""
    faults: list[ScanError] = []

    def seen(file: File, content: bytes | bytearray) -> None:
        if faults or (file.depth == 0 and not file.signs):
            return
        extension = "." + file.name.rpartition(".")[2].lower() if "." in file.name else ""
        try:
            scanning.look(file.path, (file.name, file.path, extension, file.type), bytes(content))
        except ScanError as error:
            faults.append(error)

    try:
        with _interrupted(bounds.time + 0.3):
            Walk(bounds, seen).run(given(message.octets, wanted(message)))
    except _OverError:
        raise ScanError(f"attachments were not opened to their end within {bounds.time:.3g} s of CPU") from None
    if faults:
        raise faults[0]


@contextmanager
def _interrupted(seconds: float) -> Iterator[None]:
    """_OverError after so many seconds of CPU, where a library does not look at the time. Only a main thread can, as those of the pool are."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise _OverError

    before = signal.signal(signal.SIGPROF, over)
    try:
        signal.setitimer(signal.ITIMER_PROF, seconds, 0.05)  # again and again, should one be caught
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    finally:
        signal.signal(signal.SIGPROF, before)


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
        found[key] = replace(known, where=(*known.where, where))


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
