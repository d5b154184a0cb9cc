"""`[[route]]` and `[relay]` as values: where mail goes, and how links are opened and kept."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from gateway.config.addresses import Domain, IpAddress, Server, parse_mx
from gateway.config.model import Model
from gateway.units import Duration


class ServerEntry(Model):
    """A server of a route with more to it than its address."""

    address: Server
    """As it would stand in the list by itself."""
    priority: int | None = Field(default=None, ge=0, le=65535)
    """The smaller is tried first; default: its place in the list, from 0."""
    weight: int = Field(default=1, ge=1, le=1000)
    """Its share of the messages among servers of the same priority."""
    max_links: int | None = Field(default=None, ge=1)
    """Links to it, for each worker; default and most: `[relay] max_links`."""

    @model_validator(mode="after")
    def _weight_needs_priority(self) -> ServerEntry:
        if "weight" in self.model_fields_set and self.priority is None:
            raise ValueError("weight together with priority: it counts among servers of the same priority")
        return self


def _server_kind(value: Any) -> str:
    return "str" if isinstance(value, str) else "table[server]"


RouteServer = Annotated[Annotated[Server, Tag("str")] | Annotated[ServerEntry, Tag("table[server]")], Discriminator(_server_kind)]


class RouteAuth(Model):
    """auth = { user, password } of a route: we log in there."""

    user: str = Field(min_length=1)
    """Name to log in with."""
    password: str = ""
    """Its password."""
    password_file: str = ""
    """Or a file with the password and nothing else."""
    mechanisms: tuple[Literal["SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN"], ...] = Field(
        default=("SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN"), min_length=1
    )
    """The first of them that the server offers is used."""


class RouteConfig(Model):
    """[[route]]: where mail goes."""

    name: str = "default"
    """Its name for `default_route`, plugins, logs and variables."""
    domains: tuple[Domain, ...]
    """Domains whose recipients strangers may name; no default. `*.example.org` takes subdomains."""
    servers: tuple[RouteServer, ...] = Field(min_length=1)
    """In order of preference: `host:port`, `smtps://host:port` (TLS from the first octet), `unix:/path`, `lmtp://host:port`, `lmtp+unix:/path`, `inbox:` (the development next hop), or tables: `{ address = "host:port", priority = 0, weight = 3 }`. Or only `mx:`, the mail exchangers of the recipient's domain, or `mx:example.net`, those of a name."""
    next_hop_decides: bool | Literal["without client address"] = False
    """Needed for `domains = ["*"]`: the next hop itself refuses strangers' relaying, by the client's address."""
    max_links: int | None = Field(default=None, ge=1)
    """Links of this route in use at once, over all its servers, for each worker; default: what the servers allow."""
    source: tuple[IpAddress, ...] = Field(default=(), max_length=2)
    """Addresses of ours that its connections come from, one IPv4 and one IPv6; default: the system's choice."""
    client_address: Literal["received", "xforward", "xclient", "proxy"] = "received"
    """How the next hop is told who the client is: in the Received field only, by XFORWARD or XCLIENT where it offers them, or by a PROXY v2 header."""
    tls: Literal["auto", "off", "opportunistic", "required", "verified"] = "auto"
    """`opportunistic`: where it works; `required`: or not at all; `verified`: with a certificate that is checked. `auto`: opportunistic, off to loopback and UNIX sockets."""
    tls_ca: str = ""
    """PEM file with the authorities that `verified` trusts; default: the system's."""
    tls_name: str = ""
    """Name that the certificate must have; default: the server's."""
    tls_certificate: str = ""
    """PEM file with a certificate of ours, for servers that ask for one."""
    tls_key: str = ""
    """PEM file with its private key; default: in the same file."""
    tls_minimum: Literal["TLSv1.2", "TLSv1.3"] = "TLSv1.2"
    """Older versions are refused."""
    auth: RouteAuth | None = None
    """`{ user, password_file }`: we log in, in TLS or on this host only; clients' own AUTH does not go there."""

    @field_validator("servers")
    @classmethod
    def _exchangers_stand_alone(cls, servers: tuple[str | ServerEntry, ...]) -> tuple[str | ServerEntry, ...]:
        """DNS has its own order."""
        addresses = [one if isinstance(one, str) else one.address for one in servers]
        if len(addresses) > 1 and any(parse_mx(one) is not None for one in addresses):
            raise ValueError('"mx:…" alone: DNS says which servers, and in which order')
        return servers

    @field_validator("source")
    @classmethod
    def _one_of_each_family(cls, source: tuple[str, ...]) -> tuple[str, ...]:
        if len({":" in one for one in source}) < len(source):
            raise ValueError("one IPv4 and one IPv6 address at most")
        return source

    @property
    def exchangers(self) -> tuple[str, int] | None:
        """Domain (`` for the recipient's) and port where mail goes by MX; None for servers by name."""
        return parse_mx(self.entries[0].address)

    @property
    def is_by_domain(self) -> bool:
        """Each recipient's domain is a way of its own: `mx:`."""
        exchangers = self.exchangers
        return exchangers is not None and not exchangers[0]

    @property
    def entries(self) -> tuple[ServerEntry, ...]:
        """The servers as tables, each with its priority."""
        return tuple(
            ServerEntry(address=server, priority=place)
            if isinstance(server, str)
            else server
            if server.priority is not None
            else server.model_copy(update={"priority": place})
            for place, server in enumerate(self.servers)
        )


