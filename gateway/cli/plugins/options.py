"""Options of a plugin class, for people and for a trial: types, defaults and docs; values from a table or the command line."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, ValidationError

from gateway.cli.plugins.sources import Mistake, place_of
from gateway.config.models import PluginUse
from gateway.config.problems import problems_from_pydantic
from gateway.config.reference import default_of, kind_of, meaning_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.plugin import Plugin, PluginOptions

SETTINGS = frozenset(PluginUse.model_fields)
"""Keys of a plugin's table that are the gateway's own: no option can bear such a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option as a person reads it."""

    name: str
    kind: str
    default: str
    meaning: str


def options_of(kind: type[Plugin[Any]]) -> list[Option]:
    """In the order they are written."""
    return [
        Option(name=name, kind=kind_of(field.annotation, field), default=default_of(field), meaning=meaning_of(field))
        for name, field in kind.options_type.model_fields.items()
    ]


def objections_to(kind: type[Plugin[Any]]) -> list[Mistake]:
    """Options that can never be set, since the gateway has a key of that name in every plugin's table."""
    return [
        Mistake(
            where=place_of(kind.options_type),
            found=f"the option {name!r}, a key that every plugin's table has",
            allowed=f"any name but {', '.join(sorted(SETTINGS))}",
            hint=f"own_{name}",
        )
        for name in kind.options_type.model_fields
        if name in SETTINGS
    ]


def undocumented(kind: type[Plugin[Any]]) -> list[str]:
    """Options without a docstring below them."""
    return [one.name for one in options_of(kind) if not one.meaning]


def read_settings(written: Sequence[str]) -> dict[str, Any]:
    """`words=["invoice"]` … as a table. ValueError names what is no TOML."""
    table: dict[str, Any] = {}
    for one in written:
        key, equals, value = one.partition("=")
        try:
            if not equals or not key.strip():
                raise ValueError("no `key = value`")  # noqa: TRY301 - told as the parser's own mistakes are
            read = tomllib.loads(f"value = {value}")
            table[key.strip()] = read.pop("value")
            if read:
                raise ValueError("more than one")  # noqa: TRY301 - as above
        except (ValueError, KeyError) as error:
            raise ValueError(f'found {one[:80]!r}; allowed: an option and a TOML value, as in words=["invoice"]') from error
    return table


def make(
    kind: type[Plugin[Any]], name: str, table: Mapping[str, Any], where: tuple[str, int | None]
) -> tuple[PluginOptions | None, list[Mistake]]:
    """The options that this table gives, or what is wrong with it."""
    own = {key: value for key, value in table.items() if key not in SETTINGS}
    try:
        return kind.options_type.model_validate(own), []
    except ValidationError as error:
        models = cast("list[type[BaseModel]]", [kind.options_type, PluginUse])
        problems = problems_from_pydantic(error, prefix=("plugin", name), locate=lambda _: where, models=models)
        return None, [
            Mistake(
                where=one.file if one.line is None else f"{one.file}:{one.line}",
                found=f"{one.found} for {one.key}",
                allowed=one.allowed,
                hint=one.hint,
            )
            for one in problems
        ]
