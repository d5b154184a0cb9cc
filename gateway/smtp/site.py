"""What sessions share: the site (one for each worker) and the door (one for each listener)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import structlog
from structlog.typing import FilteringBoundLogger

from gateway.chain import Chain
from gateway.config.addresses import UNIX, socket_path
from gateway.config.models import LOOPBACK, Config, LimitsConfig, ListenerConfig, RouteConfig
from gateway.config.plain import plain
from gateway.config.route_map import MapError
from gateway.delivery import Delivery
from gateway.dns.names import canonical
from gateway.errors import ConfigError, ConfigProblem, LinkError
from gateway.journal import Journal
from gateway.relay import Capabilities, RouteTable
from gateway.relay.map_file import MapFile
from gateway.relay.pool import Relay
from gateway.relay.routes import has_lmtp
from gateway.session import ClientClass, Session
from gateway.smtp.books import Books
from gateway.smtp.certificates import ServerTls
from gateway.smtp.connections import Connections
from gateway.smtp.extensions import Known, Offer
from gateway.smtp.looks import Looks
from gateway.smtp.relaying import Network, contains, networks
from gateway.smtp.replies import Reply
from gateway.smtp.sasl import MAX_LINE as AUTH_LINE
from gateway.smtp.states import SPOKEN

if TYPE_CHECKING:
    from gateway.smtp.paths import Path as SmtpPath
    from gateway.transaction import Recipient

_AUTHENTICATED: Final = ClientClass.AUTHENTICATED
_TRUSTED: Final = ClientClass.TRUSTED
_STRANGER: Final = ClientClass.STRANGER
LINGER = 30.0
"""Seconds a client has to take its last replies before the connection is cut."""
LEARN_LIMIT: Final = 5.0
"""Seconds a client's EHLO waits for a next hop that was never reached."""


@dataclass(slots=True, kw_only=True)
class Site:
    """Everything of a worker that its sessions use."""

    config: Config
    generation: str
    """Identifier of the configuration, for the decision records."""
    relay: Relay
    delivery: Delivery
    journal: Journal
    spool: Path
    """Directory of spool files."""
    storage_problem: str = ""
    """Why nothing may be held or discarded here (a state directory that does not survive); `` when it may."""
    clock: Callable[[], float] = time.time
    connections: Connections
    """Of all workers of the host."""
    books: Books = field(init=False, default_factory=Books)
    limits: LimitsConfig = field(init=False)
    """Of the configuration, as `plain` has it."""
    server_name: str = field(init=False)
    route: list[RouteConfig] = field(init=False)
    """Of the configuration, each as `plain` has it."""
    routes: RouteTable = field(init=False)
    only_route: str = field(init=False, default="")
    """The route of every recipient, whoever it is; `` where that is known with the recipient."""
    by_domain: bool = field(init=False, default=False)
    """On some route each recipient's domain is a way of its own."""
    directory: Path = Path()
    """Where relative file names of the configuration begin."""
    map: MapFile | None = field(init=False, default=None)
    """The route map, if there is one."""
    extensions: Known = field(init=False)
    _route_names: tuple[str, ...] = field(init=False)
    _in_common: tuple[list[Capabilities | None], Capabilities | None] = field(init=False, default=([], None))
    """What the next hops offered when it was last put together, and what that came to."""
    log: FilteringBoundLogger = field(default_factory=lambda: structlog.get_logger("mailgateway").bind())
    """For the line of each transaction; bound once, as binding costs more than the line that nobody wants."""

    def __post_init__(self) -> None:
        routes = self.config.route
        self.limits = plain(self.config.limits)
        self.server_name = self.config.server.name
        self._route_names = tuple(route.name for route in routes)
        self.route = [plain(route) for route in routes]
        self.routes = RouteTable(self.route)
        self.extensions = Known.of(self.config.pass_extensions)
        self.by_domain = any(route.is_by_domain for route in routes)
        written = self.config.relay.map
        if written:
            self.map = _map_file(self.directory / written, [route.name for route in routes])
        elif len(routes) == 1 and not self.by_domain:
            self.only_route = routes[0].name

    def mapped(self, path: SmtpPath) -> str | None:
        """The route or server that the map has for a recipient. It decides where to, never whether (docs/relaying.md)."""
        if self.map is None or not path.domain:
            return None
        return self.map.target(path.local_part, canonical(path.domain) or path.domain_key)

    def way(self, route: str, recipients: Iterable[Recipient]) -> str:
        """The route, or on one by domain the recipients' way there. LinkError when they have several."""
        ways = {self.relay.way(route, domain_of(recipient)) for recipient in recipients}
        if len(ways) > 1:
            raise LinkError(route, "recipients of several domains in one redirect", enhanced="4.3.5")
        return ways.pop() if ways else route

    def capabilities(self, route: str) -> Capabilities:
        """What the route's next hops offered; nothing when none was reached."""
        return self.relay.capabilities(route) or Capabilities()

    async def learnt(self, route: str) -> Capabilities | None:
        """What the route's next hops offered; asked for where it is not known. None when they cannot be reached."""
        known = self.relay.capabilities(route)
        if known is None:
            try:
                async with asyncio.timeout(LEARN_LIMIT):
                    known = await self.relay.learn(route)
            except (LinkError, TimeoutError):
                return None
        return known

    def known_in_common(self) -> Capabilities | None:
        """What every route's next hops offer; None where one of them has to be asked first. The same object while that is the same."""
        relay, names = self.relay, self._route_names
        others = relay.other_capabilities()
        if len(names) == 1 and not others:
            return relay.capabilities(names[0])
        found = [relay.capabilities(name) for name in names]
        found += others
        before, known = self._in_common
        if found == before:
            return known
        known = None
        for one in found:
            if one is None:
                return None
            known = one if known is None else known.common(one)
        self._in_common = (found, known)
        return known

    async def common_capabilities(self) -> Capabilities | None:
        """What every route's next hops offer; None while one of them was never reached."""
        common: Capabilities | None = None
        for route in self.config.route:
            known = await self.learnt(route.name)
            if known is None:
                return None
            common = known if common is None else common.common(known)
        for known in self.relay.other_capabilities():
            common = known if common is None else common.common(known)
        return common


