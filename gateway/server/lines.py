r"""Lines of the log: rendered, and written by a thread so that a slow reader never blocks the loop. `logs` joins them to structlog.

Lines go to standard error, as key=value on a terminal and JSON otherwise. The queue is bounded: what finds it full is dropped and counted,
and a line says how many. Text from the network cannot forge lines or drive a terminal: control characters, line ends and direction marks
come out as `\x1b` (in JSON as JSON writes them), long values are cut. Nothing here needs structlog: the supervisor is small without it.
"""

from __future__ import annotations

import json
import math
import os
import re
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, MutableMapping
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, Protocol

QUEUE_SIZE = 10_000
MAX_VALUE = 2_000
MAX_ITEMS = 100
MAX_TRACE = 8_000
_FLUSH_LIMIT = 2.0
_LINGER = 0.02
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]")
_PLAIN = re.compile(r"[^\s\"'=\\]+")
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
"""By the numbers of `logging`."""
_NUMBERS = frozenset({int, float, bool, type(None)})
_MAX_NAMES = 50
"""Values in a line whose names are remembered together."""
_encode = json.JSONEncoder().encode
Event = MutableMapping[str, Any]
Render = Callable[[Event], str]


class LogSettings(Protocol):
    """What of `[server]` the log goes by."""

    @property
    def log_format(self) -> str:
        """`auto`, `text` or `json`."""
        ...

    @property
    def log_level(self) -> str:
        """The lowest that is written."""
        ...


def _cut(text: str) -> str:
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}…({len(text)} characters)"


def escape(text: str) -> str:
    """`text` without anything that ends a line or drives a terminal; at most MAX_VALUE characters."""
    text = _cut(text)
    return text if text.isascii() and text.isprintable() else _UNSAFE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return {10: "\\n", 13: "\\r", 9: "\\t"}.get(code) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def _bounded(value: object) -> object:
    match value:
        case None | bool() | int() | float():
            return value
        case bytes() | bytearray():
            return _cut(bytes(value[: MAX_VALUE + 1]).decode("utf-8", "backslashreplace"))
        case str():
            return _cut(value)
        case tuple() | list() | set() | frozenset():
            return [_bounded(item) for item in list(value)[:MAX_ITEMS]]
        case dict():
            return {_cut(str(key)): _bounded(item) for key, item in list(value.items())[:MAX_ITEMS]}
        case _:
            return _cut(str(value))


@lru_cache(maxsize=256)
def _object(names: tuple[str, ...]) -> str:
    """A JSON object with a place for each value: lines of one kind have the same names."""
    return "{" + ", ".join([quoted(name).replace("%", "%%") + ": %s" for name in names]) + "}"


def _value(value: object) -> str:
    if type(value) is float and math.isfinite(value):
        return float.__repr__(value)
    return _encode(value if type(value) in _NUMBERS else _bounded(value))


def render_json(event: Event) -> str:
    """One JSON object, in ASCII: nothing in it ends a line, and a reader gets the very text back."""
    if "exception" not in event and len(event) <= _MAX_NAMES:
        values = [quoted(one) if type(one) is str else one if type(one) is int else _value(one) for one in event.values()]
        line = _object(tuple(event)) % tuple(values)
        if len(line) <= MAX_VALUE:  # so no value is longer
            return line
    exception = event.pop("exception", None)
    for value in event.values():
        if not ((type(value) is str and len(value) <= MAX_VALUE) or type(value) in _NUMBERS):
            event = {_cut(key): _bounded(value) for key, value in event.items()}
            break
    if exception is not None:
        event["exception"] = str(exception)[-MAX_TRACE:]
    return _encode(event)


def render_text(event: Event) -> str:
    """`time level event key=value …`, quoted where a value is not one plain word."""
    words = [str(event.get(key, "")) for key in ("time", "level")] + [escape(str(event.get("event", "")))]
    for key, value in event.items():
        if key not in ("time", "level", "event"):
            bounded = value[-MAX_TRACE:] if key == "exception" and isinstance(value, str) else _bounded(value)
            text = bounded if isinstance(bounded, str) else json.dumps(bounded, ensure_ascii=False)
            text = _UNSAFE.sub(_escaped, text)
            if not _PLAIN.fullmatch(text):
                text = '"' + text.replace('"', '\\"') + '"'
            words.append(f"{escape(str(key))}={text}")
    return " ".join(words)


