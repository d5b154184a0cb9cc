"""The named lists of a group: from its options and its files of rules, and whether each that a rule asks is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from gateway import ConfigError, ConfigProblem, OptionError, OptionMistake, TomlFile
from gateway.plugins.rules.checking import nearest
from gateway.plugins.rules.expressions import explain
from gateway.plugins.rules.files import RuleFile
from gateway.plugins.rules.lists import ListOptions, Lists, NamedList
from gateway.plugins.rules.rule import Rule
from gateway.plugins.rules.tree import ExpressionError

Key: TypeAlias = tuple[str | int, ...]
Place: TypeAlias = tuple[Rule, Key, TomlFile[RuleFile] | None]
"""A rule with its key, in the options or in a file."""


def lists_of(options: dict[str, ListOptions], files: Iterable[TomlFile[RuleFile]], base: Path) -> Lists:
    """All lists. OptionError, ConfigError for what cannot be."""
    found = {name: NamedList(name, one, base) for name, one in options.items()}
    problems: list[ConfigProblem] = []
    for file in files:
        for name, one in file.value.list.items():
            if name in found:
                problems.append(file.problem(("list", name), f"another list {name!r}", "each name once in a group"))
                continue
            try:
                found[name] = NamedList(name, one, file.path.parent)
            except OptionError as error:
                problems += [file.problem(mistake.key, mistake.found, mistake.allowed) for mistake in error.mistakes]
    if problems:
        raise ConfigError(problems)
    return Lists(found)


def check_names(places: Iterable[Place], lists: Lists) -> None:
    """ConfigError, OptionError for a rule that asks a list which is not there, and for two rules of one name."""
    problems: list[ConfigProblem] = []
    mistakes: list[OptionMistake] = []
    seen: dict[str, str] = {}
    for rule, key, file in places:
        for part, found, allowed in _wrong(rule, seen, lists):
            if file is None:
                mistakes.append(OptionMistake(key=(*key, part), found=found, allowed=allowed))
            else:
                problems.append(file.problem((*key, part), found, allowed))
    if problems:
        raise ConfigError(problems)
    if mistakes:
        raise OptionError(*mistakes)


def _wrong(rule: Rule, seen: dict[str, str], lists: Lists) -> Iterator[tuple[str, str, str]]:
    """Key, what was found and what is allowed, of what only the whole group shows."""
    before = seen.setdefault(rule.reason, rule.name)
    if before is not rule.name:
        yield "name", f"{rule.name!r}, which is {rule.reason!r} in logs as {before!r} is", "rules with different names"
    for one in rule.expressions:
        is_condition = one is rule.expression
        if not is_condition and "rate" in one.functions:
            yield "then", "rate() in an action, where nothing is counted", "rate() in `when`"
        for name, at in one.lists.items():
            if name not in lists.names:
                known = ", ".join(sorted(lists.names)) or "none yet: [list.NAME] makes one"
                error = ExpressionError(f"unknown list {name!r}", at, allowed=known, hint=nearest(name, lists.names))
                yield "when" if is_condition else "then", f"{name!r}", f"names of lists: {explain(error, one.text)}"
