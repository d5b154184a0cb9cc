"""Processes without what nobody in them uses: companions of imports, and memory that was needed once."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


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


def settle() -> None:
    """What is there now stays: garbage goes, the collector looks at the rest no more, and what the heap has free is the system's again."""
    gc.collect()
    gc.freeze()
    import ctypes

    with suppress(AttributeError, OSError):  # glibc has it
        ctypes.CDLL(None).malloc_trim(0)
