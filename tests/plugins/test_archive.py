"""The plugin `archive`: copies that are there before the message is sent, and go when nobody took it; disks and stores that fail."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import ValidationError

from gateway import Context, Fact, OptionError, Outcome, Reject, hook, reject
from gateway.plugins.archive import Archive, Options
from gateway.testing import FakeContext, a_message, a_transaction, run_plugin

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
    assert (await best_effort.sign(a_transaction(), a_message(MAIL))).name == "archive.missing"
    await best_effort.shutdown()


async def test_no_copy_is_overwritten(tmp_path: Path) -> None:
    started = _Started(tmp_path)
    plugin = await started.start()
    transaction = a_transaction()
    name = str((await plugin.sign(transaction, a_message(MAIL))).value)
    (started.top / name).write_bytes(b"there already")
    await plugin.done(transaction, TAKEN)
    assert (started.top / name).read_bytes() == b"there already"
    assert (started.top / f"{name}.pending").read_bytes() == MAIL
    assert started.context.log.lines[0][1] == "archive.failed"


async def test_an_object_store_has_what_was_taken(tmp_path: Path) -> None:
    started = _Started(tmp_path, url="memory:///")
    plugin = await started.start()
    kept, gone = a_transaction(), a_transaction()
    name = str((await plugin.sign(kept, a_message(MAIL))).value)
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
