"""Overrides from the environment: `MAILGATEWAY__SECTION__KEY`, named tables too, secrets by `…_FILE`.

Values are JSON; what is not JSON is a plain string. Names are case-insensitive, and `-` in a table's name is `_` here.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from gateway.config.lines import Key
from gateway.config.models import Config
from gateway.config.problems import field_names, models_at, nearest
from gateway.config.secrets import read_secret
from gateway.errors import ConfigProblem

PREFIX = "MAILGATEWAY__"
NAMED = ("listener", "route")
"""Arrays of tables whose elements are called by their `name`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """One variable, put into the configuration."""

    variable: str
    key: Key


class _RefusedError(Exception):
    """What is wrong with one variable."""

    def __init__(self, found: str, allowed: str, hint: str = "") -> None:
        super().__init__(found)
        self.found, self.allowed, self.hint = found, allowed, hint


def is_variable(name: str) -> bool:
    """Whether a name is one of ours."""
    return name.upper().startswith(PREFIX)


def _spelt(name: str) -> str:
    return name.lower().replace("-", "_")


def _element(data: dict[str, Any], section: str, name: str) -> Key:
    """Key path of the element called so, made when there is none."""
    array = data.setdefault(section, [])
    if not isinstance(array, list):
        raise _RefusedError(f"[{section}], which is not an array of tables in the file", f"[[{section}]] there")
    for place, element in enumerate(array):
        if isinstance(element, dict) and _spelt(str(element.get("name", "default"))) == name:
            return (section, place)
    array.append({"name": name})
    return (section, len(array) - 1)


def _option(data: dict[str, Any], rest: list[str]) -> Key:
    """Key path of `[plugin.NAME]` and below; names of options are the plugin's affair."""
    table = data.setdefault("plugin", {})
    key: Key = ("plugin",)
    for part in rest:
        found = part
        if isinstance(table, dict):
            found = next((str(name) for name in table if _spelt(str(name)) == part), part)
            table = table.get(found, {})
        key = (*key, found)
    return key


def _known(part: str, names: Collection[str], *, last: bool) -> tuple[str, bool] | None:
    """The name that a part of a variable stands for, and whether it says that the value is in a file."""
    if part in names:
        return part, False
    if last and part.endswith("_file") and part.removesuffix("_file") in names:
        return part.removesuffix("_file"), True
    return None


def _key(data: dict[str, Any], parts: list[str]) -> tuple[Key, bool]:
    """The key path of a variable's parts, and whether its value is the path of a file with the secret."""
    section, *rest = parts
    if section == "plugin" and rest:
        option = _option(data, rest)
        last = str(option[-1])
        from_file = len(rest) > 1 and last.endswith("_file")
        return ((*option[:-1], last.removesuffix("_file")) if from_file else option), from_file
    if section == "rule" and rest:
        raise _RefusedError("a part of a rule", "MAILGATEWAY__RULE with all rules in JSON, or a file in rule_files")
    if section in NAMED and rest:
        below, from_file = _below((section, 0), rest[1:])
        return (*_element(data, section, rest[0]), *below[2:]), from_file
    return _below((), parts)


def _below(key: Key, parts: list[str]) -> tuple[Key, bool]:
    """The key path of names of fields below a key path."""
    from_file = False
    for place, part in enumerate(parts):
        names = field_names(models_at([Config], key))
        found = _known(part, names, last=place == len(parts) - 1)
        if found is None:
            allowed = ", ".join(name.upper() for name in names) or "nothing below this name"
            raise _RefusedError(f"the unknown name {part.upper()!r}", allowed, nearest(part, names).upper())
        name, from_file = found
        key = (*key, name)
    return key, from_file


def _value(text: str, key: Key) -> Any:
    """JSON, or the text itself; always the text where a string is wanted."""
    kinds = models_at([Config], key)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        if any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds):
            raise _RefusedError("no JSON", "a JSON object, or one variable for each key") from None
        return text
    if str in kinds and not isinstance(value, str):
        return text
    return value


def _put(data: dict[str, Any], key: Key, value: Any) -> None:
    """Set a value at a path, making tables on the way."""
    at: Any = data
    for part in key[:-1]:
        below = at[part] if isinstance(part, int) else at.setdefault(part, {})
        if not isinstance(below, dict | list):
            raise _RefusedError("a name below a key that is no table", "a table in the file")
        at = below
    at[key[-1]] = value


def _read(text: str) -> str:
    try:
        return read_secret(Path(text))
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else str(error)
        raise _RefusedError(f"{text!r}, which cannot be read: {what}", "the path of a readable file of UTF-8 text") from error


def _apply_one(data: dict[str, Any], variable: str, text: str, done: list[Override]) -> Override:
    parts = variable[len(PREFIX) :].lower().split("__")
    if not all(parts):
        raise _RefusedError("an empty part of the name", f"{PREFIX}SECTION__KEY")
    key, from_file = _key(data, parts)
    same = next((override.variable for override in done if override.key == key), None)
    if same is not None:
        raise _RefusedError(f"the same key as in {same}", "one of the two")
    _put(data, key, _read(text) if from_file else _value(text, key))
    return Override(variable=variable, key=key)


def apply(data: dict[str, Any], environ: Mapping[str, str]) -> tuple[list[Override], list[ConfigProblem]]:
    """Put all our variables into the raw configuration `data`. Returns what was set, and every mistake."""
    done: list[Override] = []
    problems: list[ConfigProblem] = []
    for variable in sorted(filter(is_variable, environ), key=lambda name: (name.count("__"), name)):
        try:
            done.append(_apply_one(data, variable, environ[variable], done))
        except _RefusedError as refused:
            problems.append(
                ConfigProblem(
                    file=f"environment {variable}",
                    line=None,
                    key=variable,
                    found=refused.found,
                    allowed=refused.allowed,
                    hint=refused.hint,
                )
            )
    return done, problems
