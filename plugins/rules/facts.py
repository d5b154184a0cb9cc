"""The facts of rules: each with its kind, its meaning and how it is read. Only the facts an expression names are read.

The tables here are the reference; `docs/plugins/rules.md` is checked against them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway import AuthResult, ClientClass, HeaderAddress, Label, Message, Opened, Part, Path, Recipient, Score, Transaction
from gateway.plugins.rules.kinds import BOOL, DOUBLE, INT, STRING, STRINGS, Kind, list_of, record
from gateway.plugins.rules.site import NOWHERE, Site

NOTHING_OPENED = Opened()


@dataclass(slots=True)
class Subject:
    """What an expression is about."""

    transaction: Transaction
    message: Message
    score: float = 0.0
    """Sum of the scores that rules of this group gave so far."""
    labels: tuple[str, ...] = ()
    """Labels that rules of this group put so far."""
    recipient: Recipient | None = None
    """The one that `recipient` means."""
    searched: dict[Any, frozenset[int]] = field(default_factory=dict)
    """What the group's patterns found, by where they looked."""
    site: Site = NOWHERE
    """What the group knows beside the message."""
    now: float = 0.0
    """Seconds since the epoch."""
    rates: Sequence[int] = ()
    """What was counted, by number."""
    opened: Opened = NOTHING_OPENED
    """The files of the message, where a rule asks for them."""
    known: dict[str, Any] = field(default_factory=dict)
    """Facts that were read, by path: those that stay the same for all rules."""


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


def _end_of(name: str) -> str:
    name = name.rstrip(" .").lower()
    return "." + name.rpartition(".")[2] if "." in name else ""


def _extension(part: Part) -> str:
    return _end_of(part.filename)


def _auth(method: str) -> Callable[[Subject], str]:
    def read(subject: Subject) -> str:
        first: str | None = None
        for found in subject.transaction.findings.of(AuthResult):
            if found.method == method:
                if found.result == "pass":
                    return "pass"
                if first is None:
                    first = found.result
        return first or ""

    return read


@dataclass(frozen=True, slots=True)
class _InField:
    """An address with the field it stands in."""

    field: str
    address: HeaderAddress


def _addresses(message: Message) -> list[_InField]:
    return [_InField(name, one) for name in ("from", "sender", "reply-to", "to", "cc") for one in message.addresses_in(name)]


def _written(addresses: Sequence[HeaderAddress]) -> list[str]:
    return [one.address for one in addresses]


def _age(subject: Subject) -> float:
    date = subject.message.date_seconds
    return 0.0 if date is None else subject.transaction.started - date


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
_FILES = list_of(record("files"))
_ADDRESSES = list_of(record("addresses"))
_LINKS = list_of(record("links"))
_NESTED = list_of(record("nested"))
_RESULTS = list_of(record("auth_results"))
_SCORES = list_of(record("scores"))

