"""Recipients known here: a list refuses the unknown ones at RCPT, where the next hop cannot (RFC 5321 3.3, 4.5.1).

Without a list every recipient is the next hop's to judge, live. A limit on unknown recipients in a session slows down those who
guess addresses, whoever refuses them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field, field_validator

from gateway import (
    Context,
    Defer,
    Plugin,
    PluginError,
    PluginOptions,
    Recipient,
    Reject,
    Transaction,
    a_labels,
    defer,
    hook,
    reject,
)

LOOK_AGAIN = 2.0
"""Seconds between two looks at the file's time of change."""
MAX_FILE = 64 * 1024 * 1024
MAX_LINE = 1_000
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class Options(PluginOptions):
    """Where the list is, and how recipients are compared with it."""

    file: str = ""
    """One entry a line: `alice@example.org`, or `@example.org` or `example.org` for a domain whose recipients the next hop knows;
    `#` begins a comment. Read again when it changes."""
    known: dict[str, tuple[str, ...]] = Field(default={})
    """The same here: `{ "example.org" = ["alice", "bob"] }`; `"*"` for a domain whose recipients the next hop knows."""
    case_sensitive: bool = False
    """Whether `Alice` and `alice` are two mailboxes."""
    subaddress: str = Field(default="+", max_length=4)
    """Characters that begin a subaddress: `alice+lists` is known where `alice` is. `` turns it off."""
    max_unknown: int = Field(default=20, ge=0)
    """Unknown recipients in a session before every further one is deferred; 0: no limit."""

    @field_validator("known")
    @classmethod
    def _are_mailboxes(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for domain, local_parts in value.items():
            if _domain(domain) is None:
                msg = f'found {domain!r}; allowed: a domain such as "example.org"'
                raise ValueError(msg)
            for one in local_parts:
                if not one or "@" in one:
                    msg = f'found {one!r}; allowed: a local part such as "alice", or "*"'
                    raise ValueError(msg)
        return value


@dataclass(slots=True)
class Table:
    """Known local parts by domain; a domain without a list is not in it."""

    domains: dict[str, set[str]] = field(default_factory=dict)
    open_domains: set[str] = field(default_factory=set)
    """All recipients of these are the next hop's to judge."""

    def add(self, local_part: str, domain: str, *, case_sensitive: bool) -> None:
        """One entry; an empty local part or `*` opens the domain."""
        if local_part in {"", "*"}:
            self.open_domains.add(domain)
        else:
            self.domains.setdefault(domain, set()).add(local_part if case_sensitive else local_part.casefold())

    def lists(self, domain: str) -> set[str] | None:
        """The known local parts of a domain, or None where the next hop decides."""
        return None if domain in self.open_domains else self.domains.get(domain)


class FileError(Exception):
    """The file cannot be used: where and why."""


def read_lines(table: Table, lines: Iterable[str], name: str, *, case_sensitive: bool) -> None:
    """Add the entries of a file. FileError names the line."""
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE:
            raise FileError(f"{name}:{number}: more than {MAX_LINE} characters")
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        local_part, _, domain = entry.rpartition("@")
        key = _domain(domain)
        if key is None or any(c.isspace() for c in entry):
            raise FileError(f"{name}:{number}: found {entry[:80]!r}; allowed: alice@example.org, @example.org or example.org")
        table.add(_unquoted(local_part), key, case_sensitive=case_sensitive)


class Recipients(Plugin[Options]):
    """Refuses recipients that are not on the list of their domain."""

    _table: Table
    _stamp: tuple[int, int, int] | None = None
    _looked = 0.0
    _reading = False

    @hook
    async def startup(self, context: Context) -> None:
        """Read the list. PluginError when it cannot be read."""
        self._looked = context.clock()
        try:
            self._stamp, self._table = await asyncio.to_thread(self._load)
        except FileError as error:
            raise PluginError(self.name, str(error)) from error

    @hook
    async def rcpt(self, transaction: Transaction, recipient: Recipient) -> Reject | Defer | None:
        """550 5.1.1 for a recipient that is not on its domain's list."""
        limit = self.options.max_unknown
        unknown = transaction.session.unknown_recipients
        if limit and unknown >= limit:
            return defer(
                "Too many unknown recipients in this session",
                code=451,
                enhanced="4.7.1",
                reason="too-many-unknown-recipients",
                evidence=f"{unknown} in session {transaction.session.id}",
            )
        self._look()
        listed = self._table.lists(_domain(recipient.onward_path.domain) or "")
        if listed is None or self._is_known(_unquoted(recipient.onward_path.local_part), listed):
            return None
        return reject("No such recipient here", code=550, enhanced="5.1.1", reason="unknown-recipient")

    def _is_known(self, local_part: str, listed: set[str]) -> bool:
        if local_part.lower() == "postmaster":  # RFC 5321 4.5.1
            return True
        key = local_part if self.options.case_sensitive else local_part.casefold()
        if key in listed:
            return True
        ends = [at for c in self.options.subaddress if (at := key.find(c)) > 0]  # RFC 5233 4
        return bool(ends) and key[: min(ends)] in listed

    def _look(self) -> None:
        """Have the file read again, off the loop, when it changed; meanwhile the list before holds."""
        now = self.context.clock()
        if not self.options.file or self._reading or now - self._looked < LOOK_AGAIN:
            return
        self._looked = now
        if self._changed() != self._stamp:
            self._reading = True
            self.context.spawn(self._reload(), name=f"{self.name}: read {self.options.file}")

    async def _reload(self) -> None:
        try:
            self._stamp, self._table = await asyncio.to_thread(self._load)
            self.context.log.info("recipients.reloaded", file=self.options.file)
        except FileError as error:
            # The stamp is kept as seen, so that one broken version is told of once.
            self._stamp = self._changed()
            self.context.log.warning("recipients.list_unusable", error=str(error), kept="the list before")
        finally:
            self._reading = False

    @property
    def _path(self) -> Path:
        return Path(self.context.base_directory, self.options.file)

    def _changed(self) -> tuple[int, int, int] | None:
        try:
            facts = self._path.stat()
        except OSError:
            return None
        return facts.st_mtime_ns, facts.st_ino, facts.st_size

    def _load(self) -> tuple[tuple[int, int, int] | None, Table]:
        table = Table()
        sensitive = self.options.case_sensitive
        for domain, local_parts in self.options.known.items():
            key = _domain(domain) or ""
            table.domains.setdefault(key, set())
            for one in local_parts:
                table.add(one, key, case_sensitive=sensitive)
        if not self.options.file:
            return None, table
        stamp = self._changed()
        try:
            with self._path.open("rb") as file:
                octets = file.read(MAX_FILE + 1)
        except OSError as error:
            raise FileError(f"{self._path}: {error.strerror or error}") from error
        if len(octets) > MAX_FILE:
            raise FileError(f"{self._path}: more than {MAX_FILE} octets")
        try:
            lines = octets.decode("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise FileError(f"{self._path}:{octets[: error.start].count(10) + 1}: not UTF-8") from error
        read_lines(table, lines, str(self._path), case_sensitive=sensitive)
        return stamp, table


def _domain(text: str) -> str | None:
    """A domain for comparing: lower case, A-labels, no last dot; None when it is none. Address literals are kept."""
    text = (a_labels(text) or "").removesuffix(".")
    return text if text and all(0 < len(label) < 64 for label in text.split(".")) else None


def _unquoted(local_part: str) -> str:
    """`"alice"` is `alice` (RFC 5321 4.1.2)."""
    if len(local_part) >= 2 and local_part[0] == local_part[-1] == '"':
        return _ESCAPED.sub(r"\1", local_part[1:-1])
    return local_part
