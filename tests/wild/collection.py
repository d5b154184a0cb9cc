"""Mail of the world: the test data of public parsers, which tests/install-wild-mail has fetched; read out of the archives."""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

LARGEST = 2_000_000
"""Octets; larger ones are left out."""
_FIELDS = re.compile(rb"(?:From [^\n]*\n)?(?:[!-9;-~]+[ \t]*:[^\n]*\r?\n(?:[ \t][^\n]*\r?\n)*){3}")
_CODE = re.compile(
    r"\.(?:py|pl|rst|md|cfg|toml|json|html?|po|ya?ml|js|css|c|cpp|h|sh|el|cmake|in|key|dns|private)$|pub[^/]*\.txt$|/(?:PKG-INFO|METADATA|README.*|LICEN[CS]E.*)$"
)
_MBOX_FROM = re.compile(rb"(?:\A|(?<=\n))From [^\n]*\n")
MANY = 3
"""Files that look like messages make all files of their folder messages: the malformed ones among them look like nothing."""


@dataclass(frozen=True, slots=True)
class Wild:
    """One message."""

    name: str
    octets: bytes


def cache() -> Path:
    """Where tests/install-wild-mail puts the archives."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("MAILGATEWAY_WILD_MAIL") or Path(home) / "mailgateway-tests" / "wild-mail")


def collection() -> list[Wild]:
    """Every different message of the archives and of Python's own test data; nothing where none was fetched."""
    found: dict[bytes, Wild] = {}
    archives = sorted(cache().glob("*.tar.*")) if cache().is_dir() else []
    for archive in archives:
        for wild in _of_archive(archive):
            found.setdefault(hashlib.sha256(wild.octets).digest(), wild)
    if archives:
        for wild in _of_python():
            found.setdefault(hashlib.sha256(wild.octets).digest(), wild)
    return list(found.values())


def _of_archive(archive: Path) -> Iterator[Wild]:
    folders: dict[PurePosixPath, list[Wild]] = defaultdict(list)
    with tarfile.open(archive) as opened:
        for member in opened:
            if not member.isfile() or not 0 < member.size <= LARGEST or _CODE.search(member.name):
                continue
            content = opened.extractfile(member)
            if content is not None:
                folders[PurePosixPath(member.name).parent].append(Wild(member.name, content.read()))
    for files in folders.values():
        if sum(_FIELDS.match(one.octets) is not None for one in files) >= MANY:
            for one in files:
                yield from _messages(one)


def _of_python() -> Iterator[Wild]:
    """The messages that the standard library's own parser is tested with, where Python was installed with its tests."""
    folder = Path(os.__file__).parent / "test" / "test_email" / "data"
    for file in sorted(folder.glob("msg_*.txt")) if folder.is_dir() else []:
        yield Wild(f"python/{file.name}", file.read_bytes())


def _messages(one: Wild) -> Iterator[Wild]:
    """The file as it is, and the messages in it if it is a mailbox of several."""
    yield one
    starts = [found.end() for found in _MBOX_FROM.finditer(one.octets)]
    if one.octets.startswith(b"From ") and len(starts) > 1:
        ends = [*[found.start() for found in _MBOX_FROM.finditer(one.octets)][1:], len(one.octets)]
        for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
            yield Wild(f"{one.name}#{number}", one.octets[start:end])
