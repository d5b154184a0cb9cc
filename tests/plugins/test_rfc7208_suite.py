"""The RFC 7208 suite of openspf, each case through our bridge and our resolver, with DNS over real UDP and TCP on loopback."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.config.models import DnsConfig
from gateway.dns import CachingResolver
from gateway.plugins.spf.evaluation import evaluate, plain_address
from gateway.testing import StubDnsServer
from gateway.testing.dns_lies import TRUNCATED
from tests.rfc7208_suite import CASES, Case, Scenario, need_suite, scenarios


def test_the_suite_is_there() -> None:
    need_suite()
    assert sum(len(scenario.cases) for scenario in scenarios()) == CASES


CASE_LIST = [pytest.param(case, one.zones, id=case.name) for one in scenarios() for case in one.cases]
SCENARIO_LIST = [pytest.param(one, id=one.name.replace(" ", "-")) for one in scenarios()]


async def _miss(resolver: CachingResolver, case: Case) -> str | None:
    """What differs from the suite, or None."""
    local_part, domain = case.identity
    address = plain_address(case.client)
    assert address is not None
    found = await evaluate(resolver, address=address, local_part=local_part, domain=domain, helo=case.helo)
    if found.result not in case.allowed:
        return f"{found}, not {case.allowed}"
    if case.explanation is not None and found.explanation != case.explanation:
        return f"explanation {found.explanation!r}, not {case.explanation!r}"
    return None


@pytest.mark.parametrize(("case", "zones"), CASE_LIST)
async def test_case(case: Case, zones: dict[str, Any]) -> None:
    async with StubDnsServer(zones) as server:
        resolver = CachingResolver(DnsConfig(nameservers=(server.address,)))
        assert await _miss(resolver, case) is None
        await resolver.close()


@pytest.mark.parametrize("scenario", SCENARIO_LIST)
async def test_scenario_at_once_over_tcp(scenario: Scenario) -> None:
    """All cases of a scenario at the same time with one resolver, as in a busy worker; every answer over UDP is cut."""
    async with StubDnsServer(scenario.zones, misbehave=dict.fromkeys(scenario.zones, TRUNCATED)) as server:
        resolver = CachingResolver(DnsConfig(nameservers=(server.address,)))
        answers = await asyncio.gather(*(_miss(resolver, case) for case in scenario.cases))
        await resolver.close()
    assert {case.name: miss for case, miss in zip(scenario.cases, answers, strict=True) if miss is not None} == {}
    assert {transport for _, _, transport in server.queries} == {"udp", "tcp"}
