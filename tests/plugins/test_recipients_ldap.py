"""The plugin `recipients_ldap`: its options, escaping, and a directory that is away. `tests/integration` asks a real one."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway import Context, OptionError
from gateway.plugins.recipients_ldap import Options, RecipientsLdap
from gateway.testing import FakeContext, a_recipient, a_transaction, run_plugin


def options(**more: Any) -> Options:
    return Options.model_validate({"servers": ["ldap://127.0.0.1:1"], "base": "dc=example", "domains": ["example.org"], **more})


@pytest.mark.parametrize(
    "wrong",
    [
        {"servers": []},
        {"servers": ["dc1.example.org"]},
        {"servers": ["http://dc1.example.org"]},
        {"servers": ["ldap://dc1.example.org/dc=example"]},
        {"filter": "(mail={adress})"},
        {"filter": "(mail=bob)"},
        {"filter": "(mail={address"},
        {"domains": []},
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        options(**wrong)


def test_a_filter_that_is_none_is_a_mistake_of_the_configuration() -> None:
    with pytest.raises(OptionError, match="RFC 4515"):
        RecipientsLdap(options(filter="(mail={address}"))


PLUGIN = RecipientsLdap(options(filter="(mail={address})"))


@given(st.text(max_size=40))
def test_nothing_that_a_client_names_ends_a_value(local_part: str) -> None:
    made = PLUGIN._filter(local_part, "example.org")
    assert made.startswith("(mail=")
    assert made.endswith("@example.org)")
    assert not set(made[6:-1]) & set("()*\0")  # RFC 4515 3


async def test_a_directory_that_is_away_is_what_on_error_says() -> None:
    done = await run_plugin(RecipientsLdap(options()), transaction=a_transaction(recipients=["a@example.org"]), on_error="defer")
    assert done.verdict is not None
    assert done.verdict.reason == "plugin-error"
    assert "no server can be asked" in done.verdict.evidence


async def test_a_directory_that_says_nothing_costs_its_limit() -> None:
    accepted: list[asyncio.StreamWriter] = []

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    chosen = options(servers=[f"ldap://127.0.0.1:{server.sockets[0].getsockname()[1]}"], query_limit="100ms")
    done = await run_plugin(RecipientsLdap(chosen), transaction=a_transaction(recipients=["a@example.org"]), on_error="ignore")
    assert done.verdict is None
    assert any("no answer within 0.1 s" in step["evidence"] for step in done.trace)
    for writer in accepted:
        writer.close()
        await writer.wait_closed()
    server.close()


async def test_shutdown_waits_for_searches_under_way_so_that_no_connection_is_left() -> None:
    accepted: list[asyncio.StreamWriter] = []
    asked = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        await reader.read(1)
        asked.set()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    context = cast("Context", FakeContext())
    chosen = options(servers=[f"ldap://127.0.0.1:{server.sockets[0].getsockname()[1]}"], query_limit="1s")
    plugin = RecipientsLdap(chosen, name="under-way", context=context)
    plugin.startup(context)
    waiting = asyncio.get_running_loop().create_task(plugin.rcpt(a_recipient("a@example.org")))
    await asked.wait()
    await plugin.shutdown()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("under-way")]
    for writer in accepted:
        writer.close()
        await writer.wait_closed()
    server.close()
