"""RSET, NOOP, VRFY, EXPN, HELP, STARTTLS, QUIT: RFC 5321 4.1.1.5 to 4.1.1.10, RFC 3207 4."""

from __future__ import annotations

from gateway.smtp.conversation import Conversation
from gateway.smtp.protocol import Command
from gateway.smtp.replies import Reply, reply
from gateway.smtp.states import SPOKEN
from gateway.smtp.transactions import abandon


def rset(talk: Conversation, command: Command) -> Reply:
    """The transaction is void, here and at the next hop."""
    if command.argument:
        return talk.ours(501, "5.5.4", "Syntax: RSET")
    abandon(talk, why="rset")
    return reply(250, "2.0.0", "Ok")


def noop(talk: Conversation, command: Command) -> Reply:
    """Nothing; an argument is allowed (RFC 5321 4.1.1.9)."""
    del talk, command
    return reply(250, "2.0.0", "Ok")


def vrfy(talk: Conversation, command: Command) -> Reply:
    """Neither yes nor no (RFC 5321 3.5.3): users are not told to strangers."""
    if not command.argument:
        return talk.ours(501, "5.5.4", "Syntax: VRFY address")
    return reply(252, "2.5.2", "Cannot VRFY user; send a message to find out")


def expn(talk: Conversation, command: Command) -> Reply:
    """Lists are not told."""
    del command
    return talk.ours(502, "5.5.1", "EXPN is not implemented")


def help_(talk: Conversation, command: Command) -> Reply:
    """The verbs there are."""
    del command
    return reply(214, "2.0.0", "Verbs: " + " ".join(sorted(SPOKEN[talk.session.protocol])))


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
    abandon(talk, why="quit")
    return reply(221, "2.0.0", "Bye")
