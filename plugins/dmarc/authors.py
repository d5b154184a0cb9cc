"""The author domains of a message: RFC 9989 5.3.1, 11.5. Read from hostile input: whatever may hide a domain is told."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from gateway import Message, a_labels

MAX_FROM = 65_536
"""Octets of all From fields together that are read (as `Message.author_addresses` does)."""
_MAX_NAME = 254
_DOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_][a-z0-9_-]{0,62})*")
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*+\"", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authors:
    """What From says."""

    domains: tuple[str, ...] = ()
    """Different domains in lower case, as A-labels, in order."""
    malformed: tuple[str, ...] = ()
    """What stands for a domain and is none."""
    has_literal: bool = False
    """An address of a host without a name: `x@[192.0.2.1]`."""
    problem: str = ""
    """Why there may be more authors than these."""


def read_authors(message: Message, limit: int) -> Authors:
    """Every domain that some mail client may take for the author's; with more than `limit` not all are told."""
    problem = _what_may_be_hidden(message)
    domains: dict[str, None] = {}
    malformed: dict[str, None] = {}
    has_literal = False
    parts = () if problem else (part for address in message.author_addresses for part in _domain_parts(address))
    for part in parts:
        name = a_label(part)
        if name:
            domains[name] = None
        elif part.startswith("["):
            has_literal = True
        elif part.strip(" ."):
            malformed[part[:100]] = None
        if len(domains) + len(malformed) > limit:  # nobody writes so; RFC 9989 11.5 wants a limit
            problem = f"more than {limit} different author domains"
            break
    return Authors(domains=tuple(domains), malformed=tuple(malformed), has_literal=has_literal, problem=problem)


def a_label(domain: str) -> str:
    """Lower case, A-labels (RFC 9989 5.3.1, RFC 5891 as UTS 46 has it); `` when it is no domain name."""
    return _a_label(domain) if len(domain) <= _MAX_NAME else ""


@lru_cache(maxsize=1_000)
def _a_label(domain: str) -> str:
    """Remembered: most mail is of few domains."""
    name = (a_labels(domain) or "").removesuffix(".")
    return name if _DOMAIN.fullmatch(name) else ""


def _domain_parts(address: str) -> list[str]:
    """The domain; with several `@` outside of quotes every part that one client or another takes for it."""
    quoted = _QUOTED.match(address)
    rest = address[quoted.end() :] if quoted is not None else address
    if rest.endswith("]") and "@[" in rest:
        return [rest[rest.index("@[") + 1 :]]
    return rest.split("@")[1:] if quoted is not None or not address.startswith('"') else [rest.rpartition("@")[2]]


def _what_may_be_hidden(message: Message) -> str:
    if message.header.is_cut:
        return f"more than {message.bounds.fields} header fields, there may be more From fields"
    if message.author_octets > MAX_FROM:
        return f"more than {MAX_FROM} octets of From"
    if len(message.author_addresses) >= message.bounds.addresses:
        return f"{message.bounds.addresses} or more addresses in From"
    return ""
