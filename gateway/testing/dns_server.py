"""A small recursive name server on loopback for tests: real UDP and TCP, answers from a table, misbehaviour on request (`dns_lies`).

`FakeResolver` is enough for the test of a plugin; this is for tests of a resolver, or of everything from the socket up.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from gateway.testing.dns import TEMPFAIL, FakeResolver
from gateway.testing.dns_lies import (
    CIRCLE,
    CUT_OFF,
    ENDLESS_CHAIN,
    HALF_CHAIN,
    HELD,
    MISBEHAVIOURS,
    NO_EDNS,
    ONLY_CUT,
    ONLY_GARBAGE,
    REFUSED,
    SERVFAIL,
    SILENT,
    TRUNCATED,
    WRONG_NAME,
    WRONG_SOURCE,
    circle,
    lie_about,
    other_name,
    strays,
)

T = TypeVar("T")


class StubDnsServer:
    """`async with StubDnsServer({"example.org": {"TXT": ["v=spf1 -all"]}}) as server: … server.address`.

    `zones` are those of `FakeResolver`; TEMPFAIL is answered by SERVFAIL. `misbehave` maps a name to one of the constants of
    `gateway.testing.dns_lies`, `delay` a name to the seconds its answers are late; `*.name` stands for all names below, `*` for all.
    `queries` lists (name, kind, `udp` or `tcp`) as they came. `held` queries wait for `release()`.

    Examples:
        >>> from gateway.config.models import DnsConfig
        >>> from gateway.dns import CachingResolver
        >>> async with StubDnsServer({"example.org": {"A": ["192.0.2.1"]}}) as server:
        ...     resolver = CachingResolver(DnsConfig(nameservers=(server.address,)))
        ...     print((await resolver.query("example.org", "A")).records)
        ...     await resolver.close()
        ('192.0.2.1',)
    """

    def __init__(
        self,
        zones: Mapping[str, Mapping[str, Any] | str] | None = None,
        *,
        misbehave: Mapping[str, str] | None = None,
        delay: Mapping[str, float] | None = None,
        ttl: int = 300,
        negative_ttl: int | None = 60,
        host: str = "127.0.0.1",
        authenticated: bool = False,
    ) -> None:
        self.host = host
        """Loopback address to listen at: `127.0.0.1`, or `::1`."""
        self.authenticated = authenticated
        """The AD bit in every answer."""
        self.ttl = ttl
        self.negative_ttl = negative_ttl
        """Seconds in the SOA record of a negative answer; None: no such record."""
        self.misbehave = {name.lower(): how for name, how in (misbehave or {}).items()}
        if wrong := set(self.misbehave.values()) - MISBEHAVIOURS:
            msg = f"unknown misbehaviour {sorted(wrong)}"
            raise ValueError(msg)
        self.delay = {name.lower(): seconds for name, seconds in (delay or {}).items()}
        self.queries: list[tuple[str, str, str]] = []
        self.address = ""
        self.held = 0
        """Queries that are HELD now."""
        self._released = asyncio.Event()
        self._came = asyncio.Event()
        self.use(zones or {})
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None

    def use(self, zones: Mapping[str, Mapping[str, Any] | str]) -> None:
        """Answer from another table from now on."""
        self._table = FakeResolver(zones)

    def release(self) -> None:
        """Answer what is HELD, and hold nothing more."""
        self._released.set()

    async def holds(self, count: int) -> None:
        """Until so many queries are HELD."""
        while self.held < count:
            self._came.clear()
            await self._came.wait()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for _ in range(20):  # the port that TCP got may be taken for UDP
            self._tcp = await asyncio.start_server(self._serve_tcp, self.host, 0)
            port = self._tcp.sockets[0].getsockname()[1]
            try:
                self._udp, _ = await loop.create_datagram_endpoint(lambda: _Ear(self), local_addr=(self.host, port))
            except OSError:
                self._tcp.close()
                continue
            self.address = f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"
            return self
        msg = "no port is free for both TCP and UDP"
        raise OSError(msg)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tcp is not None:
            await self._tcp.wait_closed()

    def datagram(self, wire: bytes, peer: Any) -> None:
        """A query over UDP."""
        task = asyncio.get_running_loop().create_task(self._answer_udp(wire, peer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer_udp(self, wire: bytes, peer: Any) -> None:
        if WRONG_SOURCE in self.misbehave.values():
            await self._spoof(wire, peer)
        for octets in await self._answers(wire, "udp"):
            if self._udp is not None and not self._udp.is_closing():
                self._udp.sendto(octets, peer)

    async def _spoof(self, wire: bytes, peer: Any) -> None:
        """A lie that could be an answer, from a port that was not asked."""
        query = dns.message.from_wire(wire)
        if _for_name(self.misbehave, _text(query)) != WRONG_SOURCE:
            return
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=(self.host, 0)
        )
        transport.sendto(lie_about(query).to_wire(), peer)
        transport.close()

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(OSError, EOFError):
            while True:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                query = await reader.readexactly(length)
                for octets in await self._answers(query, "tcp"):
                    writer.write(struct.pack("!H", 100 if len(octets) < 12 else len(octets)) + octets)  # 10 octets are CUT_OFF
                    if len(octets) < 12:
                        raise EOFError
                await writer.drain()
        self._writers.discard(writer)
        writer.close()

    async def _answers(self, wire: bytes, transport: str) -> list[bytes]:
        """The datagrams that answer a query, in order."""
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return []
        name, kind = _text(query), dns.rdatatype.to_text(query.question[0].rdtype)
        self.queries.append((name, kind, transport))
        how = _for_name(self.misbehave, name) or ""
        if (seconds := _for_name(self.delay, name)) is not None:
            await asyncio.sleep(seconds)
        if how == HELD and not self._released.is_set():
            await self._hold()
        if how in {SILENT, ONLY_GARBAGE}:
            return [] if how == SILENT else [b"\x00\x01garbage", wire[:2] + b"\xff" * 30]
        response = self._response(query, name, kind, how)
        limit = (query.payload if query.edns >= 0 else 512) if transport == "udp" else 65535
        octets = response.to_wire(max_size=65535)
        if how == ONLY_CUT or (transport == "udp" and (how in {TRUNCATED, CUT_OFF} or len(octets) > limit)):
            response = dns.message.make_response(query)
            response.flags |= dns.flags.TC
            octets = response.to_wire()
        if how == CUT_OFF and transport == "tcp":
            return [octets[:10]]
        return [*strays(query, octets, how), octets]

    async def _hold(self) -> None:
        self.held += 1
        self._came.set()
        try:
            await self._released.wait()
        finally:
            self.held -= 1

    def _response(self, query: dns.message.Message, name: str, kind: str, how: str) -> dns.message.Message:
        response = dns.message.make_response(query, recursion_available=True)
        if self.authenticated:
            response.flags |= dns.flags.AD
        if how in {SERVFAIL, REFUSED}:
            response.set_rcode(dns.rcode.SERVFAIL if how == SERVFAIL else dns.rcode.REFUSED)
            return response
        if how == NO_EDNS and query.edns >= 0:
            response = dns.message.make_response(query)
            response.use_edns(False)
            response.set_rcode(dns.rcode.FORMERR)
            return response
        if how in {WRONG_NAME, CIRCLE}:
            return other_name(query) if how == WRONG_NAME else circle(query)
        if how == ENDLESS_CHAIN:
            self._add(response, name, "CNAME", [f"x.{name}"])
            return response
        return self._from_table(response, name, kind, how)

    def _from_table(self, response: dns.message.Message, name: str, kind: str, how: str) -> dns.message.Message:
        entry: Any = self._table.zones.get(name)
        at, seen = name, {name}
        while isinstance(entry, Mapping) and entry.get("CNAME") and kind != "CNAME":
            target = str(entry["CNAME"][0]).lower().removesuffix(".")
            self._add(response, at, "CNAME", [target])
            if how == HALF_CHAIN:
                return response
            if target in seen:
                response.set_rcode(dns.rcode.SERVFAIL)
                return response
            seen.add(target)
            at, entry = target, self._table.zones.get(target)
        if entry == TEMPFAIL or (isinstance(entry, Mapping) and entry.get(kind) == TEMPFAIL):
            response.set_rcode(dns.rcode.SERVFAIL)
        elif isinstance(entry, Mapping) and entry.get(kind):
            self._add(response, at, kind, entry[kind])
        else:
            if entry is None and not any(other.endswith("." + at) for other in self._table.zones):
                response.set_rcode(dns.rcode.NXDOMAIN)
            if self.negative_ttl is not None:
                soa = f". . 1 3600 600 86400 {self.negative_ttl}"
                response.authority.append(dns.rrset.from_text(".", self.ttl, "IN", "SOA", soa))
        return response

    def _add(self, response: dns.message.Message, name: str, kind: str, values: Any) -> None:
        owner = dns.name.Name([*(label.encode("latin-1") for label in name.split(".")), b""])
        rrset = dns.rrset.RRset(owner, dns.rdataclass.IN, dns.rdatatype.from_text(kind))
        for value in values:
            rrset.add(_rdata(kind, value), self.ttl)
        response.answer.append(rrset)


def _text(query: dns.message.Message) -> str:
    """The name that is asked for, octet by octet, in lower case."""
    return ".".join(label.decode("latin-1") for label in query.question[0].name.labels if label).lower()


def _for_name(table: Mapping[str, T], name: str) -> T | None:
    """What is said of this name, else of the nearest `*.` above it, else of `*`."""
    if name in table:
        return table[name]
    rest = name
    while rest:
        _, _, rest = rest.partition(".")
        if f"*.{rest}" in table:
            return table[f"*.{rest}"]
    return table.get("*")


class _Ear(asyncio.DatagramProtocol):
    def __init__(self, server: StubDnsServer) -> None:
        self._server = server

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._server.datagram(data, addr)


def _rdata(kind: str, value: Any) -> dns.rdata.Rdata:
    """A record from its form in the table, octet by octet: texts are hostile on purpose."""
    if kind == "TXT":
        pieces = [value] if isinstance(value, str | bytes) else list(value) or [b""]
        octets = [piece.encode("utf-8") if isinstance(piece, str) else piece for piece in pieces]
        cut = [one[at : at + 255] for one in octets for at in range(0, max(len(one), 1), 255)]
        wire = b"".join(bytes([len(one)]) + one for one in cut)
        return dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.TXT, wire, 0, len(wire))
    if kind == "MX":
        preference, host = value
        wire = struct.pack("!H", preference) + (dns.name.from_text(host or ".").to_wire() or b"")
        return dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.MX, wire, 0, len(wire))
    text = str(value)
    if kind in {"CNAME", "NS", "PTR"}:
        text = text.removesuffix(".") + "."
    return dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(kind), text)
