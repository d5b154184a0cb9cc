"""Signals of the supervisor as readable octets, so that its select wakes up."""

from __future__ import annotations

import os
import selectors
import signal
from typing import Self

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Signals:
    """Ending signals and ended children, noted; undone at the end."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        self._selector.register(self._read, selectors.EVENT_READ)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in (*ENDING, signal.SIGCHLD):
            signal.signal(number, _noted)
        return self

    def __exit__(self, *_: object) -> None:
        forget_signals()
        os.close(self._read)
        os.close(self._write)

    def taken(self) -> bytes:
        """Numbers of the signals since the last call."""
        try:
            return os.read(self._read, 64)
        except BlockingIOError:
            return b""


def forget_signals() -> None:
    """Back to the defaults: at the end, and first of all in a forked child."""
    signal.set_wakeup_fd(-1)
    for number in (*ENDING, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


def _noted(_number: int, _frame: object) -> None:
    """The wake-up octet tells the loop; nothing is done here."""
