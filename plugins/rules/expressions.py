"""An expression of a rule: compiled and checked once, run for each message with only the facts it names."""

from __future__ import annotations

import re
from typing import Any

import cel

from gateway.plugins.rules.checking import check
from gateway.plugins.rules.facts import ELEMENTS, FACTS, FactRow, Subject, as_value
from gateway.plugins.rules.functions import FUNCTIONS
from gateway.plugins.rules.tree import ExpressionError

_FACTS = {row.path: row for row in FACTS}
_ELEMENTS = {row.path: row for row in ELEMENTS}
_FUNCTIONS = {row.name: row for row in FUNCTIONS}


_PLACE = re.compile(r"<input>:(\d+):(\d+): (?:Syntax error: )?([^\n]*)")


class Expression:
    """A checked expression."""

    def __init__(self, text: str) -> None:
        """ExpressionError: where the mistake is, what is allowed, the nearest right name."""
        self.text = text
        self._program = _compile(text)
        checked = check(text)
        self._facts = [row for path, row in _FACTS.items() if path in checked.facts]
        self._elements = {
            row.path: [
                element for path, element in _ELEMENTS.items() if path in checked.facts and path.startswith(f"{row.path}.")
            ]
            for row in self._facts
        }
        self._functions = [_FUNCTIONS[name] for name in sorted(checked.functions)]
        self.is_about_recipient = any(row.path.startswith("recipient.") for row in self._facts)
        """True when it is to be asked for each recipient."""
        self.is_heavy = any(row.heavy for row in self._facts)
        """True when it looks through the content."""

    def holds(self, subject: Subject) -> bool:
        """Whether it is true. Whatever the library raises is raised on as ValueError."""
        variables: dict[str, Any] = {}
        for row in self._facts:
            value = self._read(row, subject)
            group, _, name = row.path.partition(".")
            if name:
                variables.setdefault(group, {})[name] = value
            else:
                variables[group] = value
        functions = {row.name: row.make(subject) for row in self._functions}
        try:
            return self._program.execute(cel.Context(variables=variables, functions=functions)) is True
        except (RuntimeError, TypeError, KeyError, IndexError, ArithmeticError) as error:
            raise ValueError(f"{error} in: {self.text}") from error

    def _read(self, row: FactRow, subject: Subject) -> Any:
        value = row.read(subject)
        if row.kind.name == "list" and row.kind.item is not None and row.kind.item.name == "record":
            wanted = self._elements[row.path]
            return [{element.path.rpartition(".")[2]: as_value(element.read(one)) for element in wanted} for one in value]
        return as_value(value)


def _compile(text: str) -> cel.Program:
    """The library's own reading; its complaint with the place."""
    try:
        return cel.compile(text)
    except ValueError as error:
        found = _PLACE.search(str(error))
        if found is None:
            raise ExpressionError("this is no expression", 0) from error
        lines = text.split("\n")[: int(found[1]) - 1]
        at = sum(len(line) + 1 for line in lines) + int(found[2]) - 1
        raise ExpressionError(found[3].partition(" expecting")[0], at) from error


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
