"""VRFY, EXPN and ETRN: RFC 5321 4.1.1.6, 4.1.1.7, RFC 1985 5. Answered here, or by the next hop, word for word."""

from __future__ import annotations

import re

from gateway.config.models import EtrnCommand
from gateway.errors import LinkError
from gateway.smtp.conversation import Conversation
from gateway.smtp.paths import Path
from gateway.smtp.protocol import Command
from gateway.smtp.queue_start import Outcome, start_queue
from gateway.smtp.replies import Reply, reply
from gateway.smtp.transactions import link_reply

_PRINTABLE = re.compile(rb"[ -~\x80-\xff]+")
_NODE = re.compile(rb"([@#]?)([A-Za-z0-9][A-Za-z0-9._-]{0,254})")  # RFC 1985 5.2


async def vrfy(talk: Conversation, command: Command) -> Reply:
    """Neither yes nor no (RFC 5321 3.5.3), unless the site has the next hop say."""
    if not command.argument:
        return talk.ours(501, "5.5.4", "Syntax: VRFY address")
    match talk.door.config.vrfy:
        case "local":
            return reply(252, "2.5.2", "Cannot VRFY user; send a message to find out")
        case "off":
            return talk.ours(502, "5.5.1", "VRFY is not implemented")
        case "next_hop":
            return await _ask_next_hop(talk, command)


async def expn(talk: Conversation, command: Command) -> Reply:
    """Lists are not told, unless the site has the next hop tell."""
    if talk.door.config.expn == "off":
        return talk.ours(502, "5.5.1", "EXPN is not implemented")
    if not command.argument:
        return talk.ours(501, "5.5.4", "Syntax: EXPN list")
    return await _ask_next_hop(talk, command)


async def etrn(talk: Conversation, command: Command) -> Reply:
    """A queue for a node is started, by the next hop or by a command of the site's."""
    how = talk.door.config.etrn
    if how == "off":
        return talk.ours(502, "5.5.1", "ETRN is not implemented")
    found = _NODE.fullmatch(command.argument)
    if found is None:
        return talk.ours(501, "5.5.4", "Syntax: ETRN domain")
    if not isinstance(how, EtrnCommand):
        return await _ask_next_hop(talk, command)
    node, domain = command.argument.decode("ascii"), found[2].decode("ascii")
    if found[1] and not how.takes_node:
        return talk.ours(501, "5.5.4", "Only domains by their own name are started here")
    if talk.door.site.routes.route_for(domain) is None:
        return talk.ours(459, "4.7.1", f"Node {domain} not allowed: it is not served here")  # RFC 1985 5.3
    match await start_queue(how, node=node, domain=domain):
        case Outcome.STARTED:
            return reply(250, "2.0.0", f"Queuing for node {domain} started")
        case Outcome.NOT_ALLOWED:
            return talk.ours(459, "4.7.1", f"Node {domain} not allowed")
        case Outcome.FAILED:
            return talk.ours(458, "4.3.0", f"Unable to queue messages for node {domain}")


async def _ask_next_hop(talk: Conversation, command: Command) -> Reply:
    """The next hop's reply, word for word; faults of the link are 451."""
    if not _PRINTABLE.fullmatch(command.argument):
        return talk.ours(501, "5.5.2", "Unprintable octets")
    route = _route(talk, command.argument)
    line = command.verb.encode() + b" " + command.argument
    try:
        answer = await talk.ask_next_hop(route, line)
    except LinkError as error:
        return link_reply(talk, error)
    if answer.first == 5 and command.verb == "VRFY":
        talk.session.unknown_recipients += 1  # the same bound for those who try names
    return talk.theirs(answer)


def _route(talk: Conversation, argument: bytes) -> str:
    """The route of the domain in the argument, else the listener's own."""
    site, listener = talk.door.site, talk.door.config
    word = argument.split(b" ")[0].strip(b"<>#").decode("utf-8", "replace")
    local_part, _, domain = word.rpartition("@")
    path = Path(argument, local_part, domain if "." in domain else "")
    found = site.routes.route_for(path.domain_key) if path.domain else None
    route = site.mapped(path) or (found.name if found is not None else "")
    if route:
        return site.relay.way(route, path.domain_key)
    return site.relay.way(listener.default_route or listener.auth_route or site.config.route[0].name, "")
