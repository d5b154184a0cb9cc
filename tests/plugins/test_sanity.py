"""The plugin `sanity`: what HELO and reverse DNS of strangers give away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway import ClientClass, Defer, DnsAnswer, Fact, PluginError, Quarantine, Reject, Score
from gateway.plugins.iprev import Iprev
from gateway.plugins.sanity import Options, Sanity
from gateway.testing import TEMPFAIL, FakeContext, FakeResolver, Result, a_session, a_transaction, run_chain, run_plugin
from tests.generated import examples

ZONES: dict[str, Any] = {
    "192.0.2.1": {"PTR": ["mx.client.example"]},
    "mx.client.example": {"A": ["192.0.2.1"]},
    "client.example": {"MX": [[10, "mx.client.example"]]},
    "six.client.example": {"AAAA": ["2001:db8::1"]},
    "192.0.2.3": {"PTR": ["liar.example.net"]},
    "liar.example.net": {"A": ["192.0.2.66"]},
    "192.0.2.4": {"PTR": ["4-2-0-192.dsl.isp.example"]},
    "4-2-0-192.dsl.isp.example": {"A": ["192.0.2.4"]},
    "192.0.2.5": TEMPFAIL,
    "192.0.2.6": {"PTR": ["4.3.2.pool6.isp.example"]},
    "2001:db8::1": {"PTR": ["six.client.example"]},
    "broken.example": TEMPFAIL,
    "mx.example.org": {"A": ["203.0.113.1"]},
}


async def checked(helo: str = "mx.client.example", address: str = "192.0.2.1", **more: Any) -> Result:
    options = Options.model_validate(more.pop("options", {}))
    context = FakeContext(resolver=more.pop("resolver", None) or FakeResolver(ZONES))
    on_error = {"on_error": more.pop("on_error")} if "on_error" in more else {}
    facts = {"server_address": "203.0.113.1", **more}
    transaction = a_transaction(session=a_session(client_address=address, helo=helo, **facts))
    return await run_plugin(Sanity(options, name="sanity"), transaction=transaction, context=context, **on_error)


def scores(result: Result) -> dict[str, float]:
    return {one.symbol: one.weight for one in result.findings if isinstance(one, Score)}


@pytest.mark.parametrize(
    ("helo", "found"),
    [
        ("mx.client.example", {}),
        ("MX.Client.Example.", {}),
        ("client.example", {}),
        ("six.client.example", {}),
        ("[192.0.2.1]", {}),
        ("[IPv6:::ffff:192.0.2.1]", {}),
        ("mx.example.org", {"HELO_OWN_NAME": 3.0}),
        ("[203.0.113.1]", {"HELO_OWN_ADDRESS": 3.0}),
        ("203.0.113.1", {"HELO_OWN_ADDRESS": 3.0}),
        ("[198.51.100.1]", {"HELO_OTHER_ADDRESS": 2.0}),
        ("198.51.100.1", {"HELO_OTHER_ADDRESS": 2.0}),
        ("192.0.2.1", {"HELO_BARE_ADDRESS": 1.0}),
        ("[256.1.1.1]", {"HELO_SYNTAX": 1.0}),
        ("[x", {"HELO_SYNTAX": 1.0}),
        ("-a.example", {"HELO_SYNTAX": 1.0}),
        ("a..example", {"HELO_SYNTAX": 1.0}),
        ("1.2.3.4.5", {"HELO_SYNTAX": 1.0}),
        ("user@client.example", {"HELO_SYNTAX": 1.0}),
        ("localhost", {"HELO_SINGLE_LABEL": 0.5}),
        ("WIN-7A8B", {"HELO_SINGLE_LABEL": 0.5}),
        ("nowhere.example", {"HELO_UNKNOWN": 0.5}),
        ("1-2-0-192.dsl.isp.example", {"HELO_GENERIC": 0.5, "HELO_UNKNOWN": 0.5}),
        ("", {}),
    ],
)
async def test_helo(helo: str, found: dict[str, float]) -> None:
    result = await checked(helo)
    assert scores(result) == found
    assert result.verdict is None, "nothing is refused by default"


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("192.0.2.1", {}),
        ("2001:db8::1", {}),
        ("192.0.2.2", {"REVERSE_NONE": 1.0}),
        ("192.0.2.3", {"REVERSE_MISMATCH": 0.5}),
        ("192.0.2.4", {"REVERSE_GENERIC": 1.0}),
        ("192.0.2.6", {"REVERSE_MISMATCH": 0.5, "REVERSE_GENERIC": 1.0}),
        ("192.0.2.5", {}),
        ("", {}),
        ("unknown", {}),
    ],
)
@pytest.mark.parametrize("with_iprev", [False, True])
async def test_reverse_names(address: str, found: dict[str, float], with_iprev: bool) -> None:
    transaction = a_transaction(session=a_session(client_address=address, helo="mx.client.example"))
    before = [Iprev(name="iprev")] if with_iprev else []
    result = await run_chain([Sanity(name="sanity"), *before], transaction=transaction, context=FakeContext(zones=ZONES))
    assert scores(result) == found


async def test_what_iprev_found_is_not_looked_up_again() -> None:
    resolver = FakeResolver(ZONES)
    transaction = a_transaction(session=a_session(client_address="192.0.2.2", helo=""))
    await run_chain([Iprev(name="iprev"), Sanity(name="sanity")], transaction=transaction, context=FakeContext(resolver=resolver))
    assert resolver.queries == [("2.2.0.192.in-addr.arpa", "PTR")]


async def test_the_name_that_xclient_told_is_believed() -> None:
    assert scores(await checked(address="192.0.2.2", client_name="mx.client.example")) == {}


async def test_own_domains() -> None:
    for helo in ("ours.example", "mail.ours.example"):
        assert scores(await checked(helo, options={"own_domains": ["Ours.example"]})) == {"HELO_OWN_NAME": 3.0}
    assert scores(await checked("notours.example", options={"own_domains": ["ours.example"]})) == {"HELO_UNKNOWN": 0.5}
    with pytest.raises(ValidationError):
        Options(own_domains=("no domain",))


@pytest.mark.parametrize("word", ["allow", "accept", float("nan"), 2_000])
def test_what_is_no_cost(word: object) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate({"helo_syntax": word})


async def test_a_sign_that_costs_nothing_is_not_looked_for() -> None:
    resolver = FakeResolver(ZONES)
    result = await checked(
        "nowhere.example", resolver=resolver, options={"helo_unknown": 0, "reverse_none": 0}, address="192.0.2.2"
    )
    assert scores(result) == {}
    assert [kind for _, kind in resolver.queries] == ["PTR"]


async def test_verdicts_of_a_sign_and_of_the_total() -> None:
    verdict = (await checked("mx.example.org", options={"helo_own_name": "reject"})).verdict
    assert isinstance(verdict, Reject)
    assert (verdict.code, verdict.enhanced, verdict.reason) == (550, "5.7.1", "sanity-signs")
    assert verdict.text == "Refused: your HELO name is ours"
    assert verdict.evidence == "HELO mx.example.org is a name of ours"
    deferred = (await checked("mx.example.org", options={"helo_own_name": "defer"})).verdict
    assert isinstance(deferred, Defer)
    held = (await checked("localhost", address="192.0.2.2", options={"quarantine_at": 1.5, "box": "odd"})).verdict
    assert isinstance(held, Quarantine)
    assert held.box == "odd"
    assert (await checked("localhost", address="192.0.2.2", options={"quarantine_at": 1.6})).verdict is None


async def test_who_is_not_checked() -> None:
    bad = {"helo": "localhost", "address": "192.0.2.2"}
    for client in (ClientClass.AUTHENTICATED, ClientClass.TRUSTED):
        assert (await checked(**bad, client_class=client)).findings == ()
    assert scores(await checked(**bad, client_class=ClientClass.TRUSTED, options={"all_clients": True}))
    assert (await checked(**bad, options={"exempt": ["192.0.2.0/29"]})).findings == ()
    assert (await checked("localhost", "10.1.2.3")).findings == ()


@pytest.mark.parametrize(("helo", "address"), [("broken.example", "192.0.2.1"), ("mx.client.example", "192.0.2.5")])
async def test_a_failure_of_dns_is_no_sign(helo: str, address: str) -> None:
    result = await checked(helo, address, options={"reject_at": 0.1})
    assert (result.verdict, scores(result)) == (None, {})
    [told] = [one.value for one in result.findings if isinstance(one, Fact)]
    assert "temporary failure" in str(told)
    fault = {"reject_at": 0.1, "unanswered": "fault"}
    assert isinstance((await checked(helo, address, options=fault, on_error="defer")).verdict, Defer)
    assert (await checked(helo, address, options=fault, on_error="ignore")).verdict is None
    with pytest.raises(PluginError, match="DNS failed"):
        await checked(helo, address, options=fault)


async def test_a_slow_name_server_holds_up_nobody_past_the_limit() -> None:
    class Stuck(FakeResolver):
        async def query(self, name: str, kind: str) -> DnsAnswer:
            await asyncio.sleep(60)
            return await super().query(name, kind)

    result = await checked("localhost", resolver=Stuck({}), options={"time_limit": 0.02})
    assert scores(result) == {"HELO_SINGLE_LABEL": 0.5}
    assert [one.value for one in result.findings if isinstance(one, Fact)] == ["no answer of DNS within 0.02 s"]


async def test_names_are_a_strangers_text() -> None:
    zones = {"192.0.2.1": {"PTR": ["a\x07\r\nb.example.org", "x" * 250]}}
    result = await checked("h\x1b[31m\u202e.example", resolver=FakeResolver(zones), options={"reject_at": 0.1})
    for one in result.findings:
        text = getattr(one, "evidence", "") or str(getattr(one, "value", ""))
        assert text.isascii()
        assert text.isprintable()
    assert isinstance(result.verdict, Reject)


class Odd(FakeResolver):
    """Answers with any text."""

    def __init__(self, records: list[str]) -> None:
        super().__init__({})
        self.records = records

    async def query(self, name: str, kind: str) -> DnsAnswer:
        return DnsAnswer(name=name, kind=kind, records=tuple(self.records))


TEXT = st.text(max_size=40) | st.sampled_from(["[::", "[IPv6:fe80::1%x]", "192.0.2.1", "a.b", "x." * 130])


@examples(60)
@given(st.lists(TEXT, max_size=3), TEXT, TEXT, TEXT)
async def test_no_input_raises(records: list[str], helo: str, address: str, server: str) -> None:
    result = await checked(helo, address, resolver=Odd(records), server_address=server, options={"reject_at": 0.1})
    assert result.verdict is None or isinstance(result.verdict, Reject)
