"""The regular expressions of a group, in RE2: those for one fact are looked for in one pass, once for each message.

The language's own `matches` compiles its pattern each time it is called, which for one with alternatives takes a millisecond.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from gateway.plugins.rules.facts import FACTS, Subject, clean
from gateway.plugins.rules.functions import FUNCTIONS, compiled, pattern_set
from gateway.plugins.rules.kinds import STRING
from gateway.plugins.rules.rates import Rate, period_of
from gateway.plugins.rules.tree import MACROS, Binary, Call, Choice, Index, Listed, Literal, Mapped, Member, Name, Node, Unary
from gateway.plugins.rules.writing import write

Target: TypeAlias = tuple[str, str]
"""Where a pattern is looked for: ("fact", path), or a function of a field and its name in lower case."""

IN_FACT = "_in_fact"
"""`_in_fact(3)`: whether one of the patterns of entry 3 occurs in its fact. No name that a rule may use begins so."""
IN_TEXT = "_in_text"
"""`_in_text(text, 3)`: the same in a text that only the expression knows."""
COUNTED = "_counted"
"""`_counted(3)`: what was counted for rate 3."""
SET_SIZE = 100
"""Patterns of one set."""
LARGE_PROGRAM = 2_000
"""Instructions of a pattern that is looked for by itself: a set of such could run out of memory, and then finds nothing."""
_OF_FIELD = ("header", "header_raw")

# A recipient's facts are another's a moment later.
_TEXTS = {row.path: row.read for row in FACTS if row.kind == STRING and not row.path.startswith("recipient.")}
SEARCHED = frozenset(_TEXTS)
"""Paths of facts that patterns are looked for in."""
_FIELDS = {row.name: row.make for row in FUNCTIONS if row.name in _OF_FIELD}


class Patterns:
    """The patterns of one group and where they are looked for. Filled by `moved`, one expression after the other."""

    def __init__(self) -> None:
        self._numbers: dict[Target, dict[str, int]] = {}
        self._entries: list[_Entry] = []
        self._known: dict[tuple[Target | None, tuple[str, ...]], int] = {}
        self._searches: dict[Target, _Search] = {}
        self._texts: dict[Target, Callable[[Subject], str]] = {}
        self.rates: list[Rate] = []
        """What the group counts."""

    def moved(self, node: Node) -> Node:
        """The tree with its patterns here; the same one where it has none. It was checked: patterns are written out, and RE2's."""
        return _Mover(self).moved(node)

    def entry(self, target: Target | None, patterns: tuple[str, ...], read: Callable[[Subject], str] | None) -> int:
        """The number of these patterns in this place; None: in a text that only the expression knows."""
        key = (target, patterns)
        if key not in self._known:
            self._known[key] = len(self._entries)
            if target is None or read is None:
                self._entries.append(_Entry(None, tuple(map(compiled, patterns)), frozenset()))
            else:
                self._searches.pop(target, None)
                self._texts[target] = read
                numbers = self._numbers.setdefault(target, {})
                wanted = frozenset(numbers.setdefault(pattern, len(numbers)) for pattern in patterns)
                self._entries.append(_Entry(target, (), wanted))
        return self._known[key]

    def rate(self, rate: Rate) -> int:
        """The number of a rate, the same for the same."""
        if rate not in self.rates:
            self.rates.append(rate)
        return self.rates.index(rate)

    def prepare(self) -> None:
        """Make the automata of all places now: the first message need not wait for them."""
        for target in self._numbers:
            self._search(target)

    def in_fact(self, subject: Subject) -> Callable[[int], bool]:
        """The function IN_FACT for this message."""
        found: dict[Target, frozenset[int]] = subject.searched

        def occurs(number: int) -> bool:
            entry = self._entries[number]
            target = entry.target
            assert target is not None
            if target not in found:
                found[target] = self._search(target).found(self._texts[target](subject))
            return not entry.wanted.isdisjoint(found[target])

        return occurs

    def in_text(self, _: Subject) -> Callable[[str, int], bool]:
        """The function IN_TEXT."""
        entries = self._entries
        return lambda text, number: any(pattern.search(text) is not None for pattern in entries[number].patterns)

    def _search(self, target: Target) -> _Search:
        search = self._searches.get(target)
        if search is None:
            search = self._searches[target] = _Search(tuple(self._numbers[target]))
        return search


@dataclass(frozen=True, slots=True)
class _Entry:
    """What one number in an expression stands for."""

    target: Target | None
    patterns: tuple[Any, ...]
    """Compiled, where there is no target."""
    wanted: frozenset[int]
    """Numbers of the target's patterns."""


