"""The plugin `geoip`: facts from mmdb files made here, files that change or are none, and hostile records."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet  # type: ignore[import-untyped] # mmdb-writer's, without types
from pydantic import ValidationError

from gateway import Context, Fact
from gateway.plugins.geoip import Geoip, Options
from gateway.site_files import LOOK_AGAIN
from gateway.testing import FakeContext, a_session, a_transaction, run_plugin

NL: dict[str, Any] = {"country": {"iso_code": "NL"}, "continent": {"code": "EU"}}


def write(file: Path, networks: dict[str, Any], *, version: int = 6) -> Path:
    writer = MMDBWriter(ip_version=version, database_type="GeoLite2-City", ipv4_compatible=version == 6)
    for network, record in networks.items():
        writer.insert_network(IPSet([network]), record)
    fresh = file.with_suffix(".new")
    writer.to_db_file(str(fresh))
    fresh.replace(file)
    return file


async def facts(address: str, *files: Path, **more: Any) -> dict[str, Any]:
    options = Options.model_validate({"files": [str(file) for file in files], **more})
    done = await run_plugin(Geoip(options), transaction=a_transaction(session=a_session(client_address=address)))
    return {fact.name: fact.value for fact in done.findings if isinstance(fact, Fact)}


@pytest.mark.parametrize("address", ["192.0.2.1", "::ffff:192.0.2.1"])
async def test_tells_what_the_files_know(tmp_path: Path, address: str) -> None:
    countries = write(tmp_path / "country.mmdb", {"192.0.2.0/24": NL})
    owner = {"autonomous_system_number": 64500, "autonomous_system_organization": "Example\x1b[1m Net"}
    networks = write(tmp_path / "asn.mmdb", {"192.0.2.0/25": owner})
    assert await facts(address, countries, networks) == {
        "geoip.country": "NL",
        "geoip.continent": "EU",
        "geoip.asn": 64500,
        "geoip.organization": "Example\ufffd[1m Net",
    }


@pytest.mark.parametrize("address", ["198.51.100.1", "2001:db8::1", "", "fe80::1%eth0"])
async def test_of_an_address_that_is_not_there_nothing_is_said(tmp_path: Path, address: str) -> None:
    assert await facts(address, write(tmp_path / "country.mmdb", {"192.0.2.0/24": NL}), deny=["NL"]) == {}


async def test_ipv6_with_a_file_of_ipv4_is_a_problem_that_is_told(tmp_path: Path) -> None:
    found = await facts("2001:db8::1", write(tmp_path / "v4.mmdb", {"192.0.2.0/24": NL}, version=4))
    assert found["geoip.problem"].startswith("v4.mmdb: ")


@pytest.mark.parametrize(
    ("options", "listed"),
    [
        ({"deny": ["NL"]}, "deny"),
        ({"allow": ["NL"]}, "allow"),
        ({"allow": ["DE"]}, "deny"),
        ({"deny": ["DE"]}, None),
        ({"allow": ["BE"], "deny": ["DE"]}, None),
        ({}, None),
    ],
)
async def test_countries_are_listed(tmp_path: Path, options: dict[str, Any], listed: str | None) -> None:
    file = write(tmp_path / "country.mmdb", {"192.0.2.0/24": NL})
    assert (await facts("192.0.2.1", file, **options)).get("geoip.listed") == listed


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ({"registered_country": {"iso_code": "BE"}}, {"geoip.country": "BE"}),
        ({"country_code": "fr", "continent": "EU"}, {"geoip.country": "FR", "geoip.continent": "EU"}),
        ({"country": "DE"}, {"geoip.country": "DE"}),
        ({"country": {"iso_code": "DE\r\nX: y"}, "autonomous_system_number": 2**40 + 1}, {}),
        ({"country": {"iso_code": 5}, "autonomous_system_organization": 7, "continent": {}}, {}),
    ],
)
async def test_records_of_other_makers_and_of_nobody(tmp_path: Path, record: Any, found: dict[str, Any]) -> None:
    assert await facts("192.0.2.1", write(tmp_path / "any.mmdb", {"192.0.2.0/24": record})) == found


@pytest.mark.parametrize("octets", [b"", b"nothing", None])
async def test_a_file_that_is_none_stops_the_start(tmp_path: Path, octets: bytes | None) -> None:
    if octets is not None:
        (tmp_path / "bad.mmdb").write_bytes(octets)
    plugin = Geoip(Options(files=(str(tmp_path / "bad.mmdb"),)))
    with pytest.raises((ValueError, OSError), match=r"bad\.mmdb"):
        await plugin.startup(cast("Context", FakeContext()))


async def test_another_file_in_its_place_is_read_and_a_broken_one_is_not(tmp_path: Path) -> None:
    file = write(tmp_path / "country.mmdb", {"192.0.2.0/24": NL})
    context = FakeContext(base_directory=str(tmp_path))
    plugin = Geoip(Options(files=("country.mmdb",)), context=cast("Context", context))
    await plugin.startup(cast("Context", context))

    async def country() -> Any:
        transaction = a_transaction(session=a_session(client_address="192.0.2.1"))
        context.clock.move(LOOK_AGAIN + 1)
        plugin.check(transaction)
        await asyncio.gather(*context._tasks)
        return {fact.name: fact.value for fact in plugin.check(transaction)}["geoip.country"]

    assert await country() == "NL"
    write(file, {"192.0.2.0/24": {"country": {"iso_code": "DE"}}})
    assert await country() == "DE"
    (tmp_path / "torn").write_bytes(b"torn")
    (tmp_path / "torn").replace(file)
    assert await country() == "DE"
    assert [line[:2] for line in context.log.lines] == [("info", "plugin.file_reloaded"), ("warning", "plugin.file_unusable")]
    plugin.shutdown()


@pytest.mark.parametrize("wrong", [{"deny": ["nl"]}, {"allow": ["Netherlands"]}, {"files": []}])
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate({"files": ["x.mmdb"], **wrong})
