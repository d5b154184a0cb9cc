"""The plugin `spf`: findings, verdicts, the bridge to pyspf and the guards around it. The rules of SPF are in the RFC 7208 suite."""

from __future__ import annotations

import asyncio
import contextvars
import time
from typing import Any

import pytest
import spf

from gateway import AuthResult, ClientClass, Defer, DnsAnswer, Quarantine, Reject
from gateway.plugins.spf import Options, Spf
from gateway.plugins.spf.bridge import run, wait
from gateway.plugins.spf.domains import MAX_EXPLANATION, clean, multi_label
from gateway.plugins.spf.evaluation import SpfResult, evaluate, plain_address
from gateway.plugins.spf.record import MAX_RECORD, MAX_TERM
from gateway.testing import FakeContext, FakeResolver, Result, a_session, a_transaction, run_plugin

ZONES: dict[str, Any] = {
    "pass.example": {"TXT": ["v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all"]},
    "fail.example": {"TXT": ["v=spf1 -all exp=why.fail.example"]},
    "why.fail.example": {"TXT": ["See http://fail.example/%{i}"]},
    "soft.example": {"TXT": ["v=spf1 ~all"]},
    "neutral.example": {"TXT": ["v=spf1 ?all"]},
    "wrong.example": {"TXT": ["v=spf1 nonsense:here -all"]},
    "dead.example": "TEMPFAIL",
    "none.example": {"A": ["192.0.2.1"]},
    "client.example": {"TXT": ["v=spf1 ip4:192.0.2.1 -all"]},
    "xn--bcher-kva.example": {"TXT": ["v=spf1 ip4:192.0.2.1 -all"]},
}
RESULTS = {
    "pass.example": "pass",
    "fail.example": "fail",
    "soft.example": "softfail",
    "neutral.example": "neutral",
    "wrong.example": "permerror",
    "dead.example": "temperror",
    "none.example": "none",
}


async def checked(reverse_path: str, zones: dict[str, Any] = ZONES, *, helo: str = "client.example", **session: Any) -> Result:
    options = Options(**session.pop("options", {}))
    transaction = a_transaction(reverse_path=reverse_path, session=a_session(helo=helo, **session))
    return await run_plugin(Spf(options, name="spf"), transaction=transaction, context=FakeContext(zones=zones))


def by_property(result: Result) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for finding in result.findings:
        assert isinstance(finding, AuthResult)
        assert finding.method == "spf"
        ((name, value),) = finding.properties
        found[name] = (finding.result, value)
    return found


async def of(
    txt: list[Any] | Any, *, zones: dict[str, Any] | None = None, local_part: str = "a", address: str = "192.0.2.1", **more: Any
) -> SpfResult:
    resolver = FakeResolver({"d.example": {"TXT": txt}, **(zones or {})})
    return await evaluate(resolver, address=address, local_part=local_part, domain="d.example", helo="h.example", **more)


@pytest.mark.parametrize(("domain", "result"), RESULTS.items())
async def test_both_identities_are_reported_and_nothing_is_refused_by_default(domain: str, result: str) -> None:
    found = await checked(f"alice@{domain}")
    assert by_property(found) == {"smtp.mailfrom": (result, f"alice@{domain}"), "smtp.helo": ("pass", "client.example")}
    assert found.verdict is None


async def test_the_null_reverse_path_is_postmaster_at_the_helo_name() -> None:
    found = await checked("", helo="fail.example")
    assert by_property(found) == {"smtp.mailfrom": ("fail", "postmaster@fail.example"), "smtp.helo": ("fail", "fail.example")}


@pytest.mark.parametrize("helo", ["localhost", "[192.0.2.1]", "", "a" * 64 + ".example", "ü" * 300, "x..example"])
async def test_a_helo_name_that_is_no_domain_gives_none(helo: str) -> None:
    assert by_property(await checked("alice@pass.example", helo=helo))["smtp.helo"][0] == "none"
    assert by_property(await checked("", helo=helo))["smtp.mailfrom"][0] == "none"


@pytest.mark.parametrize("address", ["", "unknown", "/run/socket", "192.0.2.1.5"])
async def test_a_client_without_an_address_gives_no_finding(address: str) -> None:
    assert (await checked("alice@fail.example", client_address=address)).findings == ()


