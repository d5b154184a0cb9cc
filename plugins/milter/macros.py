"""The macros that a milter is told: those it named (SETSYMLIST), else those of Sendmail's and Postfix's defaults."""

from __future__ import annotations

from dataclasses import dataclass

from gateway import Recipient, Session, Transaction
from gateway.milter.codec import Agreement, Macros, MacroStage

_STAGE = MacroStage
DEFAULTS: dict[MacroStage, tuple[str, ...]] = {
    _STAGE.CONNECT: ("j", "_", "v", "{daemon_name}", "{daemon_addr}", "{if_name}", "{if_addr}"),
    _STAGE.HELO: ("{tls_version}", "{cipher}", "{cipher_bits}", "{cert_subject}", "{cert_issuer}", "{verify}"),
    _STAGE.MAIL: ("i", "{auth_type}", "{auth_authen}", "{auth_author}", "{mail_mailer}", "{mail_host}", "{mail_addr}"),
    _STAGE.RCPT: ("i", "{rcpt_mailer}", "{rcpt_host}", "{rcpt_addr}"),
    _STAGE.DATA: ("i",),
    _STAGE.END_OF_HEADER: ("i",),
    _STAGE.END_OF_BODY: ("i", "{msg_id}"),
}
MAX_VALUE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What macros are made of at a stage."""

    server_name: str
    session: Session
    client_name: str = ""
    client_pointer: str = ""
    transaction: Transaction | None = None
    recipient: Recipient | None = None
    message_id: str = ""


def macros(stage: MacroStage, letter: bytes, known: Known, agreed: Agreement) -> Macros:
    """The packet that goes in front of a command; macros without a value are left out, as Postfix does."""
    named = agreed.macros(stage)
    wanted = DEFAULTS[stage] if named is None else tuple(name.decode("latin-1") for name in named)
    values = _values(known)
    found = []
    for name in wanted:
        value = values.get(name.strip("{}"), "")[:MAX_VALUE]
        if value:
            found.append((name.encode("latin-1"), value.replace("\0", "").encode()))
    return Macros(letter, tuple(found))


def _values(known: Known) -> dict[str, str]:
    """All there are, by name without braces."""
    session = known.session
    address = session.client_address
    tls = session.tls if session.proxy is None else session.proxy.tls or session.tls
    name = known.client_name
    values = {
        "j": known.server_name,
        "v": "mailgateway",
        "_": f"{name or 'unknown'} [{address}]" if address else "localhost",
        "r": "ESMTP" if session.esmtp else "SMTP",
        "s": session.helo,
        "daemon_name": session.listener,
        "daemon_addr": session.server_address,
        "daemon_port": str(session.server_port or ""),
        "if_name": known.server_name,
        "if_addr": session.server_address,
        "client_addr": address,
        "client_name": name or (f"[{address}]" if address else ""),
        "client_port": str(session.client_port or ""),
        "client_ptr": known.client_pointer or "unknown",
        "client_resolve": "OK" if name else "FORGED" if known.client_pointer else "FAIL",
        "auth_authen": session.identity,
        # which mechanism it was is between the client and the next hop; milters look whether there was one
        "auth_type": "AUTH" if session.identity else "",
        "verify": "NO" if tls is not None and not tls.peer_subject else "OK" if tls is not None else "",
    }
    if tls is not None:
        values |= {
            "tls_version": tls.version,
            "cipher": tls.cipher,
            "cipher_bits": str(tls.bits or ""),
            "cert_subject": tls.peer_subject,
            "cert_issuer": tls.peer_issuer,
        }
    if known.transaction is not None:
        values |= _envelope(known.transaction, known.recipient)
    values["msg_id"] = known.message_id
    return values


def _envelope(transaction: Transaction, recipient: Recipient | None) -> dict[str, str]:
    path, author = transaction.reverse_path, transaction.parameter("AUTH")
    values = {
        "i": transaction.id,
        "f": path.mailbox,
        "mail_mailer": "smtp",
        "mail_host": path.domain,
        "mail_addr": path.mailbox,
    }
    if author is not None and transaction.session.identity and author.value not in {None, "<>"}:
        values["auth_author"] = author.value or ""
    if recipient is not None:
        values |= {"rcpt_mailer": "smtp", "rcpt_host": recipient.domain, "rcpt_addr": recipient.mailbox}
    return values
