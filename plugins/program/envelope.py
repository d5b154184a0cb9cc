"""The environment that a program gets: what is known of envelope and client, as text that is on one line, bounded, and ours to name."""

from __future__ import annotations

from collections.abc import Mapping

from gateway import Message, Transaction

FRONT = "MAILGATEWAY_"
MAX_VALUE = 1_000
"""Characters of one value."""
MAX_RECIPIENTS = 200
_ALWAYS = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}


def environment(transaction: Transaction, message: Message, own: Mapping[str, str]) -> dict[str, str]:
    """All of it; `own` is what the site adds. Nothing of the gateway's own environment is handed on."""
    session = transaction.session
    known = {
        "ID": transaction.id,
        "CLIENT_ADDRESS": session.client_address,
        "CLIENT_NAME": session.client_name,
        "CLIENT_CLASS": session.client_class.value,
        "HELO": session.helo,
        "IDENTITY": session.identity,
        "LISTENER": session.listener,
        "PROTOCOL": session.protocol,
        "TLS": session.tls.version if session.tls is not None else "",
        "REVERSE_PATH": transaction.reverse_path.mailbox,
        "RECIPIENT_COUNT": str(len(transaction.recipients)),
        "SIZE": str(message.size),
    }
    recipients = "\n".join(_clean(one.mailbox) for one in transaction.recipients[:MAX_RECIPIENTS])
    return {
        **_ALWAYS,
        **own,
        **{FRONT + name: _clean(value) for name, value in known.items()},
        f"{FRONT}RECIPIENTS": recipients,
    }


def _clean(text: str) -> str:
    """Without control characters, so that a line is a line; without what is no character, which no environment takes."""
    plain = "".join(c if c.isprintable() else "?" for c in text[:MAX_VALUE])
    return plain.encode("utf-8", "replace").decode()
