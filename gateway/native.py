"""What the compiler of the core is told of a class, and the interpreter is not (docs/performance.md, "A compiled core")."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr
else:
    Kind = TypeVar("Kind", bound=type)

    def mypyc_attr(*marks: str, **settings: bool) -> Callable[[Kind], Kind]:
        """Nothing, where a class is interpreted; so that what comes with mypy is needed by who compiles alone."""
        del marks, settings
        return lambda kind: kind


class WeaklyReferable:
    """A compiled class has no place for weak references but as the heir of an interpreted one."""


__all__ = ["WeaklyReferable", "mypyc_attr"]