class Clock:
    """The time of a line, as ISO 8601 in UTC: the second is written once for all lines in it."""

    def __init__(self) -> None:
        self._second = (0, "")

    def __call__(self) -> str:
        """This moment."""
        now = time.time_ns()
        seconds, rest = divmod(now, 1_000_000_000)
        known = self._second  # read and set whole: threads log too
        if known[0] != seconds:
            known = self._second = (seconds, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)))
        return f"{known[1]}.{rest // 1000:06d}Z"


now = Clock()


class Writer:
    """Writes lines to a file descriptor: at once, or by a thread after `start`. Never blocks after `start`, never raises."""

    def __init__(
        self,
        descriptor: int,
        *,
        size: int = QUEUE_SIZE,
        dropped: Callable[[], None] = lambda: None,
        render: Render | None = None,
    ) -> None:
        self._descriptor = descriptor
        self._render = render or render_json
        self._size = size
        self._lines: deque[str] = deque()
        self._filled = threading.Event()
        self._stopping = threading.Event()
        self._dropped = dropped
        self._lost = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """From here on a thread writes."""
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def line(self, text: str) -> None:
        """One line, without its end."""
        if self._thread is None:
            self._write([text])
        elif len(self._lines) >= self._size:
            self._lost += 1
            self._dropped()
        else:
            self._lines.append(text)
            if not self._filled.is_set():
                self._filled.set()

    def stop(self) -> None:
        """Write what waits, for two seconds at most."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping.set()
            self._filled.set()
            thread.join(_FLUSH_LIMIT)  # where nobody reads: the thread is a daemon and ends with the process

    def _run(self) -> None:
        """Lines that come close together are written together: a thread that wakes for each takes Python's lock from the loop."""
        while not self._stopping.is_set() or self._lines:
            self._filled.wait()
            self._stopping.wait(_LINGER)
            self._filled.clear()
            while self._lines:
                self._write(self._some())
            if self._lost:
                lost, self._lost = self._lost, 0
                self._write([self._render({"time": now(), "level": "warning", "event": "log.dropped", "lines": lost})])

    def _some(self) -> list[str]:
        """Lines for one write: a pipe takes them whole among those of other processes up to PIPE_BUF."""
        some = [self._lines.popleft()]
        size = len(some[0])
        while self._lines and size + len(self._lines[0]) + len(some) < select.PIPE_BUF:
            some.append(self._lines.popleft())
            size += len(some[-1])
        return some

    def _write(self, lines: list[str]) -> None:
        octets = ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")
        try:
            while octets:
                octets = octets[os.write(self._descriptor, octets) :]
        except OSError:
            self._lost += len(lines)  # a closed pipe or a full disk: mail goes on without its log


def rendering(settings: LogSettings, descriptor: int) -> Render:
    """How lines for this descriptor are written."""
    text = settings.log_format == "text" or (settings.log_format == "auto" and os.isatty(descriptor))
    return render_text if text else render_json


class PlainLog:
    """Lines of a process that has no structlog, in the same form, each written at once."""

    def __init__(self, settings: LogSettings, *, process: str, descriptor: int = 2) -> None:
        self._render = rendering(settings, descriptor)
        self._level = LEVELS[settings.log_level]
        self._process = process
        self._writer = Writer(descriptor)

    def debug(self, event: str, **facts: object) -> None:
        """A line of this level, as those below."""
        self._say("debug", event, facts)

    def info(self, event: str, **facts: object) -> None:
        """A line."""
        self._say("info", event, facts)

    def warning(self, event: str, **facts: object) -> None:
        """A line."""
        self._say("warning", event, facts)

    def error(self, event: str, **facts: object) -> None:
        """A line."""
        self._say("error", event, facts)

    def exception(self, event: str, error: BaseException, **facts: object) -> None:
        """An error, with its traceback."""
        import traceback

        self._say("error", event, {**facts, "exception": "".join(traceback.format_exception(error)).rstrip("\n")})

    def tell_uncaught(self) -> None:
        """From here on what nobody has caught is a line too."""
        sys.excepthook = lambda _kind, error, _trace: self.exception("process.uncaught", error)

    def _say(self, level: str, event: str, facts: dict[str, object]) -> None:
        if LEVELS[level] >= self._level:
            self._writer.line(self._render({"time": now(), "level": level, "event": event, **facts, "process": self._process}))
