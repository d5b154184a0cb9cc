"""Processes without what nobody in them uses: companions of imports, and memory that was needed once."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

_TRIM_THRESHOLD: Final = -1
"""mallopt's number for it, as `_MMAP_THRESHOLD` (malloc.h)."""
_MMAP_THRESHOLD: Final = -3
HEAP_KEPT: Final = 4 * 1024 * 1024
"""Octets free at the end of the heap that stay with a worker: the buffers of a few large messages under way, of 256 KB each."""
OWN_PAGES: Final = 1024 * 1024
"""Octets of a piece of memory that has pages of its own, which go back when it does."""


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


def keep_buffers() -> None:
    """Buffers of content come from the heap and go back to it, for the next ones.

    By itself glibc takes what was last freed for a measure of what to keep, 0.5 MB with buffers of 256 KB: the heap's end went back to the
    system and came again, page by page, up to fifty times in a message of 5 MB, and after one block of 20 MB it would have kept 40.
    """
    import ctypes

    with suppress(AttributeError, OSError):  # glibc has it
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, OWN_PAGES)
        mallopt(_TRIM_THRESHOLD, HEAP_KEPT)
