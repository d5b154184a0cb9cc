"""The plugin `uribl`: which names of a message are asked about, what listings weigh, lists that fail."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway import ClientClass, Defer, DnsAnswer, DnsError, Fact, PluginError, Quarantine, Reject, Score
from gateway.plugins.uribl import Options, Uribl
from gateway.testing import TEMPFAIL, FakeContext, FakeResolver, Result, a_message, a_session, a_transaction, run_plugin
from tests.generated import examples

MULTI, IPS, MAILBOXES = "multi.example", "ips.example", "ebl.example"
EVIL = hashlib.sha1(b"evil@free.example", usedforsecurity=False).hexdigest()
ZONES: dict[str, Any] = {
    f"shop.test.{MULTI}": {"A": ["127.0.0.24"], "TXT": ["phish\x1b[31m"]},
    f"other.test.{MULTI}": {"A": ["127.0.0.64"]},
    f"co.uk.{MULTI}": {"A": ["127.0.0.8"]},
    f"shop.co.uk.{MULTI}": {"A": ["127.0.0.8"]},
    f"quota.test.{MULTI}": {"A": ["127.255.255.255"]},
    f"broken.test.{MULTI}": TEMPFAIL,
    f"w3.org.{MULTI}": {"A": ["127.0.0.8"]},
    f"1.2.0.192.{IPS}": {"A": ["127.0.0.2"]},
    f"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.{IPS}": {"A": ["127.0.0.2"]},
    f"{EVIL}.{MAILBOXES}": {"A": ["127.0.0.2"]},
    f"test.{MULTI}": {"A": ["127.0.0.2"]},
    f"2.0.0.127.{IPS}": {"A": ["127.0.0.2"]},
}
LISTS: list[dict[str, Any]] = [
    {"zone": MULTI, "symbol": "MULTI", "weights": {"127.0.0.&8": 3, "127.0.0.&16": 2, "127.0.0.&64": 1.5}},
    {"zone": IPS, "of": ["address"], "weight": 2},
    {"zone": MAILBOXES, "of": ["mailbox"], "weight": 4},
]


async def checked(body: str = "", zones: dict[str, Any] = ZONES, **more: Any) -> Result:
    options = Options.model_validate({"lists": LISTS, "probe": 0, **more.pop("options", {})})
    resolver = more.pop("resolver", None) or FakeResolver(zones)
    on_error = {"on_error": more.pop("on_error")} if "on_error" in more else {}
    session = a_session(client_class=more.pop("client_class", None))
    message = more.pop("message", None) or a_message(body=body, **more)
    context = FakeContext(resolver=resolver)
    return await run_plugin(
        Uribl(options, name="uribl"), transaction=a_transaction(session=session), message=message, context=context, **on_error
    )


def scores(result: Result) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in result.findings:
        if isinstance(one, Score):
            found[one.symbol] = found.get(one.symbol, 0.0) + one.weight
    return found


def fact(result: Result, name: str) -> str:
    return next((str(one.value) for one in result.findings if isinstance(one, Fact) and one.name == f"uribl.{name}"), "")


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("nothing here", {}),
        ("see https://www.example.org/", {}),
        ("see https://a.b.shop.test/x and http://SHOP.test.", {"MULTI": 5.0}),
        ("see http://shop.co.uk/", {"MULTI": 3.0}),
        ("see http://else.co.uk/", {}),
        ("https://shop.test/ https://other.test/", {"MULTI": 5.0}),
        ("https://other.test/ https://shop.test/", {"MULTI": 5.0}),
        ("http://192.0.2.1/x http://0xC0000201/", {"URIBL_IPS_EXAMPLE": 2.0}),
        ("http://[2001:db8::1]/", {"URIBL_IPS_EXAMPLE": 2.0}),
        ("http://127.0.0.1/ http://[::1]/", {}),
        ("http://www.w3.org/TR/", {}),
        ("http://good.test@shop.test/ http:\\\\www.other.test\\x", {"MULTI": 5.0}),
        ("https://www.google.com/url?q=https%3A%2F%2Fshop.test%2Fx", {"MULTI": 5.0}),
        ("http://quota.test/", {}),
        ("http://broken.test/", {}),
    ],
)
async def test_scores(body: str, found: dict[str, float]) -> None:
    result = await checked(body)
    assert scores(result) == found
    assert result.verdict is None, "nothing is refused without a threshold"


async def test_links_of_html_count() -> None:
    page = '<a href="https://click.shop.test/x">bank.example</a><img src="//192.0.2.1/y">'
    assert scores(await checked("hello", html=page)) == {"MULTI": 5.0, "URIBL_IPS_EXAMPLE": 2.0}


async def test_each_list_weighs_once_and_names_what_it_has() -> None:
    result = await checked("https://shop.test/ https://other.test/ https://shop.co.uk/", options={"reject_at": 5})
    weights = {one.evidence: one.weight for one in result.findings if isinstance(one, Score)}
    assert weights == {
        "shop.test is listed by multi.example (127.0.0.24)": 5.0,
        "other.test is listed by multi.example (127.0.0.64)": 0.0,
        "shop.co.uk is listed by multi.example (127.0.0.8)": 0.0,
    }
    verdict = result.verdict
    assert isinstance(verdict, Reject)
    assert (verdict.code, verdict.enhanced, verdict.reason) == (550, "5.7.1", "uribl-listed")
    assert verdict.text == "Refused: shop.test is listed by multi.example"


async def test_the_whole_domain_where_that_is_asked_for() -> None:
    zones = {f"a.shop.test.{MULTI}": {"A": ["127.0.0.2"]}}
    for level, found in (("whole", {"URIBL_MULTI_EXAMPLE": 1.0}), ("registrable", {})):
        result = await checked("https://a.shop.test/", zones, options={"lists": [{"zone": MULTI, "level": level}]})
        assert scores(result) == found


@pytest.mark.parametrize(
    "parts",
    [
        {"from_": "x <Evil@Free.example>"},
        {"headers": [("Reply-To", "Helper <evil@FREE.example>")]},
        {"html": '<a href="mailto:evil%40free.example?subject=hi">write</a>'},
    ],
)
async def test_hashes_of_mailboxes(parts: dict[str, Any]) -> None:
    result = await checked("hello", **parts)
    assert scores(result) == {"URIBL_EBL_EXAMPLE": 4.0}
    [score] = [one for one in result.findings if isinstance(one, Score)]
    assert score.evidence == "evil@free.example is listed by ebl.example (127.0.0.2)"


async def test_names_are_counted_from_both_ends() -> None:
    many = " ".join(f"https://n{number}.test/" for number in range(40))
    resolver = FakeResolver(ZONES)
    result = await checked(f"{many} https://shop.test/", resolver=resolver, options={"max_names": 10, "lists": LISTS[:1]})
    asked = [name.removesuffix(f".{MULTI}") for name, _ in resolver.queries]
    assert asked[:10] == [*(f"n{n}.test" for n in (0, 1, 2, 3, 4, 36, 37, 38, 39)), "shop.test"]
    assert fact(result, "not_asked") == "31"
    exact = await checked(many, options={"max_names": 40, "lists": LISTS[:1]})
    assert fact(exact, "not_asked") == ""


async def test_exempt_domains_are_not_asked_about() -> None:
    resolver = FakeResolver(ZONES)
    await checked(
        "https://a.shop.test/ https://notshop.test", resolver=resolver, options={"exempt": ["Shop.test"], "lists": LISTS[:1]}
    )
    assert [name for name, _ in resolver.queries] == [f"notshop.test.{MULTI}"]
    with pytest.raises(ValidationError):
        Options(exempt=("no domain",))


@pytest.mark.parametrize("weights", [{"weight": "allow"}, {"weights": {"127.0.0.2": "allow"}}])
def test_no_list_of_urls_allows(weights: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="anybody can write a good URL"):
        Options.model_validate({"lists": [{"zone": MULTI, **weights}]})


async def test_who_is_not_checked() -> None:
    for client in (ClientClass.AUTHENTICATED, ClientClass.TRUSTED):
        assert (await checked("https://shop.test/", client_class=client)).findings == ()
    assert scores(await checked("https://shop.test/", client_class=ClientClass.TRUSTED, options={"all_clients": True})) == {
        "MULTI": 5.0
    }


async def test_thresholds() -> None:
    for options, kind in (({"quarantine_at": 5}, Quarantine), ({"defer_at": 5}, Defer), ({"reject_at": 5.1}, type(None))):
        assert isinstance((await checked("https://shop.test/", options=options)).verdict, kind)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("https://quota.test", "multi.example: answers 127.255.255.255: it refuses to be asked"),
        ("https://broken.test", "multi.example: temporary failure"),
    ],
)
async def test_what_is_no_answer_is_a_fault_and_no_listing(body: str, why: str) -> None:
    result = await checked(body, options={"reject_at": 1})
    assert (result.verdict, fact(result, "unanswered")) == (None, why)
    options = {"reject_at": 1, "unanswered": "fault"}
    assert isinstance((await checked(body, options=options, on_error="defer")).verdict, Defer)
    assert (await checked(body, options=options, on_error="ignore")).verdict is None
    with pytest.raises(PluginError, match="could change the verdict"):
        await checked(body, options=options)


async def test_a_list_that_lists_everything_is_not_believed() -> None:
    """RFC 5782 5."""
    result = await checked("https://shop.test/", {**ZONES, f"invalid.{MULTI}": {"A": ["127.0.0.8"]}}, options={"reject_at": 1})
    assert (result.verdict, scores(result)) == (None, {})


async def test_a_slow_list_holds_up_nobody_past_the_limit() -> None:
    class Stuck(FakeResolver):
        async def query(self, name: str, kind: str) -> DnsAnswer:
            await asyncio.sleep(60)
            return await super().query(name, kind)

    result = await checked("https://shop.test/", resolver=Stuck({}), options={"time_limit": 0.02})
    assert "no answer within 0.02 s" in fact(result, "unanswered")


async def test_test_entries_are_looked_at() -> None:
    context = FakeContext(zones={})
    plugin = Uribl(Options.model_validate({"lists": LISTS}), name="uribl", context=context)
    await plugin.startup(context)
    for _ in range(20):
        await asyncio.sleep(0)
    told = [facts["zone"] for _, event, facts in context.log.lines if event == "plugin.list_unusable"]
    assert told == [MULTI, IPS], "lists of hashes have no such entry"


class Odd(FakeResolver):
    """Answers with any text, or not at all."""

    def __init__(self, records: list[str]) -> None:
        super().__init__({})
        self.records = records

    async def query(self, name: str, kind: str) -> DnsAnswer:
        if not self.records:
            raise DnsError(name, kind, "x" * 500)
        return DnsAnswer(name=name, kind=kind, records=tuple(self.records) if kind == "A" else ((b"\xff\r\n" * 100,),))


TEXT = st.text(max_size=30) | st.sampled_from(
    ["127.0.0.2", "http://a.test/", "//[::", "mailto:@", "http://[v1.x]/", "Reply-To: <@"]
)


@examples(60)
@given(st.lists(TEXT, max_size=3), st.lists(TEXT, max_size=8))
async def test_no_input_raises(records: list[str], pieces: list[str]) -> None:
    octets = "\r\n".join(pieces).encode("utf-8", "replace") + b"\r\n\r\n" + "http://".join(pieces).encode("utf-8", "replace")
    lists = [{"zone": MULTI, "explain": True, "of": ["domain", "address", "mailbox"]}]
    result = await checked(message=a_message(octets), resolver=Odd(records), options={"lists": lists, "reject_at": 1})
    assert result.verdict is None or isinstance(result.verdict, Reject)
