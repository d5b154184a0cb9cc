"""What a plugin gets beside its options: interfaces only, so that tests and other back ends can stand in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from gateway.files.values import Opened
    from gateway.message import Message

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsAnswer:
    """An answer of DNS. Absence is an answer (`records` empty); failure is DnsError.

    Examples:
        >>> resolver = FakeResolver({"example.org": {"MX": [[10, "mx.example.org"]]}})
        >>> (await resolver.query("example.org", "MX")).records
        ((10, 'mx.example.org'),)
        >>> (await resolver.query("nowhere.example", "MX")).exists
        False
    """

    name: str
    kind: str
    """`A`, `AAAA`, `MX`, `TXT`, `PTR`, `CNAME`, `NS`, `SOA`."""
    records: tuple[Any, ...] = ()
    """A, AAAA, PTR, CNAME, NS: str without trailing dot; MX: (preference, host); TXT: tuple of bytes strings."""
    exists: bool = True
    """False for NXDOMAIN; True with empty records for NODATA."""
    authenticated: bool = False
    """The AD bit: the name server has validated the answer (DNSSEC). Only from a name server that `[dns] trust_ad` believes."""
    cached: bool = False
    stale: bool = False
    """Its time to live is over, and no name server gives a newer one (RFC 8767)."""
    canonical: str = ""
    """The name at the end of the CNAME chain, or ``."""


class Resolver(Protocol):
    """Shared, cached DNS.

    Examples:
        >>> class Listed(Plugin):
        ...     @hook
        ...     async def connect(self, session: Session) -> Reject | None:
        ...         name = ".".join(reversed(session.client_address.split("."))) + ".list.example"
        ...         listed = (await self.context.resolver.query(name, "A")).records
        ...         return reject("Listed", code=554) if listed else None
        >>> context = FakeContext(zones={"1.2.0.192.list.example": {"A": ["127.0.0.2"]}})
        >>> (await run_plugin(Listed(), context=context)).verdict.reason
        'listed'
    """

    async def query(self, name: str, kind: str) -> DnsAnswer:
        """Look up. Raises DnsError for a temporary failure, and when the transaction's budget is spent; never anything else."""
        ...


class Store(Protocol):
    """Small shared state with a time to live; shared by all workers, survives a restart.

    Examples:
        >>> store = FakeContext().store
        >>> await store.put_if_absent("seen", b"1", ttl=60)
        True
        >>> await store.put_if_absent("seen", b"2", ttl=60)
        False
        >>> await store.incr("count", 5, ttl=60)
        5
        >>> [await store.take("bucket", rate=1 / 60, burst=2) for _ in range(3)]
        [1.0, 0.0, -1.0]
    """

    async def get(self, key: str) -> bytes | None:
        """Value, or None when absent or expired."""
        ...

    async def put(self, key: str, value: bytes, *, ttl: float) -> None:
        """Set for `ttl` seconds."""
        ...

    async def put_if_absent(self, key: str, value: bytes, *, ttl: float) -> bool:
        """Set unless there; True when this call set it. Atomic over all workers."""
        ...

    async def incr(self, key: str, amount: int = 1, *, ttl: float) -> int:
        """Add to a counter; the new value. The first incr sets the time to live. Atomic."""
        ...

    async def take(self, key: str, amount: float = 1, *, rate: float, burst: float) -> float:
        """Take from a token bucket that fills by `rate` a second up to `burst`; how much is left then. Atomic over all workers.

        Below 0: there was not enough, nothing was taken, and so much was missing: it is there in `-left / rate` seconds. A negative
        amount gives back. A key that is not known is a full bucket. ValueError for a rate or a burst that is not above 0.
        """
        ...

    async def delete(self, key: str) -> None:
        """Forget."""
        ...


class Log(Protocol):
    """A structured logger bound to the plugin.

    Examples:
        >>> log: Log = FakeContext().log
        >>> _ = log.warning("table.old", hours=30)
    """

    def debug(self, event: str, **facts: object) -> object:
        """A line of this level: what happened, and facts by name."""
        ...

    def info(self, event: str, **facts: object) -> object:
        """A line of this level: what happened, and facts by name."""
        ...

    def warning(self, event: str, **facts: object) -> object:
        """A line of this level: what happened, and facts by name."""
        ...

    def error(self, event: str, **facts: object) -> object:
        """A line of this level: what happened, and facts by name."""
        ...


class Metrics(Protocol):
    """Counters and times of a plugin; names are prefixed with `mailgateway_plugin_<name>_`.

    Examples:
        >>> metrics: Metrics = FakeContext().metrics
        >>> metrics.count("seen", country="NL")
        >>> metrics.observe("look_up_seconds", 0.012)
    """

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        ...

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add to a histogram of seconds."""
        ...


class Context(Protocol):
    """Handed to `startup`, and as `self.context` to every plugin before.

    Examples:
        >>> class Counting(Plugin):
        ...     @hook
        ...     async def connect(self, session: Session) -> None:
        ...         seen = await self.context.store.incr(session.client_address, ttl=3600)
        ...         self.context.log.info("seen", client=session.client_address, times=seen)
        >>> context = FakeContext()
        >>> _ = await run_plugin(Counting(), context=context)
        >>> context.log.lines
        [('info', 'seen', {'client': '192.0.2.1', 'times': 1})]
    """

    @property
    def resolver(self) -> Resolver:
        """Shared, cached DNS."""
        ...

    @property
    def store(self) -> Store:
        """Small state with a time to live, the plugin's own keys."""
        ...

    @property
    def log(self) -> Log:
        """A structured logger bound to the plugin."""
        ...

    @property
    def metrics(self) -> Metrics:
        """Counters and times of the plugin."""
        ...

    @property
    def server_name(self) -> str:
        """`[server] name`."""
        ...

    @property
    def authserv_id(self) -> str:
        """RFC 8601 2.5: our name in Authentication-Results."""
        ...

    @property
    def limits(self) -> Mapping[str, int]:
        """`[limits]`, by key."""
        ...

    @property
    def base_directory(self) -> str:
        """Relative file names in options start here: the directory of the configuration file."""
        ...

    @property
    def state_directory(self) -> str:
        """What a plugin writes for itself lies below it: `[server] state_directory`. It may have to be made."""
        ...

    def clock(self) -> float:
        """Seconds since the epoch."""
        ...

    async def run_in_process(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run CPU-heavy work in the worker's process pool; function and arguments must pickle."""
        ...

    async def open_files(self, message: Message) -> Opened:
        """Every file of the message, attachments and what is in them, to the limits of `[limits] files_…`.

        Computed once for a message, whoever asks, in a process with limits of its own. No content makes it raise; PluginError
        when so many messages wait already, or no process can be started.
        """
        ...

    def spawn(self, work: Awaitable[None], *, name: str) -> None:
        """Run in the background until shutdown; an error is logged."""
        ...
