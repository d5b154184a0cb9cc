"""Recipients that differ, on the wire: gateways that share their state, a next hop with a mind of its own, a real Postfix that retries.

The clients that share nothing are in `test_differing_recipients.py`; every combination of answers is in the planner's own table.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import re
import signal
import smtplib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.quarantine import Entry, Quarantine, Query, State, rows
from gateway.testing.next_hop import DROP, Answer, ScriptedNextHop
from tests.faults.kill9_scenario import PLUGIN, Key, key_of
from tests.integration.gateway_process import Gateway
from tests.integration.postfix import DOMAIN, RealPostfix

pytestmark = pytest.mark.slow

Start = Callable[..., AbstractContextManager[Gateway]]
TOLD = {"alice": 2, "bob": 2, "void": 2, "no": 5, "unknown": 5, "soft": 2}
SETS = [names for number in (2, 3) for names in itertools.permutations(("alice", "bob", "void", "no"), number)]
ORDERS = list(itertools.permutations(("alice", "bob", "unknown", "soft", "no"), 5))[::12]


@dataclass
class Queue:
    """A client that tries each message until every recipient has a final answer, at one gateway after the other, without a pause."""

    ports: list[int]
    turn: int = 0
    told: dict[Key, int] = field(default_factory=dict)

    def send(self, message: str, names: Iterable[str]) -> int:
        """How many transactions it took."""
        for tries in range(1, 20):
            self._try(message, [name for name in names if (message, name) not in self.told])
            if all((message, name) in self.told for name in names):
                return tries
        raise AssertionError(f"{message}: no end after twenty tries; told {self.told}")

    def _try(self, message: str, names: list[str]) -> None:
        self.turn += 1
        with smtplib.SMTP("127.0.0.1", self.ports[self.turn % len(self.ports)], timeout=20) as client:
            client.ehlo("client.test")
            client.mail("c@client.test")
            codes = {name: client.rcpt(f"{name}-{message}@x.test")[0] // 100 for name in names}
            joined = [name for name, code in codes.items() if code == 2]
            self.told.update({(message, name): 5 for name, code in codes.items() if code == 5})
            if joined:
                content = f"Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{message}@client>\r\n\r\nx\r\n"
                code = client.data(content.encode())[0] // 100
                self.told.update({(message, name): code for name in joined if code != 4})


def chain(folder: Path) -> str:
    site = folder / "site"
    site.mkdir(exist_ok=True)
    (site / "sorter.py").write_text(PLUGIN)
    return f'plugins = ["sorter"]\nplugin_path = ["{site}"]'


def held_in(state: Path, monkeypatch: pytest.MonkeyPatch, *, unconfirmed: int = 0) -> Counter[Key]:
    async def entries() -> list[Entry]:
        quarantine = await Quarantine.open(state / "quarantine", retention=3600, lease=60)
        try:
            return await quarantine.search(Query(limit=100_000))
        finally:
            await quarantine.close()

    monkeypatch.setattr(rows, "MAX_LIST", 100_000)
    found = asyncio.run(entries())
    held = [entry for entry in found if entry.state is State.HELD]
    rest = [(entry.state, entry.confirmed) for entry in found if entry not in held]
    assert rest == [(State.KEPT, False)] * unconfirmed, "nothing pending, nothing else kept"
    return Counter(key_of(path) for entry in held for path, _, _ in entry.recipients)


def taken_by(hop: ScriptedNextHop) -> Counter[Key]:
    return Counter(key_of(path) for one in hop.transactions for path in one.paths if one.code == 250)


@pytest.fixture
def hop() -> Iterator[ScriptedNextHop]:
    """In a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    hop = ScriptedNextHop()
    asyncio.run_coroutine_threadsafe(hop.start(), loop).result(5)
    yield hop
    asyncio.run_coroutine_threadsafe(hop.stop(), loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()


@pytest.fixture
def running(start: Start, hop: ScriptedNextHop, tmp_path: Path) -> Callable[..., AbstractContextManager[Gateway]]:
    """`running(state=…)`: a gateway with the sorting plugin in front of `hop`."""
    return functools.partial(start, workers=1, domains=["x.test"], servers=[hop.address], chain=chain(tmp_path))


def test_two_gateways_that_share_their_state(
    running: Start, hop: ScriptedNextHop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry goes to the other one at once, which knows what the first has learnt."""
    state = tmp_path / "shared"
    with running(state=state) as first, running(state=state) as second:
        alone, both = Queue([first.smtp]), Queue([first.smtp, second.smtp])
        for number, names in enumerate(SETS):
            tries = both.send(f"m{number}", names)
            assert tries <= alone.send(f"a{number}", names), names
        turns = [queue.turn for queue in (alone, both)]
    told = alone.told | both.told
    assert all(told[key] == TOLD[key[1]] for key in told)
    assert len(told) == 2 * sum(map(len, SETS))
    wanted = [Counter(key for key in told if key[1] == name) for name in ("alice", "bob")]
    assert [taken_by(hop), held_in(state, monkeypatch)] == wanted, "each once, at its place, and nowhere else"
    print(f"\n{len(told)} recipients of {2 * len(SETS)} messages, tries at one and at both: {turns}, duplicates: none")  # noqa: T201


def test_the_next_hop_has_its_own_opinion_of_recipients(
    running: Start, hop: ScriptedNextHop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses some for good, and some for now; the plugin refuses another behind the content."""
    hop.script("RCPT TO:<unknown", "550 5.1.1 No such user")
    with running() as gateway:
        queue = Queue([gateway.smtp])
        for number, names in enumerate(ORDERS):
            hop.script(f"RCPT TO:<soft-m{number}@", "450 4.2.1 Not now", "250 2.1.5 Ok")
            assert queue.send(f"m{number}", names) <= 4, names
        state = gateway.state
    assert all(queue.told[key] == TOLD[key[1]] for key in queue.told)
    assert taken_by(hop) == Counter(key for key in queue.told if key[1] in {"alice", "soft"})
    assert held_in(state, monkeypatch) == Counter(key for key in queue.told if key[1] == "bob")


def test_a_lost_reply_of_the_next_hop_is_a_duplicate_that_is_counted(
    running: Start, hop: ScriptedNextHop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it took the message nobody knows: the client is told to come again."""
    hop.script("CONTENT", DROP, "250 2.0.0 Ok")
    with running() as gateway:
        queue = Queue([gateway.smtp])
        assert queue.send("m", ("alice", "bob")) == 2
        assert "mailgateway_duplicates_total 1.0" in gateway.get("/metrics")[1]
        state = gateway.state
    assert [(one.paths, one.code) for one in hop.transactions] == [([b"<alice-m@x.test>"], 0), ([b"<alice-m@x.test>"], 250)]
    assert held_in(state, monkeypatch) == {("m", "bob"): 1}, "the first copy was dropped"


def test_a_worker_that_was_stopped_too_long_promises_nothing_and_doubles_nothing(
    running: Start, hop: ScriptedNextHop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pending copy was swept meanwhile, so the client hears 451; the ledger spares the other recipient the duplicate."""
    hop.script("CONTENT", Answer("250 2.0.0 Ok", delay=0.3), "250 2.0.0 Ok")
    with running(more='[quarantine]\nlease = "500ms"\n') as gateway:
        queue = Queue([gateway.smtp])
        tries: list[int] = []
        client = threading.Thread(target=lambda: tries.append(queue.send("m", ("alice", "bob"))))
        client.start()
        gateway.until(lambda: hop.transactions)
        (worker,) = gateway.worker_pids()
        os.kill(worker, signal.SIGSTOP)
        try:
            time.sleep(0.8)
            assert asyncio.run(swept(gateway.state)) == 1
        finally:
            os.kill(worker, signal.SIGCONT)
        client.join(20)
        assert [one["reply"][:9] for one in gateway.events("transaction", at_least=3)] == ["451 4.5.3", "250 2.0.0", "250 2.0.0"]
        assert tries == [3], "each of the two alone"
        assert gateway.worker_pids() == [worker]
        state = gateway.state
    assert taken_by(hop) == {("m", "alice"): 1}
    assert held_in(state, monkeypatch, unconfirmed=1) == {("m", "bob"): 1}


async def swept(state: Path) -> int:
    quarantine = await Quarantine.open(state / "quarantine", retention=3600, lease=60)
    try:
        return (await quarantine.sweep()).orphans
    finally:
        await quarantine.close()


@pytest.mark.real
@pytest.mark.parametrize(
    "order", [("alice", "bob", "no", "void"), ("no", "void", "bob", "alice"), ("void", "unknown", "no", "alice")]
)
def test_a_real_postfix_sends_one_message_to_recipients_that_differ(
    order: tuple[str, ...],
    running: Start,
    hop: ScriptedNextHop,
    monkeypatch: pytest.MonkeyPatch,
    postfix: RealPostfix,
) -> None:
    """Its queue tries again by itself; the sender gets one bounce for each recipient that is refused, and for no other."""
    hop.script("RCPT TO:<unknown", "550 5.1.1 No such user")
    message = f"{order[0]}{order[1]}"
    with running() as gateway:
        settings = {
            "default_transport": "smtp",
            "relayhost": f"[127.0.0.1]:{gateway.smtp}",
            "minimal_backoff_time": "2s",
            "maximal_backoff_time": "2s",
            "queue_run_delay": "1s",
        }
        with postfix.with_settings(**settings):
            with smtplib.SMTP(postfix.host, postfix.port, timeout=20) as client:
                client.sendmail(
                    f"alice@{DOMAIN}", [f"{name}-{message}@x.test" for name in order], "Subject: differs\r\n\r\nhello\r\n"
                )
            refused = {name for name in order if TOLD[name] == 5}
            gateway.until(lambda: len(finals(postfix, message)) == len(order), 30)
            gateway.until(lambda: sum(map(len, bounced(postfix, message))) >= len(refused))
        state = gateway.state
    statuses = {name: "bounced" if name in refused else "sent" for name in order}
    assert finals(postfix, message) == Counter(statuses.items()), postfix.log()
    assert sorted(itertools.chain(*bounced(postfix, message))) == sorted(refused)
    assert taken_by(hop) == Counter((message, name) for name in order if name == "alice")
    assert held_in(state, monkeypatch) == Counter((message, name) for name in order if name == "bob")


def finals(postfix: RealPostfix, message: str) -> Counter[tuple[str, str]]:
    """Recipients with their end in the log: sent or bounced."""
    return Counter(re.findall(rf"to=<(\w+)-{message}@x\.test>.* status=(sent|bounced)", postfix.log()))


def bounced(postfix: RealPostfix, message: str) -> list[list[str]]:
    """The recipients that each bounce names."""
    pattern = re.compile(rf"^Final-Recipient: rfc822; (\w+)-{message}@x\.test", re.MULTILINE)
    return [pattern.findall(octets.decode("utf-8", "replace")) for octets in postfix.messages("alice")]
