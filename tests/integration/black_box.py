"""The whole gateway from outside: who the client is by PROXY v2, the message over SMTP, DNS from a served zone, results at the next hop.

For suites of sender authentication: one real gateway process, one name server and one next hop of the test, whatever the number
of cases. The gateway keeps no answer of DNS, so the zones may change between cases:

    async with BlackBox(tmp_path, free_port) as box:
        box.serve({"example.org": {"TXT": ["v=spf1 -all"]}})
        arrived = await box.send(Mail(client="192.0.2.1", helo="mx.example.org", reverse_path="alice@example.org"))
        assert arrived.results("spf")[0].result == "fail"
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import ipaddress
import itertools
import re
import struct
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from gateway.smtp.proxy_header import SIGNATURE
from gateway.testing import StubDnsServer
from gateway.testing.next_hop import ScriptedNextHop
from tests.integration.gateway_process import running

AUTHSERV_ID = "black-box.test"
CHAIN = ("spf", "dkim", "dmarc", "arc", "authres")
"""Those of them that there are."""
CONTENT = b"From: Somebody <somebody@author.test>\r\nSubject: a case\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n\r\nHello.\r\n"
AT_ONCE = 12
"""Sessions."""
LIMIT = 20.0
"""Seconds for one session."""
_LISTENER = """
[[listener]]
name = "strict"
bind = "127.0.0.1:{port}"
trusted_proxies = ["127.0.0.1"]
trusted_xclient = ["0.0.0.0/0", "::/0"]
plugins = {chain}
"""
_TOKEN = re.compile(r'[^\s;"()]*"(?:[^"\\]|\\.)*"|\((?:[^()\\]|\\.)*\)|;|[^\s;]+')


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One message of one client."""

    client: str = "192.0.2.1"
    """Its address, told by PROXY v2."""
    helo: str = "client.test"
    reverse_path: str = ""
    """Without the angle brackets."""
    content: bytes = CONTENT
    """Line ends are CRLF; dots are stuffed on the way."""
    strict: bool = False
    """To the second listener, with its own chain."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One method's result in Authentication-Results (RFC 8601 2.2)."""

    method: str
    result: str
    properties: dict[str, str]


@dataclass(frozen=True, slots=True)
class Arrived:
    """What became of it."""

    reply: str
    """The last reply of the gateway, its lines joined by a space, codes of further lines left out."""
    content: bytes | None
    """At the next hop; None when the gateway refused."""
    fields: tuple[str, ...] = field(default=())
    """Bodies of the Authentication-Results fields that bear the gateway's name, unfolded."""

    def results(self, method: str, having: str = "") -> list[Clause]:
        """Of one method, with the property `having`, in the order of the field."""
        [body] = self.fields
        return [one for one in clauses(body) if one.method == method and (not having or having in one.properties)]


def clauses(body: str) -> list[Clause]:
    """Read an unfolded Authentication-Results body; comments are left out."""
    groups: list[list[str]] = [[]]
    for token in _TOKEN.findall(body):
        if token == ";":
            groups.append([])
        elif not token.startswith("("):
            groups[-1].append(token)
    found = []
    for group in groups[1:]:
        pairs = [word.partition("=")[::2] for word in group]
        values = {name: re.sub(r"\\(.)", r"\1", value.strip('"')) for name, value in pairs}
        if pairs and pairs[0][1]:
            found.append(Clause(*pairs[0], {name: values[name] for name in list(values)[1:]}))
    return found


def proxy_header(client: str) -> bytes:
    """Version 2 (proxy-protocol.txt 2.2)."""
    address = ipaddress.ip_address(client)
    other = ipaddress.ip_address("192.0.2.25" if address.version == 4 else "2001:db8::25")
    block = address.packed + other.packed + struct.pack("!HH", 4025, 25)
    return SIGNATURE + struct.pack("!BBH", 0x21, 0x11 if address.version == 4 else 0x21, len(block)) + block


def installed(names: Sequence[str]) -> list[str]:
    """Those of the plugins that are there."""
    known = {one.name for one in importlib.metadata.entry_points(group="mailgateway.plugins")}
    return [name for name in names if name in known]


