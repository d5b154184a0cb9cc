"""Named lists of a group: what they are made of, and how they stay fresh. Every worker maps the same table; whoever comes first builds it.

A file is read again when it changed, a database or a web service is asked every `refresh`. Where that fails the list before goes on, in
the next worker and after a restart too, since its table is a file; the log, a metric and `list_age()` tell of it.
"""

from __future__ import annotations

import asyncio
import copy
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from gateway import Context, Duration, OptionError, OptionMistake, PluginError, PluginOptions
from gateway.plugins.rules.building import build, digest_of, held, told
from gateway.plugins.rules.entries import KINDS, add_entry
from gateway.plugins.rules.sources import check_library, check_url, fetch
from gateway.plugins.rules.table import Building, Table, header_of, open_table, table_of

LOOK_AGAIN = 5.0
"""Seconds between two looks at files and tables."""
FIRST_LIMIT = 10.0
"""Seconds that the start waits for a source; the rest comes later."""
RETRY = 60.0
"""Seconds after a failure, where `refresh` is longer."""
MAX_INLINE = 10_000


class ListOptions(PluginOptions):
    """`[list.NAME]`: one list, from one place."""

    kind: Literal["addresses", "domains", "networks", "words", "hashes"]
    """How entries are written and compared."""
    entries: tuple[str, ...] = Field(default=(), max_length=MAX_INLINE)
    """The entries themselves."""
    file: str = ""
    """A file with one entry a line; `#` begins a comment. Read again when it changes."""
    url: str = ""
    """Of a web service that answers with such a text, or of a database, as SQLAlchemy writes it, with `query`."""
    query: str = ""
    """Its first column is the entries."""
    password_file: str = ""
    """A file with the database's password."""
    token_file: str = ""
    """A file with a token, sent as `Authorization: Bearer …`."""
    ca_file: str = ""
    """Certificates in PEM to believe instead of the system's."""
    refresh: Duration = Field(default=3600.0, ge=1.0)
    """How often the web service or database is asked."""
    limit: Duration = Field(default=60.0, gt=0.0)
    """Time for an answer."""

    @model_validator(mode="after")
    def _has_one_source(self) -> ListOptions:
        given = [name for name in ("entries", "file", "url") if getattr(self, name) or (name in self.model_fields_set)]
        if len(given) != 1:
            raise ValueError(f"found {' and '.join(given) or 'no entries'}; allowed: one of entries, file, url")
        if self.url:
            check_url(self.url, self.query)
        elif self.query:
            raise ValueError("found query without url; allowed: the url of a database beside it")
        building = Building()
        for entry in self.entries:
            add_entry(KINDS[self.kind], building, entry)
        return self


