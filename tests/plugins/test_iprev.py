"""The plugin `iprev`: results of RFC 8601 2.7.3, limits, verdicts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway import AuthResult, ClientClass, Defer, DnsAnswer, Quarantine, Reject
from gateway.plugins.iprev import Iprev, IprevFinding, Options
from gateway.testing import FakeContext, FakeResolver, Result, a_session, a_transaction, run_plugin

ZONES: dict[str, Any] = {
    "192.0.2.1": {"PTR": ["MX.example.org."]},
    "mx.example.org": {"A": ["192.0.2.66", "192.0.2.1"], "AAAA": ["2001:db8::1"]},
    "2001:db8::1": {"PTR": ["mx.example.org"]},
    "192.0.2.2": {"PTR": ["liar.example.org", "gone.example.org"]},
    "liar.example.org": {"A": ["192.0.2.66"], "AAAA": ["::ffff:192.0.2.2"]},
    "192.0.2.3": {"PTR": ["dead.example.org", "liar.example.org"]},
    "192.0.2.4": "TEMPFAIL",
    "192.0.2.5": {"PTR": ["dead.example.org", "five.example.org"]},
    "five.example.org": {"A": ["192.0.2.5"]},
    "dead.example.org": "TEMPFAIL",
    "192.0.2.6": {"PTR": ["alias.example.org"]},
    "alias.example.org": {"CNAME": ["real.example.org"]},
    "real.example.org": {"A": ["192.0.2.6"]},
    "192.0.2.7": {"PTR": [".", "a\x07\r\nb.example.org", "x" * 70 + ".example"]},
    "192.0.2.8": {"A": ["192.0.2.8"]},
}


async def checked(address: str, zones: dict[str, Any] = ZONES, **more: Any) -> Result:
    options = Options(**more.pop("options", {}))
    resolver = more.pop("resolver", None) or FakeResolver(zones)
    transaction = a_transaction(session=a_session(client_address=address, **more))
    return await run_plugin(Iprev(options, name="iprev"), transaction=transaction, context=FakeContext(resolver=resolver))


def only(result: Result) -> IprevFinding:
    [finding] = result.findings
    assert isinstance(finding, IprevFinding)
    assert finding.method == "iprev"
    return finding


@pytest.mark.parametrize(
    ("address", "result", "reason"),
    [
        ("192.0.2.1", "pass", "mx.example.org leads back to 192.0.2.1"),
        ("2001:DB8::1", "pass", "mx.example.org leads back to 2001:db8::1"),
        ("2001:db8::1%eth0", "pass", "mx.example.org leads back to 2001:db8::1"),
        ("::ffff:192.0.2.1", "pass", "mx.example.org leads back to 192.0.2.1"),
        ("192.0.2.2", "fail", "names of 192.0.2.2, none of which leads back: liar.example.org, gone.example.org"),
        ("192.0.2.3", "temperror", "dead.example.org A: temporary failure"),
        ("192.0.2.4", "temperror", "4.2.0.192.in-addr.arpa PTR: temporary failure"),
        ("192.0.2.5", "pass", "five.example.org leads back to 192.0.2.5"),
        ("192.0.2.6", "pass", "alias.example.org leads back to 192.0.2.6"),
        ("192.0.2.8", "permerror", "192.0.2.8 has no name"),
        ("192.0.2.9", "permerror", "192.0.2.9 has no name"),
        ("2001:db8::2", "permerror", "2001:db8::2 has no name"),
    ],
)
async def test_results(address: str, result: str, reason: str) -> None:
    found = only(await checked(address))
    assert (found.result, found.reason) == (result, reason)
    [(name, value)] = found.properties
    assert (name, value) == ("policy.iprev", reason.rsplit(maxsplit=1)[-1] if result == "pass" else address)
    assert found.name == (reason.split(maxsplit=1)[0] if result == "pass" else "")


async def test_names_are_a_strangers_text() -> None:
    found = only(await checked("192.0.2.7"))
    assert found.result == "fail"
    assert found.reason.isascii()
    assert found.reason.isprintable()
    long = only(await checked("192.0.2.1", {"192.0.2.1": {"PTR": [f"{'x' * 60}{n}.example" for n in range(10)]}}))
    assert len(long.reason) == 200


@pytest.mark.parametrize(("max_names", "result"), [(10, "fail"), (11, "pass")])
async def test_names_are_counted(max_names: int, result: str) -> None:
    zones: dict[str, Any] = {"192.0.2.1": {"PTR": [f"n{n}.example" for n in range(11)]}, "n10.example": {"A": ["192.0.2.1"]}}
    resolver = FakeResolver(zones)
    found = only(await checked("192.0.2.1", resolver=resolver, options={"max_names": max_names}))
    assert found.result == result
    assert len(resolver.queries) == 1 + max_names
    assert ("the first 10 of 11" in found.reason) == (result == "fail")


async def test_addresses_are_counted() -> None:
    zones: dict[str, Any] = {"192.0.2.1": {"PTR": ["many.example"]}, "many.example": {"A": ["192.0.2.66"] * 100 + ["192.0.2.1"]}}
    assert only(await checked("192.0.2.1", zones)).result == "fail"


async def test_the_time_is_for_all_look_ups_together() -> None:
    class Slow(FakeResolver):
        async def query(self, name: str, kind: str) -> DnsAnswer:
            answer = await super().query(name, kind)
            await asyncio.sleep(0.03)
            return answer

    resolver = Slow({"192.0.2.1": {"PTR": [f"n{n}.example" for n in range(9)]}})
    found = only(await checked("192.0.2.1", resolver=resolver, options={"time_limit": 0.05}))
    assert (found.result, found.reason) == ("temperror", "the time for the look-ups is over")
    assert len(resolver.queries) == 2


async def test_the_time_ends_before_that_of_the_hook() -> None:
    class Stuck(FakeResolver):
        async def query(self, name: str, kind: str) -> DnsAnswer:
            await asyncio.sleep(60)
            return await super().query(name, kind)

    plugin = Iprev(name="iprev")
    assert plugin.options.time_limit > 1
    result = await run_plugin(plugin, transaction=a_transaction(), context=FakeContext(resolver=Stuck({})), timeout=1.0)
    assert only(result).result == "temperror"


@pytest.mark.parametrize("address", ["", "unknown", "/run/socket", "192.0.2.1.5"])
async def test_a_client_without_an_address_gives_no_finding(address: str) -> None:
    found = await checked(address, options={"require": "reject"})
    assert (found.findings, found.verdict) == ((), None)


@pytest.mark.parametrize("client_class", [ClientClass.AUTHENTICATED, ClientClass.TRUSTED])
async def test_own_clients_are_not_checked_unless_asked_for(client_class: ClientClass) -> None:
    found = await checked("192.0.2.2", client_class=client_class, options={"require": "reject"})
    assert (found.findings, found.verdict) == ((), None)
    options = {"require": "reject", "all_clients": True}
    assert isinstance((await checked("192.0.2.2", client_class=client_class, options=options)).verdict, Reject)


async def test_nothing_is_refused_by_default() -> None:
    for last in range(1, 10):
        assert (await checked(f"192.0.2.{last}")).verdict is None


async def test_require_reject() -> None:  # RFC 7372 3.3
    for address, result in (("192.0.2.2", "fail"), ("192.0.2.9", "permerror")):
        verdict = (await checked(address, options={"require": "reject"})).verdict
        assert isinstance(verdict, Reject)
        assert (verdict.code, verdict.enhanced, verdict.reason) == (550, "5.7.25", f"iprev-{result}")
        assert verdict.text == f"No name of your address leads back to it: {address}"
    assert (await checked("192.0.2.1", options={"require": "reject"})).verdict is None


@pytest.mark.parametrize(("require", "address"), [("reject", "192.0.2.4"), ("defer", "192.0.2.4"), ("defer", "192.0.2.9")])
async def test_a_failure_of_dns_refuses_nothing_for_good(require: str, address: str) -> None:
    verdict = (await checked(address, options={"require": require})).verdict
    assert isinstance(verdict, Defer)
    assert (verdict.code, verdict.enhanced) == (451, "4.7.25")


async def test_require_quarantine() -> None:
    verdict = (await checked("192.0.2.9", options={"require": "quarantine", "box": "nameless"})).verdict
    assert isinstance(verdict, Quarantine)
    assert (verdict.box, verdict.reason) == ("nameless", "iprev-permerror")


async def test_the_finding_is_one_of_authentication() -> None:
    result = await checked("192.0.2.1")
    assert [one.method for one in result.transaction.findings.of(AuthResult)] == ["iprev"]