@pytest.mark.parametrize("address", ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::7", "2001:db8::7%eth0"])
async def test_every_form_of_an_address(address: str) -> None:
    assert by_property(await checked("alice@pass.example", client_address=address))["smtp.mailfrom"][0] == "pass"


@pytest.mark.parametrize("client_class", [ClientClass.AUTHENTICATED, ClientClass.TRUSTED])
async def test_own_clients_are_not_checked_unless_asked_for(client_class: ClientClass) -> None:
    assert (await checked("alice@fail.example", client_class=client_class)).findings == ()
    assert len((await checked("alice@fail.example", client_class=client_class, options={"all_clients": True})).findings) == 2


async def test_u_labels_become_a_labels() -> None:
    found = by_property(await checked("alice@bücher.example"))
    assert found["smtp.mailfrom"] == ("pass", "alice@xn--bcher-kva.example")


async def test_an_at_sign_in_a_quoted_local_part_splits_nothing() -> None:
    assert by_property(await checked('"a@fail.example"@pass.example'))["smtp.mailfrom"][0] == "pass"


@pytest.mark.parametrize(
    ("local_part", "shown"),
    [('"a b"', "a b"), ('"a\\"b"', 'a"b'), ("ab", "ab"), ('"', '"'), ('""', "postmaster"), ("", "postmaster")],
)
async def test_macros_have_a_quoted_local_part_without_its_quotes(local_part: str, shown: str) -> None:
    zones = {"why.example": {"TXT": ["%{l}!"]}}
    assert (await of(["v=spf1 -all exp=why.example"], zones=zones, local_part=local_part)).explanation == f"{shown}!"


@pytest.mark.parametrize(
    ("domain", "enhanced"), [("fail.example", "5.7.23"), ("soft.example", "5.7.23"), ("wrong.example", "5.7.24")]
)
async def test_reject_by_option(domain: str, enhanced: str) -> None:
    result = RESULTS[domain]
    verdict = (await checked(f"alice@{domain}", options={result: "reject"})).verdict
    assert isinstance(verdict, Reject)
    assert (verdict.code, verdict.enhanced, verdict.reason) == (550, enhanced, f"spf-{result}")
    assert verdict.text.startswith(f"SPF MAIL FROM check: {result} for {domain}")


async def test_the_domains_own_explanation_is_in_the_reply() -> None:
    verdict = (await checked("alice@fail.example", options={"fail": "reject"})).verdict
    assert isinstance(verdict, Reject)
    assert verdict.text == "SPF MAIL FROM check: fail for fail.example; the domain explains: See http://fail.example/192.0.2.1"


async def test_defer_and_quarantine_by_option() -> None:
    deferred = (await checked("alice@dead.example", options={"temperror": "defer"})).verdict
    assert isinstance(deferred, Defer)
    assert (deferred.code, deferred.enhanced, deferred.reason) == (451, "4.4.3", "spf-temperror")
    held = (await checked("alice@soft.example", options={"softfail": "quarantine", "box": "spoofed"})).verdict
    assert isinstance(held, Quarantine)
    assert (held.box, held.reason) == ("spoofed", "spf-softfail")


async def test_the_helo_identity_has_an_option_of_its_own() -> None:
    found = await checked("alice@pass.example", helo="fail.example", options={"fail": "quarantine", "helo_fail": "reject"})
    assert isinstance(found.verdict, Reject)
    assert found.verdict.text.startswith("SPF HELO check: fail for fail.example")
    assert (await checked("alice@pass.example", helo="fail.example", options={"fail": "reject"})).verdict is None


@pytest.mark.parametrize(
    "explanation",
    [b"no\r\n250 2.0.0 ok inject", b"a\x00b\x1b[31mred", b"x" * 900, b"tab\there", b"~" * MAX_EXPLANATION, b"%_%_%_"],
)
async def test_an_explanation_is_one_bounded_line(explanation: bytes) -> None:
    found = await of(["v=spf1 -all exp=e.example"], zones={"e.example": {"TXT": [explanation]}})
    assert found.result == "fail"
    assert len(found.explanation) <= MAX_EXPLANATION
    assert all(" " <= c <= "~" for c in found.explanation)


@pytest.mark.parametrize("explanation", [b"caf\xc3\xa9", b"x" * 1_025, b"%{x}", b"%"])
async def test_an_explanation_that_cannot_be_used_is_left_out(explanation: bytes) -> None:
    assert await of(["v=spf1 -all exp=e.example"], zones={"e.example": {"TXT": [explanation]}}) == SpfResult(
        result="fail", domain="d.example", mechanism="-all", path=(("d.example", "-all"),)
    )


def _filled(octets: int) -> str:
    record = "v=spf1 ip4:192.0.2.1"
    while len(record) < octets:
        record += f" x{len(record)}="
        record += "y" * min(100, octets - len(record))
    record = record[:octets]
    assert len(record) == octets
    return record


@pytest.mark.parametrize(
    ("record", "result"),
    [
        ("v=spf1 x=1 ip4:192.0.2.1 X=2 x=3 -all", "pass"),
        ("v=spf1 Redirect=r.example", "softfail"),
        ("v=spf1 redirect=r.example REDIRECT=r.example", "permerror"),
        ("V=SPF1 IP4:192.0.2.1 -ALL", "pass"),
        ("v=spf1 x=%y -all", "permerror"),
    ],
)
async def test_modifiers_as_rfc_7208_6_has_them(record: str, result: str) -> None:
    assert (await of([record], zones={"r.example": {"TXT": ["v=spf1 ~all"]}})).result == result


@pytest.mark.parametrize(("octets", "result"), [(MAX_RECORD, "pass"), (MAX_RECORD + 1, "permerror")])
async def test_the_longest_record(octets: int, result: str) -> None:
    assert (await of([_filled(octets)])).result == result


@pytest.mark.parametrize(("octets", "result"), [(MAX_TERM, "pass"), (MAX_TERM + 1, "permerror")])
async def test_the_longest_term(octets: int, result: str) -> None:
    assert (await of([f"v=spf1 ip4:192.0.2.1 x={'y' * (octets - 2)}"])).result == result


@pytest.mark.parametrize(
    "record",
    [
        "v=spf1 a:x." + "a" * 20_000 + "!",
        "v=spf1 " + " ".join(["a:x." + "0" * 480 + "!"] * 8),
        "v=spf1 exists:" + "%{" * 20_000,
        "v=spf1 " + " ".join(["ip4:192.0.2.1"] * 5_000),
        "v=spf1 " + "%{l}" * 100 + ".example",
        "v=spf1 exists:" + "%{l9999999999r}" * 30 + ".example -all",
        "v=spf1 " + " ".join(f"m{i}=" for i in range(500)),
    ],
)
async def test_no_record_costs_seconds_of_cpu(record: str) -> None:
    began = time.process_time()
    assert (await of([record], local_part="a.b" * 80)).result in {"permerror", "fail", "neutral"}
    assert time.process_time() - began < 0.5


async def test_ten_look_ups_and_no_more() -> None:
    zones = {f"i{n}.example": {"TXT": ["v=spf1 ?all"]} for n in range(11)}
    ten = " ".join(f"include:i{n}.example" for n in range(10))
    assert (await of([f"v=spf1 {ten} ip4:192.0.2.1"], zones=zones)).result == "pass"
    assert (await of([f"v=spf1 {ten} include:i10.example ip4:192.0.2.1"], zones=zones)).result == "permerror"


async def test_an_include_of_itself_ends() -> None:
    zones = {"i.example": {"TXT": ["v=spf1 include:j.example"]}, "j.example": {"TXT": ["v=spf1 include:i.example"]}}
    assert (await of(["v=spf1 include:i.example"], zones=zones)).result == "permerror"


@pytest.mark.parametrize(("void_limit", "result"), [(2, "permerror"), (3, "pass")])
async def test_the_limit_of_void_look_ups_is_an_option(void_limit: int, result: str) -> None:
    record = "v=spf1 a:v1.example a:v2.example a:v3.example ip4:192.0.2.1"
    assert (await of([record], void_limit=void_limit)).result == result


async def test_a_look_up_that_fails_is_a_temporary_error() -> None:
    found = await of(["v=spf1 a:dead.example -all"], zones={"dead.example": "TEMPFAIL"})
    assert found.result == "temperror"
    assert "dead.example" in found.problem


async def test_ptr_names_whose_look_up_fails_are_passed_over() -> None:
    zones = {
        "192.0.2.1": {"PTR": ["dead.d.example", "good.d.example"]},
        "dead.d.example": "TEMPFAIL",
        "good.d.example": {"A": ["192.0.2.1"]},
    }
    assert (await of(["v=spf1 ptr -all"], zones=zones)).result == "pass"
    assert (await of(["v=spf1 ptr -all"], zones={"192.0.2.1": "TEMPFAIL"})).result == "fail"


async def test_macros_with_a_local_part_beyond_ascii_match_nothing() -> None:  # RFC 8616 4
    zones = {"xn--bcher-kva.e.example": {"A": ["127.0.0.2"]}}
    assert (await of(["v=spf1 exists:%{l}.e.example -all"], zones=zones, local_part="bücher")).result == "fail"


async def test_a_local_part_that_is_too_long_is_a_permanent_error() -> None:
    assert (await of(["v=spf1 +all"], local_part="x" * 256)).result == "pass"
    assert (await of(["v=spf1 +all"], local_part="x" * 257)).result == "permerror"


@pytest.mark.parametrize(
    "txt", [["v=spf1 \xff"], [b"v=spf1 ip4:\xff\x00 -all"], [["v=spf", "1 -all"], "v=spf1 -all"], ["v=spf1 =" * 9]]
)
async def test_hostile_records_are_permanent_errors(txt: Any) -> None:
    assert (await of(txt)).result in {"permerror", "fail"}


async def test_whatever_pyspf_raises_is_a_permanent_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: Any) -> None:
        raise RecursionError

    monkeypatch.setattr(spf.query, "check", break_down)
    found = await of(["v=spf1 -all"])
    assert (found.result, found.problem) == ("permerror", "RecursionError:")


