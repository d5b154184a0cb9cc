"""Servers that plugins ask: gateway.services. Lent connections are seen in tests/plugins/test_policy.py and test_milter.py too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from gateway import metrics
from gateway.services import BadAnswerError, Service, ServiceAddress, ServiceError, parse_service
from gateway.testing import FakeScanner


def service(address: ServiceAddress | str = "it", **options: Any) -> Service:
    return Service(address, **{"connections": 2, "connect_timeout": 0.05, "failures": 2, "rest": 3600.0, **options})


def raising(error: BaseException) -> Callable[[Service], Coroutine[Any, Any, None]]:
    async def question(_: Service) -> None:
        raise error

    return question


async def fine(_: Service) -> str:
    return "fine"


async def hang(_: Service) -> None:
    await asyncio.sleep(3600)


async def trouble(one: Service, question: Callable[[Service], Coroutine[Any, Any, object]], limit: float = 10.0) -> str:
    with pytest.raises(ServiceError) as raised:
        await one.turn(question, limit)
    return str(raised.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("127.0.0.1:3310", "127.0.0.1:3310"),
        ("inet:scanner.example:3310", "scanner.example:3310"),
        ("[::1]:3310", "[::1]:3310"),
        ("unix:/run/clamd", "unix:/run/clamd"),
    ],
)
def test_addresses(text: str, shown: str) -> None:
    assert str(parse_service(text)) == shown


@pytest.mark.parametrize(
    "text", ["", "host", "host:", ":1", "host:0", "host:65536", "::1:25", "a b:1", "unix:x", "unix:/" + "x" * 107]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        parse_service(text)


async def test_a_turn_gives_the_answer() -> None:
    assert await service().turn(fine, 1.0) == "fine"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (EOFError(), "it: the connection was closed before the answer (EOFError)"),
        (
            ConnectionResetError(104, "Connection reset by peer"),
            "it: the connection was closed before the answer (Connection reset by peer)",
        ),
        (BadAnswerError("rubbish"), "it: rubbish"),
        (TimeoutError(), "it: no answer within 10 s"),
    ],
)
async def test_failures_are_counted_and_lead_to_a_rest(error: Exception, told: str) -> None:
    one = service()
    rests = []
    for _ in range(2):
        assert await trouble(one, raising(error)) == told
        rests.append(one.is_resting)
    assert rests == [False, True]
    assert (await trouble(one, fine)).startswith("it: not asked for 3600.0 s after 2 failures, the last: ")


async def test_an_error_of_ours_is_no_failure_of_the_server() -> None:
    one = service()
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            await one.turn(raising(ZeroDivisionError()), 1.0)
    assert await one.turn(fine, 1.0) == "fine"


async def test_no_answer_in_time() -> None:
    assert await trouble(service(), hang, 0.02) == "it: no answer within 0.02 s"


async def test_busy_is_not_broken() -> None:
    one = service(connections=1)
    first = asyncio.get_running_loop().create_task(one.turn(hang, 3600.0))
    await asyncio.sleep(0)
    assert not one.has_room
    for _ in range(3):
        assert await trouble(one, fine, 0.01) == "it: all 1 connections are in use"
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert await one.turn(fine, 1.0) == "fine"


async def test_who_was_cancelled_at_once_is_no_failure_and_leaves_the_try_to_the_next() -> None:
    one = service(failures=1, rest=0.01, connect_timeout=3600.0)
    await trouble(one, raising(EOFError()))
    await asyncio.sleep(0.02)
    task = asyncio.get_running_loop().create_task(one.turn(hang, 3600.0))
    await asyncio.sleep(0)
    assert "not asked" in await trouble(one, fine)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (one.breaker.failures, await one.turn(fine, 1.0)) == (1, "fine")


async def test_who_was_asked_for_long_and_then_cancelled_has_failed() -> None:
    """The chain may end a hook before the plugin does; a server that hangs is one all the same."""
    one = service(failures=1, connect_timeout=0.0)
    task = asyncio.get_running_loop().create_task(one.turn(hang, 3600.0))
    await asyncio.sleep(0.01)
    task.cancel()
    assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
    assert one.is_resting
    assert "which was all the time there was" in one.breaker.problem


async def test_a_ping_finds_a_dead_server_and_the_one_that_is_back(tmp_path: Path) -> None:
    async def ping(asked: Service) -> None:
        async with asked.connected():
            return

    path = tmp_path / "socket"
    one = service(parse_service(f"unix:{path}"))
    for _ in range(2):
        assert not await one.ping(ping, 1.0)
    assert "cannot connect: No such file or directory" in await trouble(one, fine)  # and mail need not find it out
    server = await asyncio.start_unix_server(lambda _, writer: writer.close(), path)
    assert await one.ping(ping, 1.0)
    assert one.breaker.failures == 2  # that it can be reached does not mean that it works
    assert await one.turn(fine, 1.0) == "fine"
    await asyncio.sleep(0.01)  # its side of the connection
    server.close()


async def test_a_server_that_answers_pings_and_nothing_else_stays_left_alone() -> None:
    async def ping(_: Service) -> None:
        return

    one = service()
    for _ in range(2):
        await trouble(one, hang, 0.01)
    assert await one.ping(ping, 1.0)
    assert "not asked for" in await trouble(one, fine)


@pytest.mark.parametrize(
    ("question", "problem"),
    [
        (hang, "no answer to a ping within 0.01 s"),
        (raising(EOFError()), "the connection was closed before the answer to a ping (EOFError)"),
        (raising(BadAnswerError("PANG")), "to a ping: PANG"),
    ],
)
async def test_pings_that_fail(question: Callable[[Service], Coroutine[Any, Any, None]], problem: str) -> None:
    one = service()
    assert not await one.ping(question, 0.01)
    assert one.breaker.problem == problem


async def test_connections_are_refused_or_take_too_long() -> None:
    async def connect(asked: Service) -> None:
        async with asked.connected():
            pass

    async with FakeScanner("line") as scanner:
        one = service(parse_service(scanner.address))
        await one.turn(connect, 1.0)
        await scanner.refuses()
        assert "cannot connect: " in await trouble(one, connect)
    assert one.breaker.failures == 1  # counted once


async def test_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    for bound in ("_plugin", "_service"):  # tests before this one may have used up the names that are told apart
        monkeypatch.setattr(metrics, bound, metrics.BoundedLabel())

    def value(name: str, **labels: str) -> float:
        of = {"plugin": "metered", "server": "it", **labels}
        if name == "seconds_count":
            return float(sum(bucket.get() for bucket in metrics.SERVICE_SECONDS.labels(**of)._buckets))
        kinds: dict[str, Any] = {
            "down": metrics.SERVICE_DOWN,
            "resting": metrics.SERVICE_RESTING,
            "questions_total": metrics.SERVICE_QUESTIONS,
        }
        return float(kinds[name].labels(**of)._value.get())

    one = service(plugin="metered")
    assert (value("down"), value("resting")) == (0, 0)
    await trouble(one, raising(EOFError()))
    assert (value("down"), value("resting")) == (1, 0)
    await trouble(one, hang, 0.01)
    assert (value("down"), value("resting")) == (1, 1)
    await trouble(one, fine)
    one.breaker.let_one_try()
    await one.turn(fine, 1.0)
    assert (value("down"), value("resting"), value("seconds_count")) == (0, 0, 1)
    outcomes = ("closed", "timeout", "resting", "answered", "connect", "busy", "answer")
    counted = {outcome: value("questions_total", outcome=outcome) for outcome in outcomes}
    assert counted == {"closed": 1, "timeout": 1, "resting": 1, "answered": 1, "connect": 0, "busy": 0, "answer": 0}
    one.failed("rubbish")
    one.failed("rubbish")
    await one.close()
    assert (value("down"), value("resting")) == (0, 0)  # nobody asks it any more
