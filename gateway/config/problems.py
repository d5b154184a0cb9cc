"""Mistakes in the configuration as problems: where, what was found, what is allowed, the nearest right name."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError

from gateway.config.lines import Key
from gateway.config.secrets import MASK, is_secret
from gateway.errors import ConfigProblem

Locate = Callable[[Key], tuple[str, int | None]]
"""Key path to (file or `environment NAME`, line or None)."""

_UNION_BRANCH = re.compile(r"[a-z][a-z_-]*\[.*\]|bool|str|int|float|none|constrained-\w+")
_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_TOML_HINTS = (
    (
        "Illegal character '\\n'",
        "; a text ends on its line with the quote it began with, one of several lines stands in three quotes",
    ),
    (
        "Found invalid character '\\n'",
        "; a text ends on its line with the quote it began with, one of several lines stands in three quotes",
    ),
    ("Expected newline or end of document", "; quotes within a text are of the other kind: 'helo == \"x\"'"),
    ("Unescaped '\\' in a string", "; a text with backslashes stands in single quotes"),
)
_BOTH = re.compile(r"found (.*?); allowed: (.*)", re.DOTALL)
_LONGEST = 80
_END = 30
"""Of these the last: the name of a file stands at the end of its path."""
_PLAIN = {
    "missing": "this key is required",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "string_type": "a string in quotes",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "float_type": "a number",
    "float_parsing": "a number",
    "tuple_type": "a list: [ … ]",
    "list_type": "a list: [ … ]",
    "dict_type": "a table: { … }",
    "model_type": "a table: { … }",
    "model_attributes_type": "a table: { … }",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "more than"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "less than"),
    "too_short": ("min_length", "a list with an entry; entries at least"),
    "string_too_short": ("min_length", "characters at least"),
    "string_too_long": ("max_length", "characters at most"),
}


def mistake_in_toml(error: Exception) -> tuple[int | None, str, str]:
    """Line (None: the last), what was found and what is allowed, of what tomllib says."""
    place = _PLACE.search(str(error))
    what = _PLACE.sub("", str(error))
    hint = next((hint for front, hint in _TOML_HINTS if front in what), "")
    return int(place[1]) if place and place[1] else None, f"a mistake in TOML: {what}", f"TOML 1.0 (https://toml.io){hint}"


def nearest(name: str, names: Iterable[str]) -> str:
    """The right name most like this one, or an empty string."""
    from difflib import get_close_matches  # for mistakes

    candidates = sorted(names)
    found = get_close_matches(name.lower(), candidates, n=1, cutoff=0.6)
    longer = [candidate for candidate in candidates if len(name) > 2 and candidate.startswith(name.lower())]
    return (found or longer or [""])[0]


def dotted(key: Key) -> str:
    """`("route", 0, "servers")` as `route[0].servers`."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part)
            text += f".{bare}" if text else bare
    return text or "(top level)"


def shown(value: object, *, key: Key = ()) -> str:
    """A value as found, short and on one line; secrets are masked."""
    if any(isinstance(part, str) and is_secret(part) for part in key):
        return MASK
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        text = repr(value)
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - _END - 1]}…{text[-_END:]}"


def _branches(annotation: Any) -> list[Any]:
    """The types an annotation may stand for."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _branches(get_args(annotation)[0])
    if origin in {Union, types.UnionType}:
        return [branch for part in get_args(annotation) for branch in _branches(part)]
    return [annotation]


def _below(kind: Any, part: str | int) -> list[Any]:
    """The types that stand below a key of a type."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        found = kind.model_fields.get(str(part))
        return [] if found is None else _branches(found.annotation)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in {tuple, list} and isinstance(part, int) and arguments:
        return _branches(arguments[0])
    if origin in {dict, Mapping} and len(arguments) == 2:
        return _branches(arguments[1])
    return []


def models_at(kinds: Sequence[Any], key: Key) -> list[Any]:
    """The types of the value at a key path below these types."""
    found = list(kinds)
    for part in key:
        found = [below for kind in found for below in _below(kind, part)]
    return found