class SlowResolver:
    """Answers after a while, and says how many waited at once."""

    def __init__(self, seconds: float, *texts: str, wait_for: str = "") -> None:
        self._seconds = seconds
        self._texts = texts
        self._wait_for = wait_for
        self.queries: list[str] = []
        self.waiting = self.most_waiting = 0

    async def query(self, name: str, kind: str) -> DnsAnswer:
        self.queries.append(name)
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        if self._wait_for in name:
            await asyncio.sleep(self._seconds)
        self.waiting -= 1
        return DnsAnswer(name=name, kind=kind, records=tuple((text.encode(),) for text in self._texts))


async def test_the_time_limit_is_for_all_look_ups_together() -> None:
    resolver = SlowResolver(0.05, "v=spf1 include:%{l}.example include:b.example include:c.example include:d.example -all")
    found = await evaluate(resolver, address="192.0.2.1", local_part="a", domain="x.example", helo="h", time_limit=0.08)
    assert (found.result, found.problem) == ("temperror", "the time for the whole evaluation is over (record of x.example)")
    assert len(resolver.queries) == 2


@pytest.mark.parametrize("wait_for", ["", "exp.example"])
async def test_cancelling_ends_it_even_where_pyspf_swallows_everything(wait_for: str) -> None:
    resolver = SlowResolver(60, "v=spf1 exp=exp.example -all", wait_for=wait_for)
    work = evaluate(resolver, address="192.0.2.1", local_part="a", domain="x.example", helo="h")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(work, 0.05)
    assert len(resolver.queries) == (2 if wait_for else 1)


