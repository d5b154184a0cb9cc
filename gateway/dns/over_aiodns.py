"""The other way to put a question: aiodns, which is c-ares in a thread of its own. Less CPU a question; c-ares shows less of the answer.

What it does not show: the AD bit, so nothing is authenticated; the SOA record of a negative answer, so absence is kept for a fixed
time; the strings of a TXT record, which come joined. Names that c-ares does not take (or cuts at a NUL) are not asked for: absent.
A malformed datagram ends a try, where `exchange` waits on; an answer that is cut even over TCP is believed. It keeps answers itself,
and is made to forget them.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import re
import time
from typing import Any

import aiodns
import pycares

from gateway.dns.answers import BadAnswerError, Reading
from gateway.dns.exchange import MAX_RECORDS, MAX_TCP, ExchangeError
from gateway.dns.servers import Server, shown

NEGATIVE_TTL = 60.0
"""Seconds that absence holds: what the SOA record says is not shown."""
CHANNEL_AGE = 60.0
"""Seconds that a channel is used: the address of a server given by name may change."""
_OTHER = "192.0.2.1"
"""RFC 5737: nobody's address. A list of servers that changes makes c-ares forget its answers; it cannot be told otherwise."""
_ASKED = re.compile(r"[a-z0-9_*/.-]*")
_TRIES = 4
_TRY = 1.0
"""Seconds of the first try; c-ares makes it shorter for a quick server, and doubles it each time. Our own limit is around it."""
_FLAGS = pycares.ARES_FLAG_EDNS | pycares.ARES_FLAG_NOSEARCH | pycares.ARES_FLAG_NOALIASES | pycares.ARES_FLAG_NOCHECKRESP
_CAUSES = {
    pycares.errno.ARES_ESERVFAIL: "servfail",
    pycares.errno.ARES_EREFUSED: "refused",
    pycares.errno.ARES_ETIMEOUT: "timeout",
    pycares.errno.ARES_ECONNREFUSED: "unreachable",
}
_WORDS = {"servfail": "SERVFAIL", "refused": "REFUSED", "timeout": "no answer"}


class _Channel:
    """One server's channel, closed when it is old and nobody waits for it."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.resolver = aiodns.DNSResolver([address], timeout=_TRY, tries=_TRIES, flags=_FLAGS, lookups="b")
        self.born = time.monotonic()
        self.waiting = 0
        self.retired = False

    async def query(self, name: str, kind: str) -> pycares.DNSResult:
        self.waiting += 1
        try:
            self.resolver.nameservers = [self._address, _OTHER]
            self.resolver.nameservers = [self._address]
            return await self.resolver.query_dns(name, kind)
        finally:
            self.waiting -= 1
            if self.retired and not self.waiting:
                await self.resolver.close()

    async def retire(self) -> None:
        self.retired = True
        if not self.waiting:
            await self.resolver.close()


class AiodnsBackend:
    """Implements `asking.Backend`."""

    def __init__(self) -> None:
        self._channels: dict[Server, _Channel] = {}

    async def ask(self, server: Server, name: str, kind: str, *, want_ad: bool) -> Reading:  # noqa: ARG002 - not to be had
        """UDP, TCP and servers without EDNS are c-ares's own business."""
        if not _ASKED.fullmatch(name):
            return _absent(exists=False)
        channel = await self._channel(server)
        try:
            result = await channel.query(name, kind)
        except aiodns.error.DNSError as error:
            return _failed(error)
        except (pycares.AresError, OSError) as error:
            raise ExchangeError(str(error)) from error
        return read(result, name, kind)

    async def close(self) -> None:
        """Ends what is under way."""
        channels = list(self._channels.values())
        self._channels.clear()
        for channel in channels:
            await channel.resolver.close()

    async def _channel(self, server: Server) -> _Channel:
        channel = self._channels.get(server)
        if channel is not None and time.monotonic() - channel.born < CHANNEL_AGE:
            return channel
        address = await _address(server)
        old = self._channels.get(server)
        if old is not channel and old is not None:
            return old  # somebody else made it meanwhile
        try:
            new = self._channels[server] = _Channel(shown((address, server[1])))
        except pycares.AresError as error:
            raise ExchangeError(str(error)) from error
        if channel is not None:
            await channel.retire()
        return new


