"""What is counted: fixed pieces of work, each prepared once and then done some times over."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from benchmarks.in_memory import Exchange, MemoryLoop
from gateway import Message, Plugin, Recipient, Transaction, Verdict, hook
from gateway.config.models import Config, ServerConfig
from gateway.dns import CachingResolver
from gateway.journal import Journal
from gateway.server import logs
from gateway.testing.in_process import InProcessGateway

Run = Callable[[int], Awaitable[None]]
Prepare = Callable[[], AbstractAsyncContextManager[Run]]

RECIPIENTS = 1_000
LONG = "8m"
"""In the place of limits that hooks and links have: counting takes fifty times as long."""
_KEY = (
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAr9AX0u8PVC4+sZUIErhEFikDgE84d2LcekCVSEPAsLLhBT/yatIwWgYc4DxXOm9+GOg0/dsN6mu"
    "I2a3YgboEE+ksiC+N7Ge7qTk4I2OcetpxNkTvR3KKIKiZqVbyXMUhBwb00/P2bJnkUjaSce8Qzm3uV2KwYIHCa9GFpQ5tRYkIKJWLSXMohBKFEAZBZZgh9i"
    "gLiTgSFRdVQIJzCzOQ/hwG7SX2057irJnvRpxI+jgR9t3D+q1CUyg2wOTc1WMs7nUeF+nOy69PjpLcIa8sL5qRLnbA44zpoPQjputqvBK9G7WQAtpN1rIpZ"
    "JFOUBHcabOWT2F5e4BgOgAQNkE6dwIDAQAB"
)
"""The public key of signed.eml; nobody has the private one."""
_ZONES = {
    "source.test": {"TXT": ["v=spf1 ip4:127.0.0.0/8 -all"], "A": ["127.0.0.1"]},
    "s._domainkey.source.test": {"TXT": [f"v=DKIM1; k=rsa; p={_KEY}"]},
    "_dmarc.source.test": {"TXT": ["v=DMARC1; p=reject"]},
}
_HEADER = (
    b"Received: from a.source.test by b.source.test; Tue, 24 Nov 2026 00:00:00 +0000\r\nFrom: <a@source.test>\r\nTo: <b@sink.test>\r\n"
    b"Subject: counted\r\nDate: Tue, 24 Nov 2026 00:00:00 +0000\r\nMessage-ID: <counted@source.test>\r\n"
)
_LINE = b"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ejAx\r\n"
_MAIL = Exchange(b"MAIL FROM:<a@source.test>\r\n")
_RCPT = Exchange(b"RCPT TO:<b@sink.test>\r\n")
_DATA = Exchange(b"DATA\r\n")
_TOGETHER = 100
"""Commands that a client writes at once where it pipelines many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """`count` pieces of work are done to warm up, `count` and three times `count` to be counted: the difference is theirs alone."""

    name: str
    unit: str = "message"
    count: int
    units: int = 1
    """In one piece of work."""
    is_long: bool = False
    """So long that what opens and closes a session falls out beside it: `count` is all that is counted."""
    prepare: Prepare


class NoOp(Plugin):
    """A hook at each of four stages, and no opinion."""

    @hook
    async def mail(self, transaction: Transaction) -> None:
        """Nothing."""

    @hook
    async def rcpt(self, transaction: Transaction, recipient: Recipient) -> None:
        """Nothing."""

    @hook
    async def check(self, message: Message) -> None:
        """Nothing."""

    @hook
    async def judge(self, message: Message) -> Verdict | None:
        """Nothing."""


class EveryStage(Plugin):
    """A hook at each stage of a message, and no opinion."""

    @hook
    async def mail(self, transaction: Transaction) -> None:
        """Nothing."""

    @hook
    async def rcpt(self, transaction: Transaction, recipient: Recipient) -> None:
        """Nothing."""

    @hook
    async def route(self, recipient: Recipient) -> None:
        """Nothing."""

    @hook
    async def policy_class(self, recipient: Recipient) -> None:
        """Nothing."""

    @hook
    async def data(self, transaction: Transaction) -> None:
        """Nothing."""

    @hook
    async def check(self, message: Message) -> None:
        """Nothing."""

    @hook
    async def judge(self, message: Message) -> None:
        """Nothing."""

    @hook
    async def rewrite(self, message: Message) -> None:
        """Nothing."""

    @hook
    async def sign(self, message: Message) -> None:
        """Nothing."""

    @hook
    async def done(self, transaction: Transaction) -> None:
        """Nothing."""