def _map_file(path: Path, routes: list[str]) -> MapFile:
    try:
        return MapFile(path, routes)
    except MapError as error:
        allowed = "a file of addresses or domains, each with a route or server"
        raise ConfigError([ConfigProblem(file="", line=None, key="relay.map", found=str(error), allowed=allowed)]) from error


def domain_of(recipient: Recipient) -> str:
    """The domain that mail for it goes to, in lower case: a plugin may have changed the path."""
    path = recipient.forward_path
    if recipient.sent_path == path.octets:
        return canonical(path.domain) or path.domain_key
    domain = recipient.sent_path.decode("utf-8", "replace").rstrip(">").rpartition("@")[2]
    return canonical(domain) or domain.lower()


class Drained(Protocol):
    """A session, as far as its door knows it."""

    def drain(self) -> None:
        """The worker is stopping."""


@dataclass(slots=True, kw_only=True)
class Door:
    """A listener at run time."""

    site: Site
    config: ListenerConfig
    chain: Chain
    tls: ServerTls | None = None
    proxies: tuple[Network, ...] = ()
    introducers: tuple[Network, ...] = ()
    trusted: tuple[Network, ...] = ()
    lenient: tuple[Network, ...] = ()
    is_socket: bool = False
    """It is a UNIX socket."""
    is_behind_proxy: bool = False
    """It is a UNIX socket at which trusted proxies connect, and nobody else."""
    answers_differ: bool = False
    """Recipients of one message may deserve different replies after the content, and SMTP is spoken."""
    loopback: tuple[Network, ...] = networks(LOOPBACK)
    draining: bool = False
    is_left: bool = False
    """Connections that come are another generation's; the sessions here go on to their end."""
    sessions: set[Drained] = field(default_factory=set)
    empty: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the last session of a draining door has ended."""
    turn: float = 1.0
    """Seconds after which a session's limits are looked at again, at the latest."""
    looks: Looks = field(default_factory=lambda: Looks(1.0, 1.0))
    last_looks: Looks = field(default_factory=lambda: Looks(LINGER, LINGER))
    """At sessions that have ended, whose clients may not take their last replies."""
    offers: dict[tuple[bool, ...], Offer] = field(default_factory=dict)
    """What was offered last to each kind of client: under TLS, believed, authenticated, private."""
    requires_certificate: bool = False
    """Of clients, before they may send mail."""
    name: str = field(init=False)
    protocol: str = field(init=False)
    auth_route: str = field(init=False)
    limits: LimitsConfig = field(init=False)
    listener: ListenerConfig = field(init=False)
    """The configuration as each message asks it: as `plain` has it."""
    spoken: frozenset[str] = field(init=False)
    """The verbs of its protocol."""
    command_line: int = field(init=False)
    """Octets of a line, and of one of AUTH."""
    auth_line: int = field(init=False)
    greeting: Reply = field(init=False)
    greeting_delay: float = field(init=False)
    is_tls: bool = field(init=False)
    """From the first octet."""
    believes: bool = field(init=False)
    """Some clients, when they say that they are somebody else."""
    is_lenient_to_some: bool = field(init=False)

    def __post_init__(self) -> None:
        """What each connection asks of the configuration: asked once, as each look into that costs a call."""
        config, limits = self.config, self.site.limits
        self.name, self.protocol, self.auth_route, self.limits = config.name, config.protocol, config.auth_route, limits
        self.listener = plain(config)
        self.spoken = SPOKEN.get(config.protocol, frozenset())  # a door for `milter` or `policy` has no verbs
        self.command_line = limits.command_line
        self.auth_line = AUTH_LINE if config.auth_route else 0
        self.greeting_delay = config.greeting_delay
        self.is_tls = self.tls is not None and self.tls.config.implicit
        self.believes = bool(self.introducers) or UNIX in config.trusted_xclient
        self.is_lenient_to_some = bool(self.lenient) or UNIX in config.lenient_networks
        self.greeting = Reply(
            220, (f"{self.site.server_name} {'LMTP' if config.protocol == 'lmtp' else 'ESMTP'} mailgateway".encode(),)
        )

    @classmethod
    def open(cls, site: Site, config: ListenerConfig, chain: Chain, *, directory: Path | None = None) -> Door:
        """A door with its networks and certificates read. OSError, ssl.SSLError or ValueError when the latter cannot be used."""
        limits = site.limits
        turn = min(limits.idle, limits.content_idle, limits.session_time, limits.rate_window, limits.envelope_reply)
        return cls(
            site=site,
            config=config,
            chain=chain,
            turn=turn,
            looks=Looks(0.75 * turn, turn),
            last_looks=Looks(LINGER, 1.25 * LINGER),
            tls=ServerTls(config.tls, directory=directory) if config.tls is not None else None,
            requires_certificate=config.tls is not None and config.tls.client_certificates == "require",
            proxies=networks(config.trusted_proxies),
            introducers=networks(config.trusted_xclient),
            trusted=networks(config.trusted_networks),
            lenient=networks(config.lenient_networks),
            is_socket=bool(socket_path(config.bind)),
            is_behind_proxy=bool(socket_path(config.bind)) and UNIX in config.trusted_proxies,
            answers_differ=config.protocol == "smtp" and ("judge" in chain.stages or has_lmtp(site.config.route)),
        )

    def enter(self, session: Drained) -> None:
        """A session begins."""
        self.sessions.add(session)

    def leave(self, session: Drained) -> None:
        """A session has ended."""
        self.sessions.discard(session)
        if (self.draining or self.is_left) and not self.sessions:
            self.empty.set()

    async def vacated(self) -> None:
        """Returns when the last session of a door that new connections do not reach any more has ended."""
        self.is_left = True
        while self.sessions:
            self.empty.clear()
            await self.empty.wait()

    def turn_out(self) -> None:
        """Sessions between transactions end at once, the others after their transaction."""
        self.draining = True
        for session in tuple(self.sessions):
            session.drain()

    async def drain(self) -> None:
        """The same; returns when all have ended."""
        self.turn_out()
        if self.sessions:
            await self.empty.wait()

    def client_class(self, session: Session) -> ClientClass:
        """How far this client is trusted."""
        if session.identity:
            return _AUTHENTICATED
        if session.is_local and UNIX in self.config.trusted_networks:
            return _TRUSTED
        return _TRUSTED if self.trusted and contains(self.trusted, session.client_address) else _STRANGER

    def is_proxy(self, address: str) -> bool:
        """A connection from there begins with a PROXY header; `` at a UNIX socket."""
        return self.is_behind_proxy or contains(self.proxies, address)

    def may_introduce(self, session: Session) -> bool:
        """What is said there of other clients is believed."""
        if not self.believes:
            return False
        if session.is_local and UNIX in self.config.trusted_xclient:
            return True
        return bool(self.introducers) and contains(self.introducers, session.client_address)

    def is_lenient(self, session: Session) -> bool:
        """Bare CR and LF are taken as line ends."""
        if session.identity:
            return True
        if not self.is_lenient_to_some:
            return False
        if session.is_local and UNIX in self.config.lenient_networks:
            return True
        return contains(self.lenient, session.client_address)

    def is_private(self, session: Session) -> bool:
        """Nobody reads on the way to this client: TLS, or it is on this host. Only then it may authenticate (design §5).

        Where a proxy on this host ended the client's TLS, that counts too; a proxy elsewhere has to come under TLS itself.
        """
        if session.tls is not None or session.is_local:
            return True
        near, proxy = contains(self.loopback, session.client_address), session.proxy
        if proxy is None:
            return near
        return (self.is_socket or contains(self.loopback, proxy.address)) and (near or proxy.tls is not None)
