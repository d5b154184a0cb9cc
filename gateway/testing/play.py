"""Plays a dialogue (`gateway.testing.dialogue`) against a gateway in this process. RFC 5321 3.1, 4.2.

One loop goes down the file: what C and N say is written at once, what S and G must say is waited for.
"""

from __future__ import annotations

import asyncio
import re
import tomllib
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from gateway.config.addresses import socket_path
from gateway.config.models import Config
from gateway.dns.demo import ZONES as DEMO
from gateway.testing.dialogue import Dialogue, DialogueError, Line, literal, seconds, whole
from gateway.testing.in_process import InProcessGateway
from gateway.testing.wire import Party, PlayedNextHop, client_tls, connect, server_certificate, server_tls
from gateway.trace import Record

KEYWORDS = "PIPELINING, SIZE 50000000, 8BITMIME, SMTPUTF8, DSN, ENHANCEDSTATUSCODES"
HELLO = "EHLO client.example"
BASE = """
[server]
name = "mx.example.test"
[[listener]]
name = "mx"
bind = "127.0.0.1:0"
lenient_networks = []
[[route]]
name = "default"
domains = ["example.test"]
servers = ["{N}"]
"""
"""What the `config` of a dialogue is laid over: a stranger in front of one next hop, no plugins."""
LIMIT = 5.0
"""Seconds that anything is waited for."""

LINGER = 0.02
"""Seconds at the end in which something unexpected may still arrive."""

BY_HAND = frozenset({"by hand", "by hand in TLS"})
_WAITS = frozenset({"S", "G", "G2"})


async def play(dialogue: Dialogue, directory: Path) -> None:
    """Play it; the gateway's state goes below `directory`. DialogueError."""
    async with AsyncExitStack() as stack:
        played = _Played(dialogue, directory)
        for name in ("N", "N2"):
            how = dialogue.header.get("next-hop", KEYWORDS)
            keywords = None if how in BY_HAND else tuple(one.strip() for one in how.split(","))
            hop = PlayedNextHop(keywords, server_tls(directory) if how == "by hand in TLS" else None)
            played.hops[name] = await stack.enter_async_context(hop)
            hop.is_patient = "config-file" not in dialogue.header
            if how == "down":
                await hop.close()
        gateway, place = _gateway(dialogue, played.hops, directory)
        played.gateway = await stack.enter_async_context(gateway)
        played.client = await connect(place() if callable(place) else place)
        stack.callback(played.client.close)
        for hop in played.hops.values():  # before the gateway is closed: it would wait for a reply to its QUIT
            stack.push_async_callback(hop.close)
        await played.play()


def _gateway(
    dialogue: Dialogue, hops: dict[str, PlayedNextHop], directory: Path
) -> tuple[InProcessGateway, str | Callable[[], int]]:
    """The gateway, and where it listens, once it does."""
    if "config-file" not in dialogue.header:
        config = _config(dialogue, hops, directory)
        gateway = InProcessGateway(config, directory=directory)
        return gateway, socket_path(config.listener[0].bind) or gateway.port
    gateway = rehearsed(dialogue, hops["N"].address, directory)
    return gateway, partial(gateway.port, dialogue.header.get("listener", ""))


def rehearsed(dialogue: Dialogue, next_hop: str, directory: Path) -> InProcessGateway:
    """A gateway with the configuration that a dialogue names, all of whose links lead to this next hop."""
    from gateway.config.load import load
    from gateway.testing.rehearsal import ASSUMED_TLS, OneNextHop, PosedOrigin, posed_listening, without_sockets

    file = dialogue.file.parent.absolute() / dialogue.header["config-file"]
    loaded = load(file, environ={})
    over = tomllib.loads(dialogue.header.get("config", ""))
    config = without_sockets(Config.model_validate(laid_over(dict(loaded.data), over)))
    client = dialogue.header.get("client", "")
    tls = ASSUMED_TLS if dialogue.header.get("tls") else None
    pose = None if not client and tls is None else (lambda port: PosedOrigin(address=client or "127.0.0.1", port=port, tls=tls))
    hop = OneNextHop(next_hop)
    return InProcessGateway(
        config,
        directory=directory,
        base=loaded.directory,
        locate=loaded.locate,
        relay=hop.relay,
        accept=posed_listening(pose),
        zones=DEMO if config.dns.demo else None,
        logs_transactions=False,
    )


