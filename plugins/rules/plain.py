"""Expressions that need no library: comparisons, tests of texts, lists and our own functions, as calls of Python.

Most conditions of rules are of that kind. Handing a dozen facts to the library and back costs more than the comparisons, so what is
surely the same in both is done here, with each fact read when it is first asked for and once for a message. Surely the same means:
nothing in it can fail, and the kinds of all its values are known. Everything else is the library's: arithmetic, conversions, maps,
order of texts, what may be null.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

from gateway.plugins.rules.facts import ELEMENTS, FACTS, FactRow, Subject, as_value, clean
from gateway.plugins.rules.functions import FUNCTIONS
from gateway.plugins.rules.kinds import BOOL, DOUBLE, INT, STRING, Kind
from gateway.plugins.rules.searching import IN_FACT, IN_TEXT, Patterns, path_of
from gateway.plugins.rules.tree import Binary, Call, Listed, Literal, Member, Name, Node, Unary

Read: TypeAlias = Callable[[Subject], Any]
Test: TypeAlias = Callable[[Subject], bool]
Scopes: TypeAlias = Mapping[str, tuple[Kind, str]]
"""The variables of the macros around: the kind of each, and where among what is known of a message its value stands."""

_FACTS = {row.path: row for row in FACTS}
_ELEMENTS = {row.path: row for row in ELEMENTS}
_SAFE = frozenset(["has_header", "header", "header_raw", "in_network", "in_domain", "domain_of", "lower"])
"""Functions of ours that give an answer to whatever they are given."""
_FUNCTIONS = {row.name: row for row in FUNCTIONS if row.name in _SAFE}
_CHANGES = frozenset(["direction", "score.total", "labels"])
"""Facts that may be others for the next rule or recipient; as all of `recipient` are."""
_MANY = frozenset(
    [
        "addresses",
        *(f"message.{name}" for name in ("author_addresses", "author_domains", "author_names", "to", "cc", "reply_to", "sender")),
    ]
)
"""Facts of which there may be more than are read."""
_CONSTANTS = {"string": STRING, "int": INT, "double": DOUBLE, "bool": BOOL}
_EXACT = 1 << 53
"""Whole numbers below are the same as doubles."""


class _BeyondError(Exception):
    """The library has to be asked."""


def plain(node: Node, patterns: Patterns, facts: Collection[str]) -> Test | None:
    """The condition as a function; None where it is the library's. `facts`: paths of all that it names."""
    try:
        test = _Plain(patterns).test(node, {})
    except _BeyondError:
        return None
    # Where somebody has looked, the trace tells what was too much: so it is looked there, whether or not that decides.
    looks = [row.read for path, row in _FACTS.items() if path in facts and (row.heavy or path in _MANY)]
    if not looks:
        return test

    def looked(subject: Subject) -> bool:
        for look in looks:
            look(subject)
        return test(subject)

    return looked


