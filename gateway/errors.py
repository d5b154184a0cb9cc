"""The three families of errors: of the configuration, of the protocol (ours or theirs), of a plugin."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from gateway.gateway_error import GatewayError as GatewayError  # noqa: PLC0414 - one of these, for everybody else


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigProblem:
    """One mistake in the configuration: where, what was found, what is allowed.

    Examples:
        >>> print(ConfigProblem(file="config.toml", line=None, key="plugins", found='"spff"', allowed="spf"))
        config.toml: plugins: found "spff"; allowed: spf
    """

    file: str
    line: int | None
    key: str
    found: str
    allowed: str
    hint: str = ""
    """The nearest right name, or ``."""

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        text = f"{where}: {self.key}: found {self.found}; allowed: {self.allowed}"
        return f"{text} (did you mean {self.hint!r}?)" if self.hint else text


class ConfigError(GatewayError):
    """The configuration cannot be used: all problems at once.

    Examples:
        >>> problem = ConfigProblem(file="config.toml", line=3, key="plugin.spf.fial", found="an unknown key", allowed="fail", hint="fail")
        >>> print(ConfigError([problem]))
        config.toml:3: plugin.spf.fial: found an unknown key; allowed: fail (did you mean 'fail'?)
    """

    def __init__(self, problems: list[ConfigProblem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionMistake:
    """A mistake in an option of a plugin that no single value shows: a file that cannot be used, names that do not agree.

    Examples:
        >>> OptionMistake(key=("key", 0, "file"), found="no key", allowed="a private key in PEM").key
        ('key', 0, 'file')
    """

    key: tuple[str | int, ...]
    """Below the plugin's table: `("key", 0, "file")`."""
    found: str
    allowed: str


class OptionError(GatewayError):
    """Raised by a plugin's constructor; becomes problems of the configuration with file and line.

    Examples:
        >>> mistake = OptionMistake(key=("table",), found="a file that cannot be read", allowed="a file of addresses")
        >>> print(OptionError(mistake))
        ('table',): found a file that cannot be read; allowed: a file of addresses
    """

    def __init__(self, *mistakes: OptionMistake) -> None:
        super().__init__("\n".join(f"{one.key}: found {one.found}; allowed: {one.allowed}" for one in mistakes))
        self.mistakes = mistakes


class PluginError(GatewayError):
    """A plugin cannot be loaded, or did what a plugin may not do.

    Examples:
        >>> class Wrong(Plugin):
        ...     @hook
        ...     async def juge(self, message: Message) -> None: ...
        >>> await run_plugin(Wrong())
        Traceback (most recent call last):
        gateway.errors.PluginError: plugin wrong: Wrong.juge is marked @hook, and there is no hook of this name (did you mean 'judge'?)
    """

    def __init__(self, plugin: str, what: str) -> None:
        super().__init__(f"plugin {plugin}: {what}")
        self.plugin = plugin
        self.what = what


class LinkError(GatewayError):
    """The link to a next hop failed: nobody's verdict on the message. Becomes 451 4.4.x."""

    def __init__(self, next_hop: str, what: str, *, enhanced: str = "4.4.2", unknown: bool = False) -> None:
        super().__init__(f"{next_hop}: {what}")
        self.next_hop = next_hop
        self.what = what
        self.enhanced = enhanced
        self.unknown = unknown
        """Content went out and its reply did not come back: the next hop may have taken the message."""


class DomainFault(Enum):
    """Why mail for a domain can go nowhere."""

    NULL_MX = "null MX"
    NO_SUCH_DOMAIN = "no such domain"
    NO_USABLE_EXCHANGE = "no usable exchange"
    LOOP = "loop"
    """Its exchangers lead back to us."""


class DomainError(LinkError):
    """DNS says that mail for the domain can go nowhere: about the recipient, not about our link (RFC 5321 5.1)."""

    def __init__(self, domain: str, what: str, fault: DomainFault) -> None:
        super().__init__(domain, what, enhanced="4.4.4")
        self.fault = fault


class StorageError(GatewayError):
    """Quarantine, journal, ledger or spool could not write durably. `full` when the disk is."""

    def __init__(self, what: str, *, full: bool = False) -> None:
        super().__init__(what)
        self.full = full


class LookupFailedError(GatewayError):
    """A look-up of a plugin could not be made now: no answer, a fault of the server, too many at once. Absence is an answer, not an error.

    Examples:
        >>> print(LookupFailedError("no answer within 3 s"))
        no answer within 3 s
    """


class DnsError(GatewayError):
    """A temporary failure of DNS: time-out, SERVFAIL, no server. Absence is an answer, not an error.

    Examples:
        >>> try:
        ...     await FakeResolver({"example.org": TEMPFAIL}).query("example.org", "MX")
        ... except DnsError as error:
        ...     print(error)
        example.org MX: temporary failure
    """

    def __init__(self, name: str, kind: str, what: str, *, cause: str = "other") -> None:
        super().__init__(f"{name} {kind}: {what}")
        self.name = name
        self.kind = kind
        self.what = what
        self.cause = cause
        """`timeout`, `unreachable`, `servfail`, `refused`, `answer` (none that can be used), `budget` (the transaction has spent its
        look-ups or its time), `overload`, `closed`, `static` (the configuration says so) or `other`."""
