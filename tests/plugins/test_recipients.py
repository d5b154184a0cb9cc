"""The plugin `recipients`: lists, their syntax, their reload, and the limit on unknown recipients."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import ValidationError

from gateway import Context, Defer, PluginError, Reject
from gateway.plugins import recipients as module
from gateway.plugins.recipients import Options, Recipients
from gateway.testing import FakeContext, a_recipient, a_session, a_transaction, run_plugin


async def verdict_on(mailbox: str, *, unknown: int = 0, **options: Any) -> Any:
    plugin = Recipients(Options(**options), name="recipients")
    transaction = a_transaction(session=a_session(unknown_recipients=unknown), recipients=[a_recipient(mailbox)])
    return (await run_plugin(plugin, transaction=transaction)).verdict


KNOWN = {"example.org": ["alice", "o'brien", "mary+jane"]}


@pytest.mark.parametrize(
    "mailbox",
    [
        "alice@example.org",
        "Alice@EXAMPLE.org",
        "alice+lists@example.org",
        '"alice"@example.org',
        '"al\\ice"@example.org',
        "mary+jane@example.org",
        "postmaster@example.org",
        "PostMaster@example.org",
        "anybody@other.example",
    ],
)
async def test_lets_known_recipients_and_other_domains_pass(mailbox: str) -> None:
    assert await verdict_on(mailbox, known=KNOWN) is None


@pytest.mark.parametrize(
    "mailbox", ["bob@example.org", "mary@example.org", "+alice@example.org", "alic@example.org", "alice-x@example.org"]
)
async def test_refuses_unknown_recipients(mailbox: str) -> None:
    verdict = await verdict_on(mailbox, known=KNOWN)
    assert isinstance(verdict, Reject)
    assert (verdict.code, verdict.enhanced, verdict.reason) == (550, "5.1.1", "unknown-recipient")


async def test_without_a_list_everybody_is_the_next_hops_to_judge() -> None:
    assert await verdict_on("anybody@example.org") is None


async def test_case_and_subaddress_are_options() -> None:
    assert await verdict_on("Alice@example.org", known=KNOWN, case_sensitive=True) is not None
    assert await verdict_on("alice+x@example.org", known=KNOWN, subaddress="") is not None
    assert await verdict_on("alice-x@example.org", known=KNOWN, subaddress="+-") is None


async def test_an_empty_list_knows_nobody_but_postmaster() -> None:
    assert await verdict_on("alice@example.org", known={"example.org": []}) is not None
    assert await verdict_on("postmaster@example.org", known={"example.org": []}) is None


async def test_a_star_leaves_the_domain_to_the_next_hop() -> None:
    assert await verdict_on("anybody@example.org", known={"example.org": ["alice", "*"]}) is None


@pytest.mark.parametrize(("unknown", "deferred"), [(2, False), (3, True), (4, True)])
async def test_too_many_unknown_recipients_defer_the_rest(unknown: int, deferred: bool) -> None:
    verdict = await verdict_on("alice@example.org", known=KNOWN, max_unknown=3, unknown=unknown)
    assert isinstance(verdict, Defer) is deferred
    if deferred:
        assert (verdict.code, verdict.enhanced) == (451, "4.7.1")


async def test_zero_is_no_limit() -> None:
    assert await verdict_on("alice@example.org", known=KNOWN, max_unknown=0, unknown=10_000) is None


@pytest.mark.parametrize("known", [{"": ["a"]}, {"example..org": ["a"]}, {"example.org": ["a@b"]}, {"example.org": [""]}])
def test_wrong_options_are_refused(known: dict[str, list[str]]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate({"known": known})


async def test_reads_a_file(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_text("# ours\nalice@example.org\r\n\n@open.example  # all of it\nclosed.example\nbob@bücher.example\n")
    for mailbox in ("alice@example.org", "x@open.example", "x@closed.example", "bob@xn--bcher-kva.example", "bob@BÜCHER.example"):
        assert await verdict_on(mailbox, file=str(file)) is None
    for mailbox in ("bob@example.org", "alice@bücher.example"):
        assert await verdict_on(mailbox, file=str(file)) is not None


@pytest.mark.parametrize(
    ("octets", "where"),
    [
        (b"alice@example.org\nbad..domain\n", ":2: "),
        (b"al ice@example.org\n", ":1: "),
        (b"alice@\n", ":1: "),
        (b"ok@example.org\n\xff@example.org\n", ":2: "),
        (b"#" + b"x" * module.MAX_LINE + b"\n", ":1: "),
    ],
)
async def test_a_wrong_file_stops_the_start_and_names_the_line(tmp_path: Path, octets: bytes, where: str) -> None:
    file = tmp_path / "list"
    file.write_bytes(octets)
    with pytest.raises(PluginError, match=where):
        await verdict_on("alice@example.org", file=str(file))


async def test_a_missing_or_huge_file_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PluginError, match="No such file"):
        await verdict_on("alice@example.org", file=str(tmp_path / "missing"))
    monkeypatch.setattr(module, "MAX_FILE", 20)
    (tmp_path / "list").write_text("alice@example.org\n# x\n")
    with pytest.raises(PluginError, match="more than 20 octets"):
        await verdict_on("alice@example.org", file=str(tmp_path / "list"))


class _Started:
    """The plugin as it lives in a worker: started once, asked many times."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "list"
        self.context = FakeContext(base_directory=str(directory))
        self.plugin = Recipients(Options(file="list"), name="recipients", context=cast("Context", self.context))

    async def start(self) -> None:
        await self.plugin.startup(cast("Context", self.context))

    def write(self, text: str) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.replace(self.file)

    async def knows(self, mailbox: str) -> bool:
        return await self.plugin.rcpt(a_transaction(recipients=()), a_recipient(mailbox)) is None

    async def after_a_look(self) -> None:
        self.context.clock.move(module.LOOK_AGAIN + 0.1)
        await self.knows("anybody@example.org")
        await asyncio.gather(*self.context._tasks)


async def test_reads_the_file_again_when_it_changed(tmp_path: Path) -> None:
    started = _Started(tmp_path)
    started.write("alice@example.org\n")
    await started.start()
    assert not await started.knows("bob@example.org")
    started.write("alice@example.org\nbob@example.org\n")
    assert not await started.knows("bob@example.org")
    await started.after_a_look()
    assert await started.knows("bob@example.org")
    assert [line[1] for line in started.context.log.lines] == ["recipients.reloaded"]
    await started.after_a_look()
    assert len(started.context.log.lines) == 1


async def test_a_broken_or_vanished_file_keeps_the_list_before_and_is_told_once(tmp_path: Path) -> None:
    started = _Started(tmp_path)
    started.write("alice@example.org\n")
    await started.start()
    started.write("not a list of recipients\n")
    await started.after_a_look()
    await started.after_a_look()
    assert await started.knows("alice@example.org")
    assert not await started.knows("bob@example.org")
    assert [line[:2] for line in started.context.log.lines] == [("warning", "recipients.list_unusable")]
    started.file.unlink()
    await started.after_a_look()
    assert not await started.knows("bob@example.org")
    started.write("bob@example.org\n")
    await started.after_a_look()
    assert await started.knows("bob@example.org")
