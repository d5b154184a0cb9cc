"""The configuration as values. Names are a contract; every key has a meaning, a unit and a default here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from gateway.config.addresses import (
    UNIX,
    Bind,
    Domain,
    IpAddress,
    Keyword,
    Mailbox,
    NameServer,
    Network,
    OptionalBind,
    Server,
    SocketMode,
    SocketOwner,
    parse_bind,
    parse_mx,
    socket_path,
)
from gateway.units import Duration, Size

MOST_CONNECTIONS = 1 << 20
"""No setting allows so many."""
LOOPBACK = ("127.0.0.0/8", "::1/128")


class Model(BaseModel):
    """Base: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _plugin_entry(entry: Any) -> Any:
    if isinstance(entry, str) and entry:
        return entry
    if isinstance(entry, dict) and isinstance(entry.get("name"), str) and entry["name"]:
        return entry
    raise ValueError('a plugin name, or { name = "…", use = "…" }')


PluginEntry = Annotated[Any, AfterValidator(_plugin_entry)]


class ServerConfig(Model):
    """[server]: who we are and how we run."""

    name: str = "localhost"
    """Name in greeting, EHLO and Received. A listener beyond loopback needs a full name."""
    authserv_id: str = ""
    """Our name in Authentication-Results (RFC 8601 2.5); default: `name`. One for all nodes."""
    workers: int = Field(default=0, ge=0, le=256)
    """Worker processes; 0: one for each CPU."""
    state_directory: str = "var"
    """Everything that must survive a restart lies below it."""
    state: Literal["durable", "ephemeral"] = "durable"
    """`ephemeral` says that losing quarantine and journal with the container is accepted."""
    drain_limit: Duration = 30.0
    """After SIGTERM, sessions under way get this long."""
    loop_limit: Duration = 10.0
    """A worker whose loop is blocked longer than this is replaced."""
    restart_rest: Duration = 10.0
    """A process that ends soon after its start rests before the next start: 0.1 s, each time twice as long, up to this."""
    uvloop: bool = True
    """Use uvloop when it is installed."""
    log_format: Literal["auto", "text", "json"] = "auto"
    """`auto`: text on a terminal, JSON otherwise."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lines below this level are not written."""

    @model_validator(mode="before")
    @classmethod
    def _authserv_id_is_the_name(cls, data: Any) -> Any:
        """RFC 8601 2.5: the identifier defaults to our name."""
        if isinstance(data, dict) and not data.get("authserv_id"):
            return {**data, "authserv_id": data.get("name", "localhost")}
        return data


class SniConfig(Model):
    """One entry of `tls.sni`: another certificate for clients that ask for one of these names."""

    names: tuple[str, ...] = Field(min_length=1)
    """Names that clients ask for (SNI); `*.example.org` stands for one label more."""
    certificate: str
    """PEM file with the certificate and its chain."""
    key: str
    """PEM file with the private key."""


class TlsConfig(Model):
    """tls = { certificate, key }: STARTTLS is offered, or TLS begins at once with `implicit = true`."""

    certificate: str
    """PEM file with the certificate and its chain. Read again when it changes, as are all files of `tls`."""
    key: str
    """PEM file with the private key."""
    implicit: bool = False
    """TLS from the first octet, as on port 465 (RFC 8314 3.3), instead of STARTTLS."""
    minimum: Literal["TLSv1.2", "TLSv1.3"] = "TLSv1.2"
    """Older versions are refused (RFC 8996)."""
    ciphers: str = ""
    """OpenSSL's list of ciphers for TLS 1.2; default: Python's. Those of TLS 1.3 are not to be chosen."""
    sni: tuple[SniConfig, ...] = ()
    """`[{ names = ["mx.example.org"], certificate, key }]`: certificates for other names."""
    client_certificates: Literal["none", "ask", "require"] = "none"
    """`ask`: a client may show a certificate of `client_ca`; `require`: without one MAIL is refused with 530 5.7.0."""
    client_ca: str = ""
    """PEM file with the authorities that clients' certificates are from. A certificate of another one ends the handshake."""


