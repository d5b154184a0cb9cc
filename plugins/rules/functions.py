"""The functions of rules beside those of the language: header fields, networks, domains, sets of patterns (RE2).

Patterns and networks that an expression writes out are read once, when the configuration is loaded.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import re2

from gateway import AuthResult, Fact, looks_like
from gateway.plugins.rules.facts import Subject, clean
from gateway.plugins.rules.kinds import ANY, BOOL, DOUBLE, INT, STRING, STRINGS, Kind
from gateway.plugins.rules.similar import similar
from gateway.plugins.rules.windows import is_within


@dataclass(frozen=True, slots=True)
class FunctionRow:
    """One function of ours; `x.f(y)` and `f(x, y)` are the same."""

    name: str
    takes: tuple[Kind, ...]
    gives: Kind
    meaning: str
    make: Callable[[Subject], Callable[..., Any]]
    heavy: bool = False
    """True when its time goes with what it is given: all but small messages are then judged in a thread."""
    optional: tuple[Kind, ...] = ()
    """What it takes besides, where it is given."""


def _in_list(subject: Subject) -> Callable[[str, str | list[str]], bool]:
    lists = subject.site.lists

    def in_list(name: str, values: str | list[str]) -> bool:
        found = lists[name]
        return values in found if isinstance(values, str) else any(str(value) in found for value in values)

    return in_list


def _list_age(subject: Subject) -> Callable[[str], int]:
    return lambda name: subject.site.lists[name].age(subject.now)


def _within(subject: Subject) -> Callable[..., bool]:
    return lambda windows, zone=subject.site.time_zone: is_within(windows, zone, subject.now)


def _uncounted(_: Subject) -> Callable[..., int]:
    def rate(*_: object) -> int:
        raise ValueError("a rate in an expression that the group could not take apart")

    return rate


def _header(subject: Subject) -> Callable[[str], str]:
    def header(name: str) -> str:
        field = subject.message.field(name)
        return clean(field.value) if field else ""

    return header


def _header_raw(subject: Subject) -> Callable[[str], str]:
    def header_raw(name: str) -> str:
        field = subject.message.field(name)
        return field.raw[:65_536].decode("latin-1") if field else ""

    return header_raw


def _headers(subject: Subject) -> Callable[[str], list[str]]:
    return lambda name: [clean(field.value) for field in subject.message.fields_named(name)]


def _headers_raw(subject: Subject) -> Callable[[str], list[str]]:
    return lambda name: [field.raw[:65_536].decode("latin-1") for field in subject.message.fields_named(name)]


def _auth_values(subject: Subject) -> Callable[[str, str], list[str]]:
    def auth_values(method: str, name: str) -> list[str]:
        results = subject.transaction.findings.of(AuthResult, method=method)
        return [clean(value) for found in results if found.result == "pass" for key, value in found.properties if key == name]

    return auth_values


def _fact(subject: Subject) -> Callable[[str], Any]:
    def fact(name: str) -> Any:
        for found in subject.transaction.findings.of(Fact):
            if found.name == name:
                return clean(found.value) if isinstance(found.value, str) else found.value
        return None

    return fact


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """A network in CIDR form. ValueError."""
    return ipaddress.ip_network(text, strict=False)


_network = lru_cache(maxsize=10_000)(network)


@lru_cache(maxsize=1_000)
def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address; an IPv4 one in the clothes of IPv6 is one of IPv4. ValueError."""
    found = ipaddress.ip_address(text)
    return found.ipv4_mapped or found if isinstance(found, ipaddress.IPv6Address) else found


def in_network(address: str, networks: str | list[str]) -> bool:
    """True when the address lies in the network, or in one of several; an unknown address lies in none."""
    try:
        found = _address(address)
        if isinstance(networks, str):
            return found in _network(networks)
        return any(found in _network(text) for text in networks)
    except ValueError:
        return False


def in_domain(name: str, domains: str | list[str]) -> bool:
    """True when the name is the domain, or one below it, or so of one of several."""
    own = name.lower().rstrip(".")
    wanted = [domains] if isinstance(domains, str) else domains
    return any(own == domain or own.endswith(f".{domain}") for domain in (text.lower().strip(".") for text in wanted))


def _looks_like(name: str, domains: str | list[str]) -> bool:
    return bool(looks_like(name, [domains] if isinstance(domains, str) else domains))


