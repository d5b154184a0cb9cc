"""What a Postfix tells of a client and a transaction in a request, as the values that hooks see. Pure; whatever it is, nothing is raised."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from gateway.policy.codec import PolicyFault, clean, shown
from gateway.session import Session, Tls
from gateway.smtp.grammar import SyntaxFault, parse_mail, parse_rcpt
from gateway.smtp.paths import NULL, Parameter, Path

Request = Mapping[str, str]
TRANSACTION = frozenset({"MAIL", "RCPT", "DATA", "END-OF-MESSAGE"})
"""States within a transaction."""
_UNKNOWN = frozenset({"", "unknown"})
_NUMBER = re.compile(r"[0-9]{1,15}")
_XTEXT = re.compile(r"\+([0-9A-F]{2})")  # RFC 3461 4
_MAX = 1024


def client_of(request: Request) -> tuple[str, ...]:
    """What stays the same as long as a client is connected: another value is another client."""
    port = request.get("client_port", "")
    # Postfix before 3.0 tells no port: there each message counts as a client of its own
    apart = "" if number(port) else request.get("instance", "")
    names = ("client_address", "server_address", "server_port", "reverse_client_name")
    return (port, apart, *(request.get(name, "") for name in names))


def fill_in(session: Session, request: Request) -> None:
    """Ends and names of the connection. What is not known stays empty: such a client is a stranger."""
    session.client_address = address_of(request.get("client_address", ""))
    session.is_local = False
    session.client_port = number(request.get("client_port", "")) & 0xFFFF if session.client_address else 0
    session.server_address = address_of(request.get("server_address", ""))
    session.server_port = number(request.get("server_port", "")) & 0xFFFF
    session.client_name = _name(request.get("client_name", "")) if session.client_address else ""
    session.client_reverse_name = _name(request.get("reverse_client_name", ""))


def greet(session: Session, request: Request) -> bool:
    """HELO name and TLS, where they are others than before: whether they were."""
    helo = clean(request.get("helo_name", ""))[:_MAX]
    tls = tls_of(request)
    session.esmtp = request.get("protocol_name", "ESMTP").upper() != "SMTP"
    if (helo, tls) == (session.helo, session.tls):
        return False
    session.helo, session.tls = helo, tls
    return bool(helo)


def tls_of(request: Request) -> Tls | None:
    """TLS between client and Postfix. A certificate is told of only where Postfix verified it."""
    version = request.get("encryption_protocol", "")
    if not version:
        return None
    subject = _xtext(request.get("ccert_subject", ""))
    issuer = _xtext(request.get("ccert_issuer", ""))
    return Tls(
        version=shown(version, 40),
        cipher=shown(request.get("encryption_cipher", ""), 80),
        bits=number(request.get("encryption_keysize", "")),
        peer_subject=f"CN={_escaped(subject)}" if subject else "",
        peer_issuer=f"CN={_escaped(issuer)}" if issuer else "",
        peer_fingerprint=shown(request.get("ccert_fingerprint", "").replace(":", "").lower(), 128) if subject else "",
    )


def path_of(mailbox: str, *, is_reverse: bool) -> Path:
    """A path as Postfix writes it, without angle brackets; what it has let pass is never refused here."""
    mailbox = clean(mailbox)[:_MAX]
    if not mailbox:
        return NULL
    octets = b"<" + mailbox.encode() + b">"
    try:
        return (parse_mail(b"FROM:" + octets, utf8=True) if is_reverse else parse_rcpt(b"TO:" + octets, utf8=True)).path
    except SyntaxFault:
        local, _, domain = mailbox.rpartition("@")
        return Path(octets, local or domain, domain if local else "")


def parameters_of(request: Request) -> tuple[Parameter, ...]:
    """Of MAIL only the size is told; and after AUTH, the AUTH parameter."""
    size = number(request.get("size", ""))
    return (Parameter(b"SIZE=%d" % size),) if size else ()


def state_of(request: Request) -> str:
    """`protocol_state`. PolicyFault for what is no request."""
    if request.get("request") != "smtpd_access_policy":
        raise PolicyFault(f"request={shown(request.get('request', ''), 40)!r} is not smtpd_access_policy")
    state = request.get("protocol_state", "")
    if not state:
        raise PolicyFault("a request without protocol_state")
    return "EHLO" if state == "HELO" else state


def address_of(text: str) -> str:
    """An IP address in its shortest form; `` for what is none."""
    text = text.removeprefix("IPv6:")
    try:
        return "" if "%" in text else str(ipaddress.ip_address(text))
    except ValueError:
        return ""


def number(text: str) -> int:
    """0 for what is none."""
    return int(text) if _NUMBER.fullmatch(text) else 0


def _name(text: str) -> str:
    text = text.rstrip(".")
    return "" if text in _UNKNOWN or text[:1] == "[" else shown(text, 255)


def _xtext(text: str) -> str:
    return shown(_XTEXT.sub(lambda found: chr(int(found[1], 16)), text), 255)


def _escaped(text: str) -> str:
    """RFC 4514 2.4, as far as it matters for reading it again."""
    return re.sub(r'([,+"\\<>;=])', r"\\\1", text)
