"""The tree of an expression: what `syntax` makes and `checking` walks. Each node knows its place in the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

MACROS = ("exists", "all", "exists_one", "filter", "map")
"""What binds a name."""


class ExpressionError(ValueError):
    """An expression that cannot be used, with the place of the mistake in it."""

    def __init__(self, what: str, at: int, *, allowed: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.at = at
        """Offset into the text."""
        self.allowed = allowed
        self.hint = hint
        """The nearest right name, or ``."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant. `kind` is `string`, `bytes`, `int`, `double`, `bool` or `null`."""

    at: int
    kind: str
    value: object


@dataclass(frozen=True, slots=True)
class Name:
    """A fact, a group of facts or the variable of a macro."""

    at: int
    name: str


@dataclass(frozen=True, slots=True)
class Member:
    """`of.name`."""

    at: int
    of: Node
    name: str


@dataclass(frozen=True, slots=True)
class Index:
    """`of[key]`."""

    at: int
    of: Node
    key: Node


@dataclass(frozen=True, slots=True)
class Call:
    """`name(…)`, or `receiver.name(…)`."""

    at: int
    name: str
    receiver: Node | None
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Listed:
    """`[a, b]`."""

    at: int
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Mapped:
    """`{a: b}`."""

    at: int
    entries: tuple[tuple[Node, Node], ...]


@dataclass(frozen=True, slots=True)
class Unary:
    """`!of` or `-of`."""

    at: int
    sign: str
    of: Node


@dataclass(frozen=True, slots=True)
class Binary:
    """`left sign right`; `at` is the sign's."""

    at: int
    sign: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Choice:
    """`condition ? then : otherwise`."""

    at: int
    condition: Node
    then: Node
    otherwise: Node


Node: TypeAlias = Literal | Name | Member | Index | Call | Listed | Mapped | Unary | Binary | Choice