class _Plain:
    """Makes functions of the nodes of one tree."""

    def __init__(self, patterns: Patterns) -> None:
        self._patterns = patterns

    def test(self, node: Node, scopes: Scopes) -> Test:
        """What is true or false."""
        kind, read = self._value(node, scopes)
        if kind != BOOL:
            raise _BeyondError
        return read

    def _value(self, node: Node, scopes: Scopes) -> tuple[Kind, Read]:
        match node:
            case Literal() if node.kind in _CONSTANTS:
                value = node.value
                return _CONSTANTS[node.kind], lambda _: value
            case Name() | Member():
                return self._named(node, scopes)
            case Unary(sign="!"):
                of = self.test(node.of, scopes)
                return BOOL, lambda subject: not of(subject)
            case Binary():
                return BOOL, self._binary(node, scopes)
            case Call():
                return self._call(node, scopes)
            case _:
                raise _BeyondError

    def _named(self, node: Name | Member, scopes: Scopes) -> tuple[Kind, Read]:
        path = path_of(node)
        group, _, name = path.partition(".")
        if group in scopes:
            kind, place = scopes[group]
            if not name:
                return kind, lambda subject: subject.known[place]
            element = _ELEMENTS.get(f"{kind.path}.{name}")
            if element is None:
                raise _BeyondError
            read = element.read
            return element.kind, lambda subject: as_value(read(subject.known[place]))
        if path not in _FACTS:
            raise _BeyondError
        row = _FACTS[path]
        return row.kind, _fact(row)

    def _binary(self, node: Binary, scopes: Scopes) -> Test:
        sign = node.sign
        if sign in {"&&", "||"}:
            first, second = self.test(node.left, scopes), self.test(node.right, scopes)
            if sign == "&&":
                return lambda subject: first(subject) and second(subject)
            return lambda subject: first(subject) or second(subject)
        if sign == "in":
            return self._is_in(node, scopes)
        left_kind, left = self._value(node.left, scopes)
        right_kind, right = self._value(node.right, scopes)
        if sign in {"==", "!="} and left_kind == right_kind and left_kind in {STRING, BOOL, INT}:
            constant = node.right.value if isinstance(node.right, Literal) else None
            return _equals(left, right, constant, is_wanted=sign == "==")
        if sign in {"<", "<=", ">", ">="} and _is_number(node.left, left_kind) and _is_number(node.right, right_kind):
            return _compared(sign, left, right)
        raise _BeyondError

    def _is_in(self, node: Binary, scopes: Scopes) -> Test:
        kind, item = self._value(node.left, scopes)
        if kind != STRING:
            raise _BeyondError
        if isinstance(node.right, Listed):
            constants = frozenset(_texts(node.right))
            return lambda subject: item(subject) in constants
        kind, items = self._value(node.right, scopes)
        if kind.item != STRING or kind.name != "list":
            raise _BeyondError
        return lambda subject: item(subject) in items(subject)

    def _call(self, node: Call, scopes: Scopes) -> tuple[Kind, Read]:
        given = node.arguments if node.receiver is None else (node.receiver, *node.arguments)
        if node.name in {IN_FACT, IN_TEXT}:
            return BOOL, self._searched(node, scopes)
        if node.name in {"exists", "all"} and node.receiver is not None and len(given) == 3:
            return BOOL, self._macro(node, node.receiver, scopes)
        if node.name in {"contains", "startsWith", "endsWith"} and node.receiver is not None and len(given) == 2:
            return BOOL, _tested(node.name, self._text(given[0], scopes), self._text(given[1], scopes))
        if node.name == "size" and len(given) == 1:
            kind, items = self._value(given[0], scopes)
            if kind.name != "list":  # of a text the library may count otherwise
                raise _BeyondError
            return INT, lambda subject: len(items(subject))
        if node.name not in _FUNCTIONS:
            raise _BeyondError
        row = _FUNCTIONS[node.name]
        if len(given) != len(row.takes):
            raise _BeyondError
        make, first, *more = row.make, *(self._argument(one, scopes) for one in given)
        if not more:
            return row.gives, lambda subject: make(subject)(first(subject))
        second = more[0]
        return row.gives, lambda subject: make(subject)(first(subject), second(subject))

    def _argument(self, node: Node, scopes: Scopes) -> Read:
        if isinstance(node, Listed):
            constants = _texts(node)
            return lambda _: constants
        return self._text(node, scopes)

    def _text(self, node: Node, scopes: Scopes) -> Read:
        kind, read = self._value(node, scopes)
        if kind != STRING:
            raise _BeyondError
        return read

    def _searched(self, node: Call, scopes: Scopes) -> Test:
        """A pattern of the group."""
        number = node.arguments[-1]
        assert isinstance(number, Literal)
        wanted, patterns = int(str(number.value)), self._patterns
        if node.name == IN_FACT:
            return lambda subject: patterns.in_fact(subject)(wanted)
        text = self._text(node.arguments[0], scopes)
        return lambda subject: patterns.in_text(subject)(text(subject), wanted)

    def _macro(self, node: Call, receiver: Node, scopes: Scopes) -> Test:
        kind, items = self._value(receiver, scopes)
        variable = node.arguments[0]
        if kind.name != "list" or kind.item is None or not isinstance(variable, Name):
            raise _BeyondError
        place = f" {len(scopes)}"  # no fact's path begins so
        condition = self.test(node.arguments[1], {**scopes, variable.name: (kind.item, place)})
        wanted = node.name == "exists"

        def holds(subject: Subject) -> bool:
            known = subject.known
            for known[place] in items(subject):
                if condition(subject) is wanted:
                    return wanted
            return not wanted

        return holds


def _fact(row: FactRow) -> Read:
    """The fact of a message, read once where it stays the same."""
    path, read, kind = row.path, row.read, row.kind
    is_text, is_list = kind == STRING, kind.item is not None and kind.item.name != "record"
    if path in _CHANGES or path.startswith("recipient."):
        return lambda subject: as_value(read(subject))

    def fact(subject: Subject) -> Any:
        known = subject.known
        if path in known:
            return known[path]
        value = read(subject)
        if is_text:
            value = value if value.isascii() else clean(value)
        elif is_list:
            value = as_value(value)
        known[path] = value
        return value

    return fact


def _texts(listed: Listed) -> list[str]:
    """The texts of a list that is written out."""
    found = [one.value for one in listed.items if isinstance(one, Literal) and one.kind == "string"]
    if len(found) != len(listed.items):
        raise _BeyondError
    return [str(one) for one in found]


def _equals(left: Read, right: Read, constant: object, *, is_wanted: bool) -> Test:
    """`constant`: the right side, where it is one."""
    if constant is not None:
        return (lambda subject: left(subject) == constant) if is_wanted else (lambda subject: left(subject) != constant)
    return (lambda subject: left(subject) == right(subject)) if is_wanted else (lambda subject: left(subject) != right(subject))


def _tested(name: str, text: Read, part: Read) -> Test:
    if name == "contains":
        return lambda subject: part(subject) in text(subject)
    if name == "startsWith":
        return lambda subject: text(subject).startswith(part(subject))
    return lambda subject: text(subject).endswith(part(subject))


def _is_number(node: Node, kind: Kind) -> bool:
    if kind == DOUBLE:
        return True
    return kind == INT and (not isinstance(node, Literal) or abs(int(str(node.value))) < _EXACT)


def _compared(sign: str, left: Read, right: Read) -> Test:
    match sign:
        case "<":
            return lambda subject: left(subject) < right(subject)
        case "<=":
            return lambda subject: left(subject) <= right(subject)
        case ">":
            return lambda subject: left(subject) > right(subject)
        case _:
            return lambda subject: left(subject) >= right(subject)
