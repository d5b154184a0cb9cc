"""Rules from files: TOML with `[[rule]]` tables and nothing else; every mistake with its file and line, all at once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gateway import ConfigError, ConfigProblem
from gateway.plugins.rules.checking import nearest
from gateway.plugins.rules.rule import Rule

MAX_SIZE = 1_000_000
"""Octets of one file."""
_TABLE = re.compile(r"^[ \t]*\[\[[ \t]*rule[ \t]*\]\]", re.MULTILINE)
_LINE_OF_ERROR = re.compile(r"at line (\d+)")


def read_rules(names: Iterable[str], base: Path) -> tuple[Rule, ...]:
    """The rules of all files, in order. ConfigError with every problem."""
    rules: list[Rule] = []
    problems: list[ConfigProblem] = []
    for name in names:
        file = base / name
        found, wrong = _read(file)
        rules += found
        problems += wrong
    if problems:
        raise ConfigError(problems)
    return tuple(rules)


def _read(file: Path) -> tuple[list[Rule], list[ConfigProblem]]:
    try:
        octets = file.read_bytes()
    except OSError as error:
        return [], [_problem(file, None, "files", str(error.strerror or error), "a file that can be read")]
    if len(octets) > MAX_SIZE:
        return [], [_problem(file, None, "files", f"{len(octets)} octets", f"at most {MAX_SIZE}")]
    try:
        text = octets.decode()
        data = tomllib.loads(text)
    except UnicodeDecodeError as error:
        return [], [_problem(file, octets.count(b"\n", 0, error.start) + 1, "files", "octets that are not UTF-8", "UTF-8")]
    except (ValueError, RecursionError) as error:  # a number of too many digits is a plain ValueError
        line = _LINE_OF_ERROR.search(str(error))
        return [], [_problem(file, int(line[1]) if line else None, "files", str(error), "TOML")]
    tables = data.get("rule", [])
    problems = [
        _problem(file, _line(text, key), key, "this key", "[[rule]] tables only", hint=nearest(key, ["rule"]))
        for key in data
        if key != "rule"
    ]
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        return [], [*problems, _problem(file, _line(text, "rule"), "rule", "no array of tables", "[[rule]] tables")]
    rules: list[Rule] = []
    for number, table in enumerate(tables):
        try:
            rules.append(Rule.model_validate(table))
        except ValidationError as error:
            problems += _problems(error, file, text, number)
    return rules, problems


def _problem(file: Path, line: int | None, key: str, found: str, allowed: str, *, hint: str = "") -> ConfigProblem:
    return ConfigProblem(file=str(file), line=line, key=key, found=found, allowed=allowed, hint=hint)


def _problems(error: ValidationError, file: Path, text: str, number: int) -> list[ConfigProblem]:
    problems = []
    for fault in error.errors(include_url=False):
        key = str(fault["loc"][0]) if fault["loc"] else ""
        context: dict[str, Any] = fault.get("ctx", {})
        allowed = str(context["error"]) if fault["type"] == "value_error" else fault["msg"]
        found = "nothing" if fault["type"] == "missing" else repr(fault["input"])[:80]
        hint = ""
        if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1:
            found, allowed = f"the unknown key {key!r}", ", ".join(Rule.model_fields)
            hint = nearest(key, Rule.model_fields)
        where = f"rule[{number}].{key}" if key else f"rule[{number}]"
        problems.append(_problem(file, _line_in_rule(text, number, key), where, found, allowed, hint=hint))
    return problems


def _line(text: str, key: str) -> int | None:
    found = re.search(rf"^[ \t]*\[*[ \t]*[\"']?{re.escape(key)}\b", text, re.MULTILINE)
    return None if found is None else text.count("\n", 0, found.start()) + 1


def _line_in_rule(text: str, number: int, key: str) -> int | None:
    """The line of a key of the n-th rule, else that of its head."""
    heads = [found.start() for found in _TABLE.finditer(text)]
    if number >= len(heads):
        return _line(text, "rule")
    end = heads[number + 1] if number + 1 < len(heads) else len(text)
    found = re.compile(rf"^[ \t]*{re.escape(key)}\b", re.MULTILINE).search(text, heads[number], end) if key else None
    at = heads[number] if found is None else found.start()
    return text.count("\n", 0, at) + 1
