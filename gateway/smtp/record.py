"""The decision record of a transaction in its JSON form, made once at the end from what the session knows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gateway.trace import milliseconds

if TYPE_CHECKING:
    from gateway.message import Message
    from gateway.session import Session, Tls
    from gateway.smtp.conversation import Refused
    from gateway.smtp.replies import Reply
    from gateway.trace import RecipientRecord, Record
    from gateway.transaction import Recipient, Transaction
    from gateway.verdict import Decision

Said = tuple[str, str, "Tls | None"]
"""What a session may have otherwise by the time the record of a transaction is made: the name of its EHLO, its identity, its TLS."""
_FATE_RANK: Final = {"vanished": 0, "passed": 1, "delivered": 2, "deferred": 3, "discarded": 4, "held": 5, "rejected": 6}
_FATES: Final = {2: "delivered", 4: "deferred", 5: "rejected"}
MAX_RESULTS: Final = 500
"""Characters of results in a log line."""
_QUEUE_ID: Final = re.compile(r"queued as ([0-9A-Za-z]{4,32})")


@dataclass(slots=True)
class Ending:
    """How a transaction ended."""

    reply: Reply | None = None
    """What the client was told at the end; None when it left."""
    decision: Decision | None = None
    """The verdict that ended the whole transaction, before there were recipients to decide on."""
    fates: Mapping[int, str] = field(default_factory=dict)
    """Fate by index in `transaction.recipients`; missing: the fate that the reply means."""
    next_hop: str = ""
    next_hop_reply: Reply | None = None
    message: Message | None = None
    size: int = 0


def queue_id(answer: Reply | None) -> str:
    """The next hop's queue ID, where its reply tells (`queued as …`)."""
    if answer is None or (len(answer.lines) == 1 and answer.lines[0].find(b"queued as ") < 0):
        return ""
    found = _QUEUE_ID.search(answer.text)
    return found[1] if found else ""


def fate_of(answer: Reply | None) -> str:
    """What a reply means for a recipient."""
    return "vanished" if answer is None else _FATES.get(answer.first, "deferred")


def said(session: Session) -> Said:
    """As it is now."""
    return session.helo, session.identity, session.tls


def build(
    transaction: Transaction,
    ending: Ending,
    refused: list[Refused],
    *,
    generation: str,
    now: float,
    by: Said | None = None,
) -> Record:
    """The record. The strongest fate becomes its verdict, with the plugin and reason behind it.

    `by`: what the session had said when the transaction ended, where that is a while ago.
    Recipients refused at RCPT count only where none was accepted: a message that arrived is no rejected one for a typo.
    """
    rows = [_accepted(recipient, index, ending) for index, recipient in enumerate(transaction.recipients)]
    told, answered = ending.reply, ending.next_hop_reply
    if not rows and told is None and refused:
        told = refused[-1].reply
    counting = rows
    if refused:
        rows = rows + [_refused(one) for one in refused]
        counting = counting or rows
    verdict, plugin, reason = _strongest(counting, ending)
    session, message, trace = transaction.session, ending.message, transaction.trace
    helo, identity, tls = said(session) if by is None else by
    header = None if message is None else message.header
    reply = str(told) if told is not None else ""
    # A literal, and in this place: it is made for every message, and a function with a name for each value costs twice as much.
    return {
        "id": transaction.id,
        "session": session.id,
        "time": transaction.started,
        "duration_ms": milliseconds(now - transaction.started),
        "listener": session.listener,
        "client": session.client_address or _of_nobody(session),
        "helo": helo,
        "identity": identity,
        "tls": "" if tls is None else f"{tls.version} {tls.cipher}",
        "reverse_path": transaction.reverse_path.octets.decode("utf-8", "replace"),
        "parameters": [parameter.octets.decode("utf-8", "replace") for parameter in transaction.parameters],
        "recipients": rows,
        "message_id": "" if header is None else header.message_id,
        "subject": "" if header is None else header.subject[:500],
        "size": ending.size,
        "verdict": verdict,
        "plugin": plugin,
        "reason": reason,
        "reply": reply,
        "next_hop": ending.next_hop,
        "next_hop_reply": reply if answered is told else "" if answered is None else str(answered),
        "queue_id": "" if answered is None else queue_id(answered),
        "generation": generation,
        "steps": trace.step_records() if trace is not None and trace.steps else [],
        "steps_dropped": 0 if trace is None else trace.dropped,
    }


