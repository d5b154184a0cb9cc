"""The plugin `recipients_sql` with a real PostgreSQL behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from gateway import Context, LookupFailedError
from gateway.plugins.recipients_sql import Options, RecipientsSql
from gateway.testing import FakeContext, a_recipient
from tests.integration.postgresql import PASSWORD, RealPostgreSQL, programs

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def postgresql(require: Any) -> Iterator[RealPostgreSQL]:
    require(str((programs() or Path("/usr/lib/postgresql")) / "postgres"))
    with RealPostgreSQL() as server:
        server.execute(
            "CREATE TABLE mailboxes (local_part text, domain text, active bool, PRIMARY KEY (local_part, domain));"
            "INSERT INTO mailboxes VALUES ('alice', 'example.org', true), ('gone', 'example.org', false), ('zoë', 'example.org', true)"
        )
        yield server


def plugin_for(server: RealPostgreSQL, directory: Path, **more: Any) -> RecipientsSql:
    (directory / "password").write_text(f"{PASSWORD}\n")
    options = Options.model_validate(
        {
            "url": f"postgresql+asyncpg://mail@{server.host}:{server.port}/postgres",
            "password_file": "password",
            "query": "SELECT active FROM mailboxes WHERE local_part = :local_part AND domain = :domain",
            "domains": ["example.org"],
            "stale": 0,
            **more,
        }
    )
    return RecipientsSql(options, name="recipients_sql", context=cast("Context", FakeContext(base_directory=str(directory))))


async def test_it_asks_and_says_when_the_server_is_gone_and_back(postgresql: RealPostgreSQL, tmp_path: Path) -> None:
    plugin = plugin_for(postgresql, tmp_path)
    context = cast("FakeContext", plugin.context)
    await plugin.startup(plugin.context)
    try:
        known = [
            await plugin.rcpt(a_recipient(f"{name}@example.org")) is None for name in ("alice", "Alice", "zoë", "bob", "gone")
        ]
        assert known == [True, True, True, False, False]
        postgresql.stop()
        with pytest.raises(LookupFailedError) as failed:
            await plugin.rcpt(a_recipient("carol@example.org"))
        assert PASSWORD not in str(failed.value)
        assert await plugin.rcpt(a_recipient("alice@example.org")) is None  # remembered
        postgresql.start()
        context.clock.move(600)
        assert await plugin.rcpt(a_recipient("alice@example.org")) is None
    finally:
        await plugin.shutdown()


async def test_a_slow_query_ends_at_its_limit(postgresql: RealPostgreSQL, tmp_path: Path) -> None:
    slow = "SELECT true FROM pg_sleep(30) WHERE :address <> ''"
    plugin = plugin_for(postgresql, tmp_path, query=slow, query_limit="300ms", connections=1)
    await plugin.startup(plugin.context)
    try:
        with pytest.raises(LookupFailedError, match=r"no answer within 0\.3 s"):
            await plugin.rcpt(a_recipient("alice@example.org"))
    finally:
        await plugin.shutdown()


async def test_a_wrong_password_is_a_fault_that_shows_nothing_of_it(postgresql: RealPostgreSQL, tmp_path: Path) -> None:
    plugin = plugin_for(postgresql, tmp_path)
    (tmp_path / "password").write_text("wr0ng")
    await plugin.startup(plugin.context)
    try:
        with pytest.raises(LookupFailedError, match="password authentication failed") as failed:
            await plugin.rcpt(a_recipient("alice@example.org"))
        assert "wr0ng" not in str(failed.value)
    finally:
        await plugin.shutdown()
