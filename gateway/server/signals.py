"""Signals of the supervisor as readable octets, so that its select wakes up."""

from __future__ import annotations

import os
import selectors
import signal
from typing import Self


class Terminal:
    """The terminal the gateway was started at. SIGHUP says that it is gone; a daemon has none, and is told to reload."""

    def __init__(self) -> None:
        self._was_there = _has_terminal()

    @property
    def is_lost(self) -> bool:
        """There was one, and it is gone."""
        return self._was_there and not _has_terminal()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


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
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)  # they may wait since before this process supervised
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
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


def hold_signals() -> None:
    """Ending signals wait until they can be noted (`Signals`), by the program that takes this one's place too."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)


def _noted(_number: int, _frame: object) -> None:
    """The wake-up octet tells the loop; nothing is done here."""