class Parts(Plugin):
    """Looks at every attachment and every header field."""

    @hook(cheap=True)
    def judge(self, message: Message) -> Verdict | None:
        """Nothing."""
        for part in message.attachments:
            assert part.filename
        for field in message.fields:
            assert field.name
        return None


def content(size: int, *, fields: int = 0, parts: int = 0) -> bytes:
    """A message of about `size` octets, with its end mark."""
    header = _HEADER + b"".join(
        b"X-Field-%d: the value of a header field of usual length\r\n" % number for number in range(fields)
    )
    if parts:
        header += b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="cut"\r\n'
        part = b'--cut\r\nContent-Type: text/plain\r\nContent-Disposition: attachment; filename="%d.txt"\r\n\r\ntext\r\n'
        body = b"".join(part % number for number in range(parts)) + b"--cut--\r\n"
    else:
        body = _LINE * max(1, (size - len(header)) // len(_LINE))
    return header + b"\r\n" + body + b".\r\n"


def config(*plugins: Any, **more: Any) -> Config:
    """A listener and a route."""
    return Config.model_validate(
        {
            "server": {"name": "bench.example"},
            "listener": [{"name": "mx", "bind": "127.0.0.1:0"}],
            "route": [{"name": "default", "domains": ["sink.test"], "servers": ["127.0.0.1:9"]}],
            "plugins": list(plugins),
            **more,
            "relay": {"max_messages": 10**9, **more.get("relay", {})},
            "limits": {"check_budget": LONG, "envelope_budget": LONG, **more.get("limits", {})},
        }
    )


@asynccontextmanager
async def messages(settings: Config, exchanges: list[Exchange], *, kept: bool = True) -> AsyncIterator[Run]:
    """Messages through a gateway, on one connection or each on its own."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, MemoryLoop)
    resolver = CachingResolver(settings.dns)
    with tempfile.TemporaryDirectory() as folder:
        async with InProcessGateway(settings, directory=Path(folder), resolver=resolver) as gateway:

            async def run(count: int) -> None:
                for _ in range(1 if kept else count):
                    await loop.talk(exchanges, count if kept else 1)
                assert len(gateway.records) == count
                assert {record["verdict"] for record in gateway.records} == {"delivered"}
                gateway.records.clear()

            yield run
    await resolver.close()


@asynccontextmanager
async def at_once(settings: Config, exchanges: list[Exchange], connections: int) -> AsyncIterator[Run]:
    """A message on each of so many connections, which go forward together."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, MemoryLoop)
    with tempfile.TemporaryDirectory() as folder:
        async with InProcessGateway(settings, directory=Path(folder)) as gateway:

            async def run(count: int) -> None:
                for _ in range(count):
                    await asyncio.gather(*(loop.talk(exchanges, 1) for _ in range(connections)))
                    assert [record["verdict"] for record in gateway.records] == ["delivered"] * connections
                    gateway.records.clear()

            yield run


@asynccontextmanager
async def journal() -> AsyncIterator[Run]:
    """Records of ordinary messages, written in batches of a thread; opening and closing fall out as it is done twice."""
    with tempfile.TemporaryDirectory() as folder:
        async with InProcessGateway(config(), directory=Path(folder)) as gateway:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, MemoryLoop)
            await loop.talk(simple(content(4_096)), 1)
            record = gateway.records[0]

        async def run(count: int) -> None:
            with tempfile.TemporaryDirectory(dir=folder) as place:
                writer = await Journal.open(Path(place) / "journal.sqlite", retention=86_400, queue=count)
                for number in range(count):
                    writer.record({**record, "id": f"{number:012d}"})
                await writer.close()
                assert not writer.dropped

        yield run


