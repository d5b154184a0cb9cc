"""`mailgateway check MESSAGE`: the chain on a file, without a network: the first tool of a plugin author."""

from __future__ import annotations

import asyncio
import ipaddress
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli import terminal
from gateway.cli.config import ConfigOption, exit_with, load_or_exit

if TYPE_CHECKING:
    from gateway.config.load import Loaded
    from gateway.config.models import ListenerConfig
    from gateway.content import Content
    from gateway.generation import Generation
    from gateway.offline import Walk
    from gateway.session import Session
    from gateway.trace import Record
    from gateway.transaction import Transaction


def check(
    message: Annotated[Path, typer.Argument(metavar="MESSAGE", help="A file with one message; - for standard input.")],
    *,
    ip: Annotated[str, typer.Option(help="Address of the client.")] = "192.0.2.1",
    helo: Annotated[str, typer.Option(help="Its name in EHLO.")] = "client.example",
    from_: Annotated[str, typer.Option("--from", help="Reverse-path; empty: the null reverse-path.")] = "",
    to: Annotated[list[str] | None, typer.Option(help="Recipient; may be given several times.")] = None,
    identity: Annotated[str, typer.Option(help="Authenticated as.")] = "",
    listener: Annotated[str, typer.Option(help="Whose chain; default: the first listener's.")] = "",
    config: ConfigOption = None,
) -> None:
    """Run the chain on a message and print the decision with evidence and timings. Nothing is sent, held or recorded.

    DNS is asked as configured; the plugins' store is empty and forgotten afterwards.
    """
    loaded = load_or_exit(config)
    chosen = _listener(loaded, listener)
    octets = _read(message, loaded.config.limits.message_size)
    content, said = _normalise(octets)
    if said:
        typer.echo(said, err=True)
    session = _session(chosen, ip, helo, identity)
    transaction = _transaction(session, loaded, from_, to or ["postmaster@localhost"])
    from gateway.errors import ConfigError, PluginError

    try:
        record = asyncio.run(_run(loaded, chosen, transaction, content))
    except ConfigError as error:
        exit_with(error)
        raise
    except PluginError as error:
        terminal.fail(error)
    from gateway.cli.tree import render

    terminal.console().print(render(record))


def _listener(loaded: Loaded, name: str) -> ListenerConfig:
    for one in loaded.config.listener:
        if name in {"", one.name}:
            return one
    names = ", ".join(one.name for one in loaded.config.listener)
    raise typer.BadParameter(f"no listener {name!r}; there are: {names}", param_hint="--listener")


def _read(file: Path, limit: int) -> bytes:
    try:
        if str(file) == "-":
            octets = sys.stdin.buffer.read(limit + 1)
        else:
            with file.open("rb") as opened:
                octets = opened.read(limit + 1)
    except OSError as error:
        terminal.fail(f"{file}: {error.strerror}")
    if len(octets) > limit:
        terminal.fail(f"{file}: larger than limits.message_size ({limit} octets)")
    return octets


def _normalise(octets: bytes) -> tuple[Content, str]:
    """The content with CRLF, and what to say about it."""
    from gateway.content import Content
    from gateway.smtp.dotstream import normalised

    ends = octets.count(b"\r\n")
    bare = octets.count(b"\n") + octets.count(b"\r") - 2 * ends
    if not bare:
        return Content(octets), ""
    return Content(normalised(octets), was_normalised=True), f"{bare} bare LF or CR in the file were taken as line ends (CRLF)"


def _session(listener: ListenerConfig, address: str, helo: str, identity: str) -> Session:
    from gateway.session import ClientClass, Session
    from gateway.smtp.relaying import contains, networks

    try:
        client = str(ipaddress.ip_address(address))
    except ValueError as error:
        raise typer.BadParameter(f"{address!r} is not an IP address", param_hint="--ip") from error
    known = ClientClass.TRUSTED if contains(networks(listener.trusted_networks), client) else ClientClass.STRANGER
    return Session(
        id="check",
        listener=listener.name,
        client_address=client,
        helo=helo,
        esmtp=True,
        identity=identity,
        client_class=ClientClass.AUTHENTICATED if identity else known,
        started=time.time(),
    )


