"""Units of the configuration: durations as `"30s"`, sizes as `"25MB"`; in the code seconds (float) and octets (int)."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|KiB|MiB|GiB)?")
_OCTETS = {
    "B": 1,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}


def parse_duration(value: object) -> float:
    """`"250ms"`, `"30s"`, `"5m"`, `"2h"`, `"7d"` in seconds. ValueError says what is allowed."""
    if isinstance(value, str):
        found = _DURATION.fullmatch(value.strip())
        if found:
            return float(found[1]) * _SECONDS[found[2]]
    elif isinstance(value, float | int) and not isinstance(value, bool) and value >= 0:
        return float(value)
    msg = 'a duration such as "250ms", "30s", "5m", "2h" or "7d"'
    raise ValueError(msg)


def parse_size(value: object) -> int:
    """`"25MB"`, `"64KiB"`, `1000` in octets. ValueError says what is allowed."""
    if isinstance(value, str):
        found = _SIZE.fullmatch(value.strip())
        if found:
            return int(float(found[1]) * _OCTETS[found[2] or "B"])
    elif isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    msg = 'a size such as "25MB", "64KiB" or a number of octets'
    raise ValueError(msg)


Duration = Annotated[float, BeforeValidator(parse_duration), WithJsonSchema({"type": ["string", "number"], "examples": ["30s"]})]
"""Seconds; written as `"30s"`.

Examples:
    >>> class Options(PluginOptions):
    ...     patience: Duration = 30.0
    >>> Options(patience="5m").patience
    300.0
"""
Size = Annotated[int, BeforeValidator(parse_size), WithJsonSchema({"type": ["string", "integer"], "examples": ["25MB"]})]
"""Octets; written as `"25MB"`.

Examples:
    >>> class Options(PluginOptions):
    ...     largest: Size = 0
    >>> Options(largest="64KiB").largest
    65536
"""
