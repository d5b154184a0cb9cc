"""Fault points: places at which a test ends this process as a power cut would, to prove the order of the promises.

Off unless the environment names a point: `MAILGATEWAY_FAULT="delivery.sent"` is kill -9 at its first passing,
`"delivery.sent@3"` at the third of this process. `MAILGATEWAY_FAULT_ONCE` names a file: only the process that makes it dies,
so that the replaced worker goes on.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import Final

POINTS: Final = ("delivery.planned", "delivery.pending", "delivery.sent", "delivery.held", "delivery.replied")
"""After each step (a) to (e) of docs/promises.md; `delivery.replied` is reached by the server once the reply is written."""

_named: Final = os.environ.get("MAILGATEWAY_FAULT", "").partition("@")
_point: Final = _named[0]
_nth: Final = _named[2]
_once: Final = os.environ.get("MAILGATEWAY_FAULT_ONCE", "")
WATCHED: Final = bool(_point)
"""A point is named. Asked before `reach` where every message passes."""
_passed: Final[Counter[str]] = Counter()


def reach(point: str) -> None:
    """Say that this point is passed. Returns, unless the environment says that the process ends here."""
    if point == _point:
        _end_here(point)


def _end_here(point: str) -> None:
    _passed[point] += 1
    if _passed[point] < (int(_nth) if _nth.isdigit() else 1):
        return
    if _once:
        try:
            os.close(os.open(_once, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return
    os.kill(os.getpid(), signal.SIGKILL)