def _transaction(session: Session, loaded: Loaded, reverse_path: str, mailboxes: list[str]) -> Transaction:
    from gateway.config.route_map import RouteMap, read_map
    from gateway.dns.names import canonical
    from gateway.relay import RouteTable
    from gateway.smtp import grammar
    from gateway.smtp.paths import Path as SmtpPath
    from gateway.transaction import Recipient, Transaction

    def parse(mailbox: str, option: str) -> SmtpPath:
        octets = b"<" + mailbox.strip("<>").encode() + b">"
        try:
            if option == "--from":
                return grammar.parse_mail(b"FROM:" + octets, utf8=True).path
            return grammar.parse_rcpt(b"TO:" + octets, utf8=True).path
        except grammar.SyntaxFault as fault:
            raise typer.BadParameter(f"{mailbox!r} is not a mailbox (RFC 5321 4.1.2)", param_hint=option) from fault

    routes = RouteTable(loaded.config.route)
    written = loaded.config.relay.map
    mapped = read_map(loaded.directory / written, [route.name for route in loaded.config.route]) if written else RouteMap()
    recipients = []
    for mailbox in mailboxes:
        path = parse(mailbox, "--to")
        route = routes.route_for(path.domain_key)
        name = mapped.target(path.local_part, canonical(path.domain) or path.domain_key) or (
            route.name if route is not None else ""
        )
        recipients.append(Recipient(forward_path=path, sent_path=path.octets, route=name))
    path = parse(reverse_path, "--from")
    return Transaction(
        id="check",
        session=session,
        reverse_path=path,
        sent_reverse_path=path.octets,
        recipients=recipients,
    )


async def _run(loaded: Loaded, listener: ListenerConfig, transaction: Transaction, content: Content) -> Record:
    from gateway.dns import CachingResolver
    from gateway.generation import Generation
    from gateway.message import Message
    from gateway.offline import walk
    from gateway.plugin_context import PluginContexts
    from gateway.testing import MemoryStore
    from gateway.trace import Trace

    contexts = PluginContexts(
        loaded.config, directory=loaded.directory, resolver=CachingResolver(loaded.config.dns), store=MemoryStore(time.time)
    )
    try:
        generation = await Generation.load(
            loaded.config, locate=loaded.locate, directory=loaded.directory, context_factory=contexts
        )
        await generation.startup()
        transaction.started, transaction.trace = time.time(), Trace()
        try:
            done = await walk(generation.chain(listener.name), transaction, Message(content))
        finally:
            await generation.shutdown()
    finally:
        await contexts.close()
    return _record(done, generation)


def _record(done: Walk, generation: Generation) -> Record:
    from gateway.offline import fate_of
    from gateway.outcome.wording import refusal
    from gateway.smtp.conversation import Refused
    from gateway.smtp.record import Ending, build
    from gateway.trace import Trace
    from gateway.verdict import Defer, Reject

    ending = Ending(
        fates={number: fate_of(one) for number, one in enumerate(done.transaction.recipients)},
        decision=done.refusal,
        message=done.message,
        size=done.message.size,
    )
    if done.refusal is not None and isinstance(done.refusal.verdict, Reject | Defer):
        ending.reply = refusal(done.refusal.verdict, "")
        ending.fates = {}
    refused = [
        Refused(path=one.forward_path, reply=refusal(one.decision.verdict, ""), decision=one.decision, route=one.route)
        for one in done.refused
        if one.decision is not None and isinstance(one.decision.verdict, Reject | Defer)
    ]
    record = build(done.transaction, ending, refused, generation=generation.id, now=time.time())
    own = done.session.state.get("trace")
    if isinstance(own, Trace):
        record["steps"] = [*own.step_records(), *record["steps"]]
    return record
