"""Imports without what they would bring along although nobody here uses it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Modules that are imported within find these names not installed. Where one was imported before, nothing is hidden."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type] # None: the import system's own word for "not to be had"
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