class EtrnCommand(Model):
    """etrn = { command }: what ETRN runs."""

    command: tuple[str, ...] = Field(min_length=1)
    """Program and arguments, without a shell. `{domain}` is the node; `{node}` the same with the `@` or `#` that a client may write."""
    timeout: Duration = 30.0
    """It is ended after this, and the client told 458."""

    @property
    def takes_node(self) -> bool:
        """It is told of `@` and `#`."""
        return any("{node}" in part for part in self.command)


class ListenerConfig(Model):
    """[[listener]]: where mail comes in."""

    name: str = "default"
    """Its name in logs, metrics and variables."""
    bind: Bind = "127.0.0.1:2525"
    """`host:port`, `[::1]:port`, or `unix:/path` for a UNIX socket, which all workers share."""
    socket_mode: SocketMode = "0660"
    """Who may connect to a UNIX socket: its permissions, octal."""
    socket_owner: SocketOwner = ""
    """Owner of a UNIX socket: `user`, `user:group` or `:group`; default: who runs the gateway."""
    protocol: Literal["smtp", "lmtp"] = "smtp"
    """What is spoken here: SMTP, or LMTP, which has a reply for each recipient and never port 25."""
    tls: TlsConfig | None = None
    """`{ certificate, key }`: STARTTLS is offered; `implicit = true`: TLS from the first octet."""
    trusted_proxies: tuple[Network, ...] = ()
    """Proxies that begin each connection with a PROXY header (version 1 or 2) and are believed; `unix`: whoever connects to this listener's UNIX socket. From anybody else it is a wrong command."""
    trusted_xclient: tuple[Network, ...] = ()
    """Clients that may say who the client is, by XCLIENT and XFORWARD as Postfix has them, and are believed; `unix` as above."""
    trusted_networks: tuple[Network, ...] = ()
    """Clients that may relay to wherever the routes lead; `unix`: those at this listener's UNIX socket. Empty by default."""
    lenient_networks: tuple[Network, ...] = (*LOOPBACK, UNIX)
    """Clients whose bare LF and CR are taken as line ends. Says nothing about relaying."""
    plugins: tuple[PluginEntry, ...] | None = None
    """Another chain for this listener."""
    default_route: str = ""
    """Route of `<postmaster>` without a domain; default: the first route."""
    greeting_delay: Duration = Field(default=0.0, le=60.0)
    """Strangers wait so long for the greeting; whoever talks meanwhile is an early talker. Trusted and lenient networks are exempt."""
    early_talkers: Literal["note", "defer", "reject"] = "note"
    """Strangers that talk before the greeting: a finding for plugins and rules; or 421, or 554, instead of the greeting."""
    auth_route: str = ""
    """Route whose server answers AUTH for this listener: offered over TLS and from this host. Default: AUTH is not offered."""
    routed_local_parts: bool = False
    """Allow `%`, `!` and `@` in a stranger's local part."""
    vrfy: Literal["local", "next_hop", "off"] = "local"
    """VRFY: 252 whoever is asked for, the next hop's answer, or 502."""
    expn: Literal["off", "next_hop"] = "off"
    """EXPN: 502, or the next hop's answer."""
    etrn: Literal["off", "next_hop"] | EtrnCommand = "off"
    """ETRN: 502, the next hop's answer, or `{ command = ["/usr/sbin/postqueue", "-s", "{domain}"] }`. It exits with 0 when the queue
    was started, with 77 where the node may not; `timeout` is 30 s by default."""
    refuse_null_mx_senders: bool = False
    """Refuse a stranger's reverse-path whose domain accepts no mail, and so no report either (null MX, RFC 7505 4.2): 550 5.7.27."""

    @property
    def passed_commands(self) -> frozenset[str]:
        """Of VRFY, EXPN and ETRN those that the next hop answers."""
        return frozenset(name.upper() for name in ("vrfy", "expn", "etrn") if getattr(self, name) == "next_hop")

    @property
    def own_commands(self) -> frozenset[str]:
        """Those that the gateway itself does."""
        return frozenset({"ETRN"} if isinstance(self.etrn, EtrnCommand) else ())


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


