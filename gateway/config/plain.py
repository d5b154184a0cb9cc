"""Sections of the configuration that every message reads, as plain objects.

Pydantic's models look names up by a method of their own, so that a field of one costs some ten times what an ordinary attribute does,
compiled or not; the bounds and time limits that a message is held to are forty such reads. What is read so often is copied once
with each generation.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar, cast

from pydantic import BaseModel

M = TypeVar("M", bound=BaseModel)


def plain(section: M) -> M:
    """The same values under the same names, to be read; it is no model, and has nothing but the fields."""
    copy = _kind(type(section))()
    for name in type(section).model_fields:
        setattr(copy, name, getattr(section, name))
    return cast("M", copy)


@lru_cache(maxsize=16)
def _kind(model: type[BaseModel]) -> type[Any]:
    return type(model.__name__, (), {"__slots__": tuple(model.model_fields), "__doc__": model.__doc__})
