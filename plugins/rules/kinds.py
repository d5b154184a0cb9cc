"""Kinds of values in expressions: what a fact is, and what functions take and give."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value. `item` is that of a list's or map's values, `path` names a record of facts."""

    name: str
    item: Kind | None = None
    path: str = ""

    def __str__(self) -> str:
        if self.name == "record":
            return f"the group {self.path}"
        if self.item is None:
            return self.name
        return f"{self.name} of {self.item}" if self.item.name != "record" else f"{self.name} {self.item.path}"


STRING = Kind("string")
INT = Kind("int")
DOUBLE = Kind("double")
BOOL = Kind("bool")
BYTES = Kind("bytes")
NULL = Kind("null")
ANY = Kind("any")
"""Known only when the expression is run."""
STRINGS = Kind("list", STRING)
NUMBERS = frozenset((INT, DOUBLE))


def list_of(item: Kind) -> Kind:
    """A list."""
    return Kind("list", item)


def record(path: str) -> Kind:
    """A group of facts, or an element of a list of them."""
    return Kind("record", None, path)


def is_like(one: Kind, other: Kind) -> bool:
    """True when values of the two may be compared or stand for each other."""
    if ANY in {one, other} or NULL in {one, other} or {one, other} <= NUMBERS:
        return True
    if one.name == other.name and one.item is not None and other.item is not None:
        return is_like(one.item, other.item)
    return one == other