class LimitsConfig(Model):
    """[limits]: bounds on what comes from outside."""

    message_size: Size = 50_000_000
    """Octets of the content; more is refused with 552 5.3.4. Offered as SIZE."""
    header_size: Size = 1_000_000
    """Octets of the header section; more is refused with 552 5.3.4."""
    spool_memory: Size = 1_000_000
    """Content up to this stays in memory, then goes to a file."""
    command_line: Size = 4096
    """Octets of a command line with CRLF."""
    text_line: Size = 1_000_000
    """Octets of a line of content."""
    recipients: int = Field(default=1000, ge=100)
    """In a transaction (RFC 5321 4.5.3.1.8)."""
    transactions: int = Field(default=10_000, ge=1)
    """Transactions in a session, then 421."""
    commands: int = Field(default=100_000, ge=100)
    """Commands in a session."""
    errors: int = Field(default=20, ge=1)
    """Refused or misspelt commands in a session, then 421."""
    unknown_recipients: int = Field(default=50, ge=1)
    """Recipients refused for good in a session, then 421."""
    connections: int = Field(default=1000, ge=1, lt=MOST_CONNECTIONS)
    """Sessions at once, of all workers together."""
    network_connections: int = Field(default=100, ge=0, lt=MOST_CONNECTIONS)
    """Sessions at once from one network of strangers, of all workers together; 0: no limit. Lenient networks are exempt."""
    network_rate: int = Field(default=0, ge=0, lt=MOST_CONNECTIONS)
    """Connections a minute from one network of strangers, to all workers together; 0: no limit."""
    ipv4_prefix: int = Field(default=24, ge=1, le=32)
    """Bits of an IPv4 address that make a network."""
    ipv6_prefix: int = Field(default=64, ge=1, le=128)
    """Bits of an IPv6 address that make a network."""
    idle: Duration = 300.0
    """Silence of the client where a command is due (RFC 5321 4.5.3.2.7), and replies that it does not take."""
    content_idle: Duration = 180.0
    """Silence of the client within the content (RFC 5321 4.5.3.2.5)."""
    minimum_rate: Size = 100
    """Octets of content a second, over a window; 0: no limit."""
    rate_window: Duration = Field(default=180.0, ge=0.05)
    """Over which `minimum_rate` is measured; the first one of a content is its grace."""
    proxy_header: Duration = 5.0
    """From the connection of a trusted proxy to the end of its PROXY header."""
    tls_handshake: Duration = 30.0
    """From the beginning of a TLS handshake to its end."""
    session_time: Duration = 3600.0
    """From the greeting to the end, whatever the client does."""
    transaction_time: Duration = 1800.0
    """From MAIL to the reply after the content."""
    envelope_reply: Duration = 285.0
    """From MAIL or RCPT to our reply, whatever the next hops do. A client waits 5 minutes (RFC 5321 4.5.3.2.2, 4.5.3.2.3)."""
    final_reply: Duration = 570.0
    """From the final dot to our reply: what the hooks leave of it is the next hop's. A client waits 10 minutes (RFC 5321 4.5.3.2.6)."""
    check_budget: Duration = 60.0
    """For all hooks of one stage after the content."""
    envelope_budget: Duration = 20.0
    """For all hooks of one stage before the content."""
    max_classes: int = Field(default=4, ge=1)
    """Policy classes in a transaction."""
    max_received: int = Field(default=100, ge=10)
    """Received fields; more is a loop (RFC 5321 6.3)."""
    threads: int = Field(default=16, ge=1)
    """Threads for `def` hooks; when all are hung the plugin's circuit opens."""


