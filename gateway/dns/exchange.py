"""One question to one name server, over UDP and, where the answer is cut, TCP: RFC 1035 4.2, 7766.

The socket is connected, so that the kernel drops what others send; a datagram that is no answer to this very question (other id,
other question, garbage) is passed over and the wait goes on (RFC 5452 9.1). Nothing here knows of caches or retries.
"""

from __future__ import annotations

import asyncio
import struct

import dns.exception
import dns.flags
import dns.message

MAX_TCP = 32 * 1024
"""Octets of an answer over TCP; no record that mail asks for comes near."""
MAX_RECORDS = 1_000
"""Records in an answer; more cost more to parse than they are worth."""
_MAX_STRAYS = 100
"""Datagrams passed over before the question is given up: somebody is guessing ids."""


class ExchangeError(Exception):
    """No usable answer from this server: closed, unreachable, garbage, too large. `cause` is one of DnsError's."""

    def __init__(self, what: str, cause: str = "unreachable") -> None:
        super().__init__(what)
        self.cause = cause


def read_answer(wire: bytes, query: dns.message.Message) -> dns.message.Message | None:
    """The answer to `query` in these octets, or None when they are not one that can be used."""
    if len(wire) < 12 or wire[:2] != struct.pack("!H", query.id) or sum(struct.unpack_from("!3H", wire, 6)) > MAX_RECORDS:
        return None
    try:
        message = dns.message.from_wire(wire, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError, struct.error, IndexError):
        # A cut datagram may end in the middle of a record: what counts then is its header and question.
        if len(wire) > 3 and wire[2] & 0x02:
            return _cut(wire, query)
        return None
    return message if query.is_response(message) else None


def _cut(wire: bytes, query: dns.message.Message) -> dns.message.Message | None:
    try:
        message = dns.message.from_wire(wire, ignore_trailing=True, question_only=True)
    except (dns.exception.DNSException, ValueError, struct.error, IndexError):
        return None
    return message if query.is_response(message) else None


class _Ear(asyncio.DatagramProtocol):
    """Waits for the one datagram that answers."""

    def __init__(self, query: dns.message.Message) -> None:
        self._query = query
        self._strays = 0
        self.answer: asyncio.Future[dns.message.Message] = asyncio.get_running_loop().create_future()
        self.answer.add_done_callback(_seen)

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 - the socket is connected: only one peer
        if self.answer.done():
            return
        message = read_answer(data, self._query)
        if message is not None:
            self.answer.set_result(message)
            return
        self._strays += 1
        if self._strays >= _MAX_STRAYS:
            self.answer.set_exception(ExchangeError("too many answers to other questions", "answer"))

    def error_received(self, exc: Exception) -> None:
        self._fail(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ExchangeError("closed"))

    def _fail(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(ExchangeError(str(exc) or type(exc).__name__))


async def ask(server: tuple[str, int], query: dns.message.Message) -> dns.message.Message:
    """The server's answer. ExchangeError when there is none; the caller sets the time limit."""
    wire = query.to_wire()
    answer = await _ask_udp(server, query, wire)
    if answer.flags & dns.flags.TC:
        answer = await _ask_tcp(server, query, wire)
    return answer


async def _ask_udp(server: tuple[str, int], query: dns.message.Message, wire: bytes) -> dns.message.Message:
    loop = asyncio.get_running_loop()
    try:
        transport, ear = await loop.create_datagram_endpoint(lambda: _Ear(query), remote_addr=server)
    except OSError as error:
        raise ExchangeError(str(error)) from error
    try:
        transport.sendto(wire)
        return await ear.answer
    finally:
        ear.answer.cancel()
        transport.abort()


def _seen(answer: asyncio.Future[dns.message.Message]) -> None:
    """Nobody may wait for it any more: whoever asked was cancelled, perhaps before the socket was there."""
    if not answer.cancelled():
        answer.exception()


async def _ask_tcp(server: tuple[str, int], query: dns.message.Message, wire: bytes) -> dns.message.Message:
    try:
        reader, writer = await asyncio.open_connection(*server)
    except OSError as error:
        raise ExchangeError(str(error)) from error
    try:
        writer.write(struct.pack("!H", len(wire)) + wire)
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        if length > MAX_TCP:
            raise ExchangeError(f"an answer of {length} octets", "answer")
        answer = read_answer(await reader.readexactly(length), query)
    except (OSError, EOFError) as error:
        raise ExchangeError(str(error) or type(error).__name__) from error
    finally:
        writer.transport.abort()
    if answer is None or answer.flags & dns.flags.TC:
        raise ExchangeError("no usable answer over TCP", "answer")
    return answer