class _Search:
    """All patterns that are looked for in one place."""

    def __init__(self, patterns: Sequence[str]) -> None:
        alone = [(number, compiled(pattern)) for number, pattern in enumerate(patterns)]
        # One by itself is a set too: that tells whether it occurs, and nothing of where, in half the time.
        together = [number for number, pattern in alone if pattern.programsize <= LARGE_PROGRAM]
        self._alone = [(number, pattern) for number, pattern in alone if number not in set(together)]
        self._sets = [
            (some, pattern_set(tuple(patterns[number] for number in some)))
            for some in (together[at : at + SET_SIZE] for at in range(0, len(together), SET_SIZE))
        ]

    def found(self, text: str) -> frozenset[int]:
        """Numbers of the patterns that occur."""
        found = {number for number, pattern in self._alone if pattern.search(text) is not None}
        for numbers, patterns in self._sets:
            found.update(numbers[place] for place in patterns.Match(text) or ())
        return frozenset(found)


class _Mover:
    """Walks one tree; `_scopes` holds the variables of the macros around, which may bear a fact's name."""

    def __init__(self, patterns: Patterns) -> None:
        self._patterns = patterns
        self._scopes: list[str] = []

    def moved(self, node: Node) -> Node:
        match node:
            case Call():
                return self._call(node)
            case Member():
                return replace(node, of=self.moved(node.of))
            case Index():
                return replace(node, of=self.moved(node.of), key=self.moved(node.key))
            case Listed():
                return replace(node, items=self._all(node.items))
            case Mapped():
                return replace(node, entries=tuple((self.moved(key), self.moved(value)) for key, value in node.entries))
            case Unary():
                return replace(node, of=self.moved(node.of))
            case Binary():
                return replace(node, left=self.moved(node.left), right=self.moved(node.right))
            case Choice():
                condition, then, otherwise = self._all((node.condition, node.then, node.otherwise))
                return replace(node, condition=condition, then=then, otherwise=otherwise)
            case Literal() | Name():
                return node

    def _all(self, nodes: tuple[Node, ...]) -> tuple[Node, ...]:
        return tuple(self.moved(one) for one in nodes)

    def _call(self, node: Call) -> Node:
        given = node.arguments if node.receiver is None else (node.receiver, *node.arguments)
        patterns = _written_out(node.name, given)
        if patterns is not None:
            return self._looked_up(node, given[0], patterns)
        if node.name == "rate" and len(given) == 2 and isinstance(given[1], Literal):
            number = self._patterns.rate(Rate(write(given[0]), period_of(str(given[1].value))))
            return Call(node.at, COUNTED, None, (Literal(node.at, "int", number),))
        if node.name in MACROS and node.receiver is not None and node.arguments and isinstance(node.arguments[0], Name):
            receiver = self.moved(node.receiver)
            self._scopes.append(node.arguments[0].name)
            inside = self._all(node.arguments[1:])
            self._scopes.pop()
            return replace(node, receiver=receiver, arguments=(node.arguments[0], *inside))
        receiver_moved = None if node.receiver is None else self.moved(node.receiver)
        return replace(node, receiver=receiver_moved, arguments=self._all(node.arguments))

    def _looked_up(self, node: Call, text: Node, patterns: tuple[str, ...]) -> Call:
        target, read = self._target(text)
        number = Literal(node.at, "int", self._patterns.entry(target, patterns, read))
        if target is None:
            return Call(node.at, IN_TEXT, None, (self.moved(text), number))
        return Call(node.at, IN_FACT, None, (number,))

    def _target(self, text: Node) -> tuple[Target | None, Callable[[Subject], str] | None]:
        path = path_of(text)
        if path in _TEXTS and path.partition(".")[0] not in self._scopes:
            fact = _TEXTS[path]
            return ("fact", path), lambda subject: clean(str(fact(subject)))
        if isinstance(text, Call) and text.receiver is None and text.name in _FIELDS and isinstance(text.arguments[0], Literal):
            name, make = str(text.arguments[0].value).lower(), _FIELDS[text.name]
            return (text.name, name), lambda subject: str(make(subject)(name))
        return None, None


def _written_out(function: str, given: tuple[Node, ...]) -> tuple[str, ...] | None:
    """The patterns of a call that looks for some."""
    if len(given) != 2 or function not in {"matches", "matches_any"}:
        return None
    last = given[1]
    items = last.items if isinstance(last, Listed) else (last,)
    return tuple(str(one.value) for one in items if isinstance(one, Literal))


def path_of(node: Node) -> str:
    """`message.text` of a fact that is named so, `` of everything else."""
    if isinstance(node, Name):
        return node.name
    if isinstance(node, Member) and isinstance(node.of, Name):
        return f"{node.of.name}.{node.name}"
    return ""


def paths_in(node: Node) -> Iterator[str]:
    """Every path that a tree names, the variables of macros among them."""
    if path := path_of(node):
        yield path
    inside: tuple[Node, ...] = ()
    match node:
        case Call():
            inside = node.arguments if node.receiver is None else (node.receiver, *node.arguments)
        case Member() | Unary():
            inside = (node.of,)
        case Index():
            inside = (node.of, node.key)
        case Listed():
            inside = node.items
        case Mapped():
            inside = tuple(one for entry in node.entries for one in entry)
        case Binary():
            inside = (node.left, node.right)
        case Choice():
            inside = (node.condition, node.then, node.otherwise)
        case Literal() | Name():
            pass
    for one in inside:
        yield from paths_in(one)
