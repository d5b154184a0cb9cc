"""What one session waits for a message and for the reply to its final dot, and small mail while large mail arrives."""

from __future__ import annotations

import threading

from benchmarks.dialogue import latency, small_while
from benchmarks.results import DIRECT, HAPROXY, HARAKA, ONE, ONE_WITH_CORE, POSTFIX, TWO, if_built
from benchmarks.run import Run, Work
from benchmarks.ways import Failed, Load, Way, send

CONTENT = b"Subject: bench\r\n\r\n" + (b"x" * 60 + b"\r\n") * 65 + b".\r\n"
"""4 KB, as smtp-source makes them."""


class Session(Work):
    """One session, each command answered before the next, nothing else going on."""

    name = "session"

    def round(self, run: Run) -> None:
        """Some hundred messages through each way."""
        for way in run.ways(self.name, DIRECT, HAPROXY, POSTFIX, HARAKA, ONE, *if_built(ONE_WITH_CORE)):
            with run.attempt(self.name, way.name):
                count = max(20, round(run.scaled(1000) * min(1.0, way.pace)))
                run.results.note(self.name, way.name, **latency(way, CONTENT, count))


class _Large(threading.Thread):
    """Large mail; `error` is what went wrong."""

    def __init__(self, way: Way, load: Load) -> None:
        super().__init__()
        self._way = way
        self._load = load
        self.error = ""

    def run(self) -> None:
        """To its end."""
        try:
            send(self._way, self._load)
        except Failed as error:
            self.error = str(error)


def small_beside_large(way: Way, count: int) -> dict[str, float]:
    """Latency of small messages on one kept session while `count` messages of 20 MB arrive, ten at a time."""
    large = _Large(way, Load(10, 20_000_000, count, kept=False))
    large.start()
    try:
        figures = small_while(way, large.is_alive)
    finally:
        large.join()
    if large.error:
        raise Failed(large.error)
    return figures


class Beside(Work):
    """Small mail while large mail arrives."""

    name = "beside"

    def round(self, run: Run) -> None:
        """Each way with its own large mail."""
        for way in run.ways(self.name, DIRECT, HAPROXY, ONE, TWO):
            with run.attempt(self.name, way.name), run.watched(self.name, way):
                run.results.note(self.name, way.name, **small_beside_large(way, run.scaled(50)))
