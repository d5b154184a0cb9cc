"""The plugin `archive`: copies that are there before the message is sent, and go when nobody took it; disks and stores that fail."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import ValidationError

from gateway import Context, Fact, Label, OptionError, Outcome, Reject, hook, reject
from gateway.plugins.archive import Archive, Options
from gateway.plugins.archive.delivering import MAX_IN_RUN, MAX_NAMED, Delivery
from gateway.testing import FakeContext, ScriptedNextHop, a_message, a_transaction, run_plugin

MAIL = b"Subject: x\r\n\r\n\xff\x00 octets\r\n"
TAKEN = Outcome(fates=(("bob@example.org", "delivered"),))
REFUSED = Outcome(fates=(("bob@example.org", "rejected"),))


class _Started:
    def __init__(self, directory: Path, **more: Any) -> None:
        self.context = FakeContext(base_directory=str(directory))
        place = {} if "url" in more else {"directory": "copies"}
        self.plugin = Archive(Options.model_validate({**place, **more}), name="archive", context=cast("Context", self.context))
        self.top = directory / "copies"

    async def start(self) -> Archive:
        await self.plugin.startup(cast("Context", self.context))
        return self.plugin

    def files(self) -> list[str]:
        return sorted(str(one.relative_to(self.top)) for one in self.top.rglob("*") if one.is_file())


async def test_the_copy_is_there_before_the_message_is_sent_and_is_kept(tmp_path: Path) -> None:
    started = _Started(tmp_path)
    plugin = await started.start()
    transaction = a_transaction(id="T1")
    found = await plugin.sign(transaction, a_message(MAIL))
    assert found is not None
    assert found.name == "archive.copy"
    assert [one.rpartition(".")[2] for one in started.files()] == ["pending", "pending"]
    await plugin.done(transaction, TAKEN)
    eml, envelope = started.files()
    assert found == Fact(name="archive.copy", value=eml)
    assert eml.startswith("2026/11/1")
    assert (started.top / eml).read_bytes() == MAIL
    assert (started.top / eml).stat().st_mode & 0o777 == 0o600
    assert json.loads((started.top / envelope).read_text()) == {
        "id": "T1",
        "time": "2026-11-18T11:06:40Z",
        "client": "192.0.2.1",
        "reverse_path": "<alice@client.example>",
        "recipients": ["<bob@example.org>"],
    }


async def test_a_message_that_nobody_took_leaves_none(tmp_path: Path) -> None:
    started = _Started(tmp_path)
    plugin = await started.start()
    transaction = a_transaction()
    await plugin.sign(transaction, a_message(MAIL))
    await plugin.done(transaction, REFUSED)
    assert started.files() == []
    await plugin.done(transaction, REFUSED)  # nothing of it is left
    assert plugin._octets == 0


async def test_a_held_message_was_taken_too(tmp_path: Path) -> None:
    started = _Started(tmp_path)
    plugin = await started.start()
    transaction = a_transaction()
    await plugin.sign(transaction, a_message(MAIL))
    await plugin.done(transaction, Outcome(fates=(("bob@example.org", "held"), ("carol@example.org", "rejected"))))
    assert len(started.files()) == 2


async def test_in_a_chain_only_what_goes_on_is_copied(tmp_path: Path) -> None:
    class Refusing(Archive):
        @hook
        async def judge(self) -> Reject:
            return reject("no")

    options = Options(directory=str(tmp_path / "copies"))
    assert (await run_plugin(Refusing(options, name="archive"))).findings == ()
    assert list((tmp_path / "copies").iterdir()) == []
    done = await run_plugin(Archive(options, name="archive"))
    assert [one.name for one in done.findings if isinstance(one, Fact)] == ["archive.copy"]


@pytest.mark.parametrize("call", ["os.fsync", "os.open", "os.fdopen", "pathlib.Path.mkdir"])
async def test_a_disk_that_fails_defers_where_the_copy_is_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    started = _Started(tmp_path)
    plugin = await started.start()

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(call, fail)
        with pytest.raises(OSError, match="No space left"):
            await plugin.sign(a_transaction(), a_message(MAIL))


async def test_with_best_effort_nothing_waits_and_a_failure_is_told(tmp_path: Path) -> None:
    started = _Started(tmp_path, when="best_effort")
    plugin = await started.start()
    good, bad = a_transaction(), a_transaction(id="BAD")
    await plugin.sign(good, a_message(MAIL))
    await plugin.done(good, TAKEN)
    assert len(started.files()) == 2
    await plugin.sign(bad, a_message(MAIL))
    task, copy = plugin._under_way["BAD"]
    await asyncio.wait([task])
    (started.top / f"{copy[0][0]}.pending").unlink()
    await plugin.done(bad, TAKEN)
    [(level, event, facts)] = started.context.log.lines
    assert (level, event, facts["id"]) == ("warning", "archive.failed", "BAD")


@pytest.mark.parametrize("bound", [{"copies": 1}, {"memory": len(MAIL) + 5}])
async def test_copies_under_way_are_bounded(tmp_path: Path, bound: dict[str, int]) -> None:
    required = await _Started(tmp_path, **bound).start()
    await required.sign(a_transaction(), a_message(MAIL))
    with pytest.raises(BlockingIOError):
        await required.sign(a_transaction(), a_message(MAIL))
    await required.shutdown()
    best_effort = await _Started(tmp_path, when="best_effort", **bound).start()
    await best_effort.sign(a_transaction(), a_message(MAIL))
    found = await best_effort.sign(a_transaction(), a_message(MAIL))
    assert found is not None
    assert found.name == "archive.missing"
    await best_effort.shutdown()


async def test_no_copy_is_overwritten(tmp_path: Path) -> None:
    started = _Started(tmp_path)
    plugin = await started.start()
    transaction = a_transaction()
    found = await plugin.sign(transaction, a_message(MAIL))
    assert found is not None
    name = str(found.value)
    (started.top / name).write_bytes(b"there already")
    await plugin.done(transaction, TAKEN)
    assert (started.top / name).read_bytes() == b"there already"
    assert (started.top / f"{name}.pending").read_bytes() == MAIL
    assert started.context.log.lines[0][1] == "archive.failed"


async def test_an_object_store_has_what_was_taken(tmp_path: Path) -> None:
    started = _Started(tmp_path, url="memory:///")
    plugin = await started.start()
    kept, gone = a_transaction(), a_transaction()
    found = await plugin.sign(kept, a_message(MAIL))
    assert found is not None
    name = str(found.value)
    await plugin.sign(gone, a_message(MAIL))
    await plugin.done(kept, TAKEN)
    await plugin.done(gone, REFUSED)
    store = plugin._store
    assert store is not None
    listed = [one["path"] for batch in store.list() for one in batch]
    assert sorted(listed) == [name, name.replace(".eml", ".json")]
    assert bytes(store.get(name).bytes()) == MAIL


async def test_a_store_that_refuses_defers_where_the_copy_is_required(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    plugin = Archive(Options(url="s3://bucket/mail", endpoint="http://127.0.0.1:1"), name="archive")
    done = await run_plugin(plugin, message=a_message(MAIL), context=cast("Context", FakeContext()), on_error="defer")
    assert done.verdict is not None
    assert done.verdict.reason == "plugin-error"


@pytest.mark.parametrize("wrong", [{}, {"directory": "a", "url": "memory:///"}, {"directory": "a", "when": "never"}])
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate(wrong)


def test_a_store_that_cannot_be_is_a_mistake_of_the_configuration() -> None:
    with pytest.raises(OptionError, match="Unable to recognise"):
        Archive(Options(url="nope://bucket"))


async def test_a_directory_that_cannot_be_written_to_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "copies").write_text("a file")
    with pytest.raises(OSError, match="copies"):
        await _Started(tmp_path).start()
    assert (tmp_path / "copies").read_text() == "a file"


async def test_only_what_a_rule_has_labelled_is_copied(tmp_path: Path) -> None:
    started = _Started(tmp_path, labels=["legal", "tax"])
    plugin = await started.start()
    plain, labelled = a_transaction(id="T1"), a_transaction(id="T2")
    plain.findings.add("rules", Label(name="other"))
    labelled.findings.add("rules", Label(name="tax"))
    assert await plugin.sign(plain, a_message(MAIL)) is None
    assert await plugin.sign(labelled, a_message(MAIL)) is not None
    for transaction in (plain, labelled):
        await plugin.done(transaction, TAKEN)
    assert len(started.files()) == 2


async def _copies(started: _Started, count: int) -> None:
    plugin = await started.start()
    for number in range(count):
        transaction = a_transaction(id=f"T{number}", recipients=["bob@example.org", "carol@example.org"])
        await plugin.sign(transaction, a_message(MAIL))
        await plugin.done(transaction, TAKEN)


def _delivery(started: _Started, server: str, *, context: FakeContext | None = None) -> Delivery:
    return Delivery(
        started.top,
        to="j@archive.example",
        server=server,
        tls="opportunistic",
        context=cast("Context", context or started.context),
    )


async def test_copies_are_sent_to_a_mailbox_and_go_when_they_were_taken(tmp_path: Path) -> None:
    started = _Started(tmp_path)
    await _copies(started, 3)
    async with ScriptedNextHop() as hop:
        assert await _delivery(started, hop.address).run() == 3
        assert await _delivery(started, hop.address).run() == 0
    assert started.files() == []
    assert [(one.reverse_path, one.paths, one.connection) for one in hop.transactions] == [
        (b"<>", [b"<j@archive.example>"], 1)
    ] * 3
    assert b"BODY=8BITMIME" in hop.transactions[0].parameters
    contents = {one.content for one in hop.transactions}
    assert (
        b"X-Archive-Transaction: T0\r\nX-Archive-Reverse-Path: <alice@client.example>\r\n"
        b"X-Archive-Recipients: <bob@example.org>,\r\n <carol@example.org>\r\n" + MAIL in contents
    )


async def test_what_the_server_refuses_stays_and_the_others_go(tmp_path: Path) -> None:
    started = _Started(tmp_path)
    await _copies(started, 3)
    async with ScriptedNextHop() as hop:
        hop.script("CONTENT", "554 5.6.0 No", "250 2.0.0 Ok")
        delivery = _delivery(started, hop.address)
        assert await delivery.run() == 2
        (eml, _) = started.files()
        assert [line[:2] for line in started.context.log.lines if line[1] == "archive.refused"] == [
            ("warning", "archive.refused")
        ]
        assert [*delivery._refused] == [eml]
        assert await delivery.run() == 1
    assert (started.files(), delivery._refused) == ([], {})


@pytest.mark.parametrize("when", ["RCPT", "CONTENT"])
async def test_a_link_that_ends_costs_nothing_but_time(tmp_path: Path, when: str) -> None:
    started = _Started(tmp_path)
    await _copies(started, 2)
    async with ScriptedNextHop() as hop:
        hop.script(when, "421 4.3.2 Going down", "250 2.0.0 Ok")
        assert await _delivery(started, hop.address).run() == 0
        assert len(started.files()) == 4
        assert await _delivery(started, hop.address).run() == 2
    await _copies(started, 1)
    assert await _delivery(started, hop.address).run() == 0, "nobody is there"
    assert len(started.files()) == 2


async def test_two_workers_do_not_send_one_copy_twice(tmp_path: Path) -> None:
    started = _Started(tmp_path)
    await _copies(started, 10)
    async with ScriptedNextHop() as hop:
        taken = await asyncio.gather(*(_delivery(started, hop.address).run() for _ in range(3)))
    assert (sum(taken), len(hop.transactions)) == (10, 10)


async def test_a_run_and_a_field_are_bounded(tmp_path: Path) -> None:
    started = _Started(tmp_path)
    await _copies(started, 1)
    eml = next(started.top.rglob("*.eml"))
    for number in range(MAX_IN_RUN):
        for file in (eml, eml.with_suffix(".json")):
            file.with_stem(f"copy-{number}").write_bytes(file.read_bytes())
    said = json.loads(eml.with_suffix(".json").read_text()) | {
        "recipients": ["<a\r\nb@c.test>"] * (MAX_NAMED + 5),
        "id": "T\u00fc",
    }
    eml.with_suffix(".json").write_text(json.dumps(said))
    async with ScriptedNextHop() as hop:
        assert await _delivery(started, hop.address).run() == MAX_IN_RUN
        assert await _delivery(started, hop.address).run() == 1
    (odd,) = [one.content for one in hop.transactions if b"T?" in one.content]
    assert odd.count(b"<a??b@c.test>") == MAX_NAMED
    assert b",\r\n (and 5 more)\r\nSubject: x" in odd


@pytest.mark.parametrize(
    "wrong",
    [
        {"deliver_to": "a@b.test"},
        {"server": "h:25"},
        {"deliver_to": "a@b.test", "server": "h"},
        {"deliver_to": "a b@c.test", "server": "h:25"},
        {"deliver_to": "a@b.test", "server": "h:25", "url": "s3://b/p", "directory": ""},
    ],
)
def test_half_a_delivery_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate({"directory": "x", **wrong})
