"""The trace field: one Received on top (RFC 5321 4.4, RFC 3848 and RFC 6531 4.3 for `with`), and the loop check (6.3)."""

from __future__ import annotations

import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.session import Session, Tls
    from gateway.transaction import Transaction

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._:\[\]-]+")
_UNPRINTED: Final = re.compile(r"""[^ !#-'*-\[\]-~]""")
"""What may not stand in a quoted name inside a comment."""
_FRONT: Final = "smtp.received"
MAX_OWN: Final = 5
"""Received fields of our own name in a message, more is a loop: forwarded mail may rightly pass us in and out."""


class _Front:
    """What the fields of a session have in common, and what it was made of: a session that keeps its connection writes many."""

    __slots__ = ("octets", "who")

    def __init__(self, who: tuple[str, str, Tls | None, str, bool, bool], octets: bytes) -> None:
        self.who = who
        self.octets = octets


def date(now: int) -> str:
    """RFC 5322 3.3 date in UTC, of a second since the epoch."""
    t = time.gmtime(now)
    return f"{_DAYS[t.tm_wday]}, {t.tm_mday} {_MONTHS[t.tm_mon - 1]} {t.tm_year} {t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} +0000"


@lru_cache(maxsize=2)
def _end(now: int) -> bytes:
    """The field from behind the transaction's identifier, or its recipient."""
    return f";\r\n\t{date(now)}\r\n".encode()


def protocol(session: Session, utf8: bool) -> str:
    """The word behind `with` (RFC 3848, RFC 6531)."""
    if not session.esmtp:
        return "SMTP"
    word = ("UTF8" if utf8 else "") + ("LMTP" if session.protocol == "lmtp" else "SMTP" if utf8 else "ESMTP")
    return word + ("S" if session.tls else "") + ("A" if session.identity else "")


def received(transaction: Transaction, server_name: str, now: float) -> bytes:
    """The field with its CRLF. Names from the network are cut to what a name may hold."""
    session = transaction.session
    utf8 = bool(transaction.parameters) and transaction.parameter("SMTPUTF8") is not None
    who = (session.helo, session.client_address, session.tls, session.identity, session.esmtp, utf8)
    front = session.state.get(_FRONT)
    if not isinstance(front, _Front) or front.who != who:
        front = session.state[_FRONT] = _Front(who, _front(session, server_name, utf8).encode())
    recipients = transaction.recipients
    if len(recipients) == 1:
        path = recipients[0].forward_path.octets
        if len(path) < 200 and path.isascii():
            return b"".join((front.octets, transaction.id.encode(), b"\r\n\tfor ", path, _end(int(now))))
    return b"".join((front.octets, transaction.id.encode(), _end(int(now))))


def _front(session: Session, server_name: str, utf8: bool) -> str:
    """The field up to the transaction's identifier."""
    helo = _UNSAFE.sub("?", session.helo)[:255] or "unknown"
    address = session.client_address
    literal = f"[IPv6:{address}]" if ":" in address else f"[{address or 'unknown'}]"
    if session.is_local:
        literal = "UNIX socket"  # RFC 5321 4.4 has no form for it: a comment, which nobody takes for an address
    tls = _tls(session.tls) if session.tls is not None else ""
    return f"Received: from {helo} ({literal}){tls}\r\n\tby {server_name} (mailgateway) with {protocol(session, utf8)} id "


def _tls(tls: Tls) -> str:
    """As Postfix writes it, in comments (RFC 5322 3.2.2): what reads its fields reads ours."""
    bits = f" ({tls.bits}/{tls.bits} bits)" if tls.bits else ""
    text = f"\r\n\t(using {tls.version} with cipher {tls.cipher}{bits})"
    if tls.peer_subject:
        subject, issuer = (_UNPRINTED.sub("?", name)[:200] for name in (tls.peer_subject, tls.peer_issuer))
        text += f'\r\n\t(Client "{subject}", Issuer "{issuer}" (verified OK))'
    return text


def hops(header: bytes, server_name: str) -> tuple[int, int]:
    """How many Received fields there are in a `HeaderSection.lowered`, and how many of our own."""
    count = header.count(b"\nreceived:")
    if not count or header.find(b" (mailgateway)") < 0:
        return count, 0
    return count, header.count(b"by " + server_name.lower().encode() + b" (mailgateway)")
