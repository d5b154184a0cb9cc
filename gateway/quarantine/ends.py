"""The record of how a held copy ended: released, deleted by an operator, or discarded because its time had come.

Its id is `TRANSACTION.COPY`, so that `explain` finds it by the transaction.
"""

from __future__ import annotations

from gateway.quarantine.copies import Entry
from gateway.trace import RecipientRecord, Record


def record_of(
    entry: Entry, *, now: float, fate: str, reason: str, only: frozenset[int] | None = None, reply: str = "", next_hop: str = ""
) -> Record:
    """The decision record of an end. `only`: indexes of the recipients it is about; default: those not released before."""
    chosen = frozenset(range(len(entry.recipients))) - entry.released if only is None else only
    evidence = f"{entry.state} as {entry.id} in box {entry.box} by {entry.plugin or 'the gateway'}: {entry.reason}"
    return Record(
        id=f"{entry.transaction_id}.{entry.id}",
        session="",
        time=now,
        duration_ms=0.0,
        listener="",
        client=entry.fact("client"),
        helo=entry.fact("helo"),
        identity=entry.fact("identity"),
        tls="",
        reverse_path=entry.reverse_path.decode("utf-8", "replace"),
        parameters=[p.decode("utf-8", "replace") for p in entry.parameters],
        recipients=[
            RecipientRecord(
                forward_path=path.decode("utf-8", "replace"),
                sent_path=path.decode("utf-8", "replace"),
                route=route,
                fate=fate,
                verdict="",
                plugin="",
                reason=reason,
                evidence=evidence,
                reply=reply,
            )
            for index, (path, _, route) in enumerate(entry.recipients)
            if index in chosen
        ],
        message_id=entry.fact("message_id"),
        subject=entry.fact("subject"),
        size=entry.size,
        verdict=fate,
        plugin="",
        reason=reason,
        reply="",
        next_hop=next_hop,
        next_hop_reply=reply,
        queue_id="",
        generation="",
        steps=[],
        steps_dropped=0,
    )
