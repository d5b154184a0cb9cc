"""How the name server of tests misbehaves: one constant for each way, and the datagrams that liars send."""

from __future__ import annotations

import struct
from typing import Final

import dns.message
import dns.rrset

SILENT: Final = "silent"
"""No answer."""
HELD: Final = "held"
"""No answer before `release()`: slow, without a clock."""
SERVFAIL: Final = "servfail"
REFUSED: Final = "refused"
TRUNCATED: Final = "truncated"
"""Cut over UDP, whole over TCP."""
CUT_OFF: Final = "cut-off"
"""Cut over UDP; the TCP connection ends within the answer."""
ONLY_CUT: Final = "only-cut"
"""Cut over UDP and over TCP."""
WRONG_ID: Final = "wrong-id"
"""An answer with another id and other records first, then the right one."""
WRONG_QUESTION: Final = "wrong-question"
"""An answer to another question first, then the right one."""
WRONG_SOURCE: Final = "wrong-source"
"""An answer with the right id and other records from another port first, then the right one."""
WRONG_NAME: Final = "wrong-name"
"""Records of another name, in answer to the right question."""
GARBAGE: Final = "garbage"
"""Octets that are no message first, then the right answer."""
ONLY_GARBAGE: Final = "only-garbage"
"""Octets that are no message, and nothing else."""
NO_EDNS: Final = "no-edns"
"""FORMERR to a query with EDNS, as servers older than RFC 6891 give."""
HALF_CHAIN: Final = "half-chain"
"""A CNAME without what it leads to."""
CIRCLE: Final = "circle"
"""CNAMEs that lead back to the name, in one answer."""
ENDLESS_CHAIN: Final = "endless-chain"
"""A CNAME to a name below, which has one too."""
MISBEHAVIOURS: Final = frozenset(
    [
        SILENT, HELD, SERVFAIL, REFUSED, TRUNCATED, CUT_OFF, ONLY_CUT, WRONG_ID, WRONG_QUESTION, WRONG_SOURCE, WRONG_NAME, GARBAGE,
        ONLY_GARBAGE, NO_EDNS, HALF_CHAIN, CIRCLE, ENDLESS_CHAIN,
    ]
)  # fmt: skip
LIE: Final = "203.0.113.66"
"""The address in every wrong record."""


def lie_about(query: dns.message.Message) -> dns.message.Message:
    """An answer to the question with an address that is not the name's."""
    lie = dns.message.make_response(query)
    lie.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", LIE))
    return lie


def other_name(query: dns.message.Message) -> dns.message.Message:
    """An answer to the question with a record of a name that nobody asked for."""
    lie = dns.message.make_response(query)
    lie.answer.append(dns.rrset.from_text("other.example.", 60, "IN", "A", LIE))
    return lie


def circle(query: dns.message.Message) -> dns.message.Message:
    """The name is an alias of another one, and that one of the first."""
    name = query.question[0].name.to_text()
    lie = dns.message.make_response(query)
    lie.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", "round.example."))
    lie.answer.append(dns.rrset.from_text("round.example.", 60, "IN", "CNAME", name))
    return lie


def strays(query: dns.message.Message, octets: bytes, how: str) -> list[bytes]:
    """What comes before the right answer, from the right address."""
    if how == WRONG_ID:
        return [struct.pack("!H", query.id ^ 0x5555) + lie_about(query).to_wire()[2:]]
    if how == WRONG_QUESTION:
        other = dns.message.make_query("other.example.", query.question[0].rdtype, id=query.id)
        return [lie_about(other).to_wire()]
    if how == GARBAGE:
        return [b"", b"\x00", octets[:2] + b"\xff" * 40, octets[:-3]]
    return []