class BlackBox:
    """The gateway and its surroundings, between `async with` and its end."""

    def __init__(
        self,
        folder: Path,
        free_port: Callable[[], int],
        *,
        chain: Sequence[str] = CHAIN,
        strict: Sequence[str] = (),
        options: str = "",
        dns: str = "cache_size = 0",
    ) -> None:
        """`options`: tables of the configuration, `dns`: lines of `[dns]`. `strict`: the chain of the second listener."""
        self._folder = folder / "black_box"
        self._port, self._strict_port, self._admin = free_port(), free_port(), free_port()
        self._chain = installed(chain)
        self._strict = list(strict)
        self._options = options
        self._dns = dns
        self.dns = StubDnsServer(ttl=0, negative_ttl=0)
        self.hop = ScriptedNextHop()
        self._numbers = itertools.count(1)
        self._seats = asyncio.Semaphore(AT_ONCE)
        self._undo = contextlib.AsyncExitStack()

    def serve(self, zones: Mapping[str, Mapping[str, Any] | str]) -> None:
        """What the name server knows from now on, in the form of `StubDnsServer`."""
        self.dns.use(zones)
        self.dns.queries.clear()

    async def send(self, mail: Mail) -> Arrived:
        """One session with one message, to the end of the last reply."""
        number = next(self._numbers)
        async with self._seats, asyncio.timeout(LIMIT), self._session(mail) as session:
            for command in (f"MAIL FROM:<{mail.reverse_path}>", f"RCPT TO:<case-{number}@inbox.test>", "DATA"):
                reply = await session.say(command.encode() + b"\r\n")
                if reply[0] not in "23":
                    return Arrived(reply, None)
            stuffed = mail.content.replace(b"\r\n.", b"\r\n..")
            stuffed = (b"." if stuffed.startswith(b".") else b"") + stuffed
            end = b".\r\n" if not stuffed or stuffed.endswith(b"\r\n") else b"\r\n.\r\n"
            reply = await session.say(stuffed + end)
        for taken in self.hop.transactions:
            if taken.paths == [b"<case-%d@inbox.test>" % number]:
                self.hop.transactions.remove(taken)
                return Arrived(reply, taken.content, tuple(_ours(taken.content)))
        return Arrived(reply, None)

    @contextlib.asynccontextmanager
    async def _session(self, mail: Mail) -> AsyncIterator[_Session]:
        """Greeted: by XCLIENT where the name cannot be said in EHLO (RFC 5321 4.1.1.1), as from a proxy that read it."""
        port = self._strict_port if mail.strict else self._port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        session = _Session(reader, writer)
        try:
            assert (await session.say(proxy_header(mail.client))).startswith("220 ")
            if " " in mail.helo:
                assert (await session.say(b"EHLO proxy.test\r\n")).startswith("250 ")
                xtext = "".join(c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in mail.helo)
                assert (await session.say(f"XCLIENT HELO={xtext}\r\n".encode())).startswith("220 ")
                assert (await session.say(b"EHLO proxy.test\r\n")).startswith("250 ")
            else:
                assert (await session.say(f"EHLO {mail.helo}\r\n".encode())).startswith("250 ")
            yield session
        finally:
            writer.close()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as undo:
            await undo.enter_async_context(self.dns)
            await undo.enter_async_context(self.hop)
            told = 'trusted_proxies = ["127.0.0.1"]\ntrusted_xclient = ["0.0.0.0/0", "::/0"]'
            more = f'[dns]\nnameservers = ["{self.dns.address}"]\n{self._dns}\n{self._options}\n'
            if self._strict:
                more += _LISTENER.format(port=self._strict_port, chain=self._strict)
            gateway = running(
                self._folder,
                smtp=self._port,
                admin=self._admin,
                workers=1,
                servers=[self.hop.address],
                chain=f"plugins = {self._chain}",
                server=f'authserv_id = "{AUTHSERV_ID}"',
                listener=told,
                more=more,
            )
            await asyncio.to_thread(gateway.__enter__)
            undo.push_async_callback(asyncio.to_thread, gateway.__exit__, None, None, None)
            self._undo = undo.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._undo.aclose()


@dataclass(slots=True)
class _Session:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, octets: bytes) -> str:
        """Send, and read one reply."""
        self.writer.write(octets)
        lines: list[str] = []
        while True:
            line = (await self.reader.readline()).decode("utf-8", "backslashreplace").rstrip("\r\n")
            assert line, f"the gateway closed after {octets[:100]!r}"
            lines.append(line[4:] if lines else line)
            if line[3:4] == " ":
                text = " ".join(lines)
                return f"{text[:3]} {text[4:]}"


def _ours(content: bytes) -> list[str]:
    head = content.partition(b"\r\n\r\n")[0].decode("utf-8", "backslashreplace")
    unfolded = re.sub(r"\r\n(?=[ \t])", "", head).split("\r\n")
    bodies = [line.partition(":")[2].strip() for line in unfolded if line.lower().startswith("authentication-results:")]
    return [body for body in bodies if body.partition(";")[0].strip() == AUTHSERV_ID]
