"""The decision record of a transaction in its JSON form, made once at the end from what the session knows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.trace import RecipientRecord, Record, Trace

if TYPE_CHECKING:
    from gateway.message import Message
    from gateway.session import Session
    from gateway.smtp.conversation import Refused
    from gateway.smtp.replies import Reply
    from gateway.transaction import Recipient, Transaction
    from gateway.verdict import Decision

_FATE_RANK = {"vanished": 0, "passed": 1, "delivered": 2, "deferred": 3, "discarded": 4, "held": 5, "rejected": 6}
MAX_RESULTS = 500
"""Characters of results in a log line."""
_QUEUE_ID = re.compile(r"queued as ([0-9A-Za-z]{4,32})")


@dataclass(slots=True, kw_only=True)
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
    found = _QUEUE_ID.search(answer.text) if answer is not None else None
    return found[1] if found else ""


def fate_of(answer: Reply | None) -> str:
    """What a reply means for a recipient."""
    if answer is None:
        return "vanished"
    return {2: "delivered", 4: "deferred", 5: "rejected"}.get(answer.first, "deferred")


def build(transaction: Transaction, ending: Ending, refused: list[Refused], *, generation: str, now: float) -> Record:
    """The record. The strongest fate becomes its verdict, with the plugin and reason behind it.

    Recipients refused at RCPT count only where none was accepted: a message that arrived is no rejected one for a typo.
    """
    trace = transaction.trace or Trace()
    accepted = [_accepted(recipient, index, ending) for index, recipient in enumerate(transaction.recipients)]
    rows = accepted + [_refused(one) for one in refused]
    verdict, plugin, reason = _strongest(accepted or rows, ending)
    message = ending.message
    record = _blank(transaction.session, id_=transaction.id, began=transaction.started, generation=generation, now=now)
    record["reverse_path"] = str(transaction.reverse_path)
    record["parameters"] = [parameter.octets.decode("utf-8", "replace") for parameter in transaction.parameters]
    record["recipients"] = rows
    if message is not None:
        record["message_id"] = message.message_id
        record["subject"] = message.subject[:500]
    record["size"] = ending.size
    record["verdict"], record["plugin"], record["reason"] = verdict, plugin, reason
    told = ending.reply or (refused[-1].reply if refused and not transaction.recipients else None)
    record["reply"] = str(told) if told is not None else ""
    record["next_hop"] = ending.next_hop
    record["next_hop_reply"] = str(ending.next_hop_reply) if ending.next_hop_reply is not None else ""
    record["queue_id"] = queue_id(ending.next_hop_reply)
    record["steps"] = trace.step_records()
    record["steps_dropped"] = trace.dropped
    return record


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
    record = _blank(session, id_=session.id, began=session.started, generation=generation, now=now)
    record["verdict"] = fate_of(answer)
    record["plugin"] = decision.plugin if decision is not None else ""
    record["reason"] = decision.verdict.reason if decision is not None else ""
    record["reply"] = str(answer)
    return record


def _blank(session: Session, *, id_: str, began: float, generation: str, now: float) -> Record:
    return Record(
        id=id_,
        session=session.id,
        time=began,
        duration_ms=round((now - began) * 1000, 3),
        listener=session.listener,
        client=session.client_address or ("unix" if session.is_local else ""),
        helo=session.helo,
        identity=session.identity,
        tls=f"{session.tls.version} {session.tls.cipher}" if session.tls is not None else "",
        reverse_path="",
        parameters=[],
        recipients=[],
        message_id="",
        subject="",
        size=0,
        verdict="",
        plugin="",
        reason="",
        reply="",
        next_hop="",
        next_hop_reply="",
        queue_id="",
        generation=generation,
        steps=[],
        steps_dropped=0,
    )


def _accepted(recipient: Recipient, index: int, ending: Ending) -> RecipientRecord:
    decision = recipient.decision or ending.decision
    return RecipientRecord(
        forward_path=str(recipient.forward_path),
        sent_path=recipient.sent_path.decode("utf-8", "replace"),
        route=recipient.route,
        fate=ending.fates.get(index) or fate_of(ending.reply),
        verdict=type(decision.verdict).__name__.lower() if decision is not None else "",
        plugin=decision.plugin if decision is not None else "",
        reason=decision.verdict.reason if decision is not None else "",
        evidence=decision.verdict.evidence if decision is not None else "",
        reply=str(recipient.reply) if recipient.reply is not None else "",
    )


def _refused(one: Refused) -> RecipientRecord:
    decision = one.decision
    return RecipientRecord(
        forward_path=str(one.path),
        sent_path="",
        route=one.route,
        fate=fate_of(one.reply),
        verdict=type(decision.verdict).__name__.lower() if decision is not None else "",
        plugin=decision.plugin if decision is not None else "",
        reason=decision.verdict.reason if decision is not None else one.reason,
        evidence=decision.verdict.evidence if decision is not None else "",
        reply=str(one.reply),
    )


def _strongest(rows: list[RecipientRecord], ending: Ending) -> tuple[str, str, str]:
    if not rows:
        decision = ending.decision
        behind = (decision.plugin, decision.verdict.reason) if decision is not None else ("", "")
        return (fate_of(ending.reply), *behind)
    best = max(rows, key=lambda row: _FATE_RANK.get(row["fate"], 0))
    if best["fate"] in {"rejected", "deferred"} and best["verdict"] not in {"reject", "defer"}:
        reason = best["reason"] if not best["verdict"] else ""  # `next-hop`, `separate`, …: no plugin wanted it so
        return best["fate"], "", reason or ("next-hop" if ending.next_hop else "")
    return best["fate"], best["plugin"], best["reason"]
