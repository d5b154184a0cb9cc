"""What a client is offered in the reply to EHLO: what every next hop has, and what the gateway does itself. RFC 5321 4.1.1.1.

Clients on equal terms have one offer in common, made when the first of them asks and again when a next hop offers something else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.relay.keyword_values import limits_of
from gateway.smtp.extensions import Offer, Terms
from gateway.smtp.extensions.limits import promised
from gateway.smtp.replies import clean
from gateway.smtp.sasl import passing

if TYPE_CHECKING:
    from gateway.relay import Capabilities
    from gateway.session import Session
    from gateway.smtp.extensions import Extension
    from gateway.smtp.site import Door


def known_offer(door: Door, session: Session) -> Offer | None:
    """The offer to this client now; None where a next hop has to be asked for it."""
    site, auth_route = door.site, door.auth_route
    own = None
    if auth_route:
        own = site.relay.capabilities(auth_route)
        if own is None:
            return None
    next_hops = own if own is not None and session.identity else site.known_in_common()
    return None if next_hops is None else _offer(door, session, next_hops, own)


async def offer(door: Door, session: Session) -> Offer:
    """The same; next hops that were never reached are asked."""
    site, auth_route = door.site, door.auth_route
    own = await site.learnt(auth_route) if auth_route else None
    next_hops = own if auth_route and session.identity else await site.common_capabilities()
    return _offer(door, session, next_hops, own)


def _offer(door: Door, session: Session, next_hops: Capabilities | None, own: Capabilities | None) -> Offer:
    """`own`: what the next hop offers that knows who may authenticate."""
    is_private = own is not None and door.is_private(session)
    kind = (session.tls is not None, session.may_introduce, session.identity != "", is_private)
    found = door.offers.get(kind)
    if found is None or found.terms.next_hops is not next_hops or found.own is not own:
        found = door.offers[kind] = _renewed(door, _terms(door, session, next_hops, own if is_private else None), own, found)
    return found


def _renewed(door: Door, terms: Terms, own: Capabilities | None, before: Offer | None) -> Offer:
    if before is not None and before.terms == terms:
        return Offer(terms=terms, own=own, extensions=before.extensions, lines=before.lines)
    extensions: dict[str, Extension] = {}
    lines = []
    for extension in door.site.extensions.all:
        line = extension.offer(terms)
        if line is not None:
            extensions[extension.keyword] = extension
            lines.append(clean(line.encode("ascii", "replace")))
    return Offer(terms=terms, own=own, extensions=extensions, lines=tuple(lines))


def _terms(door: Door, session: Session, next_hops: Capabilities | None, knows: Capabilities | None) -> Terms:
    """What extensions are offered on. `knows`: of the next hop at which this client may authenticate now."""
    site = door.site
    limits, several = site.limits, not site.only_route
    return Terms(
        next_hops=next_hops,
        message_size=limits.message_size,
        tls_ready=door.tls is not None and session.tls is None,
        answers_differ=door.answers_differ,
        auth=passing(knows.parameters("AUTH")) if knows is not None else (),
        passed_commands=door.config.passed_commands,
        own_commands=door.config.own_commands,
        may_introduce=session.may_introduce,
        under_tls=session.tls is not None,
        several_routes=several,
        domains=limits_of(next_hops.parameters("LIMITS")).get("RCPTDOMAINMAX", 0) if next_hops is not None else 0,
        limits=promised(next_hops, limits, several_routes=several),
    )