def results(record: Record) -> str:
    """What authentication came to, for the log line: `spf=pass dkim=fail,pass dmarc=pass`; the evidence is in the record."""
    found: dict[str, dict[str, None]] = {}
    for step in record["steps"]:
        for finding in step["findings"]:
            if "method" in finding and "result" in finding:
                found.setdefault(str(finding["method"]), {})[str(finding["result"])] = None
    return " ".join(f"{method}={','.join(each)}" for method, each in found.items())[:MAX_RESULTS]


def of_session(session: Session, decision: Decision | None, answer: Reply, *, generation: str, now: float) -> Record:
    """The record of a session that was refused before there was a transaction; it bears the session's identifier."""
    return {
        "id": session.id,
        "session": session.id,
        "time": session.started,
        "duration_ms": milliseconds(now - session.started),
        "listener": session.listener,
        "client": session.client_address or _of_nobody(session),
        "helo": session.helo,
        "identity": session.identity,
        "tls": "" if session.tls is None else f"{session.tls.version} {session.tls.cipher}",
        "reverse_path": "",
        "parameters": [],
        "recipients": [],
        "message_id": "",
        "subject": "",
        "size": 0,
        "verdict": fate_of(answer),
        "plugin": decision.plugin if decision is not None else "",
        "reason": decision.verdict.reason if decision is not None else "",
        "reply": str(answer),
        "next_hop": "",
        "next_hop_reply": "",
        "queue_id": "",
        "generation": generation,
        "steps": [],
        "steps_dropped": 0,
    }


def _of_nobody(session: Session) -> str:
    """What stands where a client has no address."""
    return "unix" if session.is_local else ""


def _accepted(recipient: Recipient, index: int, ending: Ending) -> RecipientRecord:
    path, sent = recipient.forward_path.octets, recipient.sent_path
    forward_path = path.decode("utf-8", "replace")
    answer = recipient.reply
    row: RecipientRecord = {
        "forward_path": forward_path,
        "sent_path": forward_path if sent == path else sent.decode("utf-8", "replace"),
        "route": recipient.route,
        "fate": ending.fates.get(index) or fate_of(ending.reply),
        "verdict": "",
        "plugin": "",
        "reason": "",
        "evidence": "",
        "reply": "" if answer is None else str(answer),
    }
    decision = recipient.decision or ending.decision
    if decision is not None:
        _explain(row, decision)
    return row


def _refused(one: Refused) -> RecipientRecord:
    row: RecipientRecord = {
        "forward_path": str(one.path),
        "sent_path": "",
        "route": one.route,
        "fate": fate_of(one.reply),
        "verdict": "",
        "plugin": "",
        "reason": one.reason,
        "evidence": "",
        "reply": str(one.reply),
    }
    if one.decision is not None:
        _explain(row, one.decision)
    return row


def _explain(row: RecipientRecord, decision: Decision) -> None:
    """Who decided on this recipient, and why."""
    verdict = decision.verdict
    row["verdict"] = type(verdict).__name__.lower()
    row["plugin"] = decision.plugin
    row["reason"] = verdict.reason
    row["evidence"] = verdict.evidence


def _strongest(rows: list[RecipientRecord], ending: Ending) -> tuple[str, str, str]:
    if not rows:
        decision = ending.decision
        behind = (decision.plugin, decision.verdict.reason) if decision is not None else ("", "")
        return (fate_of(ending.reply), *behind)
    best = rows[0]
    for row in rows:
        if row is not best and _FATE_RANK.get(row["fate"], 0) > _FATE_RANK.get(best["fate"], 0):
            best = row
    if best["fate"] in {"rejected", "deferred"} and best["verdict"] not in {"reject", "defer"}:
        reason = best["reason"] if not best["verdict"] else ""  # `next-hop`, `separate`, …: no plugin wanted it so
        return best["fate"], "", reason or ("next-hop" if ending.next_hop else "")
    return best["fate"], best["plugin"], best["reason"]