@asynccontextmanager
async def log_lines() -> AsyncIterator[Run]:
    """Lines like those of transactions, rendered and written to nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    logs.configure(ServerConfig(log_level="info", log_format="json"), process="count", queued=False, descriptor=nowhere)
    log = structlog.get_logger("mailgateway.smtp")
    values = {
        "id": "01KB0Z8Q2M5R",
        "client": "192.0.2.1",
        "helo": "client.test",
        "from": "a@source.test",
        "to": "b@sink.test",
        "message_id": "<counted@source.test>",
        "size": 4096,
        "verdict": "delivered",
        "plugin": "",
        "reason": "",
        "reply": "250 2.0.0 Ok: queued as 4XyZ0123",
        "next_hop": "127.0.0.1:9",
        "queue_id": "4XyZ0123",
        "ms": 1.234,
    }

    async def run(count: int) -> None:
        for _ in range(count):
            log.info("transaction", **values)

    yield run
    os.close(nowhere)


def simple(octets: bytes) -> list[Exchange]:
    """A message in four exchanges."""
    return [_MAIL, _RCPT, _DATA, Exchange(octets)]


def pipelined(octets: bytes, recipients: int) -> list[Exchange]:
    """A message whose envelope is written as fast as PIPELINING allows."""
    commands = [_MAIL.octets, *(b"RCPT TO:<b%d@sink.test>\r\n" % number for number in range(recipients)), _DATA.octets]
    groups = (commands[at : at + _TOGETHER] for at in range(0, len(commands), _TOGETHER))
    return [*(Exchange(b"".join(group), len(group)) for group in groups), Exchange(octets)]


def rules(count: int) -> Config:
    """Rules that hold for no message, over the envelope, the header and the content in turn."""
    kinds = (
        'header("Subject").contains("word {n}")',
        'reverse_path.domain == "d{n}.test"',
        'client.helo == "h{n}.test"',
        "message.size > {n}000000",
        'has_header("X-Rule-{n}")',
    )
    made = [
        {"name": f"rule {number}", "when": kinds[number % len(kinds)].format(n=number + 100), "then": "reject"}
        for number in range(count)
    ]
    return config("rules", rule=made)


def scenarios() -> dict[str, Scenario]:
    """Those of the table, by name."""
    small = content(4_096)
    signed = (Path(__file__).parent / "signed.eml").read_bytes().replace(b"\n", b"\r\n") + b".\r\n"
    no_op = [{"name": f"no_op_{number}", "use": "benchmarks.scenarios:NoOp"} for number in range(8)]
    every_stage = [{"name": f"every_{number}", "use": "benchmarks.scenarios:EveryStage"} for number in range(20)]
    checks = config("spf", "dkim", "dmarc", "authres", dns={"zones": _ZONES})
    found = [
        Scenario(name="4 KB, kept connection", count=100, prepare=partial(messages, config(), simple(small))),
        Scenario(name="4 KB, new connections", count=60, prepare=partial(messages, config(), simple(small), kept=False)),
        Scenario(name="4 KB, pipelining client", count=100, prepare=partial(messages, config(), pipelined(small, 1))),
        Scenario(name="5 MB", count=1, prepare=partial(messages, config(), simple(content(5_000_000)))),
        Scenario(
            name="1,000 recipients",
            unit="recipient",
            count=1,
            units=RECIPIENTS,
            prepare=partial(messages, config(), pipelined(small, RECIPIENTS)),
        ),
        Scenario(name="8 no-op plugins at 4 stages", count=30, prepare=partial(messages, config(*no_op), simple(small))),
        Scenario(name="20 no-op plugins at 10 stages", count=30, prepare=partial(messages, config(*every_stage), simple(small))),
        Scenario(
            name="1 no-op plugin at 10 stages", count=30, prepare=partial(messages, config(*every_stage[:1]), simple(small))
        ),
        Scenario(name="SPF, DKIM, DMARC, authres", count=20, prepare=partial(messages, checks, simple(signed))),
        Scenario(name="20 rules", count=30, prepare=partial(messages, rules(20), simple(small))),
        Scenario(name="journal, 1,000 records", unit="record", count=1_000, prepare=journal),
        Scenario(name="log line", unit="line", count=200, prepare=log_lines),
    ]
    return {one.name: one for one in found}
