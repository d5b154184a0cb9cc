"""The plugin `recipients_ldap` with a real OpenLDAP behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from gateway import Context, LookupFailedError, Reject, use_forward_path
from gateway.plugins.recipients_ldap import Options, RecipientsLdap
from gateway.testing import FakeContext, a_recipient
from tests.integration.slapd import ADMIN, BASE, PASSWORD, RealSlapd

pytestmark = pytest.mark.real

PEOPLE = {
    "alice": ["alice@example.org", "sales@example.org"],
    "bob": ["bob@example.org", "team@example.org"],
    "carol": ["carol@example.org", "team@example.org"],
    "odd": ["a*(b)\\c@example.org"],
}


@pytest.fixture(scope="module")
def slapd(require: Any) -> Iterator[RealSlapd]:
    require("slapd")
    with RealSlapd(PEOPLE) as server:
        yield server


@pytest.fixture
async def started(slapd: RealSlapd, tmp_path: Path) -> AsyncIterator[Any]:
    plugins = []

    async def start(**more: Any) -> RecipientsLdap:
        (tmp_path / "password").write_text(f"{more.pop('password', PASSWORD)}\n")
        options = Options.model_validate(
            {
                "servers": [f"ldap://127.0.0.1:{slapd.port}"],
                "base": BASE,
                "filter": "(|(mail={address})(description=smtp:{address}))",
                "bind_dn": ADMIN,
                "password_file": "password",
                "domains": ["example.org"],
                "deliver_to": "mail",
                "stale": 0,
                **more,
            }
        )
        context = cast("Context", FakeContext(base_directory=str(tmp_path)))
        plugin = RecipientsLdap(options, name="recipients_ldap", context=context)
        plugin.startup(context)
        plugins.append(plugin)
        return plugin

    yield start
    for plugin in plugins:
        await plugin.shutdown()


async def asked(plugin: RecipientsLdap, mailbox: str) -> Any:
    return await plugin.rcpt(a_recipient(mailbox))


async def test_knows_people_and_leads_aliases_to_them(started: Any) -> None:
    plugin = await started()
    assert await asked(plugin, "Alice@example.org") is None
    assert await asked(plugin, "alice+lists@example.org") is None
    assert await asked(plugin, "sales@example.org") == use_forward_path("alice@example.org")
    assert await asked(plugin, "team@example.org") is None  # of two entries: the next hop's to say
    assert await asked(plugin, "postmaster@example.org") is None
    assert await asked(plugin, "dave@elsewhere.example") is None
    verdict = await asked(plugin, "dave@example.org")
    assert isinstance(verdict, Reject)
    assert (verdict.code, verdict.enhanced, verdict.reason) == (550, "5.1.1", "unknown-recipient")


@pytest.mark.parametrize("local_part", ["*", "al*", ")(uid=*", "*)(|(uid=alice", "\\2a", "alice\\00", "a*"])
async def test_what_a_client_names_is_never_a_part_of_the_filter(started: Any, local_part: str) -> None:
    written = local_part.replace("\\", "\\\\")
    assert isinstance(await asked(await started(), f'"{written}"@example.org'), Reject)


async def test_special_characters_are_found_as_they_are(started: Any) -> None:
    assert await asked(await started(), '"a*(b)\\\\c"@example.org') is None


async def test_the_next_server_is_asked_and_connections_are_used_again(started: Any, slapd: RealSlapd) -> None:
    plugin = await started(servers=["ldap://127.0.0.1:1", f"ldap://127.0.0.1:{slapd.port}"], connections=2)
    before = slapd.log().count("ACCEPT")
    await asyncio.gather(*(asked(plugin, f"user{n}@example.org") for n in range(20)))
    assert slapd.log().count("ACCEPT") - before <= 2


async def test_a_server_that_goes_is_a_fault_and_one_that_comes_back_is_asked(started: Any, slapd: RealSlapd) -> None:
    plugin = await started()
    assert await asked(plugin, "alice@example.org") is None
    slapd.stop()
    with pytest.raises(LookupFailedError, match="no server can be asked"):
        await asked(plugin, "bob@example.org")
    slapd.start()
    assert await asked(plugin, "bob@example.org") is None


@pytest.mark.parametrize(
    ("wrong", "why"),
    [({"password": "wr0ng"}, "invalidCredentials"), ({"base": "ou=nobody,dc=example,dc=org"}, "noSuchObject")],
)
async def test_what_the_directory_refuses_is_a_fault(started: Any, wrong: dict[str, str], why: str) -> None:
    with pytest.raises(LookupFailedError, match=why) as failed:
        await asked(await started(**wrong), "alice@example.org")
    assert "wr0ng" not in str(failed.value)