class RelayConfig(Model):
    """[relay]: links to next hops."""

    map: str = ""
    """File that sends addresses and domains to other routes or servers, read again when it changes: docs/routes.md."""
    max_links: int = Field(default=100, ge=1)
    """Links to one server, for each worker."""
    wait_limit: Duration = 10.0
    """How long a transaction waits for a free link, then it is 451 4.3.2."""
    max_waiting: int = Field(default=500, ge=0)
    """Transactions that wait for a link to one server, or of one route with `max_links`, for each worker; more are 451 4.3.2 at once."""
    connect_timeout: Duration = 10.0
    """For the look-up of a server's name, and for each connection to it."""
    greeting_timeout: Duration = 60.0
    """For its greeting. Less than the 5 minutes of RFC 5321 4.5.3.2.1: a client waits behind it, and another server may do."""
    hello_timeout: Duration = 60.0
    """For the reply to EHLO or HELO."""
    reply_timeout: Duration = 300.0
    """For every reply that has no limit of its own here."""
    mail_timeout: Duration | None = None
    """For the reply to MAIL (RFC 5321 4.5.3.2.2); default: `reply_timeout`."""
    rcpt_timeout: Duration | None = None
    """For the reply to RCPT (RFC 5321 4.5.3.2.3); default: `reply_timeout`."""
    data_timeout: Duration = 120.0
    """For the 354 to DATA (RFC 5321 4.5.3.2.4)."""
    block_timeout: Duration = 180.0
    """For each block of content to be taken (RFC 5321 4.5.3.2.5)."""
    final_reply_timeout: Duration = 600.0
    """For the reply to the final dot (RFC 5321 4.5.3.2.6); `[limits] final_reply` bounds it too."""
    idle_limit: Duration = 30.0
    """A link that was idle for longer is closed."""
    max_messages: int = Field(default=1_000, ge=1)
    """Messages on one link, then it is closed."""
    max_age: Duration = 300.0
    """A link older than this takes no further message."""
    max_refusals: int = Field(default=5, ge=1)
    """Refusals on one link since its last delivery, then it is retired."""
    rest: Duration = 5.0
    """A server that failed is probed after this long, and no message is given to it first before it answers."""
    rest_limit: Duration = 60.0
    """Each failure that follows lets it rest twice as long, up to this."""
