"""The effective configuration as TOML text, secrets masked, each value with its origin when asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, BeforeValidator

from gateway.config.lines import Key
from gateway.config.models import Config
from gateway.config.secrets import masked
from gateway.units import parse_duration, parse_size

_DURATIONS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_SIZES = (("GB", 10**9), ("MB", 10**6), ("KB", 10**3))


def format_duration(seconds: float) -> str:
    """Seconds as the configuration writes them: `"30s"`, `"5m"`, `"30d"`, `"250ms"`."""
    for unit, length in _DURATIONS:
        if seconds and seconds % length == 0:
            return f"{int(seconds // length)}{unit}"
    return "0s" if not seconds else f"{seconds * 1000:.10g}ms"


def format_size(octets: int) -> str:
    """Octets as the configuration writes them: `"50MB"`, `"4096B"`."""
    for unit, length in _SIZES:
        if octets and octets % length == 0:
            return f"{octets // length}{unit}"
    return f"{octets}B"


def plain(value: Any, metadata: tuple[Any, ...] | list[Any] = ()) -> Any:
    """A value of a model as TOML can hold it: durations and sizes with their unit, nothing for None."""
    if isinstance(value, BaseModel):
        pairs = ((name, getattr(value, name), field.metadata) for name, field in type(value).model_fields.items())
        return {name: plain(below, units) for name, below, units in pairs if below is not None}
    if isinstance(value, Mapping):
        return {str(name): plain(below) for name, below in value.items()}
    if isinstance(value, list | tuple):
        return [plain(below) for below in value]
    readers = [part.func for part in metadata if isinstance(part, BeforeValidator)]
    if parse_duration in readers:
        return format_duration(value)
    if parse_size in readers:
        return format_size(value)
    return value


def _name(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else _string(text)


def _string(text: str) -> str:
    # JSON escapes are TOML escapes, but for DEL, which JSON leaves as it is.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def inline(value: Any) -> str:
    """A value on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _string(value)
        case Mapping():
            pairs = ", ".join(f"{_name(name)} = {inline(below)}" for name, below in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case list():
            return "[" + ", ".join(inline(below) for below in value) + "]"
        case int() | float():
            return repr(value)
        case _:  # dates and times of [plugin] tables
            return str(value)


def _origin(origins: Mapping[Key, str], key: Key) -> str:
    """The origin of a key, or of the values below it."""
    below = dict.fromkeys(origin for known, origin in origins.items() if known[: len(key)] == key)
    return ", ".join(below)


def toml_text(config: Config, *, origins: Mapping[Key, str] | None = None) -> str:
    """The whole configuration; with `origins` each line ends with where its value came from."""
    lines: list[str] = []
    data = masked(plain(config))
    tables = {name: value for name, value in data.items() if isinstance(value, dict)}
    arrays = {name: value for name, value in data.items() if name in {"listener", "route", "rule"}}

    def pairs(table: Mapping[str, Any], key: Key) -> None:
        for name, value in table.items():
            line = f"{_name(name)} = {inline(value)}"
            origin = "" if origins is None else _origin(origins, (*key, name))
            lines.append(f"{line}  # {origin}" if origin else line)

    pairs({name: value for name, value in data.items() if name not in tables and name not in arrays}, ())
    for name, elements in arrays.items():
        for place, element in enumerate(elements):
            lines.extend(["", f"[[{name}]]"])
            pairs(element, (name, place))
    for name, table in tables.items():
        if name == "plugin":
            for plugin, options in table.items():
                lines.extend(["", f"[plugin.{_name(plugin)}]"])
                pairs(options, ("plugin", plugin))
        else:
            lines.extend(["", f"[{name}]"])
            pairs(table, (name,))
    return "\n".join(lines) + "\n"
