"""A session: what is known of the client of one connection (RFC 5321 3.1). Facts for hooks, read-only to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from gateway.findings import Fact


class ClientClass(StrEnum):
    """How far a client is trusted; decides relaying and `on_error`.

    Examples:
        >>> a_session(identity="alice").client_class is ClientClass.AUTHENTICATED
        True
        >>> ClientClass("trusted")
        <ClientClass.TRUSTED: 'trusted'>
    """

    AUTHENTICATED = "authenticated"
    TRUSTED = "trusted"
    """In the listener's `trusted_networks`."""
    STRANGER = "stranger"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Facts of a TLS session.

    Examples:
        >>> Tls(version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384", bits=256).bits
        256
    """

    version: str
    """`TLSv1.3`."""
    cipher: str
    bits: int = 0
    """Of the cipher's key; 0 when it is not known."""
    server_name: str = ""
    """The name that the client asked for (SNI), in lower case."""
    peer_subject: str = ""
    """Of the client's verified certificate, as RFC 4514 writes it (`CN=client.example`); `` without one."""
    peer_issuer: str = ""
    peer_fingerprint: str = ""
    """SHA-256 of that certificate in hexadecimal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A proxy in front of the gateway that said who the client is, by a PROXY header or by XCLIENT.

    Examples:
        >>> a_session(proxy=Proxy(address="10.0.0.2", port=4711)).proxy.address
        '10.0.0.2'
    """

    address: str
    port: int = 0
    is_local: bool = False
    """It speaks for itself (PROXY's LOCAL), as health probes do; who the client is was not said."""
    authority: str = ""
    """The name that the client asked for in a TLS handshake with the proxy."""
    unique_id: str = ""
    """The proxy's identifier of the connection."""
    tls: Tls | None = None
    """TLS between client and proxy, where it ended there. Between proxy and gateway: `Session.tls`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarded:
    """Who sent a message to the host that sends it to us, as that host says by XFORWARD. Trust is never judged on it.

    Examples:
        >>> transaction = a_transaction(forwarded=Forwarded(address="198.51.100.7", name="mail.client.example"))
        >>> transaction.forwarded.address
        '198.51.100.7'
    """

    address: str = ""
    port: int = 0
    name: str = ""
    helo: str = ""
    protocol: str = ""
    ident: str = ""
    """The message's identifier at that host."""
    source: str = ""
    """`LOCAL` or `REMOTE`."""


@dataclass(slots=True, kw_only=True)
class Session:
    """One connection of a client. The server changes it; a plugin only reads.

    Examples:
        >>> session = a_session(client_address="198.51.100.7", helo="mail.client.example", tls=True)
        >>> (session.client_address, session.helo, session.tls.version, str(session.client_class))
        ('198.51.100.7', 'mail.client.example', 'TLSv1.3', 'stranger')
    """

    id: str
    listener: str = "default"
    protocol: str = "smtp"
    """`smtp` or `lmtp`."""
    client_address: str = ""
    """IP address in text form; `` when it is not known (such a client is a stranger)."""
    client_port: int = 0
    is_local: bool = False
    """The client is a process of this host at a UNIX socket, and has no address. False where a proxy speaks for another."""
    server_address: str = ""
    """Where the client connected to: the proxy's address, when it came through one that told it."""
    server_port: int = 0
    proxy: Proxy | None = None
    """Who told the client's address; None: it is the connection's own."""
    client_name: str = ""
    """Verified reverse name, when something looked it up, or XCLIENT told it."""
    client_reverse_name: str = ""
    """Reverse name that nobody verified, as XCLIENT tells it."""
    may_introduce: bool = False
    """The connection comes from `trusted_xclient`: what it says of the client is believed."""
    helo: str = ""
    esmtp: bool = False
    tls: Tls | None = None
    identity: str = ""
    """Authenticated identity, `` when there is none."""
    client_class: ClientClass = ClientClass.STRANGER
    started: float = 0.0
    """Seconds since the epoch."""
    transactions: int = 0
    unknown_recipients: int = 0
    """Recipients the next hop (or a plugin) refused for good in this session."""
    findings: tuple[Fact, ...] = ()
    """What the gateway found out about the client's manners: `early_talker`, `improper_pipelining`. Each transaction has them too."""
    state: dict[str, object] = field(default_factory=dict)
    """Room for the server's own bookkeeping; not for plugins."""
