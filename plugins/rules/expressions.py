"""An expression of a rule: compiled and checked once, run for each message with only the facts it names."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import cel

from gateway.plugins.rules.checking import Checked, check, check_value
from gateway.plugins.rules.facts import ELEMENTS, FACTS, FactRow, Subject, as_value
from gateway.plugins.rules.functions import FUNCTIONS
from gateway.plugins.rules.misreading import misread
from gateway.plugins.rules.plain import plain
from gateway.plugins.rules.searching import COUNTED, IN_FACT, IN_TEXT, SEARCHED, Patterns, paths_in
from gateway.plugins.rules.syntax import check_escapes, parse
from gateway.plugins.rules.tree import ExpressionError, Node
from gateway.plugins.rules.writing import write

_FACTS = {row.path: row for row in FACTS}
_ELEMENTS = {row.path: row for row in ELEMENTS}
_FUNCTIONS = {row.name: row for row in FUNCTIONS}


TROUBLES = (RuntimeError, TypeError, KeyError, IndexError, ArithmeticError)
"""What the library raises."""
_PLACE = re.compile(r"<input>:(\d+):(\d+): (?:Syntax error: )?([^\n]*)")


class _Needs:
    """Facts and functions that are named, and their values for a message."""

    def __init__(self, facts: set[str], functions: set[str], patterns: Patterns) -> None:
        self.facts = facts
        self.functions = functions
        self._patterns = patterns
        self._facts = [row for path, row in _FACTS.items() if path in facts]
        self._elements = {
            row.path: [element for path, element in _ELEMENTS.items() if path in facts and path.startswith(f"{row.path}.")]
            for row in self._facts
        }
        self._functions = [_FUNCTIONS[name] for name in sorted(functions)]

    def context(self, subject: Subject) -> cel.Context:
        """What the library gets to know of a message."""
        variables: dict[str, Any] = {}
        for row in self._facts:
            value = self._read(row, subject)
            group, _, name = row.path.partition(".")
            if name:
                variables.setdefault(group, {})[name] = value
            else:
                variables[group] = value
        functions: dict[str, Callable[..., Any]] = {row.name: row.make(subject) for row in self._functions}
        functions[IN_FACT], functions[IN_TEXT] = self._patterns.in_fact(subject), self._patterns.in_text(subject)
        functions[COUNTED] = subject.rates.__getitem__
        return cel.Context(variables=variables, functions=functions)

    def _read(self, row: FactRow, subject: Subject) -> Any:
        value = row.read(subject)
        if row.kind.name == "list" and row.kind.item is not None and row.kind.item.name == "record":
            wanted = self._elements[row.path]
            return [{element.path.rpartition(".")[2]: as_value(element.read(one)) for element in wanted} for one in value]
        return as_value(value)


class Expression:
    """A checked expression."""

    def __init__(self, text: str) -> None:
        """ExpressionError: where the mistake is, what is allowed, the nearest right name."""
        self.text = text
        self._program, self._node, checked = _read(text)
        self.facts = frozenset(checked.facts)
        """Paths of all facts that it names."""
        self.is_about_recipient = any(path.startswith("recipient.") for path in checked.facts)
        """True when it is to be asked for each recipient."""
        self.is_heavy = any(_FACTS[path].heavy for path in checked.facts if path in _FACTS)
        """True when it looks through the content."""
        self.is_slow = any(_FUNCTIONS[name].heavy for name in checked.functions)
        """True when its time may go with the size of small messages too."""
        self.lists = dict(checked.lists)
        """Named lists that it asks, each with its place in the text."""
        self.functions = frozenset(checked.functions)
        """Ours that it calls."""
        self.runs = text
        """What the library runs: the same expression, its patterns among those of the group."""
        self.needs = _Needs(set(checked.facts), checked.functions, Patterns())
        self.plain = plain(self._node, Patterns(), self.facts)
        """The same as a function, where the library is not needed."""

    def join(self, patterns: Patterns) -> None:
        """Look for its regular expressions with those of the other rules of the group."""
        moved = patterns.moved(self._node)
        if moved == self._node:
            return
        self.plain = plain(moved, patterns, self.facts)
        with contextlib.suppress(ValueError):  # octets in it: it stays as it was written
            self.runs = write(moved)
            self._program = _compile(self.runs)
            named = set(paths_in(moved))
            facts = {path for path in self.facts if path in named or path not in SEARCHED}  # the others are not handed over
            self.needs = _Needs(facts, set(self.functions), patterns)

    def holds(self, subject: Subject) -> bool:
        """Whether it is true. Whatever the library raises is raised on as ValueError."""
        try:
            if self.plain is not None:
                return self.plain(subject)
            return self._program.execute(self.needs.context(subject)) is True
        except TROUBLES as error:
            raise ValueError(f"{error} in: {self.text}") from error


class Value:
    """An expression that gives a value: what is counted."""

    def __init__(self, text: str) -> None:
        """One that was checked as part of another."""
        checked = check_value(parse(text))
        self._program = _compile(text)
        self._needs = _Needs(checked.facts, checked.functions, Patterns())

    def of(self, subject: Subject) -> object:
        """The value. ValueError where it cannot be had."""
        try:
            return self._program.execute(self._needs.context(subject))
        except TROUBLES as error:
            raise ValueError(f"{error} in a rate") from error


class Together:
    """Several expressions as one list: the library is called once for all of them, and each fact is read once."""

    def __init__(self, expressions: Sequence[Expression], patterns: Patterns) -> None:
        """All of them have joined these patterns."""
        self._count = len(expressions)
        self._program = _compile("[" + ",".join(f"(\n{one.runs}\n)" for one in expressions) + "]")  # a comment ends with its line
        needs = [one.needs for one in expressions]
        facts = {path for one in needs for path in one.facts}
        self._needs = _Needs(facts, {name for one in needs for name in one.functions}, patterns)

    def hold(self, subject: Subject) -> list[bool] | None:
        """Whether each is true; None when one of them cannot be answered, and they are to be asked one by one."""
        try:
            answers = self._program.execute(self._needs.context(subject))
        except TROUBLES:
            return None
        return [answer is True for answer in answers] if len(answers) == self._count else None


@lru_cache(maxsize=4)
def _read(text: str) -> tuple[cel.Program, Node, Checked]:
    """Compiled and checked. A rule is made in two steps, and pays for one."""
    program = _compile(text)
    return program, *check(text)


def _compile(text: str) -> cel.Program:
    """The library's own reading; its complaint with the place."""
    try:
        return cel.compile(text)
    except ValueError as error:
        check_escapes(text)
        found = _PLACE.search(str(error))
        if found is None:
            raise ExpressionError("this is no expression", 0) from error
        lines = text.split("\n")[: int(found[1]) - 1]
        at = sum(len(line) + 1 for line in lines) + int(found[2]) - 1
        raise misread(text, at, found[3].partition(" expecting")[0]) from error


def explain(error: ExpressionError, text: str) -> str:
    """The mistake in words, and below it the line of the expression with a mark under the place."""
    words = f"{error.what} (did you mean {error.hint!r}?)" if error.hint else error.what
    if error.allowed:
        words += f"; allowed: {error.allowed}"
    at = min(error.at, len(text))
    start = text.rfind("\n", 0, at) + 1
    line = text[start:].partition("\n")[0]
    # Long lines are cut around the place.
    cut = max(0, at - start - 60)
    return f"{words}\n| {line[cut : cut + 120]}\n| {' ' * (at - start - cut)}^"
