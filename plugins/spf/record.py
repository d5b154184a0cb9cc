"""SPF records: RFC 7208 4.5, 4.6.1, 5, 6, 12. Text in, terms out; the whole record is checked before any of it is evaluated.

pyspf is handed only what was read here: its own reading takes terms that the grammar refuses and refuses some that it has, and
parts of it are quadratic.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from gateway.plugins.spf.macros import MacroError, check_domain_spec, check_string

MAX_RECORD = 4_096
"""Octets of an SPF record (RFC 7208 3.4 asks for 450)."""
MAX_TERM = 512
"""Octets of one term of it."""
QUALIFIERS: Final = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}  # RFC 7208 4.6.2
_VERSION = re.compile(rb"v=spf1(?: |$)", re.IGNORECASE)  # RFC 7208 4.5
_MODIFIER = re.compile(r"([a-z][a-z0-9_.-]*)=(.*)", re.IGNORECASE | re.DOTALL)  # RFC 7208 4.6.1
_MECHANISM = re.compile(r"([+?~-]?)([a-z0-9]+)(.*)", re.IGNORECASE | re.DOTALL)
_DUAL_CIDR = re.compile(r"(.*?)(?:/(0|[1-9][0-9]?))?(?://(0|[1-9][0-9]{0,2}))?", re.DOTALL)  # RFC 7208 5.6
_CIDR = re.compile(r"([^/]*)(?:/(0|[1-9][0-9]{0,2}))?")
_ANSWERED_BY_DNS = frozenset({"a", "mx", "ptr", "exists", "include"})


class RecordError(ValueError):
    """The record is not in the grammar: `permerror`. The text is for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Directive:
    """A mechanism with its qualifier."""

    text: str
    """As published."""
    result: str
    """When it matches."""
    name: str
    """In lower case."""
    domain_spec: str = ""
    """Of `a`, `mx`, `ptr`, `exists`, `include`; `` for the current domain."""
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None
    """Of `ip4` and `ip6`."""
    bits4: int = 32
    bits6: int = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record that is in the grammar."""

    directives: tuple[Directive, ...] = ()
    redirect: str = ""
    """Domain-spec; `` where there is none, or where `all` makes it idle (RFC 7208 6.1)."""
    exp: str = ""
    """Domain-spec; `` where there is none."""

    def __str__(self) -> str:
        """As pyspf may read it: without `exp`, which is fetched only for a failure, and without unknown modifiers."""
        terms = [one.text for one in self.directives]
        if self.redirect:
            terms.append(f"redirect={self.redirect}")
        return " ".join(["v=spf1", *terms])


def is_record(octets: bytes) -> bool:
    """Whether a TXT record begins as one of SPF does (RFC 7208 4.5)."""
    return _VERSION.match(octets) is not None


def read_record(octets: bytes) -> Record:
    """All terms of the record. RecordError."""
    if len(octets) > MAX_RECORD:
        raise RecordError(f"SPF record of {len(octets)} octets")
    try:
        terms = octets.decode("ascii").split(" ")[1:]
    except UnicodeDecodeError:
        raise RecordError("SPF record that is not ASCII") from None  # RFC 7208 3.1
    directives: list[Directive] = []
    modifiers: dict[str, str] = {}
    for term in terms:
        if not term:  # RFC 7208 4.6.1: one or more spaces
            continue
        if len(term) > MAX_TERM:
            raise RecordError(f"SPF term of {len(term)} octets")
        found = _MODIFIER.fullmatch(term)
        if found is None:
            directives.append(read_directive(term))
        else:
            _modifier(term, found[1].lower(), found[2], modifiers)
    idle = any(one.name == "all" for one in directives)
    redirect = "" if idle else modifiers.get("redirect", "")
    return Record(directives=tuple(directives), redirect=redirect, exp=modifiers.get("exp", ""))


def _modifier(term: str, name: str, value: str, known: dict[str, str]) -> None:
    """RFC 7208 6: `redirect` and `exp` once each; others may come as often as they like and mean nothing."""
    is_known = name in {"redirect", "exp"}
    if is_known and name in known:
        raise RecordError(f"{name}= twice")
    try:
        (check_domain_spec if is_known else check_string)(value)
    except MacroError as error:
        raise RecordError(f"{shown(term)}: {error}") from None
    if is_known:
        known[name] = value


@lru_cache(maxsize=4_096)  # the records of large providers are read again and again; a term has at most MAX_TERM octets
def read_directive(term: str) -> Directive:
    """One directive (RFC 7208 4.6.1). RecordError."""
    found = _MECHANISM.fullmatch(term)
    if found is None:
        raise RecordError(f"unknown term {shown(term)}")
    qualifier, name, rest = found[1] or "+", found[2].lower(), found[3]
    result = QUALIFIERS[qualifier]
    try:
        match name:
            case "all":
                if rest:
                    raise RecordError(f"{shown(term)}: all stands alone")
                return Directive(text=term, result=result, name=name)
            case "ip4" | "ip6":
                return _network(term, result, name, rest)
            case "a" | "mx":
                rest, bits4, bits6 = _dual_cidr(term, rest)
                spec = _domain_spec(rest, is_optional=True)
                return Directive(text=term, result=result, name=name, domain_spec=spec, bits4=bits4, bits6=bits6)
            case _ if name in _ANSWERED_BY_DNS:
                spec = _domain_spec(rest, is_optional=name == "ptr")
                return Directive(text=term, result=result, name=name, domain_spec=spec)
            case _:
                raise RecordError(f"unknown mechanism {shown(term)}")
    except MacroError as error:
        raise RecordError(f"{shown(term)}: {error}") from None


def _domain_spec(rest: str, *, is_optional: bool) -> str:
    if not rest and is_optional:
        return ""
    if rest[:1] != ":":
        raise MacroError("a colon and a domain are missing")
    check_domain_spec(rest[1:])
    return rest[1:]


def _dual_cidr(term: str, rest: str) -> tuple[str, int, int]:
    found = _DUAL_CIDR.fullmatch(rest)
    if found is None:  # pragma: no cover - the first group takes anything
        raise RecordError(shown(term))
    bits4 = 32 if found[2] is None else int(found[2])
    bits6 = 128 if found[3] is None else int(found[3])
    if bits4 > 32 or bits6 > 128:
        raise RecordError(f"{shown(term)}: more bits than an address has")
    return found[1], bits4, bits6


def _network(term: str, result: str, name: str, rest: str) -> Directive:
    found = _CIDR.fullmatch(rest[1:]) if rest[:1] == ":" else None
    if found is None:
        raise RecordError(f"{shown(term)}: not an address with an optional length")
    most = 32 if name == "ip4" else 128
    length = most if found[2] is None else int(found[2])
    if "%" in found[1] or length > most:
        raise RecordError(f"{shown(term)}: a scope, or more bits than an address has")
    try:
        network = (ipaddress.IPv4Network if name == "ip4" else ipaddress.IPv6Network)((found[1], length), strict=False)
    except ValueError:
        raise RecordError(f"{shown(term)}: not an address of {'IPv4' if most == 32 else 'IPv6'}") from None
    return Directive(text=term, result=result, name=name, network=network)


def shown(term: str) -> str:
    """A term for people, not too much of it."""
    text = "".join(c if "!" <= c <= "~" else "?" for c in term[:80])
    return text if len(term) <= 80 else f"{text}..."
