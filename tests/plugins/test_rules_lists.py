"""Named lists of rules: what they are made of, who builds the table, and what goes on where a source fails."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import ValidationError

from gateway import ConfigError, Context, OptionError, PluginError
from gateway.plugins.rules import Options, Rules
from gateway.plugins.rules import lists as module
from gateway.plugins.rules.building import build, digest_of, held
from gateway.plugins.rules.entries import KINDS, add_entry
from gateway.plugins.rules.lists import ListOptions
from gateway.plugins.rules.table import Building, open_table, table_of, write_table
from gateway.testing import FakeContext, a_message, a_transaction, run_plugin

RULE = {"name": "listed", "when": 'in_list("vip", reverse_path.mailbox)', "then": "accept"}


def a_context(directory: Path) -> FakeContext:
    return FakeContext(base_directory=str(directory), state_directory=str(directory / "state"))


def a_group(context: FakeContext, options: Mapping[str, object], rule: Mapping[str, object] = RULE) -> Rules:
    return Rules(Options.model_validate({"rule": [rule], "list": {"vip": options}}), context=cast("Context", context))


async def listed(group: Rules, context: FakeContext, mailbox: str) -> bool:
    result = await run_plugin(
        group, transaction=a_transaction(reverse_path=mailbox), context=cast("Context", context), start=False
    )
    return result.verdict is not None


# What may stand there


WRONG = [
    ({"kind": "adresses", "entries": ["a@b.test"]}, "'addresses', 'domains', 'networks', 'words' or 'hashes'"),
    ({"kind": "addresses"}, "found no entries; allowed: one of entries, file, url"),
    ({"kind": "addresses", "entries": ["a@b.test"], "file": "x"}, "found entries and file; allowed: one of"),
    ({"kind": "addresses", "entries": ["a"]}, "found 'a'; allowed: alice@example.org"),
    ({"kind": "addresses", "entries": ["a@b c"]}, "found 'a@b c'; allowed: alice@example.org"),
    ({"kind": "domains", "entries": ["a@b.test"]}, "found 'a@b.test'; allowed: example.org"),
    ({"kind": "domains", "entries": ["b..test"]}, "found 'b..test'; allowed: example.org"),
    ({"kind": "networks", "entries": ["192.0.2.0/33"]}, "found '192.0.2.0/33'; allowed: 192.0.2.0/24"),
    ({"kind": "words", "entries": ["one two three four five six"]}, "up to 5 that follow each other"),
    ({"kind": "words", "entries": ["!"]}, "up to 5 that follow each other"),
    ({"kind": "hashes", "entries": ["abc"]}, "a digest in hexadecimal"),
    ({"kind": "hashes", "entries": ["x" * 1_001]}, "found more than 1000 characters"),
    ({"kind": "words", "url": "https:///x"}, "allowed: https://host/"),
    ({"kind": "words", "url": "https://h.test/", "query": "SELECT 1"}, "found query with a web service"),
    ({"kind": "words", "file": "x", "query": "SELECT 1"}, "found query without url"),
    ({"kind": "words", "url": "nothing"}, "found no URL"),
    ({"kind": "words", "url": "sqlite:///x", "query": "SELECT 1"}, "found the driver pysqlite, which would block"),
    ({"kind": "words", "url": "sqlite+aiosqlite:///x"}, "found a database without query"),
    ({"kind": "words", "url": "sqlite+aiosqlite:///x", "query": "SELECT :a"}, "found the parameters a in query"),
    ({"kind": "words", "url": "https://h.test/", "refresh": "100ms"}, "greater than or equal to 1"),
]


@pytest.mark.parametrize(("options", "why"), WRONG)
def test_a_list_that_cannot_be(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ListOptions.model_validate(options)
    assert why in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="which is no file; allowed: a file with one entry a line"):
        a_group(a_context(tmp_path), {"kind": "addresses", "file": "none"})


def test_a_name_that_is_no_lists(tmp_path: Path) -> None:
    with pytest.raises(OptionError) as caught:
        a_group(a_context(tmp_path), {"kind": "words", "entries": ["x"]}, {**RULE, "when": 'in_list("vpi", client.helo)'})
    (mistake,) = caught.value.mistakes
    assert mistake.key == ("rule", 0, "when")
    assert "unknown list 'vpi' (did you mean 'vip'?); allowed: vip" in mistake.allowed
    strip = {**RULE, "when": "true", "then": {"strip": 'in_list("vop", a.name)'}}
    with pytest.raises(OptionError, match="did you mean 'vip'"):
        a_group(a_context(tmp_path), {"kind": "words", "entries": ["x"]}, strip)
    counted = {**RULE, "when": "true", "then": {"strip": 'rate(client.address, "1h") > 1'}}
    with pytest.raises(OptionError, match=r"rate\(\) in an action"):
        a_group(a_context(tmp_path), {"kind": "words", "entries": ["x"]}, counted)
    with pytest.raises(ValidationError, match="a list that is not written out; allowed: the name of a list in quotes"):
        Options.model_validate({"rule": [{**RULE, "when": "in_list(client.helo, 'vip')"}]})


def test_lists_of_files_of_rules(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "names").write_text("ann@b.test\n")
    good = (
        "[list.vip]\nkind = 'addresses'\nfile = 'names'\n[[rule]]\nname='r'\n"
        "when = 'in_list(\"vip\", reverse_path.mailbox)'\nthen = 'accept'\n"
    )
    (tmp_path / "d" / "a.toml").write_text(good)
    context = cast("Context", a_context(tmp_path))
    assert Rules(Options(files=("d",)), context=context).rules[0].name == "r"
    (tmp_path / "d" / "b.toml").write_text("[list.vip]\nkind = 'words'\nentries = ['x']\n")
    with pytest.raises(ConfigError, match=r"b.toml:1: list.vip: found another list 'vip'"):
        Rules(Options(files=("d",)), context=context)
    (tmp_path / "d" / "b.toml").write_text("[list.vop]\nkind = 'words'\nfile = 'none'\n")
    with pytest.raises(ConfigError, match=r"b.toml:3: list.vop.file: found .*none, which is no file"):
        Rules(Options(files=("d",)), context=context)
    (tmp_path / "d" / "b.toml").write_text(
        "[[rule]]\nname='q'\nwhen = 'list_age(\"vup\") > 1'\nthen = 'accept'\n[list.Bad_Name]\nkind = 'words'\n"
    )
    with pytest.raises(ConfigError, match=r"b.toml:5: list.Bad_Name"):
        Rules(Options(files=("d",)), context=context)
    (tmp_path / "d" / "b.toml").write_text("[[rule]]\nname='q'\nwhen = 'list_age(\"vup\") > 1'\nthen = 'accept'\n")
    with pytest.raises(ConfigError, match=r"b.toml:3: rule\[0\].when: .* \(did you mean 'vip'\?\)"):
        Rules(Options(files=("d",)), context=context)


# A file


async def test_a_file_is_read_again_when_it_changed(tmp_path: Path) -> None:
    context = a_context(tmp_path)
    file = tmp_path / "vip.txt"
    file.write_text("# ours\nAnn@B.test # the boss\n\n@friends.test\n")
    group = a_group(context, {"kind": "addresses", "file": "vip.txt"})
    await group.startup(cast("Context", context))
    assert await listed(group, context, "ann@b.test")
    assert await listed(group, context, "x@friends.test")
    file.write_text("carl@b.test\n")
    lists = group._site.lists
    await lists.look()
    assert not await listed(group, context, "ann@b.test")
    assert await listed(group, context, "carl@b.test")
    assert ("info", "rules.list_read", {"list": "vip", "entries": 1}) in context.log.lines
    file.write_text("carl@b.test\nnobody\n")
    for _ in range(3):
        await lists.look()
    assert await listed(group, context, "carl@b.test"), "the one before goes on"
    stale = [facts for _, event, facts in context.log.lines if event == "rules.list_stale"]
    assert len(stale) == 1, "told of once"
    assert f"{file}:2: found 'nobody'; allowed: alice@example.org" in str(stale[0]["error"])
    assert context.metrics.values == [("list_failures", 1, {"list": "vip"})]
    file.unlink()
    await lists.look()
    assert await listed(group, context, "carl@b.test")
    await group.shutdown()


async def test_a_wrong_line_stops_the_start(tmp_path: Path) -> None:
    context = a_context(tmp_path)
    for octets, why in [
        (b"a@b.test\nx\n", ":2: found 'x'"),
        (b"\xff\n", ":1: not UTF-8"),
        (b"a" * 5_000, ":1: more than 4000 octets"),
    ]:
        (tmp_path / "vip.txt").write_bytes(octets)
        with pytest.raises(PluginError, match=why):
            await run_plugin(a_group(context, {"kind": "addresses", "file": "vip.txt"}), context=cast("Context", context))


async def test_the_table_is_built_once_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vip.txt").write_text("ann@b.test\n")
    built: list[str] = []

    def noted(*given: Any, **more: Any) -> int:
        built.append(given[2])
        return build(*given, **more)

    monkeypatch.setattr(module, "build", noted)
    groups = []
    for _ in range(3):  # three workers, or a restart
        context = a_context(tmp_path)
        group = a_group(context, {"kind": "addresses", "file": "vip.txt"})
        await group.startup(cast("Context", context))
        assert await listed(group, context, "ann@b.test")
        groups.append(group)
    assert len(built) == 1
    assert [one.name for one in (tmp_path / "state" / "lists").glob("*.table")] == [Path(built[0]).name]
    for group in groups:
        await group.shutdown()


def _map(path: str, ready: Any, done: Any) -> None:
    """A worker: maps the table, touches all of it, and says how much memory of its own and how much of its share that takes."""
    table = open_table(Path(path))
    assert table is not None
    assert all(f"user{number}@example.org".encode() in table for number in range(0, 100_000, 7))
    ready.wait(20)
    text = Path(f"/proc/{os.getpid()}/smaps").read_text()
    block = text[text.index(path) :]
    done.put({name: int(block.partition(f"{name}:")[2].split()[0]) for name in ("Rss", "Pss", "Private_Dirty")})
    ready.wait(20)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux tells whose pages they are")
def test_workers_share_the_memory_of_a_table(tmp_path: Path) -> None:
    building = Building()
    for number in range(100_000):
        add_entry(KINDS["addresses"], building, f"user{number}@example.org")
    path = tmp_path / "vip.table"
    write_table(path, building.octets(ranges=False))
    assert path.stat().st_size < 20 * 100_000, "a million takes 20 MB at most"
    spawn = multiprocessing.get_context("fork")
    ready, done = spawn.Barrier(3), spawn.Queue()
    workers = [spawn.Process(target=_map, args=(str(path), ready, done)) for _ in range(2)]
    for worker in workers:
        worker.start()
    ready.wait(20)  # both have it mapped
    found = [done.get(timeout=20) for _ in workers]
    ready.wait(20)
    for worker in workers:
        worker.join()
    assert all(one["Private_Dirty"] == 0 and one["Rss"] > 500 for one in found)
    assert all(one["Pss"] <= one["Rss"] / 2 + 100 for one in found), "one copy, counted by halves"


def test_a_table_that_is_none_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "x.table"
    building = Building()
    building.add(b"a")
    whole = b"".join(building.octets(ranges=False))
    for octets in (b"", b"x" * 100, whole[:-1], whole + b"x", b"other" + whole[5:]):
        path.write_bytes(octets)
        assert open_table(path) is None
    path.write_bytes(whole)
    table = open_table(path)
    assert table is not None
    assert b"a" in table
    assert b"b" not in table


def test_too_many_entries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("gateway.plugins.rules.table.MAX_ENTRIES", 2)
    file = tmp_path / "x"
    file.write_text("one\ntwo\nthree\n")
    for strict in (True, False):
        with pytest.raises(ValueError, match=":3: more than 2 entries"):
            build("words", str(file), str(tmp_path / "t"), digest_of(file), strict=strict)
    monkeypatch.setattr("gateway.plugins.rules.building.MAX_FILE", 3)
    with pytest.raises(ValueError, match="more than 3 octets"):
        digest_of(file)


def test_an_empty_list_has_nothing() -> None:
    for name, kind in KINDS.items():
        table = table_of(b"".join(Building().octets(ranges=name == "networks")))
        assert not kind.found(table, "192.0.2.1")


# Elsewhere


class _Service:
    """Answers with what the test sets."""

    def __init__(self) -> None:
        self.asked = 0
        self.status = "200 OK"
        self.body = "ann@b.test\nno address\n"
        self.silent = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:  # a client that was cancelled before it asked
            writer.close()
            return
        self.asked += b"authorization: bearer s3cret" in head.lower()
        if self.silent:
            await reader.read()  # until the client has had enough
        else:
            body = self.body.encode()
            writer.write(f"HTTP/1.1 {self.status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
        writer.close()


@pytest.fixture
async def service() -> AsyncIterator[tuple[_Service, str]]:
    service = _Service()
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0)
    yield service, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/vip"
    server.close()


async def test_a_web_service_is_asked_now_and_then_and_its_answer_outlives_it(
    service: tuple[_Service, str], tmp_path: Path
) -> None:
    it, url = service
    (tmp_path / "token").write_text("s3cret\n")
    options = {"kind": "addresses", "url": url, "token_file": "token", "refresh": "10m", "limit": "1s"}
    context = a_context(tmp_path)
    group = a_group(context, options)
    lists = group._site.lists
    await group.startup(cast("Context", context))
    assert await listed(group, context, "ann@b.test")
    assert ("warning", "rules.list_entries_skipped", {"list": "vip", "entries": 1}) in context.log.lines
    await lists.look()
    assert it.asked == 1, "not again before its time"
    context.clock.move(601)
    it.body = "carl@b.test"
    await lists.look()
    assert it.asked == 2
    assert await listed(group, context, "carl@b.test")
    assert not await listed(group, context, "ann@b.test")
    for status, body, silent, why in [
        ("503 Away", "x", False, "ValueError: status 503"),
        ("200 OK", "", False, "ValueError: an empty answer"),
        ("200 OK", "x", True, "no answer within 1 s"),
    ]:
        it.status, it.body, it.silent = status, body, silent
        context.clock.move(601)
        await lists.look()
        event, facts = context.log.lines[-1][1:]
        assert (event, facts["error"]) == ("rules.list_stale", why)
        asked = it.asked
        context.clock.move(59)
        await lists.look()
        assert it.asked == asked, "left alone for a minute"
        assert await listed(group, context, "carl@b.test")
    assert lists["vip"].age(context.clock()) == 3 * 660
    it.status, it.body, it.silent = "200 OK", "dora@b.test", False
    context.clock.move(61)
    await lists.look()
    assert await listed(group, context, "dora@b.test"), "well again"
    # Another worker, or after a restart: the table is there, and the source is away.
    it.status = "503 Away"
    other = a_group(context, options)
    await other.startup(cast("Context", context))
    assert await listed(other, context, "dora@b.test")
    await group.shutdown()
    await other.shutdown()


async def test_a_list_that_was_never_read_defers(service: tuple[_Service, str], tmp_path: Path) -> None:
    it, url = service
    it.status = "500 No"
    context = a_context(tmp_path)
    group = a_group(context, {"kind": "addresses", "url": url})
    result = await run_plugin(group, context=cast("Context", context), on_error="defer")
    assert result.verdict is not None
    assert result.verdict.reason == "plugin-error"
    assert "the list 'vip' could not be read yet: ValueError: status 500" in result.verdict.evidence
    assert group._site.lists["vip"].age(0.0) == -1


async def test_a_source_that_hangs_does_not_stop_the_start(
    service: tuple[_Service, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it, url = service
    it.silent = True
    monkeypatch.setattr(module, "FIRST_LIMIT", 0.05)
    context = a_context(tmp_path)
    group = a_group(context, {"kind": "addresses", "url": url, "limit": "30s"})
    async with asyncio.timeout(10):
        await group.startup(cast("Context", context))
        await group.shutdown()
    with pytest.raises(ValueError, match="could not be read yet"):
        assert "a" in group._site.lists["vip"]


async def test_words_are_looked_for_in_a_thread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    context = a_context(tmp_path)
    rule = {**RULE, "when": 'in_list("vip", message.text)'}
    group = a_group(context, {"kind": "words", "entries": ["needle"]}, rule)
    threads: list[bool] = []
    ask = Rules._ask

    def noted(*given: Any) -> Any:
        threads.append(threading.current_thread() is not threading.main_thread())
        return ask(*given)

    monkeypatch.setattr(Rules, "_ask", noted)
    for body in ("a needle", "hay " * 2_000 + "needle"):
        result = await run_plugin(group, message=a_message(body=body), context=cast("Context", context))
        assert result.verdict is not None
    assert threads == [False, True]


async def test_one_worker_asks_for_all(service: tuple[_Service, str], tmp_path: Path) -> None:
    it, url = service
    (tmp_path / "token").write_text("s3cret")
    context = a_context(tmp_path)
    options = {"kind": "addresses", "url": url, "token_file": "token"}
    first, second = a_group(context, options), a_group(context, options)
    await first.startup(cast("Context", context))
    target = first._site.lists["vip"]._target
    with held(target) as is_ours:
        assert is_ours
        context.clock.move(4_000)
        await first._site.lists.look()
    assert it.asked == 1, "another one is at it"
    await second.startup(cast("Context", context))
    await first._site.lists.look()
    assert it.asked == 2
    assert first._site.lists["vip"].fresh_at == context.clock()
    await first.shutdown()
    await second.shutdown()


async def test_a_database_is_asked(tmp_path: Path) -> None:
    database = tmp_path / "x.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE vip (address TEXT)")
        connection.executemany("INSERT INTO vip VALUES (?)", [(f"user{number}@b.test",) for number in range(2_500)] + [(None,)])
    connection.close()
    context = a_context(tmp_path)
    options = {"kind": "addresses", "url": f"sqlite+aiosqlite:///{database}", "query": "SELECT address FROM vip"}
    group = a_group(context, options)
    await group.startup(cast("Context", context))
    assert await listed(group, context, "user2499@b.test")
    assert not await listed(group, context, "user2500@b.test")
    assert [level for level, _, _ in context.log.lines] == []
    await group.shutdown()
    wrong = a_group(context, {**options, "query": "SELECT other FROM vip"})
    await wrong.startup(cast("Context", context))
    assert "no such column" in str(context.log.lines[-1][2]["error"])
    await wrong.shutdown()


async def test_lists_are_looked_at_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_AGAIN", 0.01)
    (tmp_path / "vip.txt").write_text("ann@b.test\n")
    context = a_context(tmp_path)
    group = a_group(context, {"kind": "addresses", "file": "vip.txt"})
    await group.startup(cast("Context", context))
    (tmp_path / "vip.txt").write_text("carl@b.test\n")
    while not await listed(group, context, "carl@b.test"):  # noqa: ASYNC110 - the time limit of the test bounds it
        await asyncio.sleep(0.01)
    await group.shutdown()
    await asyncio.gather(*context._tasks)


async def test_tests_beside_rules_have_the_lists(tmp_path: Path) -> None:
    (tmp_path / "vip.txt").write_text("ann@b.test\n")
    tests = [
        {"reverse_path": "ann@b.test", "expect": "accept"},
        {"reverse_path": "ann@b.test", "lists": {"vip": ["carl@b.test"]}, "expect": "nothing"},
        {"reverse_path": "carl@b.test", "lists": {"vip": ["carl@b.test"]}, "expect": "accept"},
        {"lists": {"vop": ["carl@b.test"]}, "expect": "nothing"},
        {"lists": {"vip": ["x"]}, "expect": "nothing"},
    ]
    group = a_group(a_context(tmp_path), {"kind": "addresses", "file": "vip.txt"}, {**RULE, "test": tests})
    problems = [trial.problem for trial in await group.trials()]
    assert problems[:4] == ["", "", "", "the test cannot be run: there is no list 'vop'"]
    assert "found 'x'; allowed: alice@example.org" in problems[4]
    assert not (tmp_path / "state").exists(), "nothing of a test is left"
    away = a_group(a_context(tmp_path), {"kind": "addresses", "url": "http://127.0.0.1:9/"}, {**RULE, "test": tests[:2]})
    first, second = await away.trials()
    assert "the list 'vip' could not be read yet: a test gives its entries in `lists`" in first.problem
    assert second.passed
