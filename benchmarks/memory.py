"""Memory of a process and its descendants, and the highest it had while something went on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks.ways import processes


class Memory(NamedTuple):
    """MB of all processes of a tree. A page that n processes share counts 1/n in each of them, except in `resident`."""

    resident: float = 0.0
    """RSS: shared pages as often as there are processes."""
    proportional: float = 0.0
    """PSS: what the tree takes."""
    unshared: float = 0.0
    """USS: pages that one process has alone."""
    anonymous: float = 0.0
    """The part of PSS that belongs to no file: heaps and stacks."""
    mapped: float = 0.0
    """The part of PSS that belongs to files (code, a mapped spool) and shared memory."""


def tree(pid: int) -> Memory:
    """Memory of a process and its descendants now."""
    total = Memory()
    for one in processes(pid):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()[1:]
            found = {name: int(rest.split()[0]) / 1024 for name, _, rest in (line.partition(":") for line in lines)}
            here = (
                found["Rss"],
                found["Pss"],
                found["Private_Clean"] + found["Private_Dirty"],
                found["Pss_Anon"],
                found["Pss_File"] + found["Pss_Shmem"],
            )
            total = Memory(*(a + b for a, b in zip(total, here, strict=True)))
    return total


@dataclass
class Highest:
    """What was seen so far."""

    memory: Memory


@contextlib.contextmanager
def highest(pid: int) -> Iterator[Highest]:
    """The most of each kind while the block runs, looked at ten times a second."""
    found, over = Highest(tree(pid)), threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            found.memory = Memory(*map(max, found.memory, tree(pid)))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
