"""Scanners that are killed, stopped, slow, or mad while mail flows: nothing is lost or made up, the circuit opens, and closes by itself.

Clients send as queues do: what is deferred comes again. `make trouble` does it with more of them and longer limits, and prints the figures.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from gateway import metrics
from gateway.testing import EndToEnd, FakeScanner
from tests.integration.c_icap import RealCIcap
from tests.integration.scanners import RealClamd, RealRspamd, RealScanner
from tests.integration.spamd import RealSpamd

pytestmark = pytest.mark.real

LONG = bool(os.environ.get("MAILGATEWAY_TROUBLE"))
CLIENTS = 20 if LONG else 4
LIMIT = 60.0
TIMES = (
    {"timeout": "2s", "connect_timeout": "1s", "failures": 5, "rest": "2s", "ping": "1s"}
    if LONG
    else {"timeout": "400ms", "connect_timeout": "400ms", "failures": 3, "rest": "100ms", "ping": "50ms"}
)
REAL: dict[str, tuple[str, Callable[[], RealScanner]]] = {"clamav": ("clamd", RealClamd), "rspamd": ("rspamd", RealRspamd)}
if LONG:
    REAL |= {"spamassassin": ("spamd", RealSpamd), "icap": ("c-icap", RealCIcap)}
SPEAKS: dict[str, Any] = {"clamav": "clamd", "rspamd": "http", "spamassassin": "http", "icap": "http", "webhook": "http"}
WELL: dict[str, Any] = {
    "clamav": "stream: OK",
    "rspamd": {"action": "no action", "score": 0.0},
    "spamassassin": b"SPAMD/1.1 0 EX_OK\r\nContent-length: 0\r\nSpam: False ; 0.0 / 5.0\r\n\r\n",
    # to OPTIONS; and to a message, of which then nothing came back: a finding
    "icap": b"ICAP/1.0 200 OK\r\nMethods: RESPMOD\r\nEncapsulated: null-body=0\r\n\r\n",
    "webhook": {"verdict": "pass"},
}


@pytest.fixture(autouse=True)
def names_left() -> None:
    """What is looked at has its own name in the metrics, whatever other tests of this process have named before."""
    metrics._service.seen.clear()


def tell(figures: str) -> None:
    """For people who run it by hand."""
    sys.stdout.write(f"\n{figures}")


@dataclass
class Flow:
    """Mail that flows from several clients; each message until it is taken."""

    mail: EndToEnd
    plugin: str
    server: str
    codes: Counter[int] = field(default_factory=Counter)
    taken: list[int] = field(default_factory=list)
    """Numbers of messages that the gateway took."""
    longest: float = 0.0
    """From the final dot to its reply."""
    _next: int = 0
    _ends: bool = False

    async def client(self) -> None:
        while not self._ends:
            self._next += 1
            number = self._next
            while await self._send(number) == 451:  # noqa: ASYNC110 - as a queue does
                await asyncio.sleep(0.03)
            self.taken.append(number)
            await asyncio.sleep(0.005)

    async def _send(self, number: int) -> int:
        async with self.mail.client() as client:
            await client.reply()
            for line in ("EHLO client.example", "MAIL FROM:<a@client.example>", "RCPT TO:<bob@example.org>", "DATA"):
                assert (await client.ask(line))[:1] in {"2", "3"}
            began = time.perf_counter()
            reply = await client.ask(f"Subject: {number}\r\n\r\nHello\r\n.")
            self.longest = max(self.longest, time.perf_counter() - began)
        assert reply[:3] in {"250", "451"}, f"message {number}: {reply!r}"
        self.codes[int(reply[:3])] += 1
        return int(reply[:3])

    async def until(self, what: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT):
            while not what():  # noqa: ASYNC110 - the gateway's own state
                await asyncio.sleep(0.005)

    async def until_taken(self, more: int) -> None:
        upto = len(self.taken) + more
        await self.until(lambda: len(self.taken) >= upto)

    @property
    def rests(self) -> bool:
        return bool(self._value("resting"))

    @property
    def not_asked(self) -> float:
        return self._value("questions_total", outcome="resting")

    def _value(self, name: str, **labels: str) -> float:
        return (
            REGISTRY.get_sample_value(f"mailgateway_service_{name}", {"plugin": self.plugin, "server": self.server, **labels})
            or 0.0
        )

    async def trouble(self, name: str, begin: Callable[[], Any], end: Callable[[], Any]) -> None:
        """Well, ill until the circuit is open and questions are not asked, well again."""
        await self.until_taken(CLIENTS)
        before, self.longest = self.codes.copy(), 0.0
        began = time.perf_counter()
        await _carry_out(begin)
        await self.until(lambda: self.rests)
        opened = time.perf_counter() - began
        not_asked = self.not_asked
        await self.until(lambda: self.not_asked > not_asked + CLIENTS)
        await _carry_out(end)
        ended = time.perf_counter()
        await self.until(lambda: not self.rests)
        closed = time.perf_counter() - ended
        await self.until_taken(CLIENTS)
        during = self.codes - before
        tell(
            f"{self.plugin} {name}: circuit open after {opened:.2f} s, closed {closed:.2f} s after the end of it;"
            f" {during[250]} taken, {during[451]} deferred, longest reply {self.longest:.2f} s"
        )

    async def finish(self) -> None:
        """No client begins another message; all that were begun are taken."""
        self._ends = True


@asynccontextmanager
async def flowing(plugin: str, address: str, whole: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[Flow]:
    """`whole`: all options, of what has no server."""
    chosen = {**TIMES, "server": address, **options}
    if plugin == "webhook":
        address = f"http://{address}"
        chosen = {name: value for name, value in chosen.items() if name not in {"server", "ping"}} | {"url": address}
    chosen = chosen if whole is None else whole
    async with EndToEnd(plugins=[plugin], options={plugin: chosen}) as mail:
        flow = Flow(mail, plugin, address)
        clients = [asyncio.get_running_loop().create_task(flow.client()) for _ in range(CLIENTS)]
        try:
            yield flow
            await flow.finish()
            async with asyncio.timeout(LIMIT):
                await asyncio.gather(*clients)
        finally:
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
        # everything that was taken is there once, and nothing that was not
        got = [int(one.content.partition(b"Subject: ")[2].partition(b"\r\n")[0]) for one in mail.next_hop.transactions]
        assert sorted(got) == sorted(flow.taken) == list(range(1, flow._next + 1))
        tell(f"{plugin}: {len(got)} delivered, each once; replies {dict(flow.codes)}")


async def test_a_program_that_hangs_dies_and_fails(tmp_path: Path) -> None:
    mood = tmp_path / "mood"
    mood.touch()
    script = f"read -r mood < {mood}; case $mood in hang) sleep 60;; die) kill -9 $$;; fail) exit 42;; esac; exit 0"
    times = {name: value for name, value in TIMES.items() if name not in {"ping", "connect_timeout"}}
    chosen = {**times, "command": ["/bin/sh", "-c", script], "connections": CLIENTS}
    async with flowing("program", "program", chosen) as flow:
        for name in ("hang", "die", "fail"):
            await flow.trouble(name, partial(mood.write_text, name + "\n"), partial(mood.write_text, "\n"))


async def _carry_out(act: Callable[[], Any]) -> None:
    result = await asyncio.to_thread(act) if not asyncio.iscoroutinefunction(act) else await act()
    if asyncio.iscoroutine(result):
        await result


@pytest.mark.parametrize("plugin", REAL)
async def test_killed_and_stopped(plugin: str, require: Callable[[str], str]) -> None:
    program, make = REAL[plugin]
    require(program)
    with make() as scanner:
        async with flowing(plugin, scanner.address) as flow:
            await flow.trouble("killed", scanner.kill, scanner.start)
            await flow.trouble("stopped", scanner.pause, scanner.resume)


@pytest.mark.parametrize("plugin", SPEAKS)
async def test_slow_mad_and_broken(plugin: str) -> None:
    async with FakeScanner(SPEAKS[plugin]) as scanner:
        well = WELL[plugin]
        scanner.answers(well)
        async with flowing(plugin, scanner.address, ping=0) as flow:
            mad = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n}{\0\xff"
            troubles: dict[str, Callable[[], Any]] = {
                "slow": scanner.hangs,
                "mad": lambda: scanner.talks_rubbish(mad),
                "broken": lambda: scanner.drops(b"str"),
            }
            for name, begin in troubles.items():
                await flow.trouble(name, begin, lambda: scanner.answers(well))


@pytest.mark.parametrize("plugin", SPEAKS if LONG else ["clamav"])
async def test_mail_goes_on_unscanned_where_on_error_says_so(plugin: str) -> None:
    async with FakeScanner(SPEAKS[plugin]) as scanner:
        scanner.talks_rubbish()
        async with flowing(plugin, scanner.address, ping=0, on_error="ignore") as flow:
            await flow.until(lambda: flow.rests)
            await flow.until_taken(3 * CLIENTS)
        assert set(flow.codes) == {250}


@pytest.mark.parametrize("plugin", set(SPEAKS) - {"webhook"} if LONG else ["rspamd"])
async def test_nobody_waits_or_is_deferred_where_another_server_answers(plugin: str) -> None:
    async with FakeScanner(SPEAKS[plugin]) as first, FakeScanner(SPEAKS[plugin]) as second:
        first.answers(WELL[plugin])
        second.answers(WELL[plugin])
        async with flowing(plugin, first.address, server=[first.address, second.address], ping=0, timeout="2s") as flow:
            for misbehave in (first.hangs, first.talks_rubbish):
                await flow.until_taken(CLIENTS)
                misbehave()
                await flow.until(lambda: flow.rests)
                await flow.until_taken(2 * CLIENTS)
                first.answers(WELL[plugin])
                await flow.until(lambda: not flow.rests)
        assert set(flow.codes) == {250}
