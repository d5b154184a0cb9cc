"""EHLO and HELO: RFC 5321 4.1.1.1; LHLO: RFC 2033 4.1. What is offered is `offering`'s to say."""

from __future__ import annotations

from collections.abc import Coroutine
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gateway.smtp.conversation import NOT_OFFERED, Conversation
from gateway.smtp.grammar import SyntaxFault, parse_hello
from gateway.smtp.offering import known_offer, offer
from gateway.smtp.protocol import Command
from gateway.smtp.replies import Reply, clean
from gateway.smtp.transactions import abandon, refuse_session

if TYPE_CHECKING:
    from gateway.smtp.extensions import Offer


def hello(talk: Conversation, command: Command) -> Reply | Coroutine[Any, Any, Reply]:
    """EHLO and LHLO: the offer; HELO: no extensions. A transaction under way is void (RFC 5321 4.1.4).

    The reply is to be awaited where a plugin wants to see the name, or a next hop has to be asked what it offers.
    """
    try:
        name = parse_hello(command.argument)
    except SyntaxFault as fault:
        return talk.ours(fault.code, fault.enhanced, fault.text.replace("EHLO", command.verb))
    if talk.transaction is not None:
        abandon(talk, why="hello")
    session, door = talk.session, talk.door
    session.helo = talk.introduced.get("HELO") or name  # what XCLIENT said of the client stays
    session.esmtp = command.verb != "HELO"
    if talk.forwarded is not None:
        talk.forget_forwarded()
    if "helo" in door.chain.stages:
        return _asked(talk)
    found = known_offer(door, session)
    return _offered(talk, found) if found is not None else _learnt(talk)


@lru_cache(maxsize=8)
def _our_name(name: str) -> Reply:
    return Reply(250, (name.encode(),))


async def _asked(talk: Conversation) -> Reply:
    """What the plugins say to the name, before anything is offered."""
    decision = await talk.door.chain.helo(talk.session)
    if decision is not None:
        refused = talk.refused_by(decision)
        refuse_session(talk, decision, refused)
        return refused
    return await _learnt(talk)


async def _learnt(talk: Conversation) -> Reply:
    return _offered(talk, await offer(talk.door, talk.session))


def _offered(talk: Conversation, found: Offer) -> Reply:
    talk.terms = found.terms
    name = talk.door.site.server_name
    if not talk.session.esmtp:
        talk.offered = NOT_OFFERED
        return _our_name(name)
    talk.offered = found.extensions
    return Reply(250, (clean(f"{name} greets {talk.session.helo}".encode("ascii", "replace")), *found.lines))
