"""TLS on a connection that is there already: the layer of the loop that is in use.

uvloop has one of its own, in C: asyncio's costs a message on a kept connection as much as OpenSSL does. Where uvloop is not in use, STARTTLS
is aiosmtpd's, and this is the layer that it takes.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from asyncio.sslproto import SSLProtocol
from typing import Any


def own_layer(loop: asyncio.AbstractEventLoop) -> Any:
    """The class of uvloop, as its loops make it for `start_tls`; None: the loop is another."""
    uvloop = sys.modules.get("uvloop")
    return uvloop.loop.SSLProtocol if uvloop is not None and isinstance(loop, uvloop.Loop) else None


def begin_tls(
    loop: asyncio.AbstractEventLoop,
    transport: Any,
    server: asyncio.BaseProtocol,
    context: ssl.SSLContext,
    *,
    limit: float,
) -> asyncio.Future[None]:
    """The handshake as its server: done when `server` has been told of its new transport. At once, where `loop.start_tls` begins a turn later."""
    done: asyncio.Future[None] = loop.create_future()
    layer: Any = own_layer(loop) or SSLProtocol
    tls = layer(loop, server, context, done, server_side=True, ssl_handshake_timeout=limit)
    transport.pause_reading()  # so that the loop asks the new protocol how it wants its octets
    transport.set_protocol(tls)
    tls.connection_made(transport)
    transport.resume_reading()
    return done
