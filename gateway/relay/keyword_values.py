"""How the values behind an EHLO keyword combine over several servers: what all of them keep to. RFC 5321 4.1.1.1. No I/O.

A keyword without a rule here keeps the words that both have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

Values = tuple[str, ...]
LIMIT_NAMES = ("RCPTMAX", "MAILMAX", "RCPTDOMAINMAX")
"""Of RFC 9422 4.1 to 4.3; another name in LIMITS is passed over (RFC 9422 3)."""


def combined(keyword: str, mine: Values, theirs: Values) -> Values | None:
    """The values for a keyword that both servers offer; None: there are none that keep to both, so it is nothing they share."""
    if mine == theirs:
        return mine
    rule = _RULES.get(keyword)
    return rule(mine, theirs) if rule is not None else tuple(one for one in mine if one in theirs)


def number(text: str, *, digits: int = 20) -> int | None:
    """A number without sign, None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= digits else None


def limits_of(values: Values) -> dict[str, int]:
    """The limits of LIMITS that are known here, by name (RFC 9422 3); 0 is no limit that could be kept."""
    found: dict[str, int] = {}
    for word in values:
        name, _, text = word.partition("=")
        value = number(text, digits=6)  # RFC 9422 4.1 to 4.3: at most six digits
        if name.upper() in LIMIT_NAMES and value:
            found[name.upper()] = value
    return found


def limit_words(limits: Mapping[str, int]) -> Values:
    """The other way round, in the order of LIMIT_NAMES."""
    return tuple(f"{name}={limits[name]}" for name in LIMIT_NAMES if name in limits)


def smaller_limits(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    """What keeps to both; a limit that one of them does not name is the other's."""
    return {
        name: min(found[name] for found in (one, other) if name in found) for name in LIMIT_NAMES if name in one or name in other
    }


def _first(values: Values) -> int | None:
    return number(values[0]) if values else None


def _size(mine: Values, theirs: Values) -> Values:
    """The smaller one; 0 and no value are no limit (RFC 1870 4)."""
    limits = [limit for limit in (_first(mine), _first(theirs)) if limit]
    return (str(min(limits)),) if limits else ()


def _deliver_by(mine: Values, theirs: Values) -> Values:
    """The larger minimum of seconds: less is refused by one of them (RFC 2852 4)."""
    least = [value for value in (_first(mine), _first(theirs)) if value]
    return (str(max(least)),) if least else ()


def _future_release(mine: Values, theirs: Values) -> Values | None:
    """The shorter interval and the earlier date (RFC 4865 4.1), which belong to the keyword: none, where one cannot be read."""
    one, other = _release(mine), _release(theirs)
    if one is None or other is None:
        return None
    return str(min(one[0], other[0])), min(one, other, key=lambda release: release[1])[2]


def _release(values: Values) -> tuple[int, datetime, str] | None:
    if len(values) < 2:
        return None
    interval = number(values[0])
    try:
        until = datetime.fromisoformat(values[1])
    except ValueError:
        return None
    if interval is None:
        return None
    return interval, until if until.tzinfo is not None else until.replace(tzinfo=UTC), values[1]


def _priority(mine: Values, theirs: Values) -> Values:
    """The profile where it is the same, in any case (RFC 6710 5)."""
    return mine if [word.upper() for word in mine] == [word.upper() for word in theirs] else ()


def _limits(mine: Values, theirs: Values) -> Values:
    return limit_words(smaller_limits(limits_of(mine), limits_of(theirs)))


_RULES: dict[str, Callable[[Values, Values], Values | None]] = {
    "SIZE": _size,
    "DELIVERBY": _deliver_by,
    "FUTURERELEASE": _future_release,
    "MT-PRIORITY": _priority,
    "LIMITS": _limits,
}
