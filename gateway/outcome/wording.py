"""Replies of the planner: RFC 5321 4.2, RFC 3463. One reply for several recipients names them."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.smtp.replies import Reply, clean, reply
from gateway.verdict import Defer, Reject

MAX_NAMED = 20
"""Recipients named in one reply."""


def ours(code: int, enhanced: str, text: str, transaction_id: str) -> Reply:
    """A reply of our own with the transaction's id, by which `explain` finds the decision."""
    return reply(code, enhanced, f"{text} ({transaction_id})" if transaction_id else text)


def refusal(verdict: Reject | Defer, transaction_id: str) -> Reply:
    """The reply that one recipient with this verdict gets."""
    return ours(verdict.code, verdict.enhanced, verdict.text, transaction_id)


def taken(transaction_id: str) -> Reply:
    """Accepted without a next hop: held, discarded or delivered by an earlier try. Tells nothing of which."""
    return ours(250, "2.0.0", "Ok", transaction_id)


def split(transaction_id: str) -> Reply:
    """RFC 5321 4.2.5: one reply cannot say it; the retry gets an answer for each class."""
    return ours(451, "4.5.3", "Recipients of this message need different answers, send it again", transaction_id)


def separate() -> Reply:
    """RFC 5321 4.5.3.1.10: this recipient in another transaction."""
    return reply(452, "4.5.3", "Send to this recipient in a transaction of its own")


def merged(named: Sequence[tuple[str, Reply]]) -> Reply:
    """One reply for several refusals of one class: the same when they are alike, else a line for each recipient."""
    first = named[0][1]
    if all(theirs == first for _, theirs in named):
        return first
    codes = {theirs.code for _, theirs in named}
    enhanced = {theirs.enhanced for _, theirs in named}
    code = first.code if len(codes) == 1 else first.first * 100 + 50 + (first.first == 4)
    front = first.enhanced if len(enhanced) == 1 and first.enhanced else f"{first.first}.0.0"
    lines = [_line(front, mailbox, theirs) for mailbox, theirs in named[:MAX_NAMED]]
    if len(named) > MAX_NAMED:
        lines.append(clean(f"{front} and {len(named) - MAX_NAMED} more".encode()))
    return Reply(code, tuple(lines))


def naming(named: Sequence[tuple[str, Reply]], others: int, transaction_id: str) -> Reply:
    """Nothing was sent: says for whom it is refused, so that a person can take them off the list."""
    told = merged(named)
    if len(told.lines) == 1:
        told = Reply(told.code, tuple(_line(told.enhanced or f"{told.first}.0.0", m, r) for m, r in named[:MAX_NAMED]))
    front = told.enhanced or f"{told.first}.0.0"
    last = f"{front} Nothing was sent to the other recipients ({others})"
    return Reply(told.code, (*told.lines, clean((f"{last} ({transaction_id})" if transaction_id else last).encode())))


def _line(front: str, mailbox: str, theirs: Reply) -> bytes:
    """`5.7.1 <mailbox>: text`, the enhanced code of the text itself left out."""
    text = theirs.lines[0] if theirs.lines else b""
    if theirs.enhanced:
        text = text[len(theirs.enhanced) :].lstrip()
    return clean(f"{front} <{mailbox}>: ".encode() + text)