class DnsConfig(Model):
    """[dns]."""

    nameservers: tuple[NameServer, ...] = ()
    """`host:port` each; default: the system's."""
    backend: Literal["dnspython", "aiodns"] = "dnspython"
    """What asks: `aiodns` takes less CPU and shows less of an answer; it must be installed (`mailgateway[aiodns]`)."""
    trust_ad: Literal["loopback", "always", "never"] = "loopback"
    """Whose word that an answer was validated (AD, DNSSEC) is believed: name servers at loopback addresses, all, or none."""
    timeout: Duration = Field(default=5.0, gt=0)
    """For one look-up with all its tries."""
    transaction_look_ups: int = Field(default=200, ge=1)
    """Look-ups that the plugins may cause for one message; what is cached costs none."""
    transaction_time: Duration = Field(default=20.0, gt=0)
    """Time that one message may wait for DNS in its plugins, all together. Past either: a temporary failure of each further look-up."""
    cache_size: int = Field(default=10_000, ge=0)
    """Answers kept, for each worker."""
    min_ttl: Duration = 0.0
    """An answer is kept at least so long, whatever it says itself."""
    max_ttl: Duration = 3_600.0
    """And at most so long: a mistake in a zone is repaired within the hour."""
    min_negative_ttl: Duration = 0.0
    """That there is no such name or record is kept at least so long."""
    max_negative_ttl: Duration = 900.0
    """And at most so long."""
    failure_ttl: Duration = Field(default=1.0, ge=1, le=300)
    """A failed look-up is not tried again for so long (RFC 9520 3.2); each failure that follows doubles it, up to 30 s."""
    stale_limit: Duration = 86_400.0
    """While name servers fail, an answer may be used so long past its time (RFC 8767); 0: never."""
    stale_wait: Duration = 1.8
    """Such an answer is used when a name server has not given a newer one after this long."""
    demo: bool = False
    """Answer for the `.test` domains of `mailgateway demo`."""
    zones: dict[str, dict[str, list[Any]]] = {}
    """Static answers: `"name" = { A = ["192.0.2.1"], TXT = ["v=spf1 -all"] }`; `"*.name"` for all names below."""

    @model_validator(mode="after")
    def _limits_agree(self) -> DnsConfig:
        if self.min_ttl > self.max_ttl or self.min_negative_ttl > self.max_negative_ttl:
            raise ValueError("min_ttl up to max_ttl, min_negative_ttl up to max_negative_ttl")
        return self


class QuarantineConfig(Model):
    """[quarantine]: held messages and kept copies."""

    path: str = ""
    """Directory; default: `quarantine` below the state directory."""
    retention: Duration = 30 * 86400.0
    """Held messages and kept copies end after this (journalled)."""
    lease: Duration = 60.0
    """A pending copy whose worker has not renewed for this long is an orphan."""


class JournalConfig(Model):
    """[journal]: decision records."""

    path: str = ""
    """SQLite file; default: `journal.sqlite` below the state directory."""
    retention: Duration = 30 * 86400.0
    """Records end after this."""
    queue: int = Field(default=10_000, ge=10)
    """Records waiting to be written; more are dropped and counted."""


