"""Spool files: content that is too large for memory, in a file without a name. A few whose content has gone are written over.

To make a file of 5 MB, page by page, and to take its pages back costs the kernel six times what it takes to write over those of
another. So a worker keeps at most SPARE of them, for as long as large content comes, and none that anybody else may have: a process of
a plugin, or who looks at its map still. Each is as long as its content, no longer.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, cast

SPARE: Final = 4
"""Files kept at most."""
SPARE_TIME: Final = 10.0
"""Seconds after which a file that nobody needed is closed, twice that at the latest."""


class SpareFiles:
    """Those of a process: of one directory, and of one event loop, which closes them."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """There are none."""
        self.files: list[BinaryIO] = []
        self._unused = 0
        """How many of the files, from the oldest on, were not needed since the last look."""
        self._directory: Path | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def take(self, directory: Path) -> BinaryIO:
        """A file at whose beginning the next octets go. OSError."""
        if self.files and self._directory == directory:
            file = self.files.pop()
            self._unused = min(self._unused, len(self.files))
            file.seek(0)
            return file
        directory.mkdir(parents=True, exist_ok=True)
        return cast("BinaryIO", tempfile.TemporaryFile(dir=directory, buffering=0))

    def keep(self, directory: Path, file: BinaryIO) -> bool:
        """Keep a file of this directory for another content. False: it is to be closed."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        if loop is not self._loop or directory != self._directory:
            self.close()
            self._directory = directory
            self._loop = loop
            self._timer = loop.call_later(SPARE_TIME, self._look)
        if len(self.files) >= SPARE:
            return False
        self.files.append(file)
        return True

    def close(self) -> None:
        """Close all of them."""
        if self._timer is not None:
            self._timer.cancel()
        files = self.files
        self.begin()
        _close(files)

    def _look(self) -> None:
        """Those that were not needed since the last look go."""
        _close(self.files[: self._unused])
        del self.files[: self._unused]
        self._unused = len(self.files)
        if self.files and self._loop is not None:
            self._timer = self._loop.call_later(SPARE_TIME, self._look)
        else:
            self.begin()


def _close(files: list[BinaryIO]) -> None:
    for file in files:
        with suppress(OSError):
            file.close()


spare = SpareFiles()
os.register_at_fork(after_in_child=spare.begin)


def end_here(file: BinaryIO) -> None:
    """What an earlier content had behind the place that was written last goes. OSError."""
    if os.fstat(file.fileno()).st_size > file.tell():
        file.truncate()
