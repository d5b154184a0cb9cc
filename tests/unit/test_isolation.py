"""Plugins in processes of their own: the same code both ways, and what each way of losing the process costs."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ConfigError
from gateway.findings import Fact, Label
from gateway.isolation.errors import IsolationError
from gateway.isolation.proxy import IsolatedPlugin
from gateway.session import Tls
from gateway.testing import FakeContext, Result, a_message, a_session, a_transaction, run_plugin
from gateway.testing.isolation import isolated
from gateway.verdict import Reject

PLUGIN = '''
"""Does what the subject says."""

import asyncio, os, signal, socket, sys, time

from gateway import *


class Options(PluginOptions):
    word: str = "word"


class Site(Plugin[Options]):
    @hook
    async def startup(self, context: Context) -> None:
        self.kept = {}
        self.counted = await context.store.incr("starts", ttl=60)

    @hook
    def check(self, transaction: Transaction, message: Message):
        self.kept[transaction.id] = message.subject
        return [Label(name=self.options.word), Fact(name="pid", value=os.getpid()), Fact(name="octets", value=len(message.octets)),
                Fact(name="tls", value=transaction.session.tls.version if transaction.session.tls else "")]

    @hook
    async def judge(self, transaction: Transaction, message: Message):
        what, _, rest = message.subject.partition(" ")
        if what == "exit":
            os._exit(int(rest))
        if what == "kill":
            os.kill(os.getpid(), signal.SIGSEGV)
        if what == "raise":
            raise LookupError(rest)
        if what == "sleep":
            await asyncio.sleep(600)
        if what == "block":
            time.sleep(600)
        if what == "memory":
            self.hoard = [bytearray(10_000_000) for _ in range(1000)]
        if what == "garbage":
            socket.socket(fileno=int(sys.argv[1])).send(rest.encode())
            await asyncio.sleep(600)
        if what == "strange":
            return object()
        if what == "ask":
            answer = await self.context.resolver.query("example.org", "A")
            await self.context.store.put("key", b"value", ttl=60)
            assert [await self.context.store.take("bucket", rate=1e-6, burst=2) for _ in range(3)] == [1, 0, -1]
            self.context.log.warning("seen", value=(await self.context.store.get("key")).decode())
            self.context.metrics.count("asked", kind="a")
            total = await self.context.run_in_process(sum, [1, 2])
            return reject(f"{answer.records[0]} {total} {self.context.server_name} {self.context.clock():.0f}")
        if what == "fail":
            try:
                await self.context.resolver.query("broken.example.org", "A")
            except DnsError as error:
                return defer("DNS", reason=error.cause)
        if what == "secret":
            fds = [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")]
            return reject(f"{os.environ.get('MAILGATEWAY__SECRET', 'none')} {sum('socket:' in one for one in fds)}")
        return reject(f"seen {self.kept[transaction.id]}").only(*(one.mailbox for one in transaction.recipients[:1]))

    @hook
    async def rewrite(self, transaction: Transaction):
        return [add_header("X-Site", self.options.word)]
'''


@pytest.fixture
def site(tmp_path: Path) -> Path:
    file = tmp_path / "site.py"
    file.write_text(PLUGIN)
    return file


def lost(result: Result) -> list[tuple[str, str, str]]:
    return [
        (one["stage"], one["outcome"], one["evidence"])
        for one in result.trace
        if one["outcome"] in {"error", "timeout", "circuit"}
    ]


def steps(result: Result) -> list[Any]:
    return [{**step, "at_ms": 0, "duration_ms": 0} for step in result.trace]


async def test_the_same_both_ways_and_nothing_of_ours_within(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.discovery import Origin, load
    from gateway.freshness import forget

    monkeypatch.setenv("MAILGATEWAY__SECRET", "hunter2")
    kind = load(Origin(name="site", target=str(site), is_file=True))
    zones = {"example.org": {"A": ["192.0.2.1"]}, "broken.example.org": "SERVFAIL"}
    session = a_session(client_address="192.0.2.7", tls=Tls(version="TLSv1.3", cipher="x"))

    async def run(plugin: Any, context: FakeContext, subject: str, body: str = "x") -> Result:
        transaction = a_transaction(session=session, recipients=["a@example.org", "b@example.org"])
        transaction = dataclasses.replace(transaction, id="one")
        return await run_plugin(plugin, transaction=transaction, message=a_message(subject=subject, body=body), context=context)

    here, there = FakeContext(zones=zones), FakeContext(zones=zones)
    there.clock.move(0)
    async with isolated(site, {"word": "w"}, context=there) as remote:
        for subject in ("hello", "ask", "fail"):
            local = await run(kind(kind.options_type.model_validate({"word": "w"}), name="site", context=here), here, subject)
            apart = await run(remote, there, subject)
            assert apart.decisions == local.decisions
            assert apart.edits == local.edits
            assert [one for one in apart.findings if getattr(one, "name", "") != "pid"] == [
                one for one in local.findings if getattr(one, "name", "") != "pid"
            ]
        assert (there.log.lines, there.metrics.values) == (here.log.lines, here.metrics.values)
        apart = await run(remote, there, "hello")
        pid = next(one.value for one in apart.findings if isinstance(one, Fact) and one.name == "pid")
        assert pid != os.getpid()
        large = await run(remote, there, "hello", body="0123456789abcde\r\n" * 200_000)
        assert int(next(one.value for one in large.findings if isinstance(one, Fact) and one.name == "octets")) > 3_400_000
        assert isinstance((await run(remote, there, "secret")).verdict, Reject)
        verdict = (await run(remote, there, "secret")).verdict
        assert isinstance(verdict, Reject)
        assert verdict.text == "none 3"  # the channel, and the pair that wakes its loop
    forget([kind.__module__])


async def begin(remote: IsolatedPlugin) -> None:
    await remote.remote.call("startup", {}, 10)


async def ended(remote: IsolatedPlugin, pid: int) -> None:
    async with asyncio.timeout(20):
        while remote.remote.pid == pid:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


LOSSES = [
    ("exit 3", "judge", "error", "its process ended: with status 3"),
    ("kill", "judge", "error", "its process ended: by signal 11 (SIGSEGV)"),
    ("raise no table", "judge", "error", "LookupError: no table at site.py:"),
    ("memory", "judge", "error", "memory limit (400 MB)"),
    (
        "garbage \x00\x00\x00\x02{}",
        "judge",
        "error",
        "its process ended: garbage on its channel: GarbageError: a frame of no kind",
    ),
    ("garbage \xff\xff\xff\xff", "judge", "error", "its process ended: garbage on its channel: GarbageError: a frame of"),
    ("strange", "judge", "error", "judge answered object"),
    ("sleep", "judge", "timeout", "no answer after "),
    ("block", "judge", "timeout", "no answer after "),
]


async def test_each_loss_costs_its_transaction_and_is_named(site: Path) -> None:
    async with isolated(site, memory=400_000_000, timeout=20.0) as remote:
        await begin(remote)
        for subject, stage, outcome, evidence in LOSSES:
            message = a_message(subject=subject)
            settings: dict[str, Any] = {"timeout": 0.5} if outcome == "timeout" else {}
            result = await run_plugin(remote, message=message, start=False, on_error="ignore", **settings)
            ((found, kind, said), *others) = lost(result)
            assert (found, kind) == (stage, outcome), said
            assert said.startswith(evidence), said
            assert all("what it knew of this message is lost" in one[2] or subject == "block" for one in others)
            if subject == "block":  # a second later it is found to hang
                await ended(remote, remote.remote.pid)
            after = await run_plugin(remote, message=a_message(subject="hello"), start=False)
            assert isinstance(after.verdict, Reject)
            assert after.verdict.text == "seen hello"


async def test_what_it_knew_of_a_message_is_not_silently_gone(site: Path) -> None:
    async with isolated(site) as remote:
        await begin(remote)
        transaction = a_transaction()
        found = await remote.remote.call(
            "check", {"transaction": transaction, "message": a_message()}, 10, transaction=transaction
        )
        assert Label(name="word") in found
        pid = remote.remote.pid
        os.kill(pid, signal.SIGKILL)
        await ended(remote, pid)
        result = await run_plugin(remote, transaction=transaction, start=False, on_error="defer")
        assert lost(result)[0][2] == "its process ended (by signal 9 (SIGKILL)): what it knew of this message is lost"
        assert result.verdict is not None
        assert result.verdict.code == 451  # type: ignore[union-attr] # a Defer
        assert remote.remote.pid not in {0, pid}


async def test_one_that_dies_at_each_start_rests_longer_and_longer(tmp_path: Path) -> None:
    file = tmp_path / "site.py"
    file.write_text(PLUGIN.replace("self.kept = {}", "os._exit(9)"))
    async with isolated(file) as remote:
        with pytest.raises(IsolationError, match="its process ended: with status 9"):
            await begin(remote)
        said = []
        for _ in range(3):
            with pytest.raises(IsolationError) as raised:
                await begin(remote)
            said.append(str(raised.value))
        assert any("not run: its process ended" in one and "times in a row (with status 9)" in one for one in said)


async def test_what_is_wrong_is_told_at_the_start(site: Path) -> None:
    async def told(source: str, options: dict[str, Any] | None = None) -> str:
        await asyncio.to_thread(site.write_text, source)
        with pytest.raises(ConfigError) as raised:
            async with isolated(site, options):
                pass
        return str(raised.value)

    assert "plugin.site.wrod: plugin.site.wrod: found the unknown key 'wrod'; allowed: word" in await told(PLUGIN, {"wrod": 1})
    assert "found a plugin whose process told nothing" in await told("import os; os._exit(4)")
    assert "ModuleNotFoundError" in await told("import nothing_of_this_name")
    unmarked = "from gateway import *\nclass A(Plugin):\n    def judge(self): ...\n"
    assert "A.judge looks like a hook; add @hook" in await told(unmarked)