class DmarcReportsConfig(Model):
    """[dmarc_reports]: aggregate reports to the owners of domains (RFC 9990)."""

    enabled: bool = False
    """Collect in the journal what the reports are made of. `mailgateway dmarc report` sends them."""
    address: Mailbox = ""
    """From whom the reports come, and whom their readers may write to; no default. Its domain must pass DMARC (RFC 9990 2.5.2)."""
    organization: str = Field(default="", pattern=r"^[^\x00-\x1f\x7f]{0,100}$")
    """Our name in the reports; default: `[server] name`."""
    contact: str = Field(default="", pattern=r"^[^\x00-\x1f\x7f]{0,200}$")
    """More for their readers, such as a web page."""
    route: str = ""
    """Route by which the reports are sent: a smart host that delivers to the world. Default: the first one."""
    reverse_path: Mailbox = ""
    """Address in MAIL FROM, for SPF; default: the null reverse-path, so that no bounce comes back."""
    recipient_domains: bool = False
    """Tell the recipients' domain too (`envelope_to`)."""
    max_destinations: int = Field(default=5, ge=2, le=10)
    """Addresses that get the report of one domain, in the order of its record; RFC 9990 wants at least two."""
    max_rows: int = Field(default=10_000, ge=1)
    """Rows of one domain in a day. Messages that need one more are counted only, and the report says so."""
    max_domains: int = Field(default=10_000, ge=1)
    """Domains in a day; those that come later get no report."""
    max_rows_a_day: int = Field(default=200_000, ge=1)
    """Rows of all domains in a day."""
    retention: Duration = Field(default=7 * 86400.0, ge=2 * 86400.0)
    """Rows, and what was sent, are forgotten after this. So long a report that could not be sent is tried again."""


class AdminConfig(Model):
    """[admin]: `/live`, `/ready`, `/metrics`."""

    bind: OptionalBind = "127.0.0.1:8025"
    """`` turns it off."""


class PluginUse(Model):
    """Settings that every plugin has, beside its own options."""

    use: str = ""
    """Another plugin's name, or `package.module:Class`."""
    mode: Literal["enforce", "monitor"] = "enforce"
    """`monitor`: run and recorded, its verdicts are not applied."""
    timeout: Duration = 10.0
    """For each of its hooks."""
    on_error: Literal["defer", "ignore"] | dict[str, Literal["defer", "ignore"]] = "defer"
    """What a fault costs; may differ by client class: `{ authenticated = "ignore" }`."""
    skip: tuple[str, ...] = ()
    """Client classes this plugin is not run for: `["authenticated", "trusted"]`."""


class PassedParameters(Model):
    """pass_extensions: an extension that the gateway does not know."""

    mail: tuple[Keyword, ...] = ()
    """Its parameters of MAIL."""
    rcpt: tuple[Keyword, ...] = ()
    """Its parameters of RCPT."""


class Config(Model):
    """The whole configuration."""

    plugins: tuple[PluginEntry, ...] = ()
    """The chain, in order: names, or `{ name = "…", use = "…" }`."""
    plugin_path: tuple[str, ...] = ()
    """Directories with single-file plugins."""
    pass_extensions: dict[Keyword, PassedParameters] = {}
    """Other extensions to pass where the next hop offers them: `{ "X-SITE" = { mail = ["XFOO"], rcpt = [] } }`."""
    server: ServerConfig = ServerConfig()
    listener: tuple[ListenerConfig, ...] = (ListenerConfig(),)
    route: tuple[RouteConfig, ...] = ()
    relay: RelayConfig = RelayConfig()
    limits: LimitsConfig = LimitsConfig()
    dns: DnsConfig = DnsConfig()
    quarantine: QuarantineConfig = QuarantineConfig()
    journal: JournalConfig = JournalConfig()
    dmarc_reports: DmarcReportsConfig = DmarcReportsConfig()
    admin: AdminConfig = AdminConfig()
    plugin: dict[str, dict[str, Any]] = {}
    """`[plugin.NAME]`: options of the plugin and of its use."""
    rule: tuple[dict[str, Any], ...] = ()
    """`[[rule]]`: content rules of the group `rules`."""
    rule_files: tuple[str, ...] = ()
    """TOML files with more `[[rule]]` blocks."""

    @property
    def listens(self) -> tuple[tuple[str, int], ...]:
        """Host and port of each listener that has them."""
        return tuple(parse_bind(one.bind) for one in self.listener if not socket_path(one.bind))
