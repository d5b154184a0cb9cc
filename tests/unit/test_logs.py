"""Log lines cannot be forged and never block: gateway.server.logs."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
import structlog

from gateway.config.models import ServerConfig
from gateway.server import lines, logs

HOSTILE = 'a\r\n2026 error forged="1"\x1b[2J\x9b\u202e\x00\ud800 end'


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, sys.excepthook
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    sys.excepthook = hook


@pytest.fixture
def pipe() -> Iterator[tuple[int, Callable[[], str]]]:
    read, write = os.pipe()

    def text() -> str:
        os.set_blocking(read, False)
        try:
            return os.read(read, 1_000_000).decode()
        except BlockingIOError:
            return ""

    yield write, text
    os.close(read)
    os.close(write)


def test_json_is_one_line_and_gives_the_text_back(pipe: tuple[int, Callable[[], str]]) -> None:
    write, text = pipe
    logs.configure(ServerConfig(log_format="json"), process="worker-0", queued=False, descriptor=write)
    structlog.get_logger().info("rcpt.refused", path=HOSTILE, octets=b"\xff<a>", number=3, nested={"x": (1, None)})
    line = text()
    assert line.count("\n") == 1
    assert line.isascii()
    assert line.strip().isprintable()
    found = json.loads(line)
    assert list(found)[:3] == ["time", "level", "event"]
    assert found["path"] == HOSTILE
    assert found["octets"] == "\\xff<a>"
    assert (found["number"], found["nested"], found["process"]) == (3, {"x": [1, None]}, "worker-0")


def test_each_kind_of_value_is_told_the_same_way_at_every_level(pipe: tuple[int, Callable[[], str]]) -> None:
    write, text = pipe
    logs.configure(ServerConfig(log_format="json"), process="p", queued=False, descriptor=write)
    facts = {"none": None, "yes": True, "ms": 1.25, "odd": float("inf"), "100%s": "%d", "items": ["a"], "pair": (1, b"x")}
    log = structlog.get_logger().bind(first=1)
    for more in ({}, {f"name{number}": number for number in range(60)}, {"long": "y" * 3_000}, {"process": "other"}):
        log.info("x", **facts, **more)
        log.warning("x", **facts, **more)
    lines = [json.loads(line) for line in text().splitlines()]
    for told, warned in zip(lines[::2], lines[1::2], strict=True):
        assert (told.pop("level"), warned.pop("level")) == ("info", "warning")
        assert told.pop("time") <= warned.pop("time")
        assert list(told.items()) == list(warned.items())
    assert [lines[0][name] for name in facts] == [None, True, 1.25, float("inf"), "%d", ["a"], [1, "x"]]
    assert [line["process"] for line in lines[::2]] == ["p", "p", "p", "other"]


def test_an_exception_may_be_told_at_info_too(pipe: tuple[int, Callable[[], str]]) -> None:
    write, text = pipe
    logs.configure(ServerConfig(log_format="json"), process="p", queued=False, descriptor=write)
    structlog.get_logger().info("x %s", "y")
    structlog.get_logger().info("x", exc_info=ValueError("why"))
    lines = [json.loads(line) for line in text().splitlines()]
    assert lines[0]["event"] == "x y"
    assert "ValueError: why" in lines[1]["exception"]


def test_lines_have_the_time_in_utc_and_their_level(pipe: tuple[int, Callable[[], str]]) -> None:
    write, text = pipe
    logs.configure(ServerConfig(log_format="json", log_level="debug"), process="p", queued=False, descriptor=write)
    log = structlog.get_logger()
    before = datetime.now(UTC)
    for method in ("debug", "info", "warning", "error", "critical", "exception"):
        getattr(log, method)("x", many=list(range(200)), long="y" * 5_000)
    after = datetime.now(UTC)
    found = [json.loads(line) for line in text().splitlines()]
    assert [one["level"] for one in found] == ["debug", "info", "warning", "error", "critical", "error"]
    assert all(len(one["many"]) == lines.MAX_ITEMS and len(one["long"]) < 2_100 for one in found)
    assert all(one["time"].endswith("Z") for one in found)
    assert all(before <= datetime.fromisoformat(one["time"]) <= after for one in found)


def test_text_is_one_line_without_controls(pipe: tuple[int, Callable[[], str]]) -> None:
    write, text = pipe
    logs.configure(ServerConfig(log_format="text"), process="worker-0", queued=False, descriptor=write)
    structlog.get_logger().warning("rcpt.refused", path=HOSTILE, plain="word", empty="", items=["\x1b"], **{"odd key\n": 1})
    line = text()
    assert line.count("\n") == 1
    assert line[:-1].isprintable()
    assert " warning rcpt.refused " in line
    assert r'path="a\r\n2026 error forged=\"1\"\x1b[2J\x9b\u202e\x00\ud800 end"' in line
    assert "plain=word" in line
    assert 'empty=""' in line
    assert r"odd key\n=1" in line


def test_auto_is_json_off_a_terminal_and_text_on_one(pipe: tuple[int, Callable[[], str]]) -> None:
    write, text = pipe
    logs.configure(ServerConfig(), process="p", queued=False, descriptor=write)
    structlog.get_logger().info("x")
    assert text().startswith("{")
    leader, terminal = os.openpty()
    try:
        logs.configure(ServerConfig(), process="p", queued=False, descriptor=terminal)
        structlog.get_logger().info("x")
        assert not os.read(leader, 1000).startswith(b"{")
    finally:
        os.close(leader)
        os.close(terminal)


def test_the_level_is_kept(pipe: tuple[int, Callable[[], str]]) -> None:
    write, text = pipe
    logs.configure(ServerConfig(log_level="warning"), process="p", queued=False, descriptor=write)
    structlog.get_logger().info("quiet")
    structlog.get_logger().error("loud")
    found = text()
    assert "loud" in found
    assert "quiet" not in found


def test_long_values_are_cut(pipe: tuple[int, Callable[[], str]]) -> None:
    write, text = pipe
    logs.configure(ServerConfig(), process="p", queued=False, descriptor=write)
    structlog.get_logger().info("x", path="a" * 100_000, octets=b"b" * 100_000, many=list(range(5000)))
    line = text()
    assert len(line) < 6000
    assert "(100000 characters)" in line


def test_an_error_has_its_trace(pipe: tuple[int, Callable[[], str]]) -> None:
    write, text = pipe
    for settings in (ServerConfig(log_format="json"), ServerConfig(log_format="text")):
        logs.configure(settings, process="p", queued=False, descriptor=write)
        try:
            raise KeyError("why\x1b")
        except KeyError:
            structlog.get_logger().exception("plugin.error")
        line = text()
        assert "KeyError" in line
        assert "test_logs.py" in line
        assert line.count("\n") == 1
        assert "\x1b" not in line


def test_libraries_come_in_our_form_and_aiosmtpd_is_silent(pipe: tuple[int, Callable[[], str]]) -> None:
    write, text = pipe
    logs.configure(ServerConfig(log_format="json"), process="p", queued=False, descriptor=write)
    logging.getLogger("mail.log").error("a line of a session")
    logging.getLogger("asyncio").warning("task %s\nforged", "x")
    (line,) = text().splitlines()
    found = json.loads(line)
    assert (found["logger"], found["event"], found["level"]) == ("asyncio", "task x\nforged", "warning")


def test_a_reader_that_stalls_blocks_nobody_and_losses_are_told() -> None:
    read, write = os.pipe()
    dropped: list[int] = []
    writer = lines.Writer(write, size=10, dropped=lambda: dropped.append(1))
    try:
        writer.start()
        begin = time.monotonic()
        for _ in range(500):
            writer.line("x" * 1000)  # a pipe takes 64 KiB
        assert time.monotonic() - begin < 1
        assert len(dropped) > 300
        received = b""
        deadline = time.monotonic() + 10
        while b"log.dropped" not in received and time.monotonic() < deadline:
            received += os.read(read, 100_000)
        told = json.loads(next(line for line in received.splitlines() if b"log.dropped" in line))
        assert told["lines"] == len(dropped)
        writer.stop()
    finally:
        os.close(read)
        os.close(write)


def test_stop_writes_what_waits(pipe: tuple[int, Callable[[], str]]) -> None:
    write, text = pipe
    writer = logs.configure(ServerConfig(), process="p", queued=True, descriptor=write)
    for number in range(50):
        structlog.get_logger().info("x", number=number)
    writer.stop()
    assert len(text().splitlines()) == 50


def test_a_closed_reader_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    writer = lines.Writer(write)
    writer.line("nobody reads")
    os.close(write)
    writer.line("nobody can")
