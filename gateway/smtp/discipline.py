"""Line discipline of clients: who talks before the greeting, who pipelines where it is not allowed, who sends too slowly.

RFC 5321 3.1, 4.3.1; RFC 2920 3.1. The first two are findings, `early_talker` and `improper_pipelining`: noted once in a session,
and given to each of its transactions, where plugins and rules read them. What came is answered in order all the same, unless
the listener turns early talkers away. A PROXY header is no early talk: it was read before.
"""

from __future__ import annotations

import fcntl
import struct
import termios
from typing import TYPE_CHECKING

from gateway.findings import Fact
from gateway.smtp.replies import Reply

if TYPE_CHECKING:
    from asyncio import BaseTransport

    from gateway.smtp.conversation import Conversation
    from gateway.smtp.site import Door
    from gateway.transaction import Transaction

EARLY_TALKER = "early_talker"
IMPROPER_PIPELINING = "improper_pipelining"
ENDS_GROUP = frozenset({"EHLO", "HELO", "LHLO", "DATA", "AUTH", "VRFY", "EXPN", "TURN", "ETRN", "QUIT", "NOOP", "STARTTLS"})
"""Nothing may follow these before their reply (RFC 2920 3.1; AUTH and STARTTLS: RFC 4954 4, RFC 3207 4.2)."""
_NONE = bytes(struct.calcsize("@i"))
"""What FIONREAD tells of a socket with nothing to read."""


def octets_wait(door: Door, transport: BaseTransport | None) -> bool:
    """A client that was not greeted yet has sent what nobody has read. Under TLS the socket says nothing of use."""
    if transport is None or door.is_tls:
        return False
    sock = transport.get_extra_info("socket")
    number = -1 if sock is None else sock.fileno()
    return number >= 0 and fcntl.ioctl(number, termios.FIONREAD, _NONE) != _NONE


def turned_away(talk: Conversation) -> Reply | None:
    """The client talked before the greeting: noted, and the refusal where the listener wants one."""
    note(talk, EARLY_TALKER, value=True)
    match talk.door.config.early_talkers:
        case "reject":
            return talk.ours(554, "5.7.0", "You talked before the greeting")
        case "defer":
            return talk.ours(421, "4.7.0", "You talked before the greeting; try again later")
        case _:
            return None


def note(talk: Conversation, name: str, *, value: str | bool) -> None:
    """A finding about the client, once in a session."""
    session = talk.session
    if any(isinstance(found, Fact) and found.name == name for found in session.findings):
        return
    session.findings = (*session.findings, Fact(name=name, value=value))
    if talk.transaction is not None:
        hand_on(talk.transaction, session.findings[-1:])


def hand_on(transaction: Transaction, findings: tuple[Fact, ...]) -> None:
    """Findings about the client, for this transaction's hooks and its record."""
    transaction.findings.extend("", findings)
    if transaction.trace is not None:
        transaction.trace.step(stage="session", plugin="", outcome="finding", findings=findings)


class Pace:
    """How fast the content comes. Asked now and then; a content is judged from the second time on: the first is its grace."""

    __slots__ = ("_began", "_content", "_had", "_rate", "_window")

    def __init__(self, rate: int, window: float) -> None:
        self._rate = rate
        self._window = window
        self._content: object = None
        self._had = 0
        self._began = 0.0

    def is_too_slow(self, content: object, octets: int, now: float) -> bool:
        """Less than `rate` octets a second came over the last window of this content."""
        seconds = now - self._began
        if content is self._content and seconds < self._window:
            return False
        is_slow = content is self._content and octets - self._had < self._rate * seconds
        self._content, self._had, self._began = content, octets, now
        return is_slow
