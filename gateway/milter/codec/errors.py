"""The codec's two errors: they sent what is no milter protocol, or we asked it to write what cannot be said."""

from __future__ import annotations

from gateway.errors import GatewayError


class CodecError(GatewayError):
    """Base of both. The text is evidence for a log; nothing of it comes from the network unescaped."""


class BadPacket(CodecError):  # noqa: N818 - named for what it is, as h11's RemoteProtocolError
    """The other side sent octets, or a packet at a time, that the protocol does not have."""


class BadValue(CodecError, ValueError):  # noqa: N818
    """A packet was made that cannot be sent: a NUL within a string, a port beyond 65,535, a code that is none."""