def field_names(kinds: Sequence[Any]) -> list[str]:
    """Names of all fields of those types that are models."""
    names: list[str] = []
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names += [name for name in kind.model_fields if name not in names]
    return names


def _clean(loc: Sequence[str | int], kinds: Sequence[Any]) -> Key:
    """A pydantic location without the names of union branches, and without the tag that chose one of several models."""
    key: Key = ()
    for number, part in enumerate(loc):
        here = models_at(kinds, key)
        known = isinstance(part, int) or part in field_names(here)
        if (
            key
            and number + 1 < len(loc)
            and isinstance(loc[number + 1], str)
            and isinstance(part, str)
            and len(_models(here)) > 1
        ):
            continue
        if known or _UNION_BRANCH.fullmatch(str(part)) is None:
            key = (*key, part)
    return key


def _models(kinds: Sequence[Any]) -> list[type[BaseModel]]:
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]


def _names_beside(loc: Sequence[str | int], kinds: Sequence[Any], key: Key) -> list[str]:
    """Keys that may stand where an unknown one does; of several models those of the one that was chosen."""
    here = models_at(kinds, key[:-1])
    chosen = [kind for kind in _models(here) if len(loc) > 1 and loc[-2] in kind.model_fields]
    return field_names(chosen or here)


def _literals(kinds: Sequence[Any]) -> list[str]:
    return [str(value) for kind in kinds if get_origin(kind) is Literal for value in get_args(kind)]


def _told(found: str, allowed: str) -> tuple[str, str]:
    """What was found and what is allowed; a validator that tells both in its message knows better."""
    both = _BOTH.fullmatch(allowed)
    return (both[1], both[2]) if both else (found, allowed)


def _allowed(error: Mapping[str, Any]) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"{words} {context.get(name)}"
    if kind == "literal_error":
        return str(context.get("expected"))
    if kind == "value_error":
        return str(context.get("error"))
    return str(error["msg"])


def problems_from_pydantic(
    error: ValidationError,
    *,
    prefix: Key,
    locate: Locate,
    models: type[BaseModel] | Sequence[type[BaseModel]],
) -> list[ConfigProblem]:
    """One problem for each key that pydantic refused.

    `prefix` is the path of the validated table (`("plugin", "spf")`), `models` the models whose names are right at
    that place: for a plugin its options and `PluginUse`.
    """
    kinds = [models] if isinstance(models, type) else list(models)
    merged: dict[Key, ConfigProblem] = {}
    faults = [cast("Mapping[str, Any]", fault) for fault in error.errors(include_url=False)]
    for fault in faults:
        key = _clean(fault["loc"], kinds)
        if fault["type"] == "too_short" and any(other["loc"][: len(key)] == key != other["loc"] for other in faults):
            continue  # only because its entries were refused
        whole = (*prefix, *key)
        file, line = locate(whole)
        hint = ""
        if fault["type"] == "extra_forbidden":
            names = _names_beside(fault["loc"], kinds, key)
            found, allowed = f"the unknown key {key[-1]!r}", ", ".join(names)
            hint = nearest(str(key[-1]), names)
        elif fault["type"] == "missing":
            found, allowed = "nothing", _allowed(fault)
        else:
            found, allowed = _told(shown(fault.get("input"), key=whole), _allowed(fault))
            if fault["type"] == "tuple_type" and isinstance(fault.get("input"), dict):
                allowed += f", or tables with [[{dotted(whole)}]] above each"
            choices = _literals(models_at(kinds, key))
            if isinstance(fault.get("input"), str):
                hint = nearest(str(fault["input"]), choices)
        before = merged.get(whole)
        if before is not None and allowed not in before.allowed:
            allowed = f"{before.allowed}, or {allowed}"
        elif before is not None:
            allowed = before.allowed
        merged[whole] = ConfigProblem(file=file, line=line, key=dotted(whole), found=found, allowed=allowed, hint=hint)
    return list(merged.values())
