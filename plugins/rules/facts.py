"""The facts of rules: each with its kind, its meaning and how it is read. Only the facts an expression names are read.

The tables here are the reference; `docs/plugins/rules.md` is checked against them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import re2

from gateway import AuthResult, ClientClass, Label, Message, Part, Path, Recipient, Score, Transaction
from gateway import Fact as FactFinding
from gateway.plugins.rules.kinds import ANY, BOOL, DOUBLE, INT, STRING, STRINGS, Kind, list_of, record


@dataclass(slots=True)
class Subject:
    """What an expression is about."""

    transaction: Transaction
    message: Message
    score: float = 0.0
    """Sum of the scores that rules of this group gave so far."""
    recipient: Recipient | None = None
    """The one that `recipient` means."""


@dataclass(frozen=True, slots=True)
class FactRow:
    """One fact: `path` as expressions write it."""

    path: str
    kind: Kind
    meaning: str
    read: Callable[[Any], Any]
    """Of the subject; in a list of records, of the element."""
    heavy: bool = False
    """True when reading it looks through the content: large messages are then judged in a thread."""


@dataclass(frozen=True, slots=True)
class FunctionRow:
    """One function of ours; `x.f(y)` and `f(x, y)` are the same."""

    name: str
    takes: tuple[Kind, ...]
    gives: Kind
    meaning: str
    make: Callable[[Subject], Callable[..., Any]]
    heavy: bool = False


def _extension(part: Part) -> str:
    name = part.filename.rstrip(" .").lower()
    return "." + name.rpartition(".")[2] if "." in name else ""


def _auth(method: str) -> Callable[[Subject], str]:
    def read(subject: Subject) -> str:
        results = [found.result for found in subject.transaction.findings.of(AuthResult, method=method)]
        return "pass" if "pass" in results else next(iter(results), "")

    return read


def _tls(name: str) -> Callable[[Subject], str]:
    return lambda subject: str(getattr(subject.transaction.session.tls, name, ""))


def _parameters(parameters: Sequence[Any]) -> list[str]:
    return [parameter.octets.decode("utf-8", "replace") for parameter in parameters]


def _path(prefix: str, whose: str, path: Callable[[Any], Path]) -> tuple[FactRow, ...]:
    return (
        FactRow(f"{prefix}.mailbox", STRING, f"`local-part@domain` {whose}, as received", lambda x: path(x).mailbox),
        FactRow(f"{prefix}.local_part", STRING, "What stands before the `@`, as received", lambda x: path(x).local_part),
        FactRow(f"{prefix}.domain", STRING, "The domain in lower case", lambda x: path(x).domain_key),
    )


def _of_recipient(prefix: str, own: Callable[[Any], Recipient]) -> tuple[FactRow, ...]:
    return (
        *_path(prefix, "of the recipient", lambda x: own(x).forward_path),
        FactRow(f"{prefix}.route", STRING, "Name of the route", lambda x: own(x).route),
        FactRow(f"{prefix}.parameters", STRINGS, "Parameters of RCPT: `NOTIFY=NEVER`", lambda x: _parameters(own(x).parameters)),
    )


_RECIPIENTS = list_of(record("recipients"))
_ATTACHMENTS = list_of(record("attachments"))
_RESULTS = list_of(record("auth_results"))
_SCORES = list_of(record("scores"))

FACTS: tuple[FactRow, ...] = (
    *_path("reverse_path", "of the reverse-path (MAIL FROM)", lambda s: s.transaction.reverse_path),
    FactRow("reverse_path.is_null", BOOL, "True for `<>`: a delivery report", lambda s: s.transaction.reverse_path.is_null),
    FactRow(
        "reverse_path.parameters", STRINGS, "Parameters of MAIL: `BODY=8BITMIME`", lambda s: _parameters(s.transaction.parameters)
    ),
    *_of_recipient("recipient", lambda s: s.recipient),
    FactRow("recipients", _RECIPIENTS, "All recipients, decided or not", lambda s: s.transaction.recipients),
    FactRow("client.address", STRING, "IP address; `` when unknown", lambda s: s.transaction.session.client_address),
    FactRow("client.port", INT, "TCP port", lambda s: s.transaction.session.client_port),
    FactRow(
        "client.name", STRING, "Verified reverse name, where something looked it up", lambda s: s.transaction.session.client_name
    ),
    FactRow("client.helo", STRING, "Name in EHLO or HELO", lambda s: s.transaction.session.helo),
    FactRow("client.identity", STRING, "Authenticated identity, or ``", lambda s: s.transaction.session.identity),
    FactRow(
        "client.class", STRING, "`authenticated`, `trusted` or `stranger`", lambda s: s.transaction.session.client_class.value
    ),
    FactRow(
        "client.is_authenticated",
        BOOL,
        "True for an authenticated client",
        lambda s: s.transaction.session.client_class is ClientClass.AUTHENTICATED,
    ),
    FactRow(
        "client.is_trusted",
        BOOL,
        "True for a client in `trusted_networks`",
        lambda s: s.transaction.session.client_class is ClientClass.TRUSTED,
    ),
    FactRow("client.protocol", STRING, "`smtp` or `lmtp`", lambda s: s.transaction.session.protocol),
    FactRow("client.listener", STRING, "Name of the listener", lambda s: s.transaction.session.listener),
    FactRow("tls.is_on", BOOL, "True in a TLS session", lambda s: s.transaction.session.tls is not None),
    FactRow("tls.version", STRING, "`TLSv1.3`, or ``", _tls("version")),
    FactRow("tls.cipher", STRING, "Name of the cipher, or ``", _tls("cipher")),
    FactRow("tls.server_name", STRING, "The name the client asked for, or ``", _tls("server_name")),
    FactRow("tls.peer_subject", STRING, "Subject of the client's certificate, or ``", _tls("peer_subject")),
    FactRow("message.size", INT, "Octets of the content", lambda s: s.message.size),
    FactRow("message.header_size", INT, "Octets of the header section", lambda s: s.message.header.end),
    FactRow("message.subject", STRING, "Subject, decoded", lambda s: s.message.subject),
    FactRow("message.message_id", STRING, "Message-ID with its angle brackets, or ``", lambda s: s.message.message_id),
    FactRow("message.has_date", BOOL, "True when the Date field can be read", lambda s: s.message.date is not None),
    FactRow("message.author_addresses", STRINGS, "Each address in From, as written", lambda s: s.message.author_addresses),
    FactRow("message.author_domains", STRINGS, "Their domains in lower case, each once", lambda s: s.message.author_domains),
    FactRow(
        "message.field_names",
        STRINGS,
        "Names of all header fields in lower case",
        lambda s: [f.name.lower() for f in s.message.fields],
    ),
    FactRow("message.text", STRING, "Text of the text parts; of HTML without its tags", lambda s: s.message.text, heavy=True),
    FactRow("message.urls", STRINGS, "Links of HTML parts and URLs in the text", lambda s: s.message.urls, heavy=True),
    FactRow(
        "message.limits_hit",
        STRINGS,
        "What was too much or malformed: `mime-depth`, …",
        lambda s: s.message.limits_hit,
        heavy=True,
    ),
    FactRow(
        "attachments",
        _ATTACHMENTS,
        "Parts with a name, marked as attachment, or no text",
        lambda s: s.message.attachments,
        heavy=True,
    ),
    FactRow("auth.spf", STRING, "Result of SPF: `pass`, `fail`, …; `` when not checked", _auth("spf")),
    FactRow("auth.dkim", STRING, "`pass` when one signature passes, else the first result, or ``", _auth("dkim")),
    FactRow("auth.dmarc", STRING, "Result of DMARC, or ``", _auth("dmarc")),
    FactRow("auth.arc", STRING, "Result of ARC, or ``", _auth("arc")),
    FactRow("auth.iprev", STRING, "Result of the reverse name's check, or ``", _auth("iprev")),
    FactRow("auth_results", _RESULTS, "Every authentication result", lambda s: s.transaction.findings.of(AuthResult)),
    FactRow(
        "score.total",
        DOUBLE,
        "Sum of all scores: of checks, of groups before, and of rules above in this group",
        lambda s: s.score + sum(found.weight for found in s.transaction.findings.of(Score)),
    ),
    FactRow("scores", _SCORES, "Scores of checks and of groups before", lambda s: s.transaction.findings.of(Score)),
    FactRow("labels", STRINGS, "Names of labels", lambda s: [found.name for found in s.transaction.findings.of(Label)]),
)

ELEMENTS: tuple[FactRow, ...] = (
    *_of_recipient("recipients", lambda recipient: recipient),
    FactRow("attachments.name", STRING, "File name as a mail client most likely shows it, or ``", lambda part: part.filename),
    FactRow("attachments.names", STRINGS, "Every name some mail client would show", lambda part: part.filenames),
    FactRow("attachments.extension", STRING, "End of the name in lower case, with its dot: `.exe`, or ``", _extension),
    FactRow(
        "attachments.type",
        STRING,
        "Type by content: `application/x-dosexec`; `` for what is not known",
        lambda part: part.detected_type,
    ),
    FactRow("attachments.declared_type", STRING, "Type as the sender declared it, in lower case", lambda part: part.content_type),
    FactRow("attachments.size", INT, "Octets, decoded", lambda part: part.size),
    FactRow("auth_results.method", STRING, "`spf`, `dkim`, …", lambda found: found.method),
    FactRow("auth_results.result", STRING, "`pass`, `fail`, …", lambda found: found.result),
    FactRow("auth_results.reason", STRING, "Why, for people", lambda found: found.reason),
    FactRow("scores.symbol", STRING, "Name of the score", lambda found: found.symbol),
    FactRow("scores.weight", DOUBLE, "Its weight", lambda found: found.weight),
)


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
        for found in subject.transaction.findings.of(FactFinding):
            if found.name == name:
                return clean(found.value) if isinstance(found.value, str) else found.value
        return None

    return fact


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """A network in CIDR form. ValueError."""
    return ipaddress.ip_network(text, strict=False)


_network = lru_cache(maxsize=1_000)(network)


def in_network(address: str, networks: str | list[str]) -> bool:
    """True when the address lies in the network, or in one of several; an unknown address lies in none."""
    try:
        found = ipaddress.ip_address(address)
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(found in _network(text) for text in ([networks] if isinstance(networks, str) else networks))
    except ValueError:
        return False


def in_domain(name: str, domains: str | list[str]) -> bool:
    """True when the name is the domain, or one below it, or so of one of several."""
    own = name.lower().rstrip(".")
    wanted = [domains] if isinstance(domains, str) else domains
    return any(own == domain or own.endswith(f".{domain}") for domain in (text.lower().strip(".") for text in wanted))


def url_host(url: str) -> str:
    """The host of a URL in lower case, or ``."""
    _, slashes, rest = url.partition("//")
    authority = (rest if slashes else url).partition("/")[0].partition("?")[0].partition("#")[0].partition("\\")[0]
    host = authority.rpartition("@")[2]
    return (host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]).lower().rstrip(".")


@lru_cache(maxsize=1_000)
def pattern_set(patterns: tuple[str, ...]) -> re2.Set:
    """The patterns as one automaton, linear in the text (RE2). ValueError for one that is not RE2's."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 64 << 20
    found = re2.Set.SearchSet(options)
    for pattern in patterns:
        try:
            re2.compile(pattern, options)  # its message says why; the set's does not
            found.Add(pattern)
        except re2.error as error:
            reason = error.args[0] if error.args else error
            text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
            raise ValueError(f"{pattern!r} is no regular expression of RE2: {text}") from error
    found.Compile()
    return found


def matches_any(text: str, patterns: list[str]) -> bool:
    """True when one of the patterns occurs in the text."""
    return bool(pattern_set(tuple(patterns)).Match(text))


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
    FunctionRow("fact", (STRING,), ANY, "Value of a plugin's own finding; null when absent", _fact),
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
    FunctionRow("url_host", (STRING,), STRING, "Host of a URL in lower case", lambda _: url_host),
    FunctionRow("lower", (STRING,), STRING, "In lower case", lambda _: lambda text: text.lower()),
    FunctionRow(
        "matches_any",
        (STRING, STRINGS),
        BOOL,
        "True when one of the regular expressions (RE2) occurs in the text",
        lambda _: matches_any,
    ),
)


def clean(text: str) -> str:
    """Text that can be handed to the expression: lone surrogates become U+FFFD."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def as_value(value: Any) -> Any:
    """A fact as the expression gets it."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, tuple | list):
        return [as_value(item) for item in value]
    return value