class NamedList:
    """One list of a group, in one worker."""

    def __init__(self, name: str, options: ListOptions, base: Path) -> None:
        """OptionError for a file that is not there, or a library that is missing."""
        self.name = name
        self.options = options
        self.table: Table | None = None
        self.fresh_at = 0.0
        """When its source was last read well, in seconds since the epoch."""
        self.why = "it is read from elsewhere"
        """Why there is no table."""
        self._kind = KINDS[options.kind]
        self._file = base / options.file
        self._stamp: tuple[int, int, int] | None = None
        self._mapped: tuple[int, int] | None = None
        self._not_before = 0.0
        self._is_started = True
        self._first: asyncio.Task[None] | None = None
        if options.entries:
            building = Building()
            for entry in options.entries:
                add_entry(self._kind, building, entry)
            self.table = table_of(b"".join(building.octets(ranges=options.kind == "networks")))
        elif options.file and not self._file.is_file():
            what = f"{self._file}, which is no file"
            raise OptionError(OptionMistake(key=("list", name, "file"), found=what, allowed="a file with one entry a line"))
        elif options.url:
            check_library(options.url, ("list", name, "url"))

    def __contains__(self, value: str) -> bool:
        """Whether it is in it. ValueError while it has never been read."""
        if self.table is None:
            raise ValueError(f"the list {self.name!r} could not be read yet: {self.why}")
        return self._kind.found(self.table, value)

    def left_out(self) -> NamedList:
        """The same for a test, which gives no entries: it is not read."""
        found = copy.copy(self)
        found.leave("a test gives its entries in `lists`")
        return found

    def leave(self, why: str) -> None:
        """Not read at all."""
        self.why, self._is_started = why, False

    def age(self, now: float) -> int:
        """Seconds since it was read; 0 where it stands in the configuration, -1 while it has never been."""
        if self.options.entries:
            return 0
        return max(0, int(now - self.fresh_at)) if self.fresh_at else -1

    async def start(self, context: Context, directory: Path) -> None:
        """Read it for the first time. ValueError or OSError where its file cannot be used."""
        if not self._is_started:
            return
        self._context = context
        options = self.options
        about = "\n".join([options.kind, options.url or str(self._file.absolute()), options.query])
        self._target = directory / f"{self.name}-{sha256(about.encode()).hexdigest()[:12]}.table"
        if options.file:
            self._stamp = _stamp(self._file)
            await self._read_file()
        elif options.url:
            first = asyncio.get_running_loop().create_task(self.look(), name=f"list {self.name}")
            self._first = first
            await asyncio.wait([first], timeout=FIRST_LIMIT)  # a source that hangs does not stop the start

    async def close(self) -> None:
        """End what is under way."""
        if self._first is not None and not self._first.done():
            self._first.cancel()
            await asyncio.wait([self._first])

    async def look(self) -> None:
        """Read it again where that is due; a failure is told of, and the list before goes on."""
        if self.options.file:
            await self._look_at_file()
        elif self.options.url:
            await self._look_at_source()

    async def _look_at_file(self) -> None:
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp  # so that one broken version is told of once
        try:
            await self._read_file()
            self._context.log.info(
                "rules.list_read", list=self.name, entries=0 if self.table is None else self.table.header.count
            )
        except (OSError, ValueError, PluginError) as error:
            self._failed(error)

    async def _read_file(self) -> None:
        digest = await asyncio.to_thread(digest_of, self._file)
        found = header_of(self._target)
        if found is None or found.source != digest:
            await self._context.run_in_process(build, self.options.kind, str(self._file), str(self._target), digest, strict=True)
        self._map()
        self.fresh_at = self._context.clock()

    async def _look_at_source(self) -> None:
        self._take_newer()
        now = self._context.clock()
        if now < self._not_before or (self.table is not None and now - self.fresh_at < self.options.refresh):
            return
        with held(self._target) as is_mine:
            if not is_mine:
                return  # another worker asks; its table is there at the next look
            self._take_newer()
            if self.table is not None and now - self.fresh_at < self.options.refresh:
                return
            beside = self._target.with_suffix(f".{os.getpid()}.text")
            try:
                async with asyncio.timeout(self.options.limit):
                    await fetch(self.options, beside, self._context)
                skipped = await self._context.run_in_process(
                    build, self.options.kind, str(beside), str(self._target), bytes(32), strict=False
                )
                os.utime(self._target, (now, now))
                self._take_newer()
            except Exception as error:  # noqa: BLE001 - the border to drivers and clients: whatever they raise, the list before goes on
                self._not_before = now + min(RETRY, self.options.refresh)
                self._failed(error)
            else:
                if skipped:
                    self._context.log.warning("rules.list_entries_skipped", list=self.name, entries=skipped)
            finally:
                beside.unlink(missing_ok=True)

    def _take_newer(self) -> None:
        """Map the table that stands there now, where it is another one."""
        with suppress(OSError):
            facts = self._target.stat()
            if (facts.st_mtime_ns, facts.st_ino) != self._mapped:
                self._map()
                self.fresh_at = facts.st_mtime
                self._mapped = (facts.st_mtime_ns, facts.st_ino)

    def _map(self) -> None:
        table = open_table(self._target)
        if table is None:
            raise ValueError(f"{self._target} is no table")
        self.table = table

    def _failed(self, error: Exception) -> None:
        self.why = f"no answer within {self.options.limit:g} s" if isinstance(error, TimeoutError) else told(error)
        age = self.age(self._context.clock())
        self._context.log.warning("rules.list_stale", list=self.name, error=self.why, age=age, kept="the one before")
        self._context.metrics.count("list_failures", list=self.name)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_ino, facts.st_size


class Lists:
    """All lists of a group."""

    def __init__(self, lists: Mapping[str, NamedList]) -> None:
        self._lists = dict(lists)
        self._closed = asyncio.Event()

    def __getitem__(self, name: str) -> NamedList:
        return self._lists[name]

    @property
    def names(self) -> Sequence[str]:
        """Of all lists."""
        return tuple(self._lists)

    async def start(self, context: Context) -> None:
        """Read all, and keep them fresh. ValueError or OSError for a file that cannot be used."""
        directory = Path(context.state_directory, "lists")
        if any(one.options.file or one.options.url for one in self._lists.values()):
            await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True, mode=0o750)
            await asyncio.gather(*(one.start(context, directory) for one in self._lists.values()))
            context.spawn(self._keep_fresh(), name="named lists")

    async def look(self) -> None:
        """Read again what is due."""
        for one in self._lists.values():
            await one.look()

    async def close(self) -> None:
        """No more looks."""
        self._closed.set()
        for one in self._lists.values():
            await one.close()

    def with_entries(self, given: Mapping[str, tuple[str, ...]]) -> Lists:
        """Others for a test: with these entries, or from their files; nothing from elsewhere."""
        found = {name: one.left_out() if one.options.url else one for name, one in self._lists.items()}
        for name, entries in given.items():
            if name not in found:
                raise ValueError(f"there is no list {name!r}")
            found[name] = NamedList(name, ListOptions(kind=found[name].options.kind, entries=entries), Path())
        return Lists(found)

    async def _keep_fresh(self) -> None:
        while not self._closed.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), LOOK_AGAIN)
                return
            await self.look()