FACTS: tuple[FactRow, ...] = (
    *_path("reverse_path", "of the reverse-path (MAIL FROM)", lambda s: s.transaction.reverse_path),
    FactRow("reverse_path.is_null", BOOL, "True for `<>`: a delivery report", lambda s: s.transaction.reverse_path.is_null),
    FactRow(
        "reverse_path.parameters", STRINGS, "Parameters of MAIL: `BODY=8BITMIME`", lambda s: _parameters(s.transaction.parameters)
    ),
    *_of_recipient("recipient", lambda s: s.recipient),
    FactRow(
        "recipient.is_ours",
        BOOL,
        "True where its domain is among the group's `domains`",
        lambda s: s.site.is_ours(s.recipient.domain),
    ),
    FactRow("recipients", _RECIPIENTS, "All recipients, decided or not", lambda s: s.transaction.recipients),
    FactRow(
        "direction",
        STRING,
        "`inbound` from strangers, else `internal` where all recipients are in the group's `domains`, else `outbound`; or what "
        "`directions` says of the listener",
        lambda s: s.site.direction(s.transaction, s.recipient),
    ),
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
        "message.author_names",
        STRINGS,
        "Display names in From, decoded",
        lambda s: [one.name for one in s.message.authors if one.name],
    ),
    FactRow("message.to", STRINGS, "Each address in To, as written", lambda s: _written(s.message.to)),
    FactRow("message.cc", STRINGS, "Each address in Cc, as written", lambda s: _written(s.message.cc)),
    FactRow("message.reply_to", STRINGS, "Each address in Reply-To, as written", lambda s: _written(s.message.reply_to)),
    FactRow(
        "message.sender",
        STRING,
        "Address in Sender, as written, or ``",
        lambda s: s.message.sender.address if s.message.sender else "",
    ),
    FactRow("message.date_age", DOUBLE, "Seconds from Date to the start of the transaction; 0 when it cannot be read", _age),
    FactRow("addresses", _ADDRESSES, "Each address in From, Sender, Reply-To, To and Cc", lambda s: _addresses(s.message)),
    FactRow(
        "message.encryption",
        STRINGS,
        "What parts are encrypted with: `pgp-mime`, `pgp-inline`, `pgp`, `smime`, `pdf`, `rights`",
        lambda s: s.message.encryption,
        heavy=True,
    ),
    FactRow("nested", _NESTED, "Messages inside the message", lambda s: s.message.nested, heavy=True),
    FactRow(
        "message.field_names",
        STRINGS,
        "Names of all header fields in lower case",
        lambda s: [f.name.lower() for f in s.message.fields],
    ),
    FactRow("message.text", STRING, "Text of the text parts; of HTML without its tags", lambda s: s.message.text, heavy=True),
    FactRow("message.hidden_text", STRING, "What of `message.text` HTML hides", lambda s: s.message.hidden_text, heavy=True),
    FactRow(
        "message.charsets",
        STRINGS,
        "Charsets that text parts declare, in lower case: `utf-8`",
        lambda s: s.message.charsets,
        heavy=True,
    ),
    FactRow(
        "message.urls",
        STRINGS,
        "Links of HTML parts, URLs in the text, and what redirectors wrap",
        lambda s: s.message.urls,
        heavy=True,
    ),
    FactRow(
        "links", _LINKS, "Links of HTML parts and URLs in the text, with what they show", lambda s: s.message.links, heavy=True
    ),
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
    FactRow(
        "files",
        _FILES,
        "Every file: attachments, and what is in them, file in file ([files.md](../files.md))",
        lambda s: s.opened.files,
        heavy=True,
    ),
    FactRow(
        "message.files_limits_hit",
        STRINGS,
        "What of the files was too much, broken or not to be read: `files-depth`, … ([files.md](../files.md))",
        lambda s: s.opened.limits_hit,
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
    FactRow(
        "labels",
        STRINGS,
        "Labels: of checks, of groups before, and of rules above in this group",
        lambda s: [*(found.name for found in s.transaction.findings.of(Label)), *s.labels],
    ),
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
    FactRow("attachments.extensions", STRINGS, "Ends of all its names, in lower case, each once", lambda part: part.extensions),
    FactRow(
        "attachments.name_tricks",
        STRINGS,
        "What hides how the name ends: `direction`, `double-extension`, …",
        lambda part: part.name_tricks,
    ),
    FactRow("attachments.sha256", STRING, "SHA-256 of the decoded octets, in hexadecimal", lambda part: part.sha256),
    FactRow(
        "attachments.encryption", STRING, "What it is encrypted with: `pdf`, `smime`, …; or ``", lambda part: part.encryption
    ),
    FactRow("attachments.is_encrypted", BOOL, "True for what nobody can look into", lambda part: part.is_encrypted),
    FactRow("addresses.field", STRING, "Name of the field in lower case: `reply-to`", lambda one: one.field),
    FactRow("addresses.name", STRING, "Display name, decoded, or ``", lambda one: one.address.name),
    FactRow("addresses.address", STRING, "As written", lambda one: one.address.address),
    FactRow("addresses.domain", STRING, "Its domain in lower case", lambda one: one.address.domain),
    FactRow("links.url", STRING, "As the message has it", lambda link: link.url),
    FactRow(
        "links.host", STRING, "Host of the URL in lower case, with A-labels, as a browser reads it; or ``", lambda link: link.host
    ),
    FactRow("links.shown", STRING, "The text of a link in HTML", lambda link: link.shown),
    FactRow(
        "links.shown_host",
        STRING,
        "The host that this text names, where it reads like an address; or ``",
        lambda link: link.shown_host,
    ),
    FactRow("links.is_html", BOOL, "False for an address in plain text", lambda link: link.is_html),
    FactRow("links.target", STRING, "Where it leads to: what redirectors wrap, else the URL", lambda link: link.target),
    FactRow("links.target_host", STRING, "Host of the target", lambda link: link.target_host),
    FactRow("links.display_host", STRING, "The same with its A-labels decoded", lambda link: link.display_host),
    FactRow(
        "links.skeleton", STRING, "What the target's host looks like, in ASCII where it looks so", lambda link: link.skeleton
    ),
    FactRow("links.is_wrapped", BOOL, "True where a redirector wraps the target", lambda link: link.is_wrapped),
    FactRow(
        "links.is_deceptive", BOOL, "True where it shows one site's address and leads to another", lambda link: link.is_deceptive
    ),
    FactRow(
        "links.is_mixed_script", BOOL, "True where a label of the target's host mixes scripts", lambda link: link.is_mixed_script
    ),
    FactRow("nested.subject", STRING, "Subject, decoded", lambda one: one.subject),
    FactRow("nested.message_id", STRING, "Message-ID with its angle brackets, or ``", lambda one: one.message_id),
    FactRow("nested.author_addresses", STRINGS, "Each address in From, as written", lambda one: one.author_addresses),
    FactRow("nested.author_domains", STRINGS, "Their domains in lower case, each once", lambda one: one.author_domains),
    FactRow(
        "nested.depth", INT, "1 for a message in the message, 2 for one in that, counting multiparts too", lambda one: one.depth
    ),
    FactRow("files.name", STRING, "The likeliest name, without directories; or ``", lambda file: file.name),
    FactRow("files.names", STRINGS, "Every name that some mail client or archiver would show", lambda file: file.names),
    FactRow("files.path", STRING, "Names of what it is in, and its own: `invoice.zip/2026/inner.exe`", lambda file: file.path),
    FactRow("files.extension", STRING, "End of the name in lower case, with its dot, or ``", lambda file: _end_of(file.name)),
    FactRow("files.type", STRING, "Type by content, or ``", lambda file: file.type),
    FactRow(
        "files.declared_type",
        STRING,
        "Type as the message declares it; `` for what is in an archive",
        lambda file: file.declared_type,
    ),
    FactRow("files.size", INT, "Octets, unpacked", lambda file: file.size),
    FactRow(
        "files.sha256", STRING, "Of the unpacked octets, in hexadecimal; `` where they were not read", lambda file: file.sha256
    ),
    FactRow("files.is_encrypted", BOOL, "True for what cannot be read without a password or key", lambda file: file.is_encrypted),
    FactRow("files.has_macros", BOOL, "True for an Office document with macros", lambda file: file.has_macros),
    FactRow(
        "files.container", STRING, "Kind of the file that it lies in: `zip`, …; `` for an attachment", lambda file: file.container
    ),
    FactRow("files.depth", INT, "How many files it lies in", lambda file: file.depth),
    FactRow("files.signs", STRINGS, "What else was seen: `broken-encoding`, …", lambda file: file.signs),
    FactRow("files.target", STRING, "Where a shortcut leads, or ``", lambda file: file.target),
    FactRow("auth_results.method", STRING, "`spf`, `dkim`, …", lambda found: found.method),
    FactRow("auth_results.result", STRING, "`pass`, `fail`, …", lambda found: found.result),
    FactRow("auth_results.reason", STRING, "Why, for people", lambda found: found.reason),
    FactRow("scores.symbol", STRING, "Name of the score", lambda found: found.symbol),
    FactRow("scores.weight", DOUBLE, "Its weight", lambda found: found.weight),
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
