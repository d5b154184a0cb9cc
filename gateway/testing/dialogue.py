r"""SMTP conversations as text, played against a gateway in this process: client, gateway and next hop in one file.

    title: the next hop refuses one of two recipients
    rfc: 5321 3.3, 4.2.1
    ---
    C: MAIL FROM:<a@client.example>
    G: MAIL FROM:<a@client.example>
    N: 250 2.1.0 Ok
    S: 250 2.1.0 Ok
    = next_hop_connections 1

Who: `C` the client, `S` the gateway to the client, `G` the gateway to the next hop, `N` the next hop. `N2` and `G2` are a
second next hop. C and N are said, S and G are waited for, line by line and in the order of the file.

How: `:` the whole line (in S and G, `(ID)` stands for the identifier that the gateway's own replies end with) · `~` a regular
expression for the whole line · `*` lines are skipped up to one that begins so · `!` octets as a Python literal, nothing added;
`! "NOOP\r\n" * 3` says them three times · `^` close; `S^` and `G^`: the gateway has closed · `+ 0.2s` wait · `C%` the client
starts TLS · `N-` the next hop closes and listens no more · `N+` it listens again.

Facts, waited for as long as anything else: `= held 1`; see `FACTS`.

The header, `name: value` with further lines indented: `title`, `rfc`; `config`, TOML laid over `BASE`, where `{N}` and `{N2}` are
the next hops' addresses, `{certificate}` and `{key}` files for a listener's `tls`; `hello`, what the client says before the dialogue (`by hand`: nothing, the file begins with the
greeting); `next-hop`, the EHLO keywords it offers (`by hand`: the file plays greeting and EHLO, `down`: it does not listen).
Plugins are found in the folder `plugins` beside the file. What nobody has read at the end is a failure; QUIT to the next hop
need not be read.
"""

from __future__ import annotations

import ast
import asyncio
import re
import tomllib
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.config.models import Config
from gateway.testing.in_process import InProcessGateway
from gateway.testing.wire import Party, PlayedNextHop, client_tls, connect, server_certificate

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

_LINE = re.compile(r"(C|S|G2?|N2?)([:~*!^+%-])(?: (.*))?")
_FACT = re.compile(r"= (\w+) (\S+)")
_REPEATED = re.compile(r"(.*\S)\s*\*\s*(\d+)", re.DOTALL)
_WAITS = frozenset({"S", "G", "G2"})


class DialogueError(AssertionError):
    """A conversation went another way, or the file is no dialogue: `file:line: expected …, got …`."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a dialogue."""

    number: int
    who: str
    how: str
    text: str


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A file, read."""

    file: Path
    header: dict[str, str] = field(default_factory=dict)
    lines: tuple[Line, ...] = ()

    @property
    def title(self) -> str:
        """What it shows."""
        return self.header.get("title", self.file.stem)


def read(file: Path) -> Dialogue:
    """Read a dialogue. DialogueError names the line that is none."""
    header: dict[str, str] = {}
    lines: list[Line] = []
    name = ""
    in_header = True
    for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if in_header and text == "---":
            in_header = False
        elif in_header and text.startswith("  ") and name:
            header[name] += "\n" + text.strip()
        elif in_header:
            name, colon, value = text.partition(":")
            if not colon or name not in {"title", "rfc", "config", "hello", "next-hop"}:
                raise DialogueError(
                    f"{file}:{number}: expected `title:`, `rfc:`, `config:`, `hello:` or `next-hop:`, got {text!r}"
                )
            header[name] = value.strip()
        elif text and not text.startswith("#"):
            lines.append(_line(file, number, text))
    return Dialogue(file, header, tuple(lines))


def _line(file: Path, number: int, text: str) -> Line:
    fact = _FACT.fullmatch(text)
    if fact is not None and fact[1] in FACTS:
        return Line(number, "=", fact[1], fact[2])
    found = _LINE.fullmatch(text)
    if found is None:
        raise DialogueError(f"{file}:{number}: expected `C: …`, `S: …`, `= fact value`, got {text!r}")
    return Line(number, found[1], found[2], found[3] or "")


async def play(dialogue: Dialogue, directory: Path) -> None:
    """Play it; the gateway's state goes below `directory`. DialogueError."""
    async with AsyncExitStack() as stack:
        played = _Played(dialogue)
        for name in ("N", "N2"):
            how = dialogue.header.get("next-hop", KEYWORDS)
            hop = PlayedNextHop(None if how == "by hand" else tuple(one.strip() for one in how.split(",")))
            played.hops[name] = await stack.enter_async_context(hop)
            if how == "down":
                await hop.close()
        config = _config(dialogue, played.hops, directory)
        played.gateway = await stack.enter_async_context(InProcessGateway(config, directory=directory))
        played.client = await connect(played.gateway.port())
        stack.callback(played.client.close)
        for hop in played.hops.values():  # before the gateway is closed: it would wait for a reply to its QUIT
            stack.push_async_callback(hop.close)
        await played.play()


