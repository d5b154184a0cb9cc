"""The attributes of a request: what a Postfix of today sends, as far as the gateway knows it (SMTPD_POLICY_README)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gateway import Recipient, Session, Tls, Transaction
from gateway.client_names import Names
from gateway.policy.codec import REQUEST

if TYPE_CHECKING:
    from gateway import Message

UNKNOWN = "unknown"
"""Postfix's word for a client without a name."""
_COMMON_NAME = re.compile(r"(?:^|,)CN=((?:\\.|[^,\\])*)", re.IGNORECASE)  # RFC 4514 3
_ESCAPED = re.compile(r"\\(.)")


def attributes(
    state: str,
    session: Session,
    transaction: Transaction | None,
    *,
    names: Names,
    context: str = "",
    recipient: Recipient | None = None,
    message: Message | None = None,
) -> dict[str, str]:
    """A request, in the order in which Postfix writes it."""
    helo = "EHLO" if session.esmtp else "HELO"
    return {
        "request": REQUEST,
        "protocol_state": helo if state == "EHLO" else state,
        "protocol_name": "LMTP" if session.protocol == "lmtp" else "ESMTP" if session.esmtp else "SMTP",
        "client_address": session.client_address or UNKNOWN,
        "client_name": names[0] or UNKNOWN,
        "client_port": str(session.client_port or ""),
        "reverse_client_name": names[1] or UNKNOWN,
        "server_address": session.server_address,
        "server_port": str(session.server_port or ""),
        "helo_name": session.helo,
        **_envelope(state, session, transaction, recipient, message),
        "etrn_domain": "",
        "stress": "",
        **_login(session, transaction),
        **_tls(session),
        "policy_context": context,
    }


def _envelope(
    state: str, session: Session, transaction: Transaction | None, recipient: Recipient | None, message: Message | None
) -> dict[str, str]:
    """Of a transaction; before MAIL all of it is empty. `recipient` at DATA and later: the only one, or none."""
    if transaction is None:
        return {
            "sender": "",
            "recipient": "",
            "recipient_count": "0",
            "queue_id": "",
            "instance": session.id,
            "size": "0",
        }
    told = recipient
    count = 0
    if state in {"DATA", "END-OF-MESSAGE"}:
        named = [one for one in transaction.recipients if not one.added]
        count = len(named)
        told = named[0] if count == 1 else None
    return {
        "sender": transaction.reverse_path.mailbox,
        "recipient": told.mailbox if told is not None else "",
        "recipient_count": str(count),
        "queue_id": transaction.id,
        "instance": transaction.id,
        "size": str(message.size if message is not None else transaction.declared_size or 0),
    }


def _login(session: Session, transaction: Transaction | None) -> dict[str, str]:
    """The mechanism is between client and next hop and not known here; `sasl_sender` is what AUTH= of MAIL says (RFC 4954 5)."""
    sender = transaction.parameter("AUTH") if transaction is not None and session.identity else None
    return {
        "sasl_method": "",
        "sasl_username": session.identity,
        "sasl_sender": (sender.value or "") if sender is not None and sender.value != "<>" else "",
    }


def _tls(session: Session) -> dict[str, str]:
    """Of the client's own TLS, wherever it ended."""
    tls = session.tls if session.proxy is None else session.proxy.tls or session.tls
    if tls is None:
        tls = Tls(version="", cipher="")
    digest = tls.peer_fingerprint.upper()
    return {
        "ccert_subject": _xtext(_common_name(tls.peer_subject)),
        "ccert_issuer": _xtext(_common_name(tls.peer_issuer)),
        "ccert_fingerprint": ":".join(digest[at : at + 2] for at in range(0, len(digest), 2)),
        "encryption_protocol": tls.version,
        "encryption_cipher": tls.cipher,
        "encryption_keysize": str(tls.bits),
    }


def _common_name(name: str) -> str:
    found = _COMMON_NAME.search(name)
    return _ESCAPED.sub(r"\1", found[1]) if found is not None else ""


def _xtext(text: str) -> str:
    """RFC 3461 4: as Postfix writes names of certificates, `+20` for a space."""
    return "".join(chr(o) if 33 <= o <= 126 and o not in {43, 61} else f"+{o:02X}" for o in text.encode())
