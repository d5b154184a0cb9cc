"""What an MTA tells a milter about a client and a transaction, as the values that hooks see: Connect, macros, paths. Pure."""

from __future__ import annotations

import re

from gateway.milter import codec
from gateway.session import Session, Tls
from gateway.smtp.grammar import MAX_PARAMETERS, SyntaxFault, parse_hello, parse_mail, parse_rcpt
from gateway.smtp.paths import Parameter, Path

_STAGE = codec.MacroStage
WANTED: tuple[tuple[codec.MacroStage, tuple[bytes, ...]], ...] = (
    (
        _STAGE.CONNECT,
        (
            *(b"j", b"v", b"{daemon_name}", b"{daemon_addr}", b"{daemon_port}", b"{if_addr}"),
            *(b"{client_addr}", b"{client_name}", b"{client_port}", b"{client_ptr}", b"{client_resolve}"),
        ),
    ),
    (_STAGE.HELO, (b"{tls_version}", b"{cipher}", b"{cipher_bits}", b"{cert_subject}", b"{cert_issuer}", b"{verify}", b"r")),
    (
        _STAGE.MAIL,
        (
            *(b"i", b"r", b"{auth_type}", b"{auth_authen}", b"{auth_author}", b"{mail_addr}", b"{mail_host}", b"{mail_mailer}"),
            *(b"{tls_version}", b"{cipher}", b"{cipher_bits}", b"{verify}"),
        ),
    ),
    (_STAGE.RCPT, (b"i", b"{rcpt_addr}", b"{rcpt_host}", b"{rcpt_mailer}")),
    (_STAGE.DATA, (b"i",)),
    (_STAGE.END_OF_HEADER, (b"i",)),
    (_STAGE.END_OF_BODY, (b"i", b"{auth_authen}")),
)
"""The macros asked for, where the MTA lets us (SETSYMLIST); Sendmail and Postfix leave out those that they have not."""
_LATEST_FIRST = (b"E", b"B", b"N", b"L", b"T", b"R", b"M", b"H", b"C")
_OF_TRANSACTION = frozenset(_LATEST_FIRST) - {b"C", b"H"}
_UNKNOWN = frozenset({"", "unknown"})
_PORT = re.compile(r"[0-9]{1,5}")
_UNPRINTABLE = re.compile(r"[^ -~]")
MAX_VALUE = 1024
"""Octets of a macro's value that are looked at."""


class Macros:
    """The macros of a connection, by the command that they came with. The latest value counts."""

    __slots__ = ("_by_command",)

    def __init__(self) -> None:
        self._by_command: dict[bytes, dict[str, str]] = {}

    def take(self, packet: codec.Macros) -> None:
        """Those of one command, instead of those that came with it before."""
        if packet.command in _LATEST_FIRST:
            self._by_command[packet.command] = {
                name.strip(b"{}").decode("latin-1"): value[:MAX_VALUE].decode("utf-8", "replace") for name, value in packet.values
            }

    def forget_transaction(self) -> None:
        """Those of MAIL and later."""
        for command in _OF_TRANSACTION:
            self._by_command.pop(command, None)

    def __getitem__(self, name: str) -> str:
        """`` where the MTA did not say it."""
        for command in _LATEST_FIRST:
            values = self._by_command.get(command)
            if values and name in values:
                return values[name]
        return ""

    def of(self, command: bytes, name: str) -> str:
        """As it came with this command."""
        return self._by_command.get(command, {}).get(name, "")

    @property
    def mta(self) -> str:
        """The MTA's own name, for logs: nothing unprintable in it."""
        return _UNPRINTABLE.sub("?", self["j"] or "mta")[:255]


def fill_in(session: Session, connect: codec.Connect, macros: Macros) -> None:
    """The client's ends of the connection and its names. What is not known stays empty: such a client is a stranger."""
    session.client_address = connect.ip_address
    session.client_port = connect.port if session.client_address else 0
    session.is_local = connect.family == codec.UNIX
    session.server_address = macros["daemon_addr"] if _is_specific(macros["daemon_addr"]) else macros["if_addr"]
    session.server_port = int(macros["daemon_port"]) if _PORT.fullmatch(macros["daemon_port"]) else 0
    name = connect.hostname.decode("utf-8", "replace").rstrip(".")
    # Postfix sends a name only when it was looked up both ways; Sendmail says by {client_resolve} how that went.
    is_verified = macros["client_resolve"] in {"", "OK"} and name not in _UNKNOWN and name[:1] != "["
    session.client_name = name if is_verified and session.client_address else ""
    pointer = macros["client_ptr"].rstrip(".")
    session.client_reverse_name = "" if pointer in _UNKNOWN or pointer[:1] == "[" else pointer


def _is_specific(address: str) -> bool:
    """Not the address of any interface."""
    return address not in {"", "0.0.0.0", "::", "IPv6:::"}  # noqa: S104 - compared, not bound


def tls_of(macros: Macros) -> Tls | None:
    """TLS between the client and the MTA. The certificate's name counts only where it was verified."""
    version = macros["tls_version"]
    if not version:
        return None
    bits = macros["cipher_bits"]
    # Postfix, which has no {verify}, tells the subject of a certificate that it trusts only.
    is_verified = macros["verify"] == "OK" or (not macros["verify"] and macros["v"].startswith("Postfix"))
    return Tls(
        version=version,
        cipher=macros["cipher"],
        bits=int(bits) if _PORT.fullmatch(bits) else 0,
        peer_subject=macros["cert_subject"] if is_verified else "",
        peer_issuer=macros["cert_issuer"] if is_verified else "",
    )


def helo_name(octets: bytes) -> str:
    """What the client said, whatever it was: the MTA has let it pass."""
    try:
        return parse_hello(octets)
    except SyntaxFault:
        return _UNPRINTABLE.sub("?", octets[:255].decode("latin-1"))


def path_of(octets: bytes, *, is_reverse: bool) -> Path:
    """A path as the MTA passes it on; what it has let pass is never refused here."""
    whole = octets if octets[:1] == b"<" else b"<" + octets + b">"
    try:
        found = parse_mail(b"FROM:" + whole, utf8=True) if is_reverse else parse_rcpt(b"TO:" + whole, utf8=True)
    except SyntaxFault:
        local, _, domain = whole.strip(b"<>").rpartition(b"@")
        return Path(whole, (local or domain).decode("utf-8", "replace"), domain.decode("utf-8", "replace") if local else "")
    return found.path


def parameters_of(words: tuple[bytes, ...]) -> tuple[Parameter, ...]:
    """Parameters of MAIL or RCPT, which the MTA has understood."""
    return tuple(Parameter(word) for word in words[:MAX_PARAMETERS] if word)
