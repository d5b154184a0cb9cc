"""The contents in the quarantine as files: `blobs/ab/<sha256>-<nonce>`, on the disk before any row names them.

Everything here blocks and is called in a thread. The name is unique to each write, so that no removal meets a new reference.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.content import Content
from gateway.places import sync_directory

_NAME = re.compile(r"[0-9a-f]{2}/[0-9a-f]{64}-[0-9a-f]{16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A file that was written."""

    name: str
    digest: str
    """SHA-256 of the octets, in hex."""
    size: int


class Blobs:
    """The directory of the contents."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def create(self) -> None:
        """Make every directory now and sync them: later a new file needs only its own directory synced. OSError."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for number in range(256):
            (self.directory / f"{number:02x}").mkdir(exist_ok=True, mode=0o700)
        sync_directory(self.directory)
        sync_directory(self.directory.parent)

    def write(self, content: Content) -> Blob:
        """Write and sync file and directory. OSError; nothing is left behind then."""
        digest = hashlib.sha256()
        for chunk in content.chunks():
            digest.update(chunk)
        name = f"{digest.hexdigest()[:2]}/{digest.hexdigest()}-{secrets.token_hex(8)}"
        path = self.directory / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            try:
                self._write_all(descriptor, content)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            sync_directory(path.parent)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Blob(name=name, digest=digest.hexdigest(), size=content.size)

    @staticmethod
    def _write_all(descriptor: int, content: Content) -> None:
        total = 0
        for chunk in content.chunks():
            view = memoryview(chunk)
            while view:
                written = os.write(descriptor, view)
                view = view[written:]
                total += written
        if total != content.size:  # closed under us by a caller that gave up
            msg = f"{total} octets written of {content.size}"
            raise OSError(msg)

    def read(self, name: str) -> Content:
        """The octets again. OSError. The caller closes it."""
        return Content.from_file((self.directory / self._checked(name)).open("rb"))

    def remove(self, name: str) -> None:
        """Remove; not being there is as good. OSError."""
        (self.directory / self._checked(name)).unlink(missing_ok=True)

    def older_than(self, moment: float) -> Iterator[str]:
        """Names of files last written before this moment (seconds since the epoch). OSError."""
        for directory in sorted(self.directory.iterdir()):
            for entry in os.scandir(directory):
                if entry.stat(follow_symlinks=False).st_mtime < moment:
                    yield f"{directory.name}/{entry.name}"

    @staticmethod
    def _checked(name: str) -> str:
        if not _NAME.fullmatch(name):
            msg = f"{name!r} is not the name of a blob"
            raise OSError(msg)
        return name
