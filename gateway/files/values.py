"""What is known of the files of a message: values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file of a message: an attachment, or what lies in one.

    Examples:
        >>> message = a_message(attach=("letter.txt", b"Dear Bob"))
        >>> [file] = (await FakeContext().open_files(message)).files
        >>> (file.name, file.path, file.size, file.depth, message.parts[file.part].filename)
        ('letter.txt', 'letter.txt', 8, 0, 'letter.txt')
    """

    name: str
    """The likeliest name, without the directories in front of it; `` when there is none."""
    names: tuple[str, ...] = ()
    """Every reading of the name, the likeliest first: each that some mail client or archiver would show."""
    path: str = ""
    """Where it lies: the names of what it is in, and its own with its directories: `invoice.zip/2026/inner.exe`."""
    declared_type: str = ""
    """The media type that the message declares for it; `` for what comes from an archive."""
    type: str = ""
    """The media type by its first octets and structure; `` for what is not in our tables (most text, for one)."""
    size: int = 0
    """Octets, unpacked; where it was not unpacked, as the archive says."""
    sha256: str = ""
    """Of the unpacked octets, in hexadecimal; `` where they were not read: encrypted, or past a limit."""
    is_encrypted: bool = False
    """It cannot be read without a password or a key. An archive is encrypted when one of its members is."""
    has_macros: bool = False
    """An Office document with VBA, Excel 4.0 macros, or a script of OpenDocument."""
    container: str = ""
    """What kind of file it lies in: `zip`, `tar`, `gzip`, `7z`, `ole`, `message`, …; `` for an attachment."""
    depth: int = 0
    """How many files it lies in: 0 for an attachment."""
    part: int = 0
    """The attachment that it is, or that it lies in: `message.parts[file.part]`."""
    signs: tuple[str, ...] = ()
    """What else is known, as words: `dde`, `external-template`, `embedded-object`, `javascript`, `link`, … (docs/files.md)."""
    target: str = ""
    """Where a shortcut leads (.lnk, .url, .desktop): the command or address in it, else ``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unopened:
    r"""A file that was not looked into, or not to its end.

    Examples:
        >>> opened = await FakeContext().open_files(a_message(attach=("a.zip", b"PK\x03\x04 and no more")))
        >>> [(one.word, one.path) for one in opened.unopened]
        [('files-malformed', 'a.zip')]
    """

    word: str
    """As in `Opened.limits_hit`."""
    path: str
    """As `File.path`; `` for the message as a whole."""
    reason: str
    """For people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """All files of a message, each container in front of what is in it.

    Examples:
        >>> opened = await FakeContext().open_files(a_message())
        >>> opened.files, opened.limits_hit
        ((), ())
    """

    files: tuple[File, ...] = ()
    limits_hit: tuple[str, ...] = ()
    """What was too much, or could not be read, as words, each once: `files-depth`, `files-ratio`, … (docs/files.md)."""
    unopened: tuple[Unopened, ...] = ()
    """The same with path and reason."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "files": [[getattr(one, name) for name in _FILE] for one in self.files],
            "limits_hit": list(self.limits_hit),
            "unopened": [[one.word, one.path, one.reason] for one in self.unopened],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Opened:
        """What `to_json` gave. TypeError, ValueError, KeyError for what it did not."""
        return cls(
            files=tuple(_file(one) for one in value["files"]),
            limits_hit=tuple(str(one) for one in value["limits_hit"]),
            unopened=tuple(
                Unopened(word=str(word), path=str(path), reason=str(reason)) for word, path, reason in value["unopened"]
            ),
        )


_FILE = tuple(one.name for one in fields(File))


def _file(values: Any) -> File:
    facts: dict[str, Any] = {}
    for name, one in zip(_FILE, values, strict=True):
        facts[name] = tuple(map(str, one)) if isinstance(one, list) else one
    return File(**facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileBounds:
    """How far files are opened: `[limits] files_…`."""

    depth: int = 8
    """Files inside one another."""
    count: int = 2_000
    """Files of one message."""
    size: int = 100_000_000
    """Octets of one file, unpacked."""
    total: int = 200_000_000
    """Octets of all files of one message, unpacked."""
    ratio: int = 250
    """Unpacked octets for each packed one, of a file of more than 10 MB."""
    memory: int = 250_000_000
    """Octets that the process may need beside what it has when idle."""
    time: float = 2.0
    """Seconds of CPU for one message."""

    @classmethod
    def of(cls, limits: Mapping[str, float]) -> FileBounds:
        """From `[limits]`, where they have the prefix `files_`; what is not there is the default."""
        default = cls()
        found = {one.name: limits.get(f"files_{one.name}", getattr(default, one.name)) for one in fields(cls)}
        return cls(**{name: value if name == "time" else int(value) for name, value in found.items()})
