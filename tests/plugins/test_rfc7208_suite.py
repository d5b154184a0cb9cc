"""The RFC 7208 suite of openspf, each case through our bridge and our resolver, with DNS over real UDP and TCP on loopback."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config.models import DnsConfig
from gateway.dns import CachingResolver
from gateway.plugins.spf.evaluation import evaluate, plain_address
from gateway.testing.dns_server import TRUNCATED, StubDnsServer

SUITES = Path(os.environ.get("MAILGATEWAY_SUITES") or Path(__file__).parents[2].parent / "shared" / "suites")
SUITE = SUITES / "rfc7208-tests.yml"
CASES = 203


def _as_zone(records: list[Any]) -> dict[str, Any]:
    """The suite's records in the form of the stub: SPF stands for TXT where there is no TXT; TIMEOUT is a failing server."""
    kinds: dict[str, list[Any]] = {}
    for record in records:
        if isinstance(record, str):
            continue
        for kind, value in record.items():
            kinds.setdefault(kind, []).append(value)
    spf = kinds.pop("SPF", [])
    if "TXT" not in kinds:
        kinds["TXT"] = spf
    zone: dict[str, Any] = {kind: [v for v in values if v != "NONE"] for kind, values in kinds.items()}
    if "TIMEOUT" in records:
        fails = dict.fromkeys(("A", "AAAA", "MX", "PTR", "TXT"), "TEMPFAIL")
        zone = fails | {kind: values for kind, values in zone.items() if values or kind != "TXT"}
        if "TXT" in kinds and not zone["TXT"]:
            zone["TXT"] = "TEMPFAIL"
    return zone


def _scenarios() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    if not SUITE.exists():
        return []
    documents = yaml.safe_load_all(SUITE.read_text())
    return [(d["description"], d["tests"], {name: _as_zone(r) for name, r in d["zonedata"].items()}) for d in documents]


SCENARIOS = _scenarios()


def test_the_suite_is_there() -> None:
    if not SUITE.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{SUITE} is missing, and in CI it must not be")
        pytest.skip(f"the RFC 7208 suite is not there: {SUITE} (MAILGATEWAY_SUITES names another place)")
    assert sum(len(tests) for _, tests, _ in SCENARIOS) == CASES


CASE_LIST = [pytest.param(case, zones, id=name) for _, tests, zones in SCENARIOS for name, case in tests.items()]


async def _miss(resolver: CachingResolver, case: dict[str, Any]) -> str | None:
    """What differs from the suite, or None."""
    mailfrom = case["mailfrom"] or f"postmaster@{case['helo']}"
    local_part, _, domain = mailfrom.rpartition("@")
    address = plain_address(case["host"])
    assert address is not None
    found = await evaluate(resolver, address=address, local_part=local_part, domain=domain, helo=case["helo"])
    allowed = case["result"] if isinstance(case["result"], list) else [case["result"]]
    if found.result not in allowed:
        return f"{found}, not {allowed}"
    expected = case.get("explanation", found.explanation)
    if found.explanation != ("" if expected == "DEFAULT" else expected):
        return f"explanation {found.explanation!r}, not {expected!r}"
    return None


@pytest.mark.parametrize(("case", "zones"), CASE_LIST)
async def test_case(case: dict[str, Any], zones: dict[str, Any]) -> None:
    async with StubDnsServer(zones) as server:
        resolver = CachingResolver(DnsConfig(nameservers=(server.address,)))
        assert await _miss(resolver, case) is None
        await resolver.close()


@pytest.mark.parametrize(("tests", "zones"), [s[1:] for s in SCENARIOS], ids=[s[0].replace(" ", "-") for s in SCENARIOS])
async def test_scenario_at_once_over_tcp(tests: dict[str, Any], zones: dict[str, Any]) -> None:
    """All cases of a scenario at the same time with one resolver, as in a busy worker; every answer over UDP is cut."""
    async with StubDnsServer(zones, misbehave=dict.fromkeys(zones, TRUNCATED)) as server:
        resolver = CachingResolver(DnsConfig(nameservers=(server.address,)))
        answers = await asyncio.gather(*(_miss(resolver, case) for case in tests.values()))
        await resolver.close()
    assert {name: miss for name, miss in zip(tests, answers, strict=True) if miss is not None} == {}
    assert {transport for _, _, transport in server.queries} == {"udp", "tcp"}
