"""XCLIENT and XFORWARD: who the client is, from hosts that are believed (Postfix's XCLIENT_README, XFORWARD_README).

XCLIENT changes whom the gateway judges, so the session begins anew with a greeting. XFORWARD is for one transaction's record and for
the next hop, and changes nothing about trust. Who may say them was settled when the connection came: neither gives that away.
"""

from __future__ import annotations

from gateway.session import Forwarded, Proxy
from gateway.smtp.client_attributes import XCLIENT, XFORWARD, attributes
from gateway.smtp.conversation import Conversation
from gateway.smtp.grammar import SyntaxFault
from gateway.smtp.origin import Origin
from gateway.smtp.protocol import Command
from gateway.smtp.replies import Reply, reply

ANEW = Reply(220, ())
"""The server greets: what is said then is the greeting's to decide."""


def xclient(talk: Conversation, command: Command) -> Reply:
    """The client is somebody else."""
    told = _told(talk, command, XCLIENT)
    if isinstance(told, Reply):
        return told
    talk.unbind()
    known = talk.introduced = {**talk.introduced, **told}
    old = talk.session_before = talk.session
    if not talk.introducer:
        talk.introducer = Proxy(address=old.client_address, port=old.client_port)
    has_moved = "ADDR" in known
    origin = Origin(
        address=known.get("ADDR", old.client_address),
        port=int(known.get("PORT") or 0) if has_moved or "PORT" in known else old.client_port,
        server_address=known.get("DESTADDR", old.server_address),
        server_port=int(known.get("DESTPORT") or 0) if "DESTPORT" in known else old.server_port,
        proxy=talk.introducer,
    )
    talk.session = origin.session(talk.door, old.tls, identity=known.get("LOGIN", ""))
    talk.session.client_name = known.get("NAME", "")
    talk.session.client_reverse_name = known.get("REVERSE_NAME", "")
    talk.session.may_introduce = True
    return ANEW


def xforward(talk: Conversation, command: Command) -> Reply:
    """For the next transaction: who sent it to the host that sends it to us."""
    told = _told(talk, command, XFORWARD)
    if isinstance(told, Reply):
        return told
    known = talk.forwarded_attributes = {**talk.forwarded_attributes, **told}
    talk.forwarded = Forwarded(
        address=known.get("ADDR", ""),
        port=int(known.get("PORT") or 0),
        name=known.get("NAME", ""),
        helo=known.get("HELO", ""),
        protocol=known.get("PROTO", ""),
        ident=known.get("IDENT", ""),
        source=known.get("SOURCE", ""),
    )
    return reply(250, "2.0.0", "Ok")


def _told(talk: Conversation, command: Command, known: tuple[str, ...]) -> dict[str, str] | Reply:
    """What was said, or the refusal."""
    if not talk.session.may_introduce:
        return talk.ours(550, "5.7.0", "Not authorized to say who the client is")
    try:
        return attributes(command.verb, command.argument, known)
    except SyntaxFault as fault:
        return talk.ours(fault.code, fault.enhanced, fault.text)
