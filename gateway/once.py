"""Facts that are computed when somebody asks first, and then stay: `functools.cached_property` without its lock."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

T = TypeVar("T")


class once(cached_property[T]):  # noqa: N801 - a decorator, as the one it derives from
    """The lock of Python 3.11, which 3.12 took away again, costs more than most facts do. Two threads that ask at the same time both compute."""

    if not TYPE_CHECKING:

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            if instance is None:
                return self
            value = instance.__dict__[self.attrname] = self.func(instance)
            return value