def _config(dialogue: Dialogue, hops: dict[str, PlayedNextHop], directory: Path) -> Config:
    over = dialogue.header.get("config", "")
    places = {name: hop.address for name, hop in hops.items()}
    places |= {f"{name}.port": hop.address.rpartition(":")[2] for name, hop in hops.items()}
    places["here"] = str(dialogue.file.parent.absolute())
    places["socket"] = f"unix:{directory}/socket"
    if "{certificate}" in over:
        certificate, key = server_certificate(directory)
        places |= {"certificate": str(certificate), "key": str(key)}

    def loaded(text: str) -> dict[str, Any]:
        for name, value in places.items():
            text = text.replace(f"{{{name}}}", value)
        return tomllib.loads(text)

    config = laid_over(loaded(BASE), loaded(over))
    plugins = dialogue.file.parent.absolute() / "plugins"
    if plugins.is_dir():
        config.setdefault("plugin_path", [str(plugins)])
    return Config.model_validate(config)


def laid_over(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Tables are merged; of a list of tables the first with the first, more are added."""
    result = dict(base)
    for name, value in over.items():
        mine = result.get(name)
        if isinstance(mine, dict) and isinstance(value, dict):
            result[name] = laid_over(mine, value)
        elif isinstance(mine, list) and isinstance(value, list) and mine and value and isinstance(mine[0], dict):
            result[name] = [laid_over(mine[0], value[0]), *value[1:]]
        else:
            result[name] = value
    return result


class _Played:
    """A dialogue under way."""

    client: Party
    gateway: InProcessGateway

    def __init__(self, dialogue: Dialogue, directory: Path) -> None:
        self.dialogue = dialogue
        self.directory = directory
        self.hops: dict[str, PlayedNextHop] = {}

    async def play(self) -> None:
        hello = self.dialogue.header.get("hello", HELLO)
        if hello != "by hand":
            await self._say_hello(hello)
        for line in self.dialogue.lines:
            try:
                async with asyncio.timeout(LIMIT + seconds(line)):
                    await self._do(line)
            except TimeoutError:
                raise self._wrong(line, f"nothing within {LIMIT:g} s") from None
        await asyncio.sleep(LINGER)
        self._nothing_left()

    async def _say_hello(self, hello: str) -> None:
        async with asyncio.timeout(LIMIT):
            for said, code in ((b"", "220 "), (hello.encode() + b"\r\n", "250 ")):
                self.client.say(said)
                await self._do(Line(0, "S", "*", code))

    async def _do(self, line: Line) -> None:
        if line.who == "=":
            await self._fact(line)
        elif line.who in _WAITS:
            await self._expect(line)
        elif line.how == "+" and line.text:
            await asyncio.sleep(seconds(line))
        elif line.who == "C":
            await self._act(line, self.client)
        elif line.how == "-":
            await self._hop(line).close()
        elif line.how == "+":
            await self._hop(line).listen()
        elif line.how == "^":
            await self._hop(line).link()
            self._hop(line).leave()
        else:
            await self._act(line, await self._hop(line).link())

    async def _act(self, line: Line, party: Party) -> None:
        match line.how:
            case ":":
                party.say(line.text.encode() + b"\r\n")
            case "!":
                party.say(literal(line, self.dialogue.file))
            case "^":
                party.close()
            case "%" if line.who == "C":
                await party.start_tls(client_tls())
            case "%":
                context = server_tls(self.directory)
                await party.start_tls(context, after=line.text.encode() + b"\r\n" if line.text else b"")
            case _:
                raise self._wrong(line, f"{line.who} cannot `{line.how}`")

    async def _expect(self, line: Line) -> None:
        if line.how == "^":
            party = self.client if line.who == "S" else await self._hop(line).link()
            got = await party.line()
            if got is not None:
                raise self._wrong(line, repr(got))
        elif line.how == "!":
            party = self.client if line.who == "S" else await self._hop(line).link()
            wanted = literal(line, self.dialogue.file)
            octets = await party.octets(len(wanted))
            if octets != wanted:
                raise self._wrong(line, repr(octets))
        elif line.how == "#":
            party = self.client if line.who == "S" else await self._hop(line).link()
            octets = await party.octets(int(line.text))
            if len(octets) != int(line.text):
                raise self._wrong(line, repr(octets))
        elif line.how == "*":
            while not (await self._next(line)).startswith(line.text):
                pass
        elif line.how in ":~":
            got = await self._next(line)
            pattern = whole(line.text) if line.how == ":" else line.text
            if not re.fullmatch(pattern, got, re.DOTALL):
                raise self._wrong(line, repr(got))
        else:
            raise self._wrong(line, f"{line.who} cannot `{line.how}`")

    async def _next(self, line: Line) -> str:
        if line.who != "S":
            return await self._hop(line).line()
        got = await self.client.line()
        if got is None:
            raise self._wrong(line, "the end of the connection")
        return got

    def _hop(self, line: Line) -> PlayedNextHop:
        return self.hops["N" + line.who[1:]]

    async def _fact(self, line: Line) -> None:
        """Most facts come a moment after the reply: they are waited for."""
        if line.how not in FACTS:
            raise self._wrong(line, f"no fact of that name; there are {', '.join(FACTS)}")
        deadline = asyncio.get_running_loop().time() + LIMIT / 5
        wanted = line.text[1:] if line.text.startswith("~") else re.escape(line.text)
        while not re.fullmatch(wanted, found := str(await FACTS[line.how](self))):
            if asyncio.get_running_loop().time() > deadline:
                raise self._wrong(line, found)
            await asyncio.sleep(0.01)

    def _nothing_left(self) -> None:
        last = Line(self.dialogue.lines[-1].number if self.dialogue.lines else 0, "", "", "the end")
        rest = self.client.unread()
        if rest:
            raise self._wrong(last, f"S: {rest!r}")
        for name, hop in self.hops.items():
            rest = re.sub(rb"(?:QUIT\r\n)+\Z", b"", hop.unread())  # of each link that has been closed
            if rest:
                raise self._wrong(last, f"G{name[1:]}: {rest!r}")

    def _wrong(self, line: Line, got: str) -> DialogueError:
        return DialogueError(f"{self.dialogue.file}:{line.number}: expected {line.who}{line.how} {line.text}, got {got}")


async def _copies(played: _Played, state: str) -> int:
    from gateway.quarantine import Query

    return len(await played.gateway.quarantine.search(Query(state=state)))


async def _of_records(played: _Played, count: Callable[[InProcessGateway], object]) -> object:
    return count(played.gateway)


def _count(count: Callable[[InProcessGateway], object]) -> Callable[[_Played], Coroutine[Any, Any, object]]:
    return lambda played: _of_records(played, count)


def _link(gateway: InProcessGateway) -> str:
    """How the last transaction's link was set up, by its trace."""
    steps = gateway.records[-1]["steps"] if gateway.records else []
    found = [step["evidence"].partition(": ")[2] for step in steps if (step["stage"], step["outcome"]) == ("relay", "link")]
    return found[-1].replace(" ", "_") if found else "none"


async def _connections(played: _Played) -> object:
    return played.hops["N"].connections


def _own_steps(record: Record) -> str:
    return ",".join(f"{step['stage']}.{step['outcome']}" for step in record["steps"] if not step["plugin"])


FACTS: dict[str, Callable[[_Played], Coroutine[Any, Any, object]]] = {
    "next_hop_connections": _connections,
    "held": lambda played: _copies(played, "held"),
    "kept": lambda played: _copies(played, "kept"),
    "pending": lambda played: _copies(played, "pending"),
    "transactions": _count(lambda gateway: len(gateway.records)),
    "discard_records": _count(lambda gateway: len(gateway.journal.discards)),
    "link": _count(_link),
    "verdict": _count(lambda gateway: gateway.records[-1]["verdict"] if gateway.records else "none"),
    "client": _count(lambda gateway: gateway.records[-1]["client"] if gateway.records else "none"),
    "reason": _count(lambda gateway: gateway.records[-1]["reason"] if gateway.records else "none"),
    "steps": _count(lambda gateway: _own_steps(gateway.records[-1]) if gateway.records else "none"),
    "fates": _count(
        lambda gateway: ",".join(row["fate"] for row in gateway.records[-1]["recipients"]) if gateway.records else ""
    ),
}
"""Connections to the next hop so far; copies in the quarantine by state; decision records; of the last one how its link was set up
(`_` for a space), its verdict, client's address, reason, the steps of the gateway itself, and the recipients' fates."""
