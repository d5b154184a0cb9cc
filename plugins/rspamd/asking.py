"""One question to rspamd: POST /checkv2, with the envelope and the client in header fields and the message as body (its HTTP protocol).

The message goes from the spool in pieces. Each question has a connection of its own, as rspamd closes it after its answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from gateway import Message, Session, Transaction
from gateway.client_names import Names
from gateway.scanning import shown
from gateway.services import BadAnswerError, Service, ServiceAddress

MAX_ANSWER = 1_000_000
"""Octets."""
MAX_VALUE = 1000
"""Octets of a field's value."""

Field = tuple[bytes, bytes]


class Client:
    """HTTP to one server, over TCP or a UNIX socket."""

    def __init__(self, httpx: Any, service: Service, *, connect_timeout: float) -> None:
        """`httpx`: the library."""
        self._httpx = httpx
        self._service = service
        address = service.address
        path = address.path if isinstance(address, ServiceAddress) else ""
        self._base = "http://localhost" if path else f"http://{address}"
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(
                uds=path or None, verify=False, limits=httpx.Limits(max_connections=None, max_keepalive_connections=0)
            ),
            # no certificates are read where none is asked for (60 ms on the loop); the turn of the question bounds all of it
            timeout=httpx.Timeout(None, connect=connect_timeout),
            follow_redirects=False,
            trust_env=False,
        )

    async def check(self, fields: list[Field], message: Message) -> bytes:
        """The answer to a message. ServiceError, BadAnswerError, EOFError."""
        sized = [*fields, (b"Content-Length", b"%d" % message.size)]
        return await self._exchange("POST", "/checkv2", sized, _pieces(message))

    async def ping(self) -> None:
        """GET /ping, pong."""
        if (answer := await self._exchange("GET", "/ping", [], None)).strip() != b"pong":
            raise BadAnswerError(f"{shown(answer, 80)!r} instead of pong")

    async def close(self) -> None:
        """Whatever is open."""
        await self._client.aclose()

    async def _exchange(self, method: str, path: str, fields: list[Field], content: AsyncIterator[bytes] | None) -> bytes:
        httpx = self._httpx
        fields = [(b"Accept-Encoding", b"identity"), (b"User-Agent", b"mailgateway"), *fields]
        try:
            async with self._client.stream(method, self._base + path, headers=fields, content=content) as response:
                octets = b""
                async for chunk in response.aiter_raw(65_536):  # never unpacked: it is asked for as it is
                    octets += chunk
                    if len(octets) > MAX_ANSWER:
                        raise BadAnswerError(f"an answer of more than {MAX_ANSWER} octets")
        except httpx.ConnectTimeout:
            raise self._service.failed("no connection in time", "connect") from None
        except httpx.ConnectError as error:
            raise self._service.failed(f"cannot connect: {shown(str(error))}", "connect") from error
        except (httpx.RemoteProtocolError, httpx.DecodingError) as error:
            text = str(error)
            if "disconnected" in text or "closed" in text:
                raise EOFError from error
            raise BadAnswerError(f"no HTTP: {shown(text)}") from error
        except httpx.HTTPError as error:
            raise EOFError from error
        if response.status_code != 200:
            raise BadAnswerError(f"status {response.status_code}: {shown(octets, 120)!r}")
        return octets


def envelope(
    transaction: Transaction, names: Names, *, server_name: str, settings: str = "", password: str = "", pass_all: bool = False
) -> list[Field]:
    """What is told of a message beside its content. A value never has more than one line."""
    session = transaction.session
    told: list[tuple[str, str]] = [
        ("Queue-Id", transaction.id),
        ("MTA-Name", server_name),
        ("IP", session.client_address),
        ("Helo", session.helo),
        ("Hostname", names[0]),
        ("User", session.identity),
        ("From", transaction.reverse_path.mailbox or "<>"),
        *(("Rcpt", one.mailbox) for one in transaction.recipients),
    ]
    asked_for = [one for one in transaction.recipients if not one.added]
    if len(asked_for) == 1:
        told.append(("Deliver-To", asked_for[0].mailbox))
    told += [*_tls(session), ("Settings-ID", settings), ("Pass", "all" if pass_all else ""), ("Password", password)]
    return [(name.encode(), octets) for name, value in told if (octets := _value(value))]


def _tls(session: Session) -> list[tuple[str, str]]:
    """Of the client's own TLS, wherever it ended."""
    tls = session.tls if session.proxy is None else session.proxy.tls or session.tls
    if tls is None:
        return []
    return [("TLS-Version", tls.version), ("TLS-Cipher", tls.cipher), ("TLS-Cert-Issuer", tls.peer_issuer)]


def _value(text: str) -> bytes:
    """RFC 9110 5.5: no control characters in a field's value."""
    return "".join(c if c.isprintable() else "?" for c in text).encode("utf-8", "replace")[:MAX_VALUE].strip()


async def _pieces(message: Message) -> AsyncIterator[bytes]:
    for piece in message.content.chunks():
        yield piece