def _config(dialogue: Dialogue, hops: dict[str, PlayedNextHop], directory: Path) -> Config:
    over = dialogue.header.get("config", "")
    places = {name: hop.address for name, hop in hops.items()}
    if "{certificate}" in over:
        certificate, key = server_certificate(directory)
        places |= {"certificate": str(certificate), "key": str(key)}

    def loaded(text: str) -> dict[str, Any]:
        for name, value in places.items():
            text = text.replace(f"{{{name}}}", value)
        return tomllib.loads(text)

    config = _laid_over(loaded(BASE), loaded(over))
    plugins = dialogue.file.parent.absolute() / "plugins"
    if plugins.is_dir():
        config.setdefault("plugin_path", [str(plugins)])
    return Config.model_validate(config)


def _laid_over(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Tables are merged; of a list of tables the first with the first, more are added."""
    result = dict(base)
    for name, value in over.items():
        mine = result.get(name)
        if isinstance(mine, dict) and isinstance(value, dict):
            result[name] = _laid_over(mine, value)
        elif isinstance(mine, list) and isinstance(value, list) and mine and isinstance(mine[0], dict):
            result[name] = [_laid_over(mine[0], value[0]), *value[1:]]
        else:
            result[name] = value
    return result


class _Played:
    """A dialogue under way."""

    client: Party
    gateway: InProcessGateway

    def __init__(self, dialogue: Dialogue) -> None:
        self.dialogue = dialogue
        self.hops: dict[str, PlayedNextHop] = {}

    async def play(self) -> None:
        hello = self.dialogue.header.get("hello", HELLO)
        if hello != "by hand":
            await self._say_hello(hello)
        for line in self.dialogue.lines:
            try:
                async with asyncio.timeout(LIMIT + _seconds(line)):
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
            await asyncio.sleep(_seconds(line))
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
                party.say(_literal(line, self.dialogue.file))
            case "^":
                party.close()
            case "%":
                await party.start_tls(client_tls())
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
            wanted = _literal(line, self.dialogue.file)
            octets = await party.octets(len(wanted))
            if octets != wanted:
                raise self._wrong(line, repr(octets))
        elif line.how == "*":
            while not (await self._next(line)).startswith(line.text):
                pass
        elif line.how in ":~":
            got = await self._next(line)
            pattern = _whole(line.text) if line.how == ":" else line.text
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
        deadline = asyncio.get_running_loop().time() + LIMIT / 5
        while (found := str(await FACTS[line.how](self))) != line.text:
            if asyncio.get_running_loop().time() > deadline:
                raise self._wrong(line, found)
            await asyncio.sleep(0.01)

    def _nothing_left(self) -> None:
        last = Line(self.dialogue.lines[-1].number if self.dialogue.lines else 0, "", "", "the end")
        rest = self.client.unread()
        if rest:
            raise self._wrong(last, f"S: {rest!r}")
        for name, hop in self.hops.items():
            rest = hop.unread().removesuffix(b"QUIT\r\n")
            if rest:
                raise self._wrong(last, f"G{name[1:]}: {rest!r}")

    def _wrong(self, line: Line, got: str) -> DialogueError:
        return DialogueError(f"{self.dialogue.file}:{line.number}: expected {line.who}{line.how} {line.text}, got {got}")


def _whole(text: str) -> str:
    return re.escape(text).replace(r"\(ID\)", r"\([0-9A-Za-z.-]+\)")


def _seconds(line: Line) -> float:
    return float(line.text.removesuffix("s")) if line.how == "+" and line.text else 0.0


def _literal(line: Line, file: Path) -> bytes:
    """A Python literal of text or octets, perhaps many times."""
    repeated = _REPEATED.fullmatch(line.text)
    text, times = (repeated[1], int(repeated[2])) if repeated is not None else (line.text, 1)
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError) as error:
        raise DialogueError(f"{file}:{line.number}: expected a Python literal, got {line.text!r}: {error}") from None
    octets = value if isinstance(value, bytes) else str(value).encode()
    return octets * times


async def _copies(played: _Played, state: str) -> int:
    from gateway.quarantine import Query

    return len(await played.gateway.quarantine.search(Query(state=state)))


async def _of_records(played: _Played, count: Callable[[InProcessGateway], object]) -> object:
    return count(played.gateway)


def _count(count: Callable[[InProcessGateway], object]) -> Callable[[_Played], Coroutine[Any, Any, object]]:
    return lambda played: _of_records(played, count)


async def _connections(played: _Played) -> object:
    return played.hops["N"].connections


FACTS: dict[str, Callable[[_Played], Coroutine[Any, Any, object]]] = {
    "next_hop_connections": _connections,
    "held": lambda played: _copies(played, "held"),
    "kept": lambda played: _copies(played, "kept"),
    "pending": lambda played: _copies(played, "pending"),
    "transactions": _count(lambda gateway: len(gateway.records)),
    "discard_records": _count(lambda gateway: len(gateway.journal.discards)),
    "verdict": _count(lambda gateway: gateway.records[-1]["verdict"] if gateway.records else "none"),
    "reason": _count(lambda gateway: gateway.records[-1]["reason"] if gateway.records else "none"),
    "fates": _count(
        lambda gateway: ",".join(row["fate"] for row in gateway.records[-1]["recipients"]) if gateway.records else ""
    ),
}
"""Connections to the next hop so far; copies in the quarantine by state; decision records; of the last one its verdict, reason
and the recipients' fates."""
