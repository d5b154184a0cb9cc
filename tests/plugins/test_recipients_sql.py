"""The plugin `recipients_sql`: a query, its parameters, what is remembered, and a database that is away."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Self, cast

import pytest
from pydantic import ValidationError

from gateway import Context, LookupFailedError, OptionError, Reject
from gateway.plugins.recipients_sql import Options, RecipientsSql
from gateway.testing import FakeContext, a_recipient, a_transaction, run_plugin

QUERY = "SELECT active FROM mailboxes WHERE address = :address"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    file = tmp_path / "mail.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE mailboxes (address TEXT PRIMARY KEY, active INTEGER)")
        connection.executemany(
            "INSERT INTO mailboxes VALUES (?, ?)",
            [("alice@example.org", 1), ("mary+jane@example.org", 1), ("gone@example.org", 0), ("o'brien@example.org", 1)],
        )
    connection.close()
    return file


def options(database: Path, **more: Any) -> Options:
    return Options.model_validate(
        {"url": f"sqlite+aiosqlite:///{database}", "query": QUERY, "domains": ["Example.org"], "remember": "5m", **more}
    )


async def verdict_on(mailbox: str, chosen: Options) -> Any:
    return (await run_plugin(RecipientsSql(chosen), transaction=a_transaction(recipients=[mailbox]))).verdict


@pytest.mark.parametrize(
    "mailbox",
    [
        "alice@example.org",
        "Alice@EXAMPLE.org",
        '"alice"@example.org',
        "alice+lists@example.org",
        "mary+jane@example.org",
        "o'brien@example.org",
        "postmaster@example.org",
        "anybody@elsewhere.example",
    ],
)
async def test_lets_pass_whom_the_query_knows_and_all_other_domains(database: Path, mailbox: str) -> None:
    assert await verdict_on(mailbox, options(database)) is None


@pytest.mark.parametrize(
    "mailbox", ["bob@example.org", "gone@example.org", "mary@example.org", '"\' OR 1=1 --"@example.org', "%@example.org"]
)
async def test_refuses_whom_it_does_not_know(database: Path, mailbox: str) -> None:
    verdict = await verdict_on(mailbox, options(database))
    assert isinstance(verdict, Reject)
    assert (verdict.code, verdict.enhanced, verdict.reason) == (550, "5.1.1", "unknown-recipient")


async def test_case_subaddress_and_the_other_parameters_are_options(database: Path) -> None:
    by_parts = "SELECT 1 FROM mailboxes WHERE address = :local_part || '@' || :domain"
    assert await verdict_on("alice@example.org", options(database, query=by_parts)) is None
    assert await verdict_on("Alice@example.org", options(database, case_sensitive=True)) is not None
    assert await verdict_on("alice+x@example.org", options(database, subaddress="")) is not None


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"query": "SELECT 1 FROM mailboxes WHERE address = :adress"}, ":adress"),
        ({"query": "SELECT 1"}, "found the parameters none"),
        ({"domains": []}, "domains"),
        ({"connections": 0}, "connections"),
    ],
)
def test_wrong_options_are_refused(database: Path, wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        options(database, **wrong)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("sqlite:///mail.db", "pysqlite, which would block"),
        ("nonsense", "no URL"),
        ("nosuch+driver://db/mail", "no URL"),
        ("mysql+aiomysql://db/mail", r"aiomysql, which is not installed"),
    ],
)
def test_a_url_that_cannot_serve_is_a_mistake_of_the_configuration(database: Path, url: str, why: str) -> None:
    with pytest.raises(OptionError, match=why):
        RecipientsSql(options(database, url=url))


class _Started:
    def __init__(self, chosen: Options) -> None:
        self.context = FakeContext()
        self.plugin = RecipientsSql(chosen, name="recipients_sql", context=cast("Context", self.context))

    async def __aenter__(self) -> Self:
        await self.plugin.startup(cast("Context", self.context))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.plugin.shutdown()

    async def knows(self, mailbox: str = "alice@example.org") -> bool:
        return await self.plugin.rcpt(a_recipient(mailbox)) is None


def change(database: Path, statement: str) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute(statement)
    connection.close()


async def test_answers_are_remembered_and_asked_for_again(database: Path) -> None:
    async with _Started(options(database)) as started:
        assert await started.knows()
        assert not await started.knows("bob@example.org")
        change(database, "DELETE FROM mailboxes WHERE address = 'alice@example.org'")
        change(database, "INSERT INTO mailboxes VALUES ('bob@example.org', 1)")
        assert await started.knows()
        assert not await started.knows("bob@example.org")
        started.context.clock.move(61)
        assert await started.knows("bob@example.org")
        started.context.clock.move(240)
        assert not await started.knows()


async def test_a_database_that_fails_is_a_fault_and_old_answers_serve(database: Path) -> None:
    async with _Started(options(database)) as started:
        assert await started.knows()
        change(database, "DROP TABLE mailboxes")
        started.context.clock.move(3_000)
        assert await started.knows()
        with pytest.raises(LookupFailedError, match="no such table"):
            await started.knows("bob@example.org")
        started.context.clock.move(3_600)
        with pytest.raises(LookupFailedError):
            await started.knows()


async def test_a_fault_is_what_on_error_says(database: Path) -> None:
    change(database, "DROP TABLE mailboxes")
    plugin = RecipientsSql(options(database))
    deferred = await run_plugin(plugin, transaction=a_transaction(recipients=["alice@example.org"]), on_error="defer")
    assert deferred.verdict is not None
    assert (deferred.verdict.reason, "no such table" in deferred.verdict.evidence) == ("plugin-error", True)
    plugin = RecipientsSql(options(database))
    ignored = await run_plugin(plugin, transaction=a_transaction(recipients=["alice@example.org"]), on_error="ignore")
    assert ignored.verdict is None


async def test_the_query_changes_nothing(database: Path) -> None:
    writing = "UPDATE mailboxes SET active = 1 WHERE :address <> '' RETURNING active"
    assert await verdict_on("alice@example.org", options(database, query=writing)) is None
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT active FROM mailboxes WHERE address = 'gone@example.org'").fetchone() == (0,)
    connection.close()
