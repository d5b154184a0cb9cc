"""`[[listener]]` as values: where clients come in, with which TLS and by whose word."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gateway.config.addresses import UNIX, Bind, Network, SocketMode, SocketOwner
from gateway.config.model import Model, PluginEntry
from gateway.units import Duration

LOOPBACK = ("127.0.0.0/8", "::1/128")


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
    protocol: Literal["smtp", "lmtp", "milter", "policy"] = "smtp"
    """What is spoken here: SMTP; LMTP, which has a reply for each recipient and never port 25; `milter`, for a Postfix or Sendmail that stays in front (docs/milter.md); or `policy`, for a Postfix that asks by check_policy_service (docs/policy_server.md)."""
    tls: TlsConfig | None = None
    """`{ certificate, key }`: STARTTLS is offered; `implicit = true`: TLS from the first octet."""
    trusted_proxies: tuple[Network, ...] = ()
    """Proxies that begin each connection with a PROXY header (version 1 or 2) and are believed; `unix`: whoever connects to this listener's UNIX socket. From anybody else it is a wrong command."""
    trusted_xclient: tuple[Network, ...] = ()
    """Clients that may say who the client is, by XCLIENT and XFORWARD as Postfix has them, and are believed; `unix` as above. With `protocol = "milter"` or `"policy"`: who may ask, beside this host."""
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
    mta_quarantine: bool = False
    """With `protocol = "milter"`: a message to hold for all its recipients goes to the MTA's own hold queue, not to the quarantine."""
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
