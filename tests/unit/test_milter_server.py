"""The milter server, asked as an MTA asks: verdicts, edits, facts, limits. Both sides are held to the order of the protocol."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.config.models import Config
from gateway.errors import StorageError
from gateway.milter import codec
from gateway.milter.codec import Actions
from gateway.quarantine.copies import Entry, State
from gateway.quarantine.rows import Query
from gateway.testing.in_process import InProcessGateway
from tests.milter_mta import FIELDS, STEPS, Mta

CONTINUE = [codec.Continue()]
TAKEN = [codec.Accept()]
"""The answer to the end of a message that passes."""
Open = Callable[..., AbstractAsyncContextManager[InProcessGateway]]


@pytest.fixture
def gateway(tmp_path: Path) -> Open:
    """A gateway with one milter listener and the plugin of tests/milter_says.py."""
    site = tmp_path / "site"
    site.mkdir()
    shutil.copy(Path(__file__).parent.parent / "milter_says.py", site / "says.py")

    @asynccontextmanager
    async def opened(*, listener: dict[str, Any] | None = None, **more: Any) -> AsyncIterator[InProcessGateway]:
        config = {
            "plugins": ["says"],
            "plugin_path": [str(site)],
            "server": {"name": "gate.example.test"},
            "listener": [
                {"name": "milter", "bind": "127.0.0.1:0", "protocol": "milter", "lenient_networks": [], **(listener or {})}
            ],
            "route": [{"name": "default", "domains": ["example.test"], "servers": ["127.0.0.1:1"]}],
            **more,
        }
        async with InProcessGateway(Config.model_validate(config), directory=tmp_path) as running:
            yield running

    return opened


def text(answers: list[codec.Answer]) -> str:
    """The reply that the client is to see, without the identifier at its end."""
    (answer,) = answers
    assert isinstance(answer, codec.ReplyCode)
    return "|".join(line.decode().rpartition(" (")[0] for line in answer.lines())


async def held_in(running: InProcessGateway) -> list[Entry]:
    return await running.quarantine.search(Query())


async def octets_of(running: InProcessGateway, held: Entry) -> bytes:
    content = await running.quarantine.content(held)
    try:
        return bytes(content.octets)
    finally:
        content.close()


async def test_what_passes_is_not_touched(gateway: Open) -> None:
    async with gateway() as running, Mta(running.port()) as mta:
        agreed = await mta.negotiate()
        assert not agreed.is_answered(codec.Header)
        assert agreed.is_answered(codec.Helo), "a plugin has a say"
        assert await mta.client() == []
        assert await mta.message() == TAKEN
        assert await mta.message(body=b"") == TAKEN
        await mta.ask(codec.Quit())
        with pytest.raises(EOFError):
            await mta.answer()
        await running.quiet()
    first, second = running.records
    assert first["verdict"] == second["verdict"] == "delivered"
    assert first["client"] == "192.0.2.1"
    assert first["helo"] == "client.test"
    assert first["queue_id"] == "4Xq1"
    assert first["next_hop"] == "mx.test"
    assert first["recipients"][0]["fate"] == "delivered"
    assert first["subject"] == "hello"
    assert first["id"] != second["id"]
    assert any(step["outcome"] == "milter" and "by mx.test" in step["evidence"] for step in first["steps"])


@pytest.mark.parametrize("version", [2, 3, 4, 6])
async def test_each_version(gateway: Open, version: int) -> None:
    async with gateway() as running, Mta(running.port(), version=version) as mta:
        assert await mta.client() == []
        assert mta.agreed.version == version
        assert await mta.message() == TAKEN
        assert text(await mta.message(["refuse-b@example.test"])) == "550 5.7.1 Not this message"


async def test_refused_clients_and_names(gateway: Open) -> None:
    async with gateway() as running:
        for address, helo, told in (
            ("192.0.2.66", "x", "554 5.7.1 Not you"),
            ("192.0.2.44", "x", "421 4.7.1 Not now"),
            ("192.0.2.1", "bad.test", "550 5.7.1 Bad name, 100%"),
        ):
            async with Mta(running.port()) as mta:
                assert text(await mta.client(address, helo=helo)) == told
        await running.quiet()
    assert [record["verdict"] for record in running.records] == ["rejected", "deferred", "rejected"]


@pytest.mark.parametrize(
    ("sender", "told"),
    [("reject@client.test", "550 5.7.1 No such sender"), ("nodata@client.test", "550 5.7.1 No content from you")],
)
async def test_refused_senders(gateway: Open, sender: str, told: str) -> None:
    async with gateway() as running, Mta(running.port()) as mta:
        await mta.client()
        answers = await mta.envelope(["b@example.test"], sender=sender)
        assert text(answers[-1]) == told
        assert await mta.message() == TAKEN, "the next one is another matter"


async def test_refused_recipients(gateway: Open) -> None:
    async with gateway() as running, Mta(running.port()) as mta:
        await mta.client()
        names = ["reject", "defer", "elsewhere", "b"]
        answers = await mta.envelope([f"{name}@example.test" for name in names])
        assert text(answers[1]) == "550 5.1.1 No such user"
        assert text(answers[2]) == "451 4.7.1 Later, please"
        assert text(answers[3]) == "451 4.3.5 The message cannot be handled here now; try again later"
        assert answers[4] == CONTINUE
        assert await mta.content() == TAKEN
        await mta.ask(codec.Quit())
        await running.quiet()
    (record,) = running.records
    assert {row["forward_path"]: row["fate"] for row in record["recipients"]} == {
        "<b@example.test>": "delivered",
        "<reject@example.test>": "rejected",
        "<defer@example.test>": "deferred",
        "<elsewhere@example.test>": "deferred",
    }


async def test_classes_are_told_apart(gateway: Open) -> None:
    async with gateway() as running, Mta(running.port()) as mta:
        await mta.client()
        answers = await mta.envelope(["b@example.test", "strict@example.test"])
        (separate,) = answers[2]
        assert isinstance(separate, codec.ReplyCode)
        assert separate.code == 452
        assert await mta.content() == TAKEN
        assert await mta.message(["strict@example.test"]) == TAKEN


async def test_held_is_held_before_the_answer(gateway: Open) -> None:
    async with gateway() as running, Mta(running.port()) as mta:
        await mta.client()
        fields = [(b"From", b" a@client.test"), (b"X-Odd", b"\tno space\n folded")]
        for answers in await mta.envelope(["hold-b@example.test"], parameters=["BODY=8BITMIME"]):
            assert answers == CONTINUE
        assert await mta.content(fields, b"body\r\n.\r\n") == [codec.Discard()]
        (held,) = await held_in(running)
        assert await octets_of(running, held) == b"From: a@client.test\r\nX-Odd:\tno space\r\n folded\r\n\r\nbody\r\n.\r\n"
    assert held.state is State.HELD
    assert held.reverse_path == b"<a@client.test>"


async def test_recipients_that_differ(gateway: Open) -> None:
    async with gateway() as running, Mta(running.port()) as mta:
        await mta.client()
        answers = await mta.message(["b@example.test", "hold-c@example.test", "drop-d@example.test"])
        assert answers == [
            codec.DeleteRecipient(b"<hold-c@example.test>"),
            codec.DeleteRecipient(b"<drop-d@example.test>"),
            codec.Accept(),
        ]
        assert len(await held_in(running)) == 1
        assert [record["id"] for record in running.journal.discards] == [running.records[0]["id"]]
        assert await mta.message(["drop-d@example.test"]) == [codec.Discard()]
        told = text(await mta.message(["b@example.test", "refuse-c@example.test"]))
        assert told.startswith("451 4.5.3"), "the retry gets its answers one by one"
        again = await mta.envelope(["b@example.test", "refuse-c@example.test"])
        assert again[1] == CONTINUE
        assert isinstance(again[2][0], codec.ReplyCode)
        assert again[2][0].code == 452
    fates = [{row["fate"] for row in record["recipients"]} for record in running.records]
    assert fates[:3] == [{"delivered", "held", "discarded"}, {"discarded"}, {"deferred"}]


async def test_trusted_clients_hear_whom_it_was_about(gateway: Open) -> None:
    async with gateway(listener={"trusted_networks": ["192.0.2.0/24"]}) as running, Mta(running.port()) as mta:
        await mta.client()
        told = text(await mta.message(["b@example.test", "refuse-c@example.test"]))
        assert told.startswith("550")
        assert "refuse-c@example.test" in told


async def test_edits(gateway: Open) -> None:
    fields = [
        (b"X-Twice", b" one"),
        (b"x-gone", b" 1"),
        (b"Subject", b" edit and sign"),
        (b"X-TWICE", b" two"),
        (b"X-Gone", b" 2"),
        (b"From", b" a@client.test"),
    ]
    async with gateway() as running, Mta(running.port()) as mta:
        await mta.client()
        answers = await mta.message(fields=fields)
    assert answers[:-3] == [
        codec.ChangeHeader(2, b"X-Gone", b""),
        codec.ChangeHeader(2, b"X-TWICE", b" other"),
        codec.ChangeHeader(1, b"Subject", b" [EXTERNAL] edit and sign"),
        codec.ChangeHeader(1, b"x-gone", b""),
        codec.InsertHeader(0, b"X-First", b" 1"),
    ]
    assert answers[-3] == codec.InsertHeader(0, b"X-Second", b" two\n lines")
    signed = answers[-2]
    assert isinstance(signed, codec.InsertHeader)
    final = b"X-Second: two\r\n lines\r\nX-First: 1\r\nX-Twice: one\r\nSubject: [EXTERNAL] edit and sign\r\nX-TWICE: other\r\n"
    assert signed.value == b" %d" % len(final + b"From: a@client.test\r\n\r\ntext\r\n")
    assert answers[-1] == codec.Accept()


async def test_another_body(gateway: Open) -> None:
    async with gateway() as running, Mta(running.port()) as mta:
        await mta.client()
        answers = await mta.message(fields=[(b"Subject", b" another body")])
    parts = [one.chunk for one in answers[:-1] if isinstance(one, codec.ReplaceBody)]
    assert len(parts) == len(answers) - 1 > 1
    assert b"".join(parts) == b"other words\r\n" * 10_000
    assert answers[-1] == codec.Accept()


async def test_without_the_space_behind_the_colon(gateway: Open) -> None:
    steps = STEPS ^ codec.Steps.HDR_LEADSPC
    async with gateway() as running, Mta(running.port(), steps=steps) as mta:
        await mta.client()
        answers = await mta.message(fields=[(b"Subject", b" edit")])
    assert codec.ChangeHeader(1, b"Subject", b"[EXTERNAL] edit") in answers
    assert codec.InsertHeader(0, b"X-First", b"1") in answers


async def test_the_envelope_is_changed(gateway: Open) -> None:
    async with gateway() as running, Mta(running.port()) as mta:
        await mta.client()
        await mta.envelope(["rename@example.test", "more@example.test"], sender="other@client.test")
        assert await mta.content() == [
            codec.ChangeFrom(b"<changed@client.test>"),
            codec.DeleteRecipient(b"<rename@example.test>"),
            codec.AddRecipient(b"<new@example.test>"),
            codec.AddRecipient(b"<extra@example.test>"),
            codec.Accept(),
        ]


@pytest.mark.parametrize(
    ("missing", "recipients", "fields", "why"),
    [
        (Actions.ADDHDRS, ["b@example.test"], [(b"Subject", b" sign")], "ADDHDRS"),
        (Actions.CHGHDRS, ["b@example.test"], [(b"Subject", b" edit")], "CHGHDRS"),
        (Actions.DELRCPT, ["b@example.test", "hold-c@example.test"], FIELDS, "DELRCPT"),
        (Actions.ADDRCPT, ["more@example.test"], FIELDS, "ADDRCPT"),
        (Actions(0), ["b@example.test"], [(b"Subject", b" another way")], "redirect"),
    ],
)
async def test_what_cannot_be_said_is_put_off(
    gateway: Open, missing: Actions, recipients: list[str], fields: list[tuple[bytes, bytes]], why: str
) -> None:
    offered = Actions(0x1FF) ^ missing
    async with gateway() as running, Mta(running.port(), actions=offered) as mta:
        await mta.client()
        assert text(await mta.message(recipients, fields=fields)) == (
            "451 4.3.5 The message cannot be handled here now; try again later"
        )
        assert await held_in(running) == []
    (record,) = running.records
    assert record["verdict"] == "deferred"
    assert any(step["outcome"] == "error" and why in step["evidence"] for step in record["steps"])


async def test_nobody_is_missed_where_nothing_is_left_to_take_away(gateway: Open) -> None:
    """Held for all: DELRCPT is not needed for that."""
    async with gateway() as running, Mta(running.port(), actions=Actions(0)) as mta:
        await mta.client()
        assert await mta.message(["hold-b@example.test", "hold-c@example.test"]) == [codec.Discard()]
        assert len(await held_in(running)) == 1


async def test_the_hold_queue_of_the_mta(gateway: Open) -> None:
    async with gateway(listener={"mta_quarantine": True}) as running:
        async with Mta(running.port()) as mta:
            await mta.client()
            assert await mta.message(["hold-b@example.test"]) == [codec.Quarantine(b"suspicious"), codec.Accept()]
            assert await held_in(running) == []
            answers = await mta.message(["hold-b@example.test", "c@example.test"])
            assert answers == [codec.DeleteRecipient(b"<hold-b@example.test>"), codec.Accept()]
            assert len(await held_in(running)) == 1
        async with Mta(running.port(), actions=Actions(0)) as mta:
            await mta.client()
            assert await mta.message(["hold-b@example.test"]) == [codec.Discard()], "where the MTA has none"
    assert [row["fate"] for row in running.records[0]["recipients"]] == ["held"]


async def test_discarded_at_mail_and_rcpt(gateway: Open) -> None:
    async with gateway() as running, Mta(running.port()) as mta:
        await mta.client()
        await mta.envelope(["b@example.test"], sender="discard@client.test")
        assert await mta.content() == [codec.Discard()]
        assert await mta.message(["discard@example.test", "b@example.test"]) == [
            codec.DeleteRecipient(b"<discard@example.test>"),
            codec.Accept(),
        ]


async def test_facts(gateway: Open) -> None:
    async with gateway() as running, Mta(running.port()) as mta:
        await mta.negotiate()
        mta.macros(codec.Connect, j="mx.test", v="Postfix 3.9", daemon_addr="192.0.2.25", daemon_port="25", client_ptr="ptr.test")
        await mta.ask(codec.Connect(b"client.test", codec.INET6, 4711, b"IPv6:2001:db8::7"))
        mta.macros(codec.Helo, tls_version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384", cipher_bits="256", cert_subject="c.test")
        await mta.ask(codec.Helo(b"helo.test"))
        assert await mta.envelope(["b@example.test"], auth_type="PLAIN", auth_authen="alice") == [CONTINUE] * 3
        assert await mta.content() == TAKEN
        refused = await mta.envelope(["b@example.test"], auth_type="PLAIN", auth_authen="mallory")
        assert text(refused[0]) == "535 5.7.8 Not this user"
        assert text((await mta.envelope(["b@example.test"], auth_authen="mallory"))[0]).startswith("535"), "each time"
    record = running.records[0]
    assert record["client"] == "2001:db8::7"
    assert record["identity"] == "alice"
    assert record["tls"] == "TLSv1.3 TLS_AES_256_GCM_SHA384"
    (step,) = [step for step in record["steps"] if step["outcome"] == "milter"]
    assert step["evidence"] == "by mx.test, which is Postfix 3.9, queue id 4Xq1, AUTH PLAIN"


async def test_given_up_in_the_middle(gateway: Open) -> None:
    async with gateway() as running:
        async with Mta(running.port()) as mta:
            await mta.client()
            await mta.envelope(["b@example.test"])
            await mta.ask(codec.Header(b"From", b" a"))
            await mta.ask(codec.Abort())
            assert await mta.message(["hold-b@example.test"]) == [codec.Discard()]
            await mta.envelope(["b@example.test"])
            await mta.ask(codec.QuitNewConnection())
            assert await mta.client("192.0.2.2") == []
            assert await mta.message() == TAKEN
            await mta.envelope(["b@example.test"])
            await mta.ask(codec.Header(b"From", b" a"))
        await running.quiet()
    assert [record["verdict"] for record in running.records] == ["vanished", "held", "vanished", "delivered", "vanished"]
    assert [record["client"] for record in running.records] == ["192.0.2.1"] * 3 + ["192.0.2.2"] * 2
    assert "the MTA gave it up" in {step["evidence"] for step in running.records[0]["steps"]}


async def test_limits(gateway: Open) -> None:
    limits = {"message_size": 5000, "header_size": 3000, "spool_memory": 100, "text_line": 2000}
    async with gateway(limits=limits) as running, Mta(running.port()) as mta:
        await mta.client()
        assert await mta.message(body=b"x" * 70 + b"\r\n" + b"y" * 1000 + b"\r\n") == TAKEN, "in a spool file"
        assert text(await mta.message(body=b"x\r\n" * 2000)) == "552 5.3.4 Message is larger than 5000 octets"
        assert text(await mta.message(body=b"x" * 2001)) == "500 5.5.2 Line too long"
        assert text(await mta.message(fields=[(b"A", b" " + b"x" * 1000)] * 4)).startswith("552 5.3.4 Header section is larger")
        assert text(await mta.message(body=b"a\rb\r\n")).startswith("550 5.6.0 Bare CR or LF")
        assert text(await mta.message(body=b"a\r\n\0.\r\n")).startswith("550 5.6.0 A line of NUL")
        assert await mta.message(body=b"\r\n") == TAKEN
        answers = await mta.envelope([f"b{number}@example.test" for number in range(1001)])
        assert text(answers[1001]) == "452 4.5.3 Too many recipients"


async def test_lenient_clients(gateway: Open) -> None:
    async with gateway(listener={"lenient_networks": ["192.0.2.0/24"]}) as running, Mta(running.port()) as mta:
        await mta.client()
        await mta.envelope(["hold-b@example.test"])
        assert await mta.content(body=b"a\rb\r\n") == [codec.Discard()]
        (held,) = await held_in(running)
        assert (await octets_of(running, held)).endswith(b"a\rb\r\n"), "what the MTA has"


@pytest.mark.parametrize(
    "octets",
    [
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        b"GET / HTTP/1.1\r\n\r\n",
        codec.write(codec.Connect(b"a")),
        codec.write(codec.offer(Actions(0), codec.Steps(0)), codec.EndOfBody()),
        codec.write(codec.Negotiate(1, Actions(0), codec.Steps(0))),
        codec.write(codec.offer(Actions(0), codec.Steps(0)))[:7],
    ],
)
async def test_what_is_no_milter_protocol_ends_the_connection(gateway: Open, octets: bytes) -> None:
    async with gateway() as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port())
        writer.write(octets)
        writer.write_eof()
        async with asyncio.timeout(5):
            while await reader.read(1000):
                pass
        writer.close()
        await running.quiet()
        async with Mta(running.port()) as mta:
            await mta.client()
            assert await mta.message() == TAKEN


async def test_idle_and_too_long(gateway: Open) -> None:
    async with gateway(limits={"idle": 0.05, "transaction_time": 0.2}) as running:
        async with Mta(running.port()) as mta:
            await mta.client()
            with pytest.raises(EOFError):
                await mta.answer()
        async with Mta(running.port()) as mta:
            await mta.client()
            await mta.envelope(["b@example.test"])
            with pytest.raises(EOFError):
                await mta.answer()
        await running.quiet()
    (record,) = running.records
    assert "Time limit exceeded" in {step["evidence"] for step in record["steps"]}


async def test_no_seat(gateway: Open) -> None:
    async with gateway(limits={"connections": 1}) as running, Mta(running.port()) as first:
        await first.client()
        async with Mta(running.port()) as second:
            with pytest.raises(EOFError):
                await second.negotiate()
        assert await first.message() == TAKEN


async def test_unix_socket(gateway: Open, tmp_path: Path) -> None:
    path = f"{tmp_path}/m.sock"
    async with gateway(listener={"bind": f"unix:{path}"}), Mta(path=path) as mta:
        await mta.client("2001:db8::1")
        assert await mta.message() == TAKEN


async def test_a_plugin_that_takes_its_time(gateway: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.milter.server.PROGRESS_EVERY", 0.01)
    (tmp_path / "site" / "slow.py").write_text(
        "import asyncio\nfrom gateway import Plugin, hook\n\n\nclass Slow(Plugin):\n"
        "    @hook\n    async def judge(self) -> None:\n        await asyncio.sleep(0.2)\n"
    )
    async with gateway(plugins=["slow"]) as running, Mta(running.port()) as mta:
        await mta.client()
        assert await mta.message() == TAKEN
        assert mta.progress > 0


async def test_an_mta_that_leaves_before_the_verdict(gateway: Open, tmp_path: Path) -> None:
    (tmp_path / "site" / "gate.py").write_text(
        "import asyncio\nfrom gateway import Plugin, hook, quarantine\n\n\nclass Gate(Plugin):\n"
        "    @hook\n    async def judge(self):\n        await asyncio.sleep(0.1)\n        return quarantine('x')\n"
    )
    async with gateway(plugins=["gate"]) as running:
        async with Mta(running.port()) as mta:
            await mta.client()
            await mta.envelope(["b@example.test"])
            mta.send(codec.EndOfHeader(), codec.EndOfBody())
            await mta.writer.drain()
        await running.quiet()
        assert await held_in(running) == []
    assert [record["verdict"] for record in running.records] == ["vanished"]


@pytest.mark.parametrize(("trusted", "is_let_in"), [([], False), (["192.0.2.0/24"], True)])
async def test_whoever_tells_who_the_clients_are_is_known(
    gateway: Open, monkeypatch: pytest.MonkeyPatch, trusted: list[str], *, is_let_in: bool
) -> None:
    monkeypatch.setattr("gateway.milter.server.endpoint", lambda *_: ("192.0.2.9", 4711))
    async with gateway(listener={"trusted_xclient": trusted}) as running, Mta(running.port()) as mta:
        if is_let_in:
            await mta.client()
            assert await mta.message() == TAKEN
        else:
            with pytest.raises(EOFError):
                await mta.negotiate()


async def test_what_cannot_be_held_is_not_promised(gateway: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    async with gateway() as running, Mta(running.port()) as mta:
        await mta.client()

        async def full(*_: object) -> list[object]:
            raise StorageError("no room", full=True)

        with monkeypatch.context() as broken:
            broken.setattr(running.quarantine, "write_all", full)
            assert text(await mta.message(["hold-b@example.test"])) == "452 4.3.1 Insufficient storage, try again later"
            assert text(await mta.message(["b@example.test", "hold-c@example.test"])).startswith("452 4.3.1")
        assert await mta.message(["hold-b@example.test"]) == [codec.Discard()]
        assert len(await held_in(running)) == 1
    assert [{row["fate"] for row in record["recipients"]} for record in running.records] == [{"deferred"}, {"deferred"}, {"held"}]


async def test_a_copy_that_is_lost_before_the_answer_takes_nobody_s_mail(gateway: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pending, then no longer ours: the MTA hears 451 and keeps nothing, so nobody counts as having got it, and a retry is whole."""
    async with gateway() as running, Mta(running.port()) as mta:
        await mta.client()

        async def gone(*_: object) -> bool:
            return False

        with monkeypatch.context() as broken:
            broken.setattr(running.quarantine, "hold", gone)
            assert text(await mta.message(["b@example.test", "hold-c@example.test"])).startswith("451 4.5.3")
        assert {entry.state for entry in await held_in(running)} <= {State.PENDING}
        answers = await mta.envelope(["b@example.test", "hold-c@example.test"])
        assert answers[1] == CONTINUE
        assert await mta.content() == TAKEN, "delivered now: no ledger said that it had been"
    assert [row["fate"] for row in running.records[0]["recipients"]] == ["deferred", "deferred"]
