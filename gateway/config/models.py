"""The configuration as values. Names are a contract; every key has a meaning, a unit and a default here."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from gateway.config.addresses import Keyword, Mailbox, NameServer, OptionalBind, parse_bind, socket_path
from gateway.config.listening import LOOPBACK, EtrnCommand, ListenerConfig, SniConfig, TlsConfig
from gateway.config.model import Model, PluginEntry
from gateway.config.relaying import RelayConfig, RouteAuth, RouteConfig, ServerEntry
from gateway.units import Duration, Size

__all__ = [
    "LOOPBACK",
    "MOST_CONNECTIONS",
    "AdminConfig",
    "Config",
    "DmarcReportsConfig",
    "DnsConfig",
    "EtrnCommand",
    "JournalConfig",
    "LimitsConfig",
    "ListenerConfig",
    "Model",
    "PassedParameters",
    "PluginUse",
    "QuarantineConfig",
    "RelayConfig",
    "RouteAuth",
    "RouteConfig",
    "ServerConfig",
    "ServerEntry",
    "SniConfig",
    "TlsConfig",
]

MOST_CONNECTIONS = 1 << 20
"""No setting allows so many."""


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
    watch_files: Duration = Field(default=1.0, le=3600)
    """How often the files of configuration, rules and plugins are looked at: the gateway reloads when they have changed and stayed so for as long. 0: never."""
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
    files_depth: int = Field(default=8, ge=1, le=50)
    """Files inside one another, where attachments are opened; what is deeper is listed in `unopened` (docs/files.md)."""
    files_count: int = Field(default=2_000, ge=1, le=100_000)
    """Files of one message, attachments and what is in them."""
    files_size: Size = Field(default=100_000_000, ge=1)
    """Octets of one of them, unpacked."""
    files_total: Size = Field(default=200_000_000, ge=1)
    """Octets of all of them, unpacked."""
    files_ratio: int = Field(default=250, ge=2)
    """Unpacked octets for each packed one, of a file of more than 10 MB."""
    files_memory: Size = Field(default=250_000_000, ge=50_000_000)
    """Octets that the process which opens them may take beside the message."""
    files_time: Duration = Field(default=2.0, ge=0.1, le=60)
    """CPU time that the files of one message may take."""
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
    zones: dict[str, dict[str, list[Any]]] = Field(default_factory=dict)
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
    """[admin]: `/live`, `/ready`, `/services`, `/metrics`."""

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
    process: bool = False
    """Run it in a process of its own, one for each worker, that may crash, hang or leak without taking the worker along."""
    memory: Size = Field(default=500_000_000, ge=100_000_000)
    """Address space of that process."""


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
    pass_extensions: dict[Keyword, PassedParameters] = Field(default_factory=dict)
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
    plugin: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """`[plugin.NAME]`: options of the plugin and of its use."""
    rule: tuple[dict[str, Any], ...] = ()
    """`[[rule]]`: content rules of the group `rules`."""
    list: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """`[list.NAME]`: named lists, for `in_list()` in all groups of rules."""
    rule_files: tuple[str, ...] = ()
    """TOML files with more `[[rule]]` blocks, or directories of them."""

    @property
    def listens(self) -> tuple[tuple[str, int], ...]:
        """Host and port of each listener that has them."""
        return tuple(parse_bind(one.bind) for one in self.listener if not socket_path(one.bind))
