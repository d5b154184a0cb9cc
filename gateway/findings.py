"""Findings: what checks found out. Judges and rules read them; they decide nothing by themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Base of every finding; plugins may derive their own frozen dataclasses.

    Examples:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True, slots=True, kw_only=True)
        ... class Language(Finding):
        ...     name: str
        >>> Language(name="nl")
        Language(name='nl')
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthResult(Finding):
    """One result of an authentication method (RFC 8601 2.2).

    Examples:
        >>> result = AuthResult(method="spf", result="pass", properties=(("smtp.mailfrom", "example.org"),))
        >>> result.property("smtp.mailfrom")
        'example.org'
    """

    method: str
    """`spf`, `dkim`, `dmarc`, `auth`, …"""
    result: str
    """`pass`, `fail`, `softfail`, `neutral`, `none`, `temperror`, `permerror`, `policy`, …"""
    reason: str = ""
    """For people: why."""
    properties: tuple[tuple[str, str], ...] = ()
    """(`smtp.mailfrom`, value) … in the order they are written."""

    def property(self, name: str) -> str | None:
        """Value of `ptype.property`, or None."""
        for key, value in self.properties:
            if key == name:
                return value
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Score(Finding):
    """A symbol with a weight; rules sum them.

    Examples:
        >>> Score(symbol="NO_DATE", weight=1.5, evidence="no Date field").weight
        1.5
    """

    symbol: str
    weight: float
    evidence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Finding):
    """A word put on the message.

    Examples:
        >>> Label(name="newsletter", evidence="List-Unsubscribe")
        Label(name='newsletter', evidence='List-Unsubscribe')
    """

    name: str
    evidence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact(Finding):
    """One named value of a plugin: `Fact(name="geoip.country", value="NL")`.

    Examples:
        >>> Fact(name="geoip.country", value="NL")
        Fact(name='geoip.country', value='NL')
    """

    name: str
    value: Scalar


F = TypeVar("F", bound=Finding)


@dataclass(slots=True)
class Findings:
    """The findings of a transaction, each with the plugin that gave it, in the order they came.

    Examples:
        >>> class Country(Plugin):
        ...     @hook
        ...     async def check(self) -> Fact:
        ...         return Fact(name="geoip.country", value="NL")
        ...     @hook
        ...     async def judge(self, transaction: Transaction) -> Verdict | None:
        ...         found = [fact.value for fact in transaction.findings.of(Fact) if fact.name == "geoip.country"]
        ...         return quarantine("country", evidence=", ".join(found)) if found else None
        >>> (await run_plugin(Country())).verdict.evidence
        'NL'
    """

    _items: list[tuple[str, Finding]] = field(default_factory=list)
    _of_kind: dict[type[Finding], list[Any]] | None = field(default=None, init=False, repr=False, compare=False)
    """What was asked for since the last one came: several plugins ask for the same."""

    def add(self, plugin: str, finding: Finding) -> None:
        """Only the chain calls this: plugins answer with findings."""
        self._items.append((plugin, finding))
        self._of_kind = None

    def of(self, kind: type[F], *, method: str | None = None) -> list[F]:
        """All findings of a type; for AuthResult optionally of one method."""
        known = self._of_kind  # the one of before the look: a hook in a thread may look while others are added
        if known is None:
            known = self._of_kind = {}
        found: list[F] | None = known.get(kind)
        if found is None:
            found = known[kind] = [f for _, f in self._items if isinstance(f, kind)]
        if method is None:
            return list(found)
        return [f for f in found if getattr(f, "method", None) == method]

    def by(self, plugin: str, kind: type[F]) -> list[F]:
        """Those of a type that one plugin gave, by its name in the chain."""
        return [f for name, f in self._items if name == plugin and isinstance(f, kind)]

    def attributed(self) -> Iterator[tuple[str, Finding]]:
        """Pairs of plugin name and finding."""
        return iter(tuple(self._items))

    def extend(self, plugin: str, findings: Iterable[Finding]) -> None:
        """Several at once."""
        self._items += [(plugin, f) for f in findings]
        self._of_kind = None

    def __iter__(self) -> Iterator[Finding]:
        return iter([f for _, f in self._items])

    def __len__(self) -> int:
        return len(self._items)
