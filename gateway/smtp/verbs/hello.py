"""EHLO and HELO: RFC 5321 4.1.1.1; LHLO: RFC 2033 4.1. What is offered is what every next hop has, and what the gateway does itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.smtp.conversation import Conversation
from gateway.smtp.extensions import Offer
from gateway.smtp.grammar import SyntaxFault, parse_hello
from gateway.smtp.protocol import Command
from gateway.smtp.replies import Reply, clean
from gateway.smtp.transactions import abandon, refuse_session

if TYPE_CHECKING:
    from gateway.smtp.extensions import Terms
    from gateway.smtp.site import Door


async def ehlo(talk: Conversation, command: Command) -> Reply:
    """EHLO: the offer; a transaction under way is void (RFC 5321 4.1.4)."""
    refusal = await _greet(talk, command, esmtp=True)
    if refusal is not None:
        return refusal
    door = talk.door
    terms = await door.terms(talk.session)
    offer = door.offer
    if offer is None or offer.terms != terms:
        offer = door.offer = _offer(door, terms)
    talk.terms, talk.offered = offer.terms, offer.extensions
    greeting = clean(f"{door.site.config.server.name} greets {talk.session.helo}".encode("ascii", "replace"))
    return Reply(250, (greeting, *offer.lines))


def _offer(door: Door, terms: Terms) -> Offer:
    extensions, lines = {}, []
    for extension in door.site.extensions.all:
        line = extension.offer(terms)
        if line is not None:
            extensions[extension.keyword] = extension
            lines.append(clean(line.encode("ascii", "replace")))
    return Offer(terms=terms, extensions=extensions, lines=tuple(lines))


async def lhlo(talk: Conversation, command: Command) -> Reply:
    """LHLO: as EHLO, in LMTP."""
    return await ehlo(talk, command)


async def helo(talk: Conversation, command: Command) -> Reply:
    """HELO: no extensions."""
    refusal = await _greet(talk, command, esmtp=False)
    if refusal is not None:
        return refusal
    talk.terms = await talk.door.terms(talk.session)
    talk.offered = {}
    return Reply(250, (talk.door.site.config.server.name.encode(),))


async def _greet(talk: Conversation, command: Command, *, esmtp: bool) -> Reply | None:
    try:
        name = parse_hello(command.argument)
    except SyntaxFault as fault:
        return talk.ours(fault.code, fault.enhanced, fault.text.replace("EHLO", command.verb))
    abandon(talk, why="hello")
    talk.session.helo = talk.introduced.get("HELO") or name  # what XCLIENT said of the client stays
    talk.session.esmtp = esmtp
    talk.forget_forwarded()
    if "helo" in talk.door.chain.stages:
        decision = await talk.door.chain.helo(talk.session)
        if decision is not None:
            refused = talk.refused_by(decision)
            refuse_session(talk, decision, refused)
            return refused
    return None
