"""aiosmtpd's `SMTP` with its settings in the class, so that a connection neither computes nor keeps them."""

from __future__ import annotations

import asyncio

from aiosmtpd.smtp import SMTP

_NO_SETTINGS = {"_stream_reader_wr", "_client_connected_cb", "_closed"}
"""Of asyncio's stream protocol, which is not used."""


class Settled(SMTP):
    """What derives from it has a constructor of its own and leaves aiosmtpd's alone. See Prototype."""

    __slots__ = ()


class Prototype:
    """What all connections of a worker have in common: aiosmtpd's settings, as attributes of the class `Settled`.

    aiosmtpd's constructor costs 0.2 ms, so it runs once; and what it sets would take 1 KB in each connection.
    """

    def __init__(self, hostname: str, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        for name, value in SMTP(object(), hostname=hostname, loop=loop).__dict__.items():
            if name not in _NO_SETTINGS:
                setattr(Settled, name, staticmethod(value) if callable(value) else value)
