"""The check of an expression when the configuration is loaded: known facts and functions, right kinds, good patterns.

What is found out on the way: which facts the expression names, so that only those are read.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.plugins.rules.facts import ELEMENTS, FACTS
from gateway.plugins.rules.functions import FUNCTIONS
from gateway.plugins.rules.kinds import ANY, BOOL, BYTES, DOUBLE, INT, NULL, NUMBERS, STRING, Kind, is_like, list_of, record
from gateway.plugins.rules.patterns import check_constants, check_regex, name_of_list
from gateway.plugins.rules.syntax import parse
from gateway.plugins.rules.tree import (
    MACROS,
    Binary,
    Call,
    Choice,
    ExpressionError,
    Index,
    Listed,
    Literal,
    Mapped,
    Member,
    Name,
    Node,
    Unary,
)

_KINDS = {row.path: row.kind for row in (*FACTS, *ELEMENTS)}
_GROUPS = frozenset(row.path.partition(".")[0] for row in FACTS if "." in row.path)
_OWN = {row.name: row for row in FUNCTIONS}
_TEXT_TESTS = ("contains", "startsWith", "endsWith", "matches")
_CONVERSIONS = {
    "int": (INT, (STRING, INT, DOUBLE)),
    "double": (DOUBLE, (STRING, INT, DOUBLE)),
    "string": (STRING, (STRING, INT, DOUBLE)),
}
_CONSTANTS = {"string": STRING, "bytes": BYTES, "int": INT, "double": DOUBLE, "bool": BOOL, "null": NULL}

BUILT_IN = (*_TEXT_TESTS, "size", *MACROS, "has", *_CONVERSIONS)
"""Functions and macros of the language itself that rules may use."""


@dataclass(slots=True)
class Checked:
    """What an expression is and uses."""

    kind: Kind
    facts: set[str] = field(default_factory=set)
    """Paths: `client.address`, `attachments`, `attachments.name`."""
    functions: set[str] = field(default_factory=set)
    """Of ours."""
    lists: dict[str, int] = field(default_factory=dict)
    """Names of lists, and where each is asked for first."""


def check(text: str) -> tuple[Node, Checked]:
    """Check an expression whose value must be true or false: its tree, and what it uses. ExpressionError with the place of the mistake."""
    if not text.strip():
        raise ExpressionError("an empty expression", 0)
    node = parse(text)
    checker = _Checker()
    kind = checker.kind_of(node)
    if not is_like(kind, BOOL) or kind == NULL:
        raise ExpressionError(f"the expression is {kind}", 0, allowed="true or false")
    checker.result.kind = kind
    return node, checker.result


def nearest(name: str, names: Iterable[str]) -> str:
    """The right name most like this one, or ``."""
    return next(iter(difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.6)), "")


class _Checker:
    """Walks the tree; `_scopes` holds the variables of the macros around."""

    def __init__(self) -> None:
        self.result = Checked(ANY)
        self._scopes: list[tuple[str, Kind]] = []

    def kind_of(self, node: Node) -> Kind:
        match node:
            case Literal():
                return _CONSTANTS[node.kind]
            case Name():
                return self._name(node)
            case Member():
                return self._member(node)
            case Index():
                return self._index(node)
            case Call():
                return self._call(node)
            case Listed():
                return list_of(self._common(node.items))
            case Mapped():
                for key, _ in node.entries:
                    self._must(key, STRING)
                return Kind("map", self._common([value for _, value in node.entries]))
            case Unary():
                kind = self._must(node.of, BOOL) if node.sign == "!" else self._must(node.of, INT, DOUBLE)
                return BOOL if node.sign == "!" else kind
            case Binary():
                return self._binary(node)
            case Choice():
                self._must(node.condition, BOOL)
                return self._common([node.then, node.otherwise])

    def value_of(self, node: Node) -> Kind:
        """The kind of a whole expression."""
        return self._value(node)

    def _value(self, node: Node) -> Kind:
        """The kind of something that is a value, and no group of facts."""
        kind = self.kind_of(node)
        if kind.name == "record":
            known = ", ".join(sorted(path for path in _KINDS if path.startswith(f"{kind.path}.")))
            raise ExpressionError(f"{kind.path} is a group of facts, no value", node.at, allowed=f"one of them: {known}")
        return kind

    def _must(self, node: Node, *wanted: Kind) -> Kind:
        kind = self._value(node)
        if kind != ANY and kind not in wanted:
            raise ExpressionError(f"this is {kind}", node.at, allowed=" or ".join(map(str, wanted)))
        return kind

    def _common(self, nodes: Iterable[Node]) -> Kind:
        kinds = [self._value(node) for node in nodes]
        return kinds[0] if kinds and all(kind == kinds[0] for kind in kinds) else ANY

    def _name(self, node: Name) -> Kind:
        for name, kind in reversed(self._scopes):
            if name == node.name:
                return kind
        if node.name in _KINDS:
            self.result.facts.add(node.name)
            return _KINDS[node.name]
        if node.name in _GROUPS:
            return record(node.name)
        raise _unknown("fact", node.name, node.at, [*_names(), *(name for name, _ in self._scopes)])

    def _member(self, node: Member) -> Kind:
        of = self.kind_of(node.of)
        if of == ANY:
            return ANY
        if of.name == "map":
            return of.item or ANY
        if of.name != "record":
            raise ExpressionError(f"{of} has no members; {node.name!r} is asked of it", node.at)
        path = f"{of.path}.{node.name}"
        if path not in _KINDS:
            raise _unknown("fact", path, node.at, [known for known in _KINDS if "." in known])
        self.result.facts.add(path)
        return _KINDS[path]

    def _index(self, node: Index) -> Kind:
        of = self.kind_of(node.of)
        if of.name == "list":
            self._must(node.key, INT)
            return of.item or ANY
        if of.name == "map":
            self._must(node.key, STRING)
            return of.item or ANY
        if of == ANY:
            self._value(node.key)
            return ANY
        raise ExpressionError(f"{of} cannot be indexed", node.at, allowed="a list or a map")

    def _binary(self, node: Binary) -> Kind:
        if node.sign in {"&&", "||"}:
            self._must(node.left, BOOL)
            self._must(node.right, BOOL)
            return BOOL
        left, right = self._value(node.left), self._value(node.right)
        known = ANY not in {left, right}
        match node.sign:
            case "==" | "!=":
                if not is_like(left, right):
                    is_one_of = "list" in {left.name, right.name}
                    allowed = 'values of one kind; one of a list is "x" in list' if is_one_of else "values of one kind"
                    raise ExpressionError(f"{left} is never {right}", node.at, allowed=allowed)
                return BOOL
            case "in":
                inside = right.item if right.name == "list" else STRING
                if right != ANY and (right.name not in {"list", "map"} or not is_like(left, inside or ANY)):
                    allowed = 'text.contains("x")' if left == right == STRING else "a list of such values, or a map"
                    raise ExpressionError(f"{left} in {right}", node.at, allowed=allowed)
                return BOOL
            case "<" | "<=" | ">" | ">=":
                if known and not ({left, right} <= NUMBERS or left == right == STRING):
                    raise ExpressionError(f"{left} {node.sign} {right}", node.at, allowed="two numbers or two strings")
                return BOOL
            case "+" if left.name == right.name == "list":
                return left if left == right else list_of(ANY)
            case _:
                if known and (left != right or left not in {*NUMBERS, *([STRING] if node.sign == "+" else [])}):
                    raise ExpressionError(
                        f"{left} {node.sign} {right}", node.at, allowed="values of one kind; int(…), double(…), string(…) convert"
                    )
                return left if known else ANY

    def _call(self, node: Call) -> Kind:
        given = node.arguments if node.receiver is None else (node.receiver, *node.arguments)
        if node.name == "has" and node.receiver is None and len(given) == 1 and isinstance(given[0], Member):
            self.kind_of(given[0])
            return BOOL
        if node.name in MACROS and node.receiver is not None:
            return self._macro(node, node.receiver)
        if node.name in _TEXT_TESTS and node.receiver is not None:
            self._takes(node, given, (STRING, STRING))
            if node.name == "matches":
                check_regex(given[1])
            return BOOL
        if node.name == "size":
            self._count(node, given, 1)
            kind = self._value(given[0])
            if kind != ANY and kind not in {STRING, BYTES} and kind.name not in {"list", "map"}:
                raise ExpressionError(f"{kind} has no size", node.at, allowed="a string, a list or a map")
            return INT
        if node.name in _CONVERSIONS and node.receiver is None:
            gives, takes = _CONVERSIONS[node.name]
            self._count(node, given, 1)
            self._must(given[0], *takes)
            return gives
        own = _OWN.get(node.name)
        if own is None:
            raise _unknown("function", node.name, node.at, [*_OWN, *BUILT_IN])
        self._takes(node, given, own.takes, own.optional)
        self.result.functions.add(own.name)
        check_constants(own.name, given)
        if own.name in {"in_list", "list_age"}:
            self.result.lists.setdefault(name_of_list(given[0]), given[0].at)
        if own.name == "rate":
            _check_rate(given[0])
        return own.gives

    def _macro(self, node: Call, receiver: Node) -> Kind:
        of = self.kind_of(receiver)
        item = of.item if of.name == "list" else STRING if of.name == "map" else ANY
        if of != ANY and of.name not in {"list", "map"}:
            raise ExpressionError(f"{node.name}() of {of}", node.at, allowed="a list or a map")
        most = 3 if node.name == "map" else 2
        if not 2 <= len(node.arguments) <= most or not isinstance(node.arguments[0], Name):
            raise ExpressionError(f"{node.name}() takes a name and an expression", node.at)
        self._scopes.append((node.arguments[0].name, item or ANY))
        *conditions, last = node.arguments[1:]
        for condition in conditions:
            self._must(condition, BOOL)
        result = self._value(last) if node.name == "map" else self._must(last, BOOL)
        self._scopes.pop()
        if node.name == "map":
            return list_of(result)
        return of if node.name == "filter" else BOOL

    def _count(self, node: Call, given: tuple[Node, ...], wanted: int) -> None:
        if len(given) != wanted:
            raise ExpressionError(f"{node.name}() with {len(given)} values", node.at, allowed=f"{wanted}")

    def _takes(self, node: Call, given: tuple[Node, ...], wanted: tuple[Kind, ...], optional: tuple[Kind, ...] = ()) -> None:
        wanted = (*wanted, *optional[: max(0, len(given) - len(wanted))])
        self._count(node, given, len(wanted))
        for argument, kind in zip(given, wanted, strict=True):
            found = self._value(argument)
            if not is_like(found, kind) or found == NULL:
                allowed = (
                    f'{kind}; of a list: "x" in list, list.exists(…)' if found.name == "list" and kind == STRING else str(kind)
                )
                raise ExpressionError(f"{node.name}() of {found}", argument.at, allowed=allowed)


def check_value(node: Node) -> Checked:
    """What an expression uses that gives a value of any kind. ExpressionError."""
    checker = _Checker()
    checker.result.kind = checker.value_of(node)
    return checker.result


def _check_rate(key: Node) -> None:
    """What is counted has to be known before the rules are asked, and be the same for all recipients."""
    found = check_value(key)
    if found.kind.name not in {"string", "int", "any"}:
        raise ExpressionError(f"rate() of {found.kind}", key.at, allowed="a text or a number that messages have in common")
    heavy = sorted(row.path for row in FACTS if row.path in found.facts and row.heavy)
    if heavy or any(path.startswith("recipient.") for path in found.facts) or "rate" in found.functions:
        what = next(iter(heavy), "recipient" if "rate" not in found.functions else "rate()")
        raise ExpressionError(f"rate() of {what}", key.at, allowed="what client, envelope or header say of the whole message")


def _names() -> list[str]:
    return [path for path in _KINDS if "." not in path] + sorted(_GROUPS)


def _unknown(what: str, name: str, at: int, names: list[str]) -> ExpressionError:
    hint = nearest(name, names)
    if not hint and what == "fact" and "." not in name:
        # The group is often forgotten: `subject` for `message.subject`.
        hint = next((path for path in _KINDS if path.rpartition(".")[2] == name), "")
    return ExpressionError(f"unknown {what} {name!r}", at, hint=hint)
