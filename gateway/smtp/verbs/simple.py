"""RSET, NOOP, HELP, STARTTLS, QUIT: RFC 5321 4.1.1.5 to 4.1.1.10, RFC 3207 4; BURL and TURN."""

from __future__ import annotations

from typing import Final

from gateway.smtp.conversation import Conversation
from gateway.smtp.protocol import Command
from gateway.smtp.replies import Reply, reply
from gateway.smtp.states import NEVER, SPOKEN
from gateway.smtp.transactions import abandon

_OK: Final = reply(250, "2.0.0", "Ok")
_BYE: Final = reply(221, "2.0.0", "Bye")


def rset(talk: Conversation, command: Command) -> Reply:
    """The transaction is void, here and at the next hop."""
    if command.argument:
        return talk.ours(501, "5.5.4", "Syntax: RSET")
    abandon(talk, why="rset")
    talk.forget_forwarded()
    return _OK


def noop(talk: Conversation, command: Command) -> Reply:
    """Nothing; an argument is allowed (RFC 5321 4.1.1.9)."""
    del talk, command
    return _OK


def never(talk: Conversation, command: Command) -> Reply:
    """BURL and TURN: never offered, and refused by name."""
    return talk.ours(502, "5.5.1", f"{command.verb} is not implemented")


def help_(talk: Conversation, command: Command) -> Reply:
    """The verbs there are."""
    del command
    return reply(214, "2.0.0", "Verbs: " + " ".join(sorted(SPOKEN[talk.session.protocol] - NEVER)))


def starttls(talk: Conversation, command: Command) -> Reply:
    """The answer to STARTTLS; the server does the handshake after a 220."""
    if command.argument:
        return talk.ours(501, "5.5.4", "Syntax: STARTTLS")
    if talk.door.tls is None:
        return talk.ours(502, "5.5.1", "STARTTLS is not offered")
    if talk.session.tls is not None:
        return talk.ours(503, "5.5.1", "TLS is active already")
    return reply(220, "2.0.0", "Ready to start TLS")


def quit_(talk: Conversation, command: Command) -> Reply:
    """The end."""
    del command
    if talk.transaction is not None:
        abandon(talk, why="quit")
    return _BYE