async def _address(server: Server) -> str:
    """c-ares wants addresses; a name is looked up as the system does."""
    host, port = server
    try:
        ipaddress.ip_address(host)
    except ValueError:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port)
        except OSError as error:
            raise ExchangeError(str(error)) from error
        return str(found[0][4][0])
    return host


def _absent(*, exists: bool) -> Reading:
    return Reading(records=(), exists=exists, authenticated=False, ttl=NEGATIVE_TTL, canonical="", unfinished=False)


def _failed(error: aiodns.error.DNSError) -> Reading:
    """An absence is an answer; anything else is a failure."""
    number = error.args[0]
    if number in {pycares.errno.ARES_ENOTFOUND, pycares.errno.ARES_ENODATA, pycares.errno.ARES_EBADNAME}:
        return _absent(exists=number == pycares.errno.ARES_ENODATA)
    cause = _CAUSES.get(number, "answer")
    raise BadAnswerError(_WORDS.get(cause, str(error.args[-1])), cause) from error


def read(result: pycares.DNSResult, name: str, kind: str) -> Reading:
    """What the answer says of this name, at the end of its CNAME chain. BadAnswerError when it contradicts itself or is too large."""
    if len(result.answer) > MAX_RECORDS:
        raise BadAnswerError("no usable answer: too many records")
    at, ttl, canonical = _chain(result, name, kind)
    wanted = aiodns.query_type_map[kind]
    found = [one for one in result.answer if one.type == wanted and _key(one.name) == at]
    if found:
        records = tuple(_record(kind, one.data) for one in found)
        if kind == "TXT" and (octets := sum(len(record[0]) for record in records)) > MAX_TCP:
            raise BadAnswerError(f"an answer of {octets} octets")
        ttl = min(ttl, *(one.ttl for one in found))
        return Reading(records=records, exists=True, authenticated=False, ttl=ttl, canonical=canonical, unfinished=False)
    ends: list[Any] = [one for one in result.authority if one.type == pycares.QUERY_TYPE_SOA]
    ttl = min([ttl, *(min(one.ttl, one.data.minimum) for one in ends)])  # RFC 2308 5
    unfinished = bool(canonical) and not ends
    ttl = ttl if ends or unfinished else 0.0
    return Reading(records=(), exists=True, authenticated=False, ttl=ttl, canonical=canonical, unfinished=unfinished)


def _chain(result: pycares.DNSResult, name: str, kind: str) -> tuple[str, float, str]:
    """The name at the end of the CNAME chain, the least time to live on the way, and the name again if there is a chain."""
    ttl = math.inf
    if kind == "CNAME":
        return name, ttl, ""
    aliases: dict[str, Any] = {_key(one.name): one for one in result.answer if one.type == pycares.QUERY_TYPE_CNAME}
    at = name
    while (alias := aliases.pop(at, None)) is not None:
        ttl = min(ttl, alias.ttl)
        at = _key(alias.data.cname)
    if at == name and ttl < math.inf:
        raise BadAnswerError("CNAMEs in a circle")
    return at, ttl, "" if ttl == math.inf else at


def _key(name: str) -> str:
    return name.lower().removesuffix(".")


def _record(kind: str, data: Any) -> Any:
    match kind:
        case "A" | "AAAA":
            return data.addr
        case "MX":
            return data.priority, data.exchange.removesuffix(".") or "."
        case "TXT":
            return (data.data,)
        case "SOA":
            return data.mname.removesuffix(".")
        case "CNAME":
            return data.cname.removesuffix(".")
        case "NS":
            return data.nsdname.removesuffix(".")
        case _:
            return data.dname.removesuffix(".")
