"""Release: original envelope and octets, edits, one trace field; never twice at once; a refusal leaves it held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from pathlib import Path

import pytest

from gateway import add_header, remove_header
from gateway.content import Content, Form
from gateway.errors import LinkError
from gateway.quarantine import Copy, Entry, Quarantine, State, SweepReport
from gateway.quarantine.release import ReleaseReport, release, trace_field
from gateway.relay.each import PartlyAnsweredError
from gateway.smtp.replies import Reply, reply

OCTETS = b"Authentication-Results: mx.test; spf=pass\r\nSubject: hello\r\n\r\n.body\xff\r\n"
OK = reply(250, "2.1.0", "Ok")


class Next:
    """A next hop that notes what it is told and answers from a table."""

    next_hop = "127.0.0.1:2526"

    def __init__(self, answers: dict[str, Reply | Exception] | None = None, finals: list[Reply] | None = None) -> None:
        self.answers = answers or {}
        self.finals = finals or [reply(250, "2.0.0", "Ok: queued as 4711")]
        self.said: list[object] = []
        self.content = b""
        self.form: Form | None = None
        self.needs: set[str] = set()
        self.gate: asyncio.Event | None = None
        self.abandoned = 0

    async def _answer(self, what: str, *said: object) -> Reply:
        self.said.append(said)
        answer = self.answers.get(what, OK)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def mail(self, path: bytes, parameters: Sequence[bytes], *, needs: Iterable[str] = ()) -> Awaitable[Reply]:
        self.needs = set(needs)
        return self._answer("mail", "MAIL", path, tuple(parameters))

    def rcpt(self, path: bytes, parameters: Sequence[bytes]) -> Awaitable[Reply]:
        return self._answer(path.decode(), "RCPT", path, tuple(parameters))

    async def send(self, chunks: Iterable[bytes], *, size: int, form: Form = Form.LINES) -> list[Reply]:
        if self.gate is not None:
            await self.gate.wait()
        self.content = b"".join(chunks)
        self.form = form
        assert len(self.content) == size
        await self._answer("send")
        return self.finals

    def abandon(self) -> None:
        self.abandoned += 1


@pytest.fixture
async def quarantine(tmp_path: Path) -> AsyncIterator[Quarantine]:
    opened = await Quarantine.open(tmp_path / "q", retention=1000.0, lease=30.0)
    yield opened
    await opened.close()


async def hold(quarantine: Quarantine, *routes: str, octets: bytes = OCTETS, body: bytes = b"BODY=8BITMIME") -> str:
    names = (b"<alice@inbox.test>", b"<bob@inbox.test>")
    copy = Copy(
        transaction_id="t1",
        content=Content(octets),
        edits=(remove_header("Authentication-Results"), add_header("X-Spam", "yes")),
        reverse_path=b"<a@client.example>",
        parameters=(body, b"PRDR"),
        recipients=tuple((name, (b"NOTIFY=NEVER",), route) for name, route in zip(names, routes or ("r", "r"), strict=True)),
        facts={"client": "192.0.2.1", "helo": "client.example\r\nX-Forged: yes"},
    )
    return (await quarantine.write_held(copy)).id


async def let_go(quarantine: Quarantine, id_: str, way: Next) -> ReleaseReport:
    return await release(quarantine, id_, lambda _route, _entry: way, server_name="mx.test")


async def entry_of(quarantine: Quarantine, id_: str) -> Entry:
    entry = await quarantine.get(id_)
    assert entry is not None
    return entry


async def test_release_replays_envelope_octets_and_edits(quarantine: Quarantine) -> None:
    id_ = await hold(quarantine)
    way = Next()
    report = await let_go(quarantine, id_, way)
    assert report.released
    assert [a.delivered for a in report.attempts] == [True, True]
    assert way.said == [
        ("MAIL", b"<a@client.example>", (b"BODY=8BITMIME",)),
        ("RCPT", b"<alice@inbox.test>", (b"NOTIFY=NEVER",)),
        ("RCPT", b"<bob@inbox.test>", (b"NOTIFY=NEVER",)),
        (),
    ]
    trace, rest = way.content.split(b"X-Spam", 1)
    assert rest == b": yes\r\nSubject: hello\r\n\r\n.body\xff\r\n"
    assert trace.startswith(b"Received: from client.example??X-Forged:?yes ([192.0.2.1])\r\n\tby mx.test (mailgateway)\r\n")
    assert f"\tid {id_};".encode() in trace
    assert all(line[:1] in {b"R", b"\t", b""} for line in trace.split(b"\r\n"))
    assert way.abandoned == 1
    entry = await entry_of(quarantine, id_)
    assert (entry.state, entry.blob) == (State.RELEASED, "")
    assert "4711" in entry.last_reply


@pytest.mark.parametrize(
    ("octets", "body", "form", "needs"),
    [
        (OCTETS, b"BODY=8BITMIME", Form.LINES, set()),
        (OCTETS + b"open", b"BODY=8BITMIME", Form.UNENDED, set()),
        (OCTETS + b"\0\r\n.\r\n\n\r", b"body=BinaryMime", Form.BINARY, {"CHUNKING", "BINARYMIME"}),
    ],
)
async def test_content_that_is_not_lines_is_released_as_it_is(
    quarantine: Quarantine, octets: bytes, body: bytes, form: Form, needs: set[str]
) -> None:
    way = Next()
    assert (await let_go(quarantine, await hold(quarantine, octets=octets, body=body), way)).released
    assert (way.form, way.needs) == (form, needs)
    assert way.content.endswith(octets.partition(b"pass\r\n")[2])


async def test_only_what_is_held_is_released(quarantine: Quarantine) -> None:
    id_ = await hold(quarantine)
    await let_go(quarantine, id_, Next())
    way = Next()
    assert (await let_go(quarantine, id_, way)).problem == "it is released, not held"
    assert (await let_go(quarantine, "q0", way)).problem == "there is no such copy"
    kept = await quarantine.write_kept(Copy(transaction_id="t", content=Content(b"x"), recipients=((b"<a@b>", (), "r"),)))
    assert (await let_go(quarantine, kept.id, way)).problem == "it is kept, not held"
    assert way.said == []


@pytest.mark.parametrize(
    "way",
    [
        Next({"mail": reply(550, "5.7.1", "no")}),
        Next({"<alice@inbox.test>": reply(550, "5.1.1", "no"), "<bob@inbox.test>": reply(452, "4.2.2", "no")}),
        Next(finals=[reply(554, "5.7.1", "no")]),
        Next({"mail": LinkError("next", "no")}),
        Next({"send": LinkError("next", "no")}),
    ],
)
async def test_a_refused_release_leaves_it_held_and_shows_the_reply(quarantine: Quarantine, way: Next) -> None:
    id_ = await hold(quarantine)
    report = await let_go(quarantine, id_, way)
    assert not report.released
    assert [a.delivered for a in report.attempts] == [False, False]
    assert all("no" in str(a.reply) for a in report.attempts)
    entry = await entry_of(quarantine, id_)
    assert entry.state == State.HELD
    assert "no" in entry.last_reply
    assert entry.blob
    assert (await let_go(quarantine, id_, Next())).released, "it can be tried again"


async def test_who_has_it_does_not_get_it_again(quarantine: Quarantine) -> None:
    id_ = await hold(quarantine)
    report = await let_go(quarantine, id_, Next({"<alice@inbox.test>": reply(450, "4.2.1", "later")}))
    assert [a.delivered for a in report.attempts] == [False, True]
    assert (await entry_of(quarantine, id_)).released == {1}
    way = Next()
    assert (await let_go(quarantine, id_, way)).released
    assert [said[1] for said in way.said if said and said[0] == "RCPT"] == [b"<alice@inbox.test>"]  # type: ignore[index]


async def test_lmtp_replies_go_by_recipient(quarantine: Quarantine) -> None:
    id_ = await hold(quarantine)
    report = await let_go(quarantine, id_, Next(finals=[OK, reply(452, "4.2.2", "mailbox full")]))
    assert [a.delivered for a in report.attempts] == [True, False]
    assert (await entry_of(quarantine, id_)).released == {0}


async def test_lmtp_that_hangs_up_between_its_replies_has_what_it_said(quarantine: Quarantine) -> None:
    id_ = await hold(quarantine)
    lost = PartlyAnsweredError(LinkError("next", "closed"), [OK], unknown=True)
    report = await let_go(quarantine, id_, Next({"send": lost}))
    assert [(a.delivered, a.reply.code) for a in report.attempts] == [(True, 250), (False, 451)]
    assert (await entry_of(quarantine, id_)).released == {0}
    way = Next()
    assert (await let_go(quarantine, id_, way)).released
    assert [said[1] for said in way.said if said and said[0] == "RCPT"] == [b"<bob@inbox.test>"]  # type: ignore[index]


async def test_each_route_has_its_own_transaction(quarantine: Quarantine) -> None:
    id_ = await hold(quarantine, "one", "two")
    ways = {"one": Next(), "two": Next({"mail": LinkError("two", "down")})}
    report = await release(quarantine, id_, lambda route, _entry: ways[route], server_name="mx.test")
    assert [a.delivered for a in report.attempts] == [True, False]
    assert (await entry_of(quarantine, id_)).released == {0}


async def test_never_twice_at_once(quarantine: Quarantine, tmp_path: Path) -> None:
    other = await Quarantine.open(tmp_path / "q", retention=1000.0, lease=30.0)
    id_ = await hold(quarantine)
    ways = [Next() for _ in range(6)]
    reports = await asyncio.gather(*(let_go((quarantine, other)[n % 2], id_, way) for n, way in enumerate(ways)))
    assert sum(report.released for report in reports) == 1
    assert sum(bool(way.content) for way in ways) == 1
    await other.close()


async def test_a_release_that_is_cancelled_is_held_again(quarantine: Quarantine) -> None:
    id_ = await hold(quarantine)
    way = Next()
    way.gate = asyncio.Event()
    task = asyncio.get_running_loop().create_task(let_go(quarantine, id_, way))
    while len(way.said) < 3:  # noqa: ASYNC110 - the fake has no other sign
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    entry = await entry_of(quarantine, id_)
    assert entry.state == State.HELD
    assert "interrupted" in entry.last_reply
    assert way.abandoned == 1


async def test_a_release_whose_process_died_is_held_again_after_the_lease(tmp_path: Path) -> None:
    now = [1000.0]
    first = await Quarantine.open(tmp_path, retention=1000.0, lease=10.0, clock=lambda: now[0])
    id_ = await hold(first)
    way = Next()
    way.gate = asyncio.Event()
    task = asyncio.get_running_loop().create_task(let_go(first, id_, way))
    async with asyncio.timeout(5):
        while (await entry_of(first, id_)).state != State.RELEASING:  # noqa: ASYNC110 - the state is in the file
            await asyncio.sleep(0.01)
    second = await Quarantine.open(tmp_path, retention=1000.0, lease=10.0, clock=lambda: now[0])
    assert await second.sweep() == SweepReport()
    now[0] += 11.0
    assert await second.sweep() == SweepReport(interrupted=1)
    assert (await entry_of(second, id_)).state == State.HELD
    # the first was only stopped: it goes on, and what the next hop took counts
    way.gate.set()
    assert (await task).released
    assert (await entry_of(second, id_)).state == State.RELEASED
    await first.close()
    await second.close()


async def test_the_lease_is_renewed_while_the_next_hop_takes_its_time(tmp_path: Path) -> None:
    quarantine = await Quarantine.open(tmp_path, retention=1000.0, lease=0.3)
    id_ = await hold(quarantine)
    way = Next()
    way.gate = asyncio.Event()
    task = asyncio.get_running_loop().create_task(let_go(quarantine, id_, way))
    for _ in range(8):
        await asyncio.sleep(0.1)
        assert await quarantine.sweep() == SweepReport()
    way.gate.set()
    assert (await task).released
    await quarantine.close()


async def test_the_trace_field_of_an_unknown_client(quarantine: Quarantine) -> None:
    copy = Copy(transaction_id="t", content=Content(b"x"), recipients=((b"<a@b>", (), "r"),))
    entry = await entry_of(quarantine, (await quarantine.write_held(copy)).id)
    field = trace_field(entry, server_name="mx.test", now=0.0)
    assert field.startswith(b"Received: by mx.test (mailgateway)\r\n")
    assert field.endswith(b"\tThu, 1 Jan 1970 00:00:00 +0000\r\n")
