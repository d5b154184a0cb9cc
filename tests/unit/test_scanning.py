"""What plugins that scan share: gateway.scanning."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from gateway import Message, PluginError, Quarantine, Reject, Transaction, Verdict, hook
from gateway.findings import Finding, Label
from gateway.scanning import Scanner, ScannerOptions, ServerNames, ServerOptions, ServerScanner, shown
from gateway.services import BadAnswerError, Service
from gateway.testing import FakeContext, FakeScanner, Result, a_message, run_plugin


class Options(ServerOptions):
    server: ServerNames = ("127.0.0.1:1",)


class Asking(ServerScanner[Options]):
    """Says SCAN, hears a word."""

    @hook
    async def check(self, message: Message) -> Finding:
        return self.is_too_large(message) or Label(name=await self.ask(self._question))

    @hook
    async def judge(self, transaction: Transaction) -> Verdict | None:
        return self.judge_size(transaction)

    async def _question(self, service: Service) -> str:
        async with service.connected() as wire:
            wire.writer.write(b"SCAN\n")
            answer = await wire.reader.readline()
            if not answer.endswith(b"\n"):
                raise EOFError
            if not answer.strip().isalpha():
                raise BadAnswerError(shown(answer))
            return answer.decode().strip()


def asking(*servers: FakeScanner, **options: Any) -> Asking:
    return Asking(Options(server=tuple(one.address for one in servers), **{"ping": 0.0, **options}), name="asking")


def labels(result: Result) -> list[str]:
    return [one.name for one in result.findings if isinstance(one, Label)]


def faults(result: Result) -> str:
    return " ".join(step["evidence"] for step in result.trace)


async def test_an_answer() -> None:
    async with FakeScanner("line") as scanner:
        assert labels(await run_plugin(asking(scanner))) == ["OK"]


async def test_the_next_server_answers_where_the_first_cannot() -> None:
    async with FakeScanner("line") as first, FakeScanner("line") as second:
        second.answers("SECOND")
        plugin = asking(first, second)
        first.talks_rubbish()
        assert labels(await run_plugin(plugin)) == ["SECOND"]
        first.drops()
        assert labels(await run_plugin(plugin)) == ["SECOND"]
        first.answers("FIRST")
        assert labels(await run_plugin(plugin)) == ["FIRST"]


async def test_a_server_that_hangs_leaves_time_for_the_next() -> None:
    async with FakeScanner("line") as first, FakeScanner("line") as second:
        first.hangs()
        assert labels(await run_plugin(asking(first, second), timeout=1.0)) == ["OK"]


async def test_what_each_of_them_did_is_told() -> None:
    async with FakeScanner("line") as first, FakeScanner("line") as second:
        first.hangs()
        second.talks_rubbish(b"\xffNO <>\n")
        result = await run_plugin(asking(first, second), timeout=0.5, on_error="defer")
        assert f"{first.address}: no answer within 0.225 s; {second.address}: ?NO <>?" in faults(result)
        assert result.verdict is not None


async def test_one_that_failed_often_is_not_asked_until_one_question_found_it_well() -> None:
    async with FakeScanner("line") as first, FakeScanner("line") as second:
        plugin = asking(first, second, failures=1, rest=0.05)
        first.drops()
        await run_plugin(plugin)
        first.answers("FIRST")
        asked = len(first.requests)
        assert labels(await run_plugin(plugin)) == ["OK"]
        assert len(first.requests) == asked
        await asyncio.sleep(0.06)
        assert labels(await run_plugin(plugin)) == ["FIRST"]


async def test_spread_begins_with_another_one_each_time() -> None:
    async with FakeScanner("line") as first, FakeScanner("line") as second:
        plugin = asking(first, second, spread=True)
        for _ in range(4):
            await run_plugin(plugin)
        assert (len(first.requests), len(second.requests)) == (2, 2)


async def test_one_with_a_free_place_is_preferred() -> None:
    async with FakeScanner("line") as first, FakeScanner("line") as second:
        plugin = asking(first, second, connections=1)
        first.hangs()
        plugin.hook_limit = 5.0
        waits = asyncio.get_running_loop().create_task(plugin.ask(plugin._question))
        while not first.requests:  # noqa: ASYNC110 - a test's server
            await asyncio.sleep(0.001)
        assert await plugin.ask(plugin._question) == "OK"
        assert len(second.requests) == 1
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)


async def test_pings_find_out_and_tell() -> None:
    async with FakeScanner("line") as scanner:
        plugin = asking(scanner, ping=0.01, failures=2, rest=3600.0)
        context = FakeContext()
        plugin.context = context
        await plugin.startup(context)
        address, port = scanner.address, scanner.port
        await scanner.refuses()
        while not plugin.services[0].is_resting:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        with pytest.raises(PluginError, match="not asked for"):
            await plugin.ask(plugin._question)
        back = await asyncio.start_server(scanner._accepted, "127.0.0.1", port)
        while "scanner.is_back" not in [event for _, event, _ in context.log.lines]:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        assert await plugin.ask(plugin._question) == "OK"
        assert [(level, event, facts["server"]) for level, event, facts in context.log.lines] == [
            ("warning", "scanner.is_away", address),
            ("info", "scanner.is_back", address),
        ]
        await plugin.shutdown()
        back.close()
        await asyncio.sleep(0.02)
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("ping")]


@pytest.mark.parametrize(("oversize", "kind"), [("pass", type(None)), ("quarantine", Quarantine), ("reject", Reject)])
async def test_messages_too_large(oversize: str, kind: type) -> None:
    async with FakeScanner("line") as scanner:
        message = a_message(body="x" * 1000)
        at_limit = await run_plugin(asking(scanner, max_size=message.size, oversize=oversize), message=message)
        assert (labels(at_limit), at_limit.verdict) == (["OK"], None)
        past = await run_plugin(asking(scanner, max_size=message.size - 1, oversize=oversize, box="large"), message=message)
    assert labels(past) == ["asking.too_large"]
    assert isinstance(past.verdict, kind)
    assert len(scanner.requests) == 1
    if isinstance(past.verdict, Reject):
        assert (past.verdict.code, past.verdict.enhanced, past.verdict.reason) == (552, "5.3.4", "too-large-to-scan")
    if isinstance(past.verdict, Quarantine):
        assert (past.verdict.box, past.verdict.reason) == ("large", "too-large-to-scan")


def test_one_server_or_a_list() -> None:
    assert Options.model_validate({"server": "127.0.0.1:3310"}).server == ("127.0.0.1:3310",)
    assert len(Options.model_validate({"server": ["127.0.0.1:3310", "unix:/run/x"]}).server) == 2
    for wrong in ([], "nowhere", ["127.0.0.1:3310", "nowhere"], 7):
        with pytest.raises(ValidationError):
            Options.model_validate({"server": wrong})


class Local(Scanner[ScannerOptions]):
    """One without servers."""

    @hook
    async def check(self) -> Label:
        async def work(_: Service) -> str:
            return "done"

        return Label(name=await self.ask(work))


async def test_a_scanner_without_servers_has_the_same_limits() -> None:
    plugin = Local(name="local")
    assert labels(await run_plugin(plugin)) == ["done"]
    assert [str(one.address) for one in plugin.services] == ["local"]


def test_shown_is_printable_and_bounded() -> None:
    assert shown(b"a\0b\xff\r\nc") == "a?b???c"
    assert shown("é\u202e<b>") == "??<b>"
    assert shown("x" * 300, 10) == "xxxxxxx..."
