"""The whole gateway in a test: a client on one side, a next hop on the other, real sockets at loopback, your plugins in between. RFC 5321 3."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import sys
import tempfile
import tomllib
import types
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gateway.config.models import Config
from gateway.context import Resolver
from gateway.message import Message
from gateway.plugin import Plugin
from gateway.smtp.border import prototype
from gateway.smtp.site import Door
from gateway.testing.builders import a_message
from gateway.testing.in_process import InProcessGateway
from gateway.testing.next_hop import ScriptedNextHop, Taken
from gateway.testing.play import laid_over
from gateway.testing.rehearsal import ASSUMED_TLS, PosedOrigin, PosedServer
from gateway.testing.script import parse_option
from gateway.testing.wire import Party
from gateway.trace import Record

LIMIT = 10.0
"""Seconds that a reply is waited for."""
_HOME = "mailgateway_end_to_end"
"""The module under whose name plugin classes of a test are found."""
BASE = """
[server]
name = "mx.example.test"
[[listener]]
name = "mx"
bind = "127.0.0.1:0"
[[route]]
name = "default"
domains = ["example.org"]
servers = ["{next_hop}"]
"""
"""What `config` is laid over; `{next_hop}` is the next hop's address there too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What came of one message.

    Examples:
        >>> async with EndToEnd() as mail:
        ...     sent = await mail.send(a_message(subject="Hello"), recipients=["bob@example.org"])
        >>> sent.reply, sent.fates, sent.taken[0].reverse_path
        ('250 2.0.0 Ok: queued as SCRIPTED', {'bob@example.org': 'delivered'}, b'<alice@client.example>')
    """

    replies: tuple[str, ...]
    """To MAIL, each RCPT, DATA and the final dot, as far as it got; of one with several lines the last."""
    record: Record | None
    """The decision, as `mailgateway explain` knows it; None when there was no transaction."""
    taken: tuple[Taken, ...]
    """What the next hop got of it."""

    @property
    def reply(self) -> str:
        """The last one."""
        return self.replies[-1] if self.replies else ""

    @property
    def code(self) -> int:
        """Of the last reply."""
        return int(self.reply[:3] or 0)

    @property
    def fates(self) -> dict[str, str]:
        """Of each recipient, by mailbox: `delivered`, `rejected`, `deferred`, `held`, `discarded`, `vanished`."""
        rows = self.record["recipients"] if self.record is not None else ()
        return {row["forward_path"].strip("<>"): row["fate"] for row in rows}

    def explain(self) -> str:
        """The decision as `mailgateway explain` prints it."""
        from gateway.testing.asserting import record_text

        return record_text(self.record) if self.record is not None else "no transaction\n"


class EndToEnd:
    """A gateway with these plugins between a client and a scripted next hop; strangers may write to example.org.

    `plugins`: names as in the configuration, or classes. `config`: TOML laid over that; `options`: of each plugin by name; `zones`: all
    of DNS; `next_hop`: what it says, as `mailgateway talk --answer`; `base`: where file names of the configuration begin; `directory`:
    for the state, default: one that goes with the end.

    Examples:
        >>> class NoExecutables(Plugin):
        ...     @hook
        ...     async def judge(self, message: Message) -> Verdict | None:
        ...         return quarantine("executable") if message.attachments else None
        >>> async with EndToEnd(plugins=[NoExecutables], next_hop=["RCPT TO:<eve@example.org>=550"]) as mail:
        ...     held = await mail.send(a_message(attach="run.exe"))
        ...     sent = await mail.send(a_message(), recipients=["bob@example.org", "eve@example.org"])
        ...     print(held.code, held.fates, sent.replies[2], sent.taken[0].paths)
        250 {'bob@example.org': 'held'} 550 5.1.1 No such user [b'<bob@example.org>']
    """

    def __init__(
        self,
        *,
        plugins: Sequence[str | type[Plugin[Any]]] = (),
        config: str = "",
        options: Mapping[str, Mapping[str, Any]] | None = None,
        zones: Mapping[str, Any] | None = None,
        next_hop: Sequence[str] = (),
        base: Path | None = None,
        directory: Path | None = None,
        resolver: Resolver | None = None,
        lmtp: bool = False,
    ) -> None:
        self._plugins = plugins
        self._config = config
        self._options = options or {}
        self._zones = dict(zones or {})
        self._base = base
        self._directory = directory
        self._resolver = resolver
        self._stack = AsyncExitStack()
        self._posed: dict[int, PosedOrigin] = {}
        self.next_hop = ScriptedNextHop(lmtp=lmtp)
        """The server behind: `next_hop.transactions`, `next_hop.script(…)`."""
        for one in next_hop:
            line = parse_option(one)
            self.next_hop.script(line.when, *line.answers)
        self.gateway: InProcessGateway
        """With `records`, `quarantine`, `port()`."""

    @property
    def port(self) -> int:
        """Of the gateway, at 127.0.0.1, for other clients (`smtplib`, swaks)."""
        return self.gateway.port()

    async def __aenter__(self) -> Self:
        stack = self._stack
        try:
            if self._directory is None:
                self._directory = Path(
                    stack.enter_context(tempfile.TemporaryDirectory(prefix="mailgateway-test-", dir=_memory()))
                )
            await stack.enter_async_context(self.next_hop)
            gateway = InProcessGateway(
                self._loaded(),
                directory=self._directory,
                base=self._base or self._directory,
                zones=self._zones,
                resolver=self._resolver,
                accept=self._accept,
                logs_transactions=False,
            )
            self.gateway = await stack.enter_async_context(gateway)
        except BaseException:
            await stack.aclose()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    async def send(
        self,
        message: Message | bytes | None = None,
        *,
        reverse_path: str = "alice@client.example",
        recipients: Sequence[str] = ("bob@example.org",),
        client_address: str = "127.0.0.1",
        helo: str = "client.example",
        tls: bool = False,
    ) -> Sent:
        """Send a message as any client does, and see what became of it. `tls`: the session counts as TLS."""
        octets = message if isinstance(message, bytes) else bytes((a_message() if message is None else message).octets)
        before = len(self.gateway.records), len(self.next_hop.transactions)
        async with self.client(client_address=client_address, tls=tls) as client:
            await client.reply()
            await client.ask(f"EHLO {helo}")
            replies = [await client.ask(f"MAIL FROM:<{reverse_path}>")]
            is_accepted = False
            for mailbox in recipients if replies[0][:1] == "2" else ():
                replies.append(await client.ask(f"RCPT TO:<{mailbox}>"))
                is_accepted = is_accepted or replies[-1][:1] == "2"
            if is_accepted:
                replies.append(await client.ask("DATA"))
                if replies[-1][:1] == "3":
                    client.party.say(_stuffed(octets) + b".\r\n")
                    replies.append(await client.reply())
            await client.ask("QUIT")
        await self.gateway.quiet()
        records = self.gateway.records[before[0] :]
        return Sent(
            replies=tuple(one for one in replies if one),
            record=records[-1] if records else None,
            taken=tuple(self.next_hop.transactions[before[1] :]),
        )

    async def talk(self, *lines: str, client_address: str = "127.0.0.1", tls: bool = False) -> list[str]:
        r"""Say these lines one after the other, and hear the reply to each, the greeting first; `` once the gateway has hung up.

        Content is said in one piece with its final dot: `"Subject: hi\r\n\r\nhi\r\n."`.
        """
        async with self.client(client_address=client_address, tls=tls) as client:
            replies = [await client.reply()]
            for line in lines:
                replies.append(await client.ask(line))  # noqa: PERF401 - one after the other
        await self.gateway.quiet()
        return replies

    @contextlib.asynccontextmanager
    async def client(self, *, client_address: str = "127.0.0.1", tls: bool = False) -> AsyncIterator[Client]:
        """A connection, from any address: what `send` and `talk` are made of."""
        with socket.socket() as own:
            own.setblocking(False)
            own.bind(("127.0.0.1", 0))
            port = int(own.getsockname()[1])
            if client_address != "127.0.0.1" or tls:
                address = str(ipaddress.ip_address(client_address))
                self._posed[port] = PosedOrigin(address=address, port=port, tls=ASSUMED_TLS if tls else None)
            await asyncio.get_running_loop().sock_connect(own, ("127.0.0.1", self.port))
            party = Party(*await asyncio.open_connection(sock=own))
            try:
                yield Client(party)
            finally:
                party.close()

    async def _accept(self, door: Door) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        shared = prototype(door, loop)
        return await loop.create_server(lambda: PosedServer(door, shared, self._pose), "127.0.0.1", 0)

    def _pose(self, port: int) -> PosedOrigin | None:
        return self._posed.pop(port, None)

    def _loaded(self) -> Config:
        over = tomllib.loads(self._config.replace("{next_hop}", self.next_hop.address))
        own = [one if isinstance(one, str) else {"name": one.__name__.lower(), "use": _published(one)} for one in self._plugins]
        base = tomllib.loads(BASE.replace("{next_hop}", self.next_hop.address))
        config = laid_over(base, over)
        config["plugins"] = [*config.get("plugins", []), *own]
        config["plugin"] = laid_over(config.get("plugin", {}), {name: dict(given) for name, given in self._options.items()})
        return Config.model_validate(config)


class Client:
    """A client's side of a connection of `EndToEnd.client`, line by line."""

    def __init__(self, party: Party) -> None:
        self.party = party

    async def ask(self, line: str) -> str:
        """Say a line and hear the reply; `` when the gateway has hung up."""
        self.party.say(line.encode() + b"\r\n")
        return await self.reply()

    async def reply(self) -> str:
        """The next reply; of one with several lines the last."""
        async with asyncio.timeout(LIMIT):
            while (line := await self.party.line()) is not None:
                if line[3:4] != "-":
                    return line
        return ""


def _memory() -> str | None:
    """A file system in memory, if there is one: what is synchronised to a disk costs more time there than all the rest."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None  # noqa: S108 - a directory with a random name is made in it


def _stuffed(octets: bytes) -> bytes:
    """RFC 5321 4.5.2."""
    stuffed = (b"\r\n" + octets).replace(b"\r\n.", b"\r\n..")[2:]
    return stuffed if stuffed.endswith(b"\r\n") else stuffed + b"\r\n"


def _published(kind: type[Plugin[Any]]) -> str:
    """A name by which a configuration finds a class of a test."""
    home = sys.modules.setdefault(_HOME, types.ModuleType(_HOME))
    attribute = f"{kind.__name__}_{id(kind):x}"
    setattr(home, attribute, kind)
    return f"{_HOME}:{attribute}"
