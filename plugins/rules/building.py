"""A table from a text with one entry a line: in a process of the pool, once for all workers of a host."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from gateway.plugins.rules.entries import KINDS, MAX_LINE, add_entry, lines_of
from gateway.plugins.rules.table import Building, TooManyError, header_of, write_table

MAX_FILE = 512 * 1024 * 1024
"""Octets of a list's text."""
_MAX_TOLD = 300


def digest_of(file: Path) -> bytes:
    """SHA-256 of a file. OSError, ValueError for one that is too large."""
    found = sha256()
    total = 0
    with file.open("rb") as opened:
        while chunk := opened.read(1 << 20):
            total += len(chunk)
            if total > MAX_FILE:
                raise ValueError(f"{file}: more than {MAX_FILE} octets")
            found.update(chunk)
    return found.digest()


def build(kind: str, text: str, target: str, digest: bytes, *, strict: bool) -> int:
    """Make the table of a text unless another worker has; how many entries were none. ValueError for the first, with `strict`."""
    file, path, entry_kind = Path(text), Path(target), KINDS[kind]
    skipped = 0
    with _lock(path, "build"):
        if strict and (found := header_of(path)) is not None and found.source == digest:
            return 0
        building = Building()
        with file.open("rb") as opened:
            for number, entry in lines_of(_lines(opened, file)):
                try:
                    add_entry(entry_kind, building, entry)
                except ValueError as error:
                    if strict or isinstance(error, TooManyError):
                        raise ValueError(f"{file}:{number}: {error}") from None
                    skipped += 1
        write_table(path, building.octets(digest, ranges=kind == "networks"))
    return skipped


def _lines(opened: Iterator[bytes], file: Path) -> Iterator[str]:
    for number, line in enumerate(opened, 1):
        if len(line) > 4 * MAX_LINE:
            raise ValueError(f"{file}:{number}: more than {4 * MAX_LINE} octets")
        try:
            yield line.decode("utf-8").removeprefix("\ufeff")
        except UnicodeDecodeError:
            raise ValueError(f"{file}:{number}: not UTF-8") from None


@contextmanager
def _lock(path: Path, word: str) -> Iterator[None]:
    """Whoever comes later waits."""
    with path.with_name(f"{path.name}.{word}").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """True for the one worker that asks a list's source now; a killed one lets go."""
    with path.with_name(f"{path.name}.ask").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def told(error: Exception) -> str:
    """Kind and first line of an error, bounded: a server's text may be in it."""
    text = (str(error).splitlines() or [""])[0][:_MAX_TOLD]
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__
