"""Header fields that tell of your insides go from outgoing mail: addresses of hosts, programs. Shows edits, and what signatures forbid."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import re2
from pydantic import Field, field_validator

from gateway import Context, Edit, Fact, HeaderField, Message, Plugin, PluginOptions, Transaction, hook, remove_header
from gateway.mailauth import TagListError, parse_tags

MAX_REMOVED = 500
"""Fields of one message; the rest stays."""
MAX_LOOKED = 4_096
"""Octets of a body that patterns are tried on."""
MAX_SIGNATURES = 20
_NAME = re.compile(r"[!-9;-~]{1,76}")
_NEVER = re.compile(
    r"from|sender|reply-to|to|cc|date|subject|message-id|mime-version|content-.*|dkim-signature|arc-.*|resent-.*", re.IGNORECASE
)
"""What a message is not itself without."""
_SIGNATURES = ("dkim-signature", "arc-message-signature")


class Options(PluginOptions):
    """Which fields go, and from whose mail."""

    remove: tuple[str, ...] = ("X-Originating-IP", "X-Mailer", "User-Agent", "X-PHP-Originating-Script")
    """Names of fields that go, all of each."""
    matching: dict[str, tuple[str, ...]] = Field(default={})
    """Patterns (RE2) by name: `{ Received = ['\\[10\\.'] }`. A field of that name goes where one of them is found in its body."""
    clients: tuple[Literal["authenticated", "trusted", "stranger"], ...] = ("authenticated", "trusted")
    """Whose mail is cleaned."""
    signed: Literal["keep", "remove"] = "keep"
    """What becomes of fields that a signature in the message covers: without them it would not verify any more."""

    @field_validator("remove")
    @classmethod
    def _are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            _check_name(one)
        return value

    @field_validator("matching")
    @classmethod
    def _are_patterns(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name, patterns in value.items():
            _check_name(name)
            _set_of(patterns)
        return value


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"found {name!r}; allowed: a name of a header field")
    if _NEVER.fullmatch(name):
        raise ValueError(f"found {name!r}, which readers and servers need; allowed: names of other fields")


def _set_of(patterns: tuple[str, ...]) -> re2.Set:
    """ValueError for a pattern that is none, or one that RE2 does not know (look-around, back-references)."""
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = False
    made = re2.Set.SearchSet(options)
    for pattern in patterns:
        try:
            re2.compile(pattern, options)
        except re2.error as error:
            raise ValueError(f"found the pattern {pattern!r}: {error}; allowed: a regular expression of RE2") from error
        made.Add(pattern)
    made.Compile()
    return made


class CleanHeaders(Plugin[Options]):
    """Cuts fields out of the header section; the octets of all others stay."""

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        """Compiles the patterns."""
        super().__init__(options, name=name, context=context)
        self._names = frozenset(one.lower() for one in self.options.remove)
        self._patterns = {one.lower(): _set_of(patterns) for one, patterns in self.options.matching.items() if patterns}

    @hook(cheap=True)
    def check(self, transaction: Transaction, message: Message) -> list[Fact]:
        """Fields that stay because a signature covers them."""
        if self.options.signed == "remove" or not self._cleans(transaction):
            return []
        covered = _covered(message)
        kept = sorted({field.name.lower() for _, field in self._unwanted(message)} & covered)
        return [Fact(name="clean_headers.signed", value=", ".join(kept)[:500])] if kept else []

    @hook(cheap=True)
    def rewrite(self, transaction: Transaction, message: Message) -> list[Edit]:
        """One removal for each field, by its place among those of its name."""
        if not self._cleans(transaction):
            return []
        covered = _covered(message) if self.options.signed == "keep" else frozenset()
        edits: list[Edit] = [
            remove_header(field.name, place) for place, field in self._unwanted(message) if field.name.lower() not in covered
        ]
        return edits[:MAX_REMOVED]

    def _cleans(self, transaction: Transaction) -> bool:
        return transaction.session.client_class.value in self.options.clients

    def _unwanted(self, message: Message) -> Iterator[tuple[int, HeaderField]]:
        for name in sorted(self._names | self._patterns.keys()):
            patterns = self._patterns.get(name)
            for place, field in enumerate(message.fields_named(name)):
                if name in self._names or (patterns is not None and patterns.Match(field.unfolded[:MAX_LOOKED])):
                    yield place, field


def _covered(message: Message) -> frozenset[str]:
    """Names in h= of the signatures (RFC 6376 3.5). One that cannot be read covers nothing: it does not verify anyhow."""
    names: set[str] = set()
    for kind in _SIGNATURES:
        for field in message.fields_named(kind)[:MAX_SIGNATURES]:
            try:
                tags = parse_tags(field.raw)
            except TagListError:
                continue
            names.update(part.strip().lower().decode("ascii", "replace") for part in tags.get(b"h", b"").split(b":"))
    return frozenset(names)