async def test_both_identities_are_checked_at_the_same_time() -> None:
    resolver = SlowResolver(0.1, "v=spf1 +all")
    transaction = a_transaction(reverse_path="a@x.example", session=a_session(helo="h.example"))
    await run_plugin(Spf(name="spf"), transaction=transaction, context=FakeContext(resolver=resolver))
    assert resolver.most_waiting == 2


async def test_many_at_once_keep_apart() -> None:
    async def one(number: int) -> bool:
        sign = "+" if number % 2 else "-"
        resolver = SlowResolver(0.02, f"v=spf1 {sign}all")
        found = await evaluate(resolver, address="192.0.2.1", local_part="a", domain=f"d{number}.example", helo="h")
        return (found.result, resolver.queries) == ("pass" if number % 2 else "fail", [f"d{number}.example"])

    began = asyncio.get_running_loop().time()
    assert all(await asyncio.gather(*(one(number) for number in range(200))))
    assert asyncio.get_running_loop().time() - began < 2


async def test_the_bridge_gives_results_errors_and_context_variables() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("seen")

    async def double(number: int) -> int:
        await asyncio.sleep(0)
        if number < 0:
            raise ValueError(number)
        return 2 * number

    def work(numbers: list[int]) -> tuple[list[Any], str]:
        found: list[Any] = []
        for number in numbers:
            try:
                found.append(wait(double(number)))
            except ValueError as error:
                found.append(str(error))
        return found, variable.get()

    assert await run(work, [1, -2, 3]) == ([2, "-2", 6], "seen")
    with pytest.raises(RuntimeError, match=r"wait\(\) is for functions started by run\(\)"):
        wait(double(1))
    with pytest.raises(ValueError, match="-1"):
        await run(lambda: wait(double(-1)))


@pytest.mark.parametrize(
    ("domain", "found"),
    [
        ("Example.org.", "Example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("bücher。example", "xn--bcher-kva.example"),
        ("example", None),
        ("[192.0.2.1]", None),
        ("[IPv6:2001:db8::1]", None),
        ("a..b", None),
        (".a.b", None),
        ("a" * 64 + ".b", None),
        ("a" * 63 + ".b", "a" * 63 + ".b"),
        ("\ud800.b", None),
        ("x." * 200, None),
        ("x." * 20_000, None),
    ],
)
def test_domains(domain: str, found: str | None) -> None:
    assert multi_label(domain) == found


def test_clean_and_plain_address() -> None:
    assert clean(" a\r\nb ") == "a  b"
    assert clean("x" * 251) == "x" * 247 + "..."
    assert plain_address("fe80::1%eth0") == "fe80::1"
    assert plain_address("::ffff:192.0.2.1") == "192.0.2.1"
    assert plain_address("nonsense") is None
