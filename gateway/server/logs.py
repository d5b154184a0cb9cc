"""Logs: structlog, joined to the lines of `lines`, and what libraries log by `logging` in the same form."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, cast

from gateway.server.lean import without
from gateway.server.lines import LEVELS, Event, LogSettings, Render, Writer, now, rendering

# structlog takes the one for colours that our logs do not have (4 MB and a seventh of the start), the other for a kind of threads that
# nothing here logs from (1 MB, the C++ library most of it)
with without("rich", "greenlet"):
    import structlog

_LEVEL_OF = {"warn": "warning", "exception": "error", "fatal": "critical", "failure": "error"}


class _Lines:
    """What structlog calls with the finished line."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def msg(self, line: str) -> None:
        self._writer.line(line)

    debug = info = warning = error = critical = exception = failure = fatal = warn = log = msg


class _Foreign(logging.Handler):
    """Lines of libraries that log by `logging`, in our form."""

    def __init__(self, writer: Writer, render: Render) -> None:
        super().__init__()
        self._writer = writer
        self._render = render

    def emit(self, record: logging.LogRecord) -> None:
        event: dict[str, Any] = {
            "time": now(),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            event["exception"] = logging.Formatter().formatException(record.exc_info)
        self._writer.line(self._render(event))


def _logger_class(level: int, process: str, writer: Writer, render: Render) -> Any:
    """Structlog's logger of this level, whose `info` needs none of its processors: a third of what the line of a message costs."""
    base: Any = structlog.make_filtering_bound_logger(level)
    if level > logging.INFO:
        return base

    class Logger(base):  # type: ignore[misc] # made by a function
        def info(self, event: str, *args: object, **facts: Any) -> Any:
            if args or "exc_info" in facts or "stack_info" in facts:
                return super().info(event, *args, **facts)
            line = {"time": now(), "level": "info", "event": event, **self._context, **facts}
            if "process" not in line:
                line["process"] = process
            return writer.line(render(line))

    return Logger


def configure(
    settings: LogSettings,
    *,
    process: str,
    queued: bool,
    descriptor: int = 2,
    dropped: Callable[[], None] = lambda: None,
) -> Writer:
    """Set up logging for this process; `queued` where a loop runs. The caller stops the writer that is given back."""
    render = rendering(settings, descriptor)
    level = LEVELS[settings.log_level]
    writer = Writer(descriptor, dropped=dropped, render=render)

    def finish(_logger: object, method: str, event: Event) -> str:
        event.setdefault("process", process)
        return render({"time": now(), "level": _LEVEL_OF.get(method, method), "event": event.pop("event", ""), **event})

    structlog.configure(
        processors=[
            structlog.processors.format_exc_info,
            cast("structlog.typing.Processor", finish),
        ],
        wrapper_class=_logger_class(level, process, writer, render),
        logger_factory=lambda *_: _Lines(writer),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Foreign(writer, render)]
    root.setLevel(max(level, logging.WARNING))
    for name in ("mail.log", "mail.debug"):  # aiosmtpd logs each line of a session here
        silent = logging.getLogger(name)
        silent.setLevel(logging.CRITICAL + 1)
        silent.propagate = False
    sys.excepthook = _log_uncaught
    if queued:
        writer.start()
    return writer


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    structlog.get_logger().error("process.uncaught", exc_info=(kind, error, trace))
