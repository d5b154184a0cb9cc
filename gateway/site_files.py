"""What a plugin gets from its site: libraries of an extra, secrets in files, files that are read again when they change."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

from gateway.context import Context
from gateway.errors import OptionError, OptionMistake

T = TypeVar("T")

LOOK_AGAIN = 2.0
"""Seconds between two looks at a file's time of change."""
WITH_FIRST_USE = {"httpx2": ("httpcore2", "httpcore2._backends.anyio", "anyio._backends._asyncio")}
"""What a library imports only when it is used: the first message that asks would hold the loop for 15 ms and more."""
MAX_SECRET = 65_536
"""Octets of a file with a secret."""

_Stamp = tuple[int, int, int] | None


def library(name: str, *, extra: str, key: tuple[str | int, ...] = ()) -> Any:
    """Import a library that not every site needs. OptionError with the extra that brings it, where it is missing.

    For constructors, so that the configuration is refused before mail comes; `key`: the option that wants it.

    Examples:
        >>> library("no_such_library", extra="geoip")
        Traceback (most recent call last):
        gateway.errors.OptionError: (): found a plugin that needs the library no_such_library, which is not installed; allowed: pip install 'mailgateway[geoip]'
    """
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        mistake = OptionMistake(
            key=key,
            found=f"a plugin that needs the library {name}, which is not installed",
            allowed=f"pip install 'mailgateway[{extra}]'",
        )
        raise OptionError(mistake) from error
    for other in WITH_FIRST_USE.get(name, ()):
        with suppress(ImportError):
            importlib.import_module(other)
    return module


def read_secret(file: str, *, context: Context) -> str:
    r"""The text of a file that holds one secret, without its last line end. OSError or ValueError, with the file's name.

    Relative names start at the directory of the configuration.

    Examples:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     _ = pathlib.Path(directory, "token").write_text("s3cret\n")
        ...     read_secret("token", context=FakeContext(base_directory=directory))
        's3cret'
    """
    path = Path(context.base_directory, file)
    with path.open("rb") as opened:
        octets = opened.read(MAX_SECRET + 1)
    if len(octets) > MAX_SECRET:
        raise ValueError(f"{path}: more than {MAX_SECRET} octets")
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8") from None  # its octets are the secret
    return text.removesuffix("\n").removesuffix("\r")


class WatchedFile(Generic[T]):
    """A file's contents as `read(path)` makes them, read again off the mail path when another file stands there.

    `read` runs in a thread, and bounds what it reads. What it raises stops the start; later the value before holds, and the log says why.

    Examples:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     _ = pathlib.Path(directory, "names").write_text("alice bob")
        ...     names = WatchedFile("names", read=lambda path: path.read_text().split(), context=FakeContext(base_directory=directory))
        ...     await names.load()
        >>> names.value
        ['alice', 'bob']
    """

    def __init__(
        self, file: str, *, read: Callable[[Path], T], context: Context, put_away: Callable[[T], None] | None = None
    ) -> None:
        """`put_away(value)`: called with a value that another one has taken the place of."""
        self.path = Path(context.base_directory, file)
        self._read = read
        self._context = context
        self._put_away = put_away
        self._value: T
        self._stamp: _Stamp = None
        self._looked = 0.0
        self._is_reading = False

    async def load(self) -> None:
        """Read it for the first time. Whatever `read` raises."""
        self._looked = self._context.clock()
        self._stamp, self._value = await asyncio.to_thread(self._load)

    @property
    def value(self) -> T:
        """What the file says. Looks, every two seconds, whether it changed."""
        now = self._context.clock()
        if not self._is_reading and now - self._looked >= LOOK_AGAIN:
            self._looked = now
            if _stamp(self.path) != self._stamp:
                self._is_reading = True
                self._context.spawn(self._reload(), name=f"read {self.path}")
        return self._value

    async def _reload(self) -> None:
        try:
            before = self._value
            self._stamp, self._value = await asyncio.to_thread(self._load)
            self._context.log.info("plugin.file_reloaded", file=str(self.path))
            if self._put_away is not None:
                self._put_away(before)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the new file, the value before holds
            self._stamp = _stamp(self.path)  # so that one broken version is told of once
            self._context.log.warning("plugin.file_unusable", file=str(self.path), error=str(error)[:500], kept="the one before")
        finally:
            self._is_reading = False

    def _load(self) -> tuple[_Stamp, T]:
        stamp = _stamp(self.path)
        return stamp, self._read(self.path)


def _stamp(path: Path) -> _Stamp:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_ino, facts.st_size