def url_host(url: str) -> str:
    """The host of a URL in lower case, or ``."""
    _, slashes, rest = url.partition("//")
    authority = (rest if slashes else url).partition("/")[0].partition("?")[0].partition("#")[0].partition("\\")[0]
    host = authority.rpartition("@")[2]
    return (host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]).lower().rstrip(".")


def _options() -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 64 << 20
    return options


@lru_cache(maxsize=10_000)
def compiled(pattern: str) -> Any:
    """One pattern, searched for in time linear in the text (RE2). ValueError for one that is not RE2's."""
    try:
        return re2.compile(pattern, _options())
    except re2.error as error:
        reason = error.args[0] if error.args else error
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"{pattern!r} is no regular expression of RE2: {text}") from error


def pattern_set(patterns: tuple[str, ...]) -> re2.Set:
    """The patterns as one automaton. ValueError for one that is not RE2's."""
    found = re2.Set.SearchSet(_options())
    for pattern in patterns:
        compiled(pattern)  # its message says why it is none; the set's does not
        found.Add(pattern)
    found.Compile()
    return found


def matches_any(text: str, patterns: list[str]) -> bool:
    """True when one of the patterns occurs in the text."""
    return any(compiled(pattern).search(text) is not None for pattern in patterns)


FUNCTIONS: tuple[FunctionRow, ...] = (
    FunctionRow("header", (STRING,), STRING, "The topmost field of this name, decoded, on one line; `` when absent", _header),
    FunctionRow(
        "header_raw", (STRING,), STRING, "The same as received: folds and encoded words kept, a character an octet", _header_raw
    ),
    FunctionRow("headers", (STRING,), STRINGS, "All fields of this name, decoded", _headers),
    FunctionRow("headers_raw", (STRING,), STRINGS, "All fields of this name, as received", _headers_raw),
    FunctionRow(
        "has_header", (STRING,), BOOL, "True when there is such a field", lambda s: lambda name: s.message.field(name) is not None
    ),
    FunctionRow(
        "auth_values",
        (STRING, STRING),
        STRINGS,
        'Values of a property in passing results: `auth_values("dkim", "header.d")`',
        _auth_values,
    ),
    FunctionRow(
        "fact",
        (STRING,),
        ANY,
        "Value of a plugin's own finding; null when absent. The gateway's own: `early_talker`, `improper_pipelining`",
        _fact,
    ),
    FunctionRow(
        "in_network", (STRING, ANY), BOOL, "True for an address in a network, or in one of a list of them", lambda _: in_network
    ),
    FunctionRow(
        "in_domain", (STRING, ANY), BOOL, "True for a domain or one below it; a list of domains may be given", lambda _: in_domain
    ),
    FunctionRow(
        "domain_of",
        (STRING,),
        STRING,
        "Domain of an address in lower case",
        lambda _: lambda text: text.rpartition("@")[2].lower(),
    ),
    FunctionRow(
        "in_list",
        (STRING, ANY),
        BOOL,
        'True for a value, or one of a list of values, that is in the named list: `in_list("vip", reverse_path.mailbox)`',
        _in_list,
        heavy=True,
    ),
    FunctionRow("list_age", (STRING,), INT, "Seconds since the named list was last read well; -1 where it never was", _list_age),
    FunctionRow(
        "within",
        (STRING,),
        BOOL,
        'True when it is that time: `within("Mon-Fri 08:00-18:00, Sat 09:00-12:00")`; a time zone may follow, else it is the group\'s',
        _within,
        optional=(STRING,),
    ),
    FunctionRow(
        "rate",
        (ANY, STRING),
        INT,
        'Messages with this value in the time before, this one among them: `rate(client.address, "1h")`; 0 for an empty value',
        _uncounted,
    ),
    FunctionRow(
        "similar",
        (STRING, ANY),
        DOUBLE,
        "How much a name looks like another, or like one of a list: 1.0 the same, 0.0 by less than half",
        lambda _: similar,
        heavy=True,
    ),
    FunctionRow("url_host", (STRING,), STRING, "Host of a URL in lower case", lambda _: url_host),
    FunctionRow(
        "looks_like",
        (STRING, ANY),
        BOOL,
        "True for a domain that looks like another one, or one of a list, and is neither it nor below it",
        lambda _: _looks_like,
    ),
    FunctionRow("lower", (STRING,), STRING, "In lower case", lambda _: lambda text: text.lower()),
    FunctionRow(
        "matches_any",
        (STRING, STRINGS),
        BOOL,
        "True when one of the regular expressions (RE2) occurs in the text",
        lambda _: matches_any,
    ),
)
