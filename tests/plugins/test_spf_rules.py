"""Rules of RFC 7208 that the public suite does not ask for: grammar, macros, limits, order of evaluation, evidence, Received-SPF."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from pydantic import ValidationError

from gateway import AddHeader, AuthResult, Defer, DnsAnswer, Reject
from gateway.plugins.spf import Options, Spf
from gateway.plugins.spf.evaluation import SpfResult, evaluate
from gateway.plugins.spf.macros import MacroError, as_name, check_domain_spec, check_explanation, check_string
from gateway.plugins.spf.record import RecordError, read_directive, read_record
from gateway.testing import FakeContext, FakeResolver, Result, a_session, a_transaction, run_plugin

SENDER = "strong-bad@email.example.com"
"""The example of RFC 7208 7.4."""


async def of(
    record: str, *, zones: dict[str, Any] | None = None, address: str = "192.0.2.3", sender: str = SENDER, **more: Any
) -> tuple[SpfResult, FakeResolver]:
    local_part, _, domain = sender.rpartition("@")
    resolver = FakeResolver({domain: {"TXT": [record]}, **(zones or {})})
    helo = more.pop("helo", "mx.example.org")
    return await evaluate(resolver, address=address, local_part=local_part, domain=domain, helo=helo, **more), resolver


async def asked(spec: str, **more: Any) -> str:
    """The name that `exists` asks for."""
    _, resolver = await of(f"v=spf1 exists:{spec} -all", **more)
    [name] = [name for name, kind in resolver.queries if kind == "A" and ("pct" in name or "example" in name)][-1:]
    return name


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        # RFC 7208 7.4: its examples
        ("%{s}.x.example", "strong-bad@email.example.com.x.example"),
        ("%{o}", "email.example.com"),
        ("%{d}", "email.example.com"),
        ("%{d4}", "email.example.com"),
        ("%{d3}", "email.example.com"),
        ("%{d2}.example", "example.com.example"),
        ("%{d1}.example", "com.example"),
        ("%{dr}", "com.example.email"),
        ("%{d2r}", "example.email"),
        ("%{l}.example", "strong-bad.example"),
        ("%{l-}.example", "strong.bad.example"),
        ("%{lr}.example", "strong-bad.example"),
        ("%{lr-}.example", "bad.strong.example"),
        ("%{l1r-}.example", "strong.example"),
        ("%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"),
        ("%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"),
        ("%{lr-}.lp.%{ir}.%{v}._spf.%{d2}", "bad.strong.lp.3.2.0.192.in-addr._spf.example.com"),
        ("%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", "3.2.0.192.in-addr.strong.lp._spf.example.com"),
        ("%{d2}.trusted-domains.example.net", "example.com.trusted-domains.example.net"),
        # 7.3: parts are joined by dots, whatever they were split at; R is r; digits may be many
        ("%{d-}.example", "email.example.com.example"),
        ("%{h-}.example", "mx.example.org.example"),
        ("%{DR}", "com.example.email"),
        ("%{d127}", "email.example.com"),
        ("%{d00002}.example", "example.com.example"),
        (f"%{{d{'9' * 400}}}", "email.example.com"),
        ("%{l+-,/_=}.example", "strong.bad.example"),
        ("%{S}.example", "strong-bad%40email.example.com.example"),
        ("%%-%_-%-.example", "%- -%20.example"),
        ("x.example.", "x.example"),
        # 7.1: any visible octet is a literal
        ("!\"#$&'()*+,-/:;<=>?@[]^_`{|}~.example", "!\"#$&'()*+,-/:;<=>?@[]^_`{|}~.example"),
    ],
)
async def test_macros(spec: str, name: str) -> None:
    assert await asked(spec) == name.lower()


async def test_macros_of_an_ipv6_client() -> None:
    name = "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6._spf.example.com"
    assert await asked("%{ir}.%{v}._spf.%{d2}", address="2001:db8::cb01") == name
    assert await asked("%{i}.%{v}.example", address="::ffff:192.0.2.3") == "192.0.2.3.in-addr.example"


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["other.example.org", "A.Email.Example.com", "email.example.com"], "email.example.com"),
        (["other.example.org", "A.Email.Example.com"], "a.email.example.com"),
        (["liar.example.org", "other.example.org"], "other.example.org"),
        (["liar.example.org"], "unknown"),
        ([], "unknown"),
    ],
)
async def test_the_p_macro_chooses(names: list[str], shown: str) -> None:  # RFC 7208 7.3
    zones: dict[str, Any] = {name.lower(): {"A": ["192.0.2.3"]} for name in names if "liar" not in name}
    zones |= {"192.0.2.3": {"PTR": names}, "liar.example.org": {"A": ["192.0.2.66"]}, "why.example": {"TXT": ["you are %{p}"]}}
    zones["email.example.com"] = {"A": ["192.0.2.3"], "TXT": ["v=spf1 -all exp=why.example"]}
    found, _ = await of("", zones=zones)
    assert found.explanation == f"you are {shown}"


async def test_c_r_and_t_are_for_explanations() -> None:  # RFC 7208 7.2
    zones = {"why.example": {"TXT": ["%{c} at %{r} %{R} %{t}"]}}
    found, _ = await of("v=spf1 -all exp=why.example", zones=zones, address="2001:DB8::1", receiver="mx.example.net")
    *words, seconds = found.explanation.split(" ")
    assert words == ["2001:db8::1", "at", "mx.example.net", "mx.example.net"]
    assert abs(int(seconds) - 1.8e9) < 1e9
    for letter in "crtCRT":
        assert (await of(f"v=spf1 exists:%{{{letter}}}.example -all"))[0].result == "permerror"
        assert (await of(f"v=spf1 x=%{{{letter}}} +all"))[0].result == "pass"


@pytest.mark.parametrize(
    "text", ["%{d0}", "%{d000}", "%{x}", "%{dx}", "%{}", "%{d", "%d", "%", "a%", "%{dr1}", "%{d.;}", "%{d}%", "é"]
)
def test_macros_that_are_none(text: str) -> None:
    for check in (check_string, check_explanation):
        with pytest.raises(MacroError):
            check(text)


@pytest.mark.parametrize(
    "text", ["", "com", "com.", ".", "a.1", "a.-b", "a.b-", "a.b_c", "%{d}.", "%{d}com", "%{d}.c_m", "a b.c", "%{c}.d"]
)
def test_domain_specs_that_are_none(text: str) -> None:
    with pytest.raises(MacroError):
        check_domain_spec(text)


@pytest.mark.parametrize(
    "text", ["a.b", "a.b.", "a.1b", "a.b-c", "a.1--2", "%{d}", "x%{d}", "a.b%_", "%{d}.com", "_a/b.c", ".c", "a..c"]
)
def test_domain_specs(text: str) -> None:
    check_domain_spec(text)


@pytest.mark.parametrize(
    ("name", "cut"),
    [
        ("a.b.", "a.b"),
        (".".join(["x" * 49] * 5), ".".join(["x" * 49] * 5)),
        (".".join(["x" * 49] * 6), ".".join(["x" * 49] * 5)),
        (".".join(["x" * 49] * 60), ".".join(["x" * 49] * 5)),
        ("y." + "x" * 253, "x" * 253),
        ("x" * 300, "x" * 253),
    ],
)
def test_names_are_cut_label_by_label_from_the_left(name: str, cut: str) -> None:  # RFC 7208 7.3
    assert as_name(name) == cut


@pytest.mark.parametrize(
    "term",
    [
        "all", "-ALL", "a", "?a", "a:b.c", "A/24", "a//64", "a/24//64", "a:b.c/0//0", "mx", "~mx:b.c/32//128", "ptr", "ptr:b.c", "exists:b.c",
        "include:b.c", "ip4:192.0.2.1", "ip4:192.0.2.0/24", "ip4:0.0.0.0/0", "ip6:::", "ip6:2001:db8::/32", "ip6:::ffff:192.0.2.1", "IP6:1:2:3:4:5:6:7:8/128",
        "a:b/c.d", "exists:a/24.b", "include:%{l}=x.b.c",
    ],
)  # fmt: skip
def test_directives(term: str) -> None:
    assert read_directive(term).text == term


@pytest.mark.parametrize(
    "term",
    [
        "all:", "all/8", "all.", "a:", "a/", "a//", "a/33", "a/033", "a/24/64", "a//129", "a//064", "a/24//", "a:/24", "a:b", "a=", "mx:", "mx/-1", "a:192.0.2.1",
        "ptr:", "ptr/24", "ptr:b.c/24", "exists", "exists:", "exists:b", "exists/24", "include", "include:", "include:b.c/24", "ip4", "ip4:", "ip4:192.0.2", "ip4:192.0.2.1/",
        "ip4:192.0.2.1/33", "ip4:192.0.2.01", "ip4:192.0.2.1//32", "ip4:192.0.2.1 ", "ip4:x", "ip4:2001:db8::1", "ip6:192.0.2.1", "ip6:2001:db8::1/129", "ip6:fe80::1%1",
        "ip6:1::2::3", "ip6:12345::", "ip4=192.0.2.1", "+-all", "*all", "", "-", "spf", "a\tmx", "a,", "ip5:1.2.3.4", "v=spf1", "a:b.c\x0b", "A:É.c", "ip4:١.2.3.4",
    ],
)  # fmt: skip
def test_directives_that_are_none(term: str) -> None:
    with pytest.raises(RecordError):
        read_directive(term)


@pytest.mark.parametrize(
    ("record", "result"),
    [
        ("v=spf1 redirect=a.example redirect=b.example", "permerror"),
        ("v=spf1 exp=a.example +all exp=b.example", "permerror"),
        ("v=spf1 +all exp=", "permerror"),
        ("v=spf1 +all redirect=nolabel", "permerror"),
        ("v=spf1 moo=%{ +all", "permerror"),
        ("v=spf1 1a=b +all", "permerror"),
        ("v=spf1 a.b-c_d=é +all", "permerror"),
        ("v=spf1 +all moo", "permerror"),
        ("v=spf1  +all  ", "pass"),
        ("v=spf1 a.b-c_d=% +all", "permerror"),
        ("v=spf1 a.b-c_d=%% +all", "pass"),
        ("v=spf1 op=auth default=deny v=spf1 ip4=x +all", "pass"),
        ("v=spf1\t+all", "none"),
        ("v=spf1 +all\t", "permerror"),
        ("v=spf1 +all\r\n", "permerror"),
        ("v=spf10 +all", "none"),
        ("v=spf1", "neutral"),
        # 6.1: with `all` a redirect is idle, wherever it stands
        ("v=spf1 redirect=gone.example ?all", "neutral"),
        ("v=spf1 redirect=gone.example", "permerror"),
        ("v=spf1 redirect=a..example", "permerror"),
        # 5.2: what is behind a match is not evaluated, though it includes itself
        ("v=spf1 ip4:192.0.2.3 include:%{d} -all", "pass"),
        ("v=spf1 include:%{d} -all", "permerror"),
        # 5.1: nothing behind `all` is evaluated
        ("v=spf1 -all include:gone.example", "fail"),
    ],
)
async def test_records(record: str, result: str) -> None:
    assert (await of(record))[0].result == result


async def test_a_redirect_counts_when_it_is_followed() -> None:  # RFC 7208 4.6.4
    zones: dict[str, Any] = {f"i{n}.example": {"TXT": ["v=spf1 ?all"]} for n in range(10)} | {
        "r.example": {"TXT": ["v=spf1 +all"]}
    }
    ten = " ".join(f"include:i{n}.example" for n in range(10))
    assert (await of(f"v=spf1 {ten} ip4:192.0.2.3 redirect=r.example", zones=zones))[0].result == "pass"
    found, _ = await of(f"v=spf1 {ten} redirect=r.example", zones=zones)
    assert (found.result, found.problem) == ("permerror", "more than 10 terms that ask DNS (record of email.example.com)")
    assert (await of(f"v=spf1 {ten.removeprefix('include:i0.example ')} redirect=r.example", zones=zones))[0].result == "pass"


async def test_a_chain_of_redirects_ends() -> None:
    zones: dict[str, Any] = {f"r{n}.example": {"TXT": [f"v=spf1 redirect=r{n + 1}.example"]} for n in range(20)}
    assert (await of("v=spf1 redirect=r0.example", zones=zones))[0].result == "permerror"


async def test_exchanges_behind_a_match_are_not_asked() -> None:  # RFC 7208 5.4
    hosts = [f"m{n}.example" for n in range(9)]
    zones: dict[str, Any] = {"m0.example": {"A": ["192.0.2.3"]}, "x.example": {"MX": [[n, host] for n, host in enumerate(hosts)]}}
    found, resolver = await of("v=spf1 mx:x.example -all", zones=zones)
    assert found.result == "pass"
    assert [name for name, kind in resolver.queries if kind == "A"] == ["m0.example"]


@pytest.mark.parametrize(("last", "result"), [(1, "pass"), (10, "pass"), (11, "permerror"), (99, "permerror")])
async def test_the_eleventh_exchange_is_too_much(last: int, result: str) -> None:  # RFC 7208 4.6.4
    zones: dict[str, Any] = {f"m{n}.example": {"A": [f"192.0.2.{n}"]} for n in range(1, 12)}
    zones["x.example"] = {"MX": [[n, f"m{n}.example"] for n in range(11, 0, -1)]}
    assert (await of("v=spf1 mx:x.example -all", zones=zones, address=f"192.0.2.{last}"))[0].result == result


async def test_void_look_ups_are_counted_by_term() -> None:  # RFC 7208 4.6.4
    dead = {"x.example": {"MX": [[n, f"dead{n}.example"] for n in range(4)]}}
    assert (await of("v=spf1 mx:x.example a:gone.example -all", zones=dead))[0].result == "fail"
    assert (await of("v=spf1 mx:x.example a:gone.example a:gone.example -all", zones=dead))[0].result == "permerror"
    found, resolver = await of("v=spf1 a:gone.example a:gone.example a:gone.example -all")
    assert (found.result, found.problem) == ("permerror", "more than 2 void lookups (record of email.example.com)")
    assert [kind for _, kind in resolver.queries] == ["TXT", "A"]


@pytest.mark.parametrize(("terms", "result"), [(5, "fail"), (6, "permerror")])
async def test_the_p_macro_counts(terms: int, result: str) -> None:  # RFC 7208 4.6.4
    zones: dict[str, Any] = {"192.0.2.3": {"PTR": ["mx.example"]}, "mx.example": {"A": ["192.0.2.3"]}}
    zones["mx.example.e.example"] = {"A": ["127.0.0.2"]}
    assert (await of("v=spf1 exists:%{p}.e.example -all", zones=zones))[0].look_ups == 2
    with_voids = " ".join(["v=spf1", *(f"exists:%{{p}}.gone{term}.example" for term in range(terms)), "-all"])
    assert (await of(with_voids, zones=zones, void_limit=20))[0].result == result


async def test_a_term_is_expanded_when_it_is_reached() -> None:
    _, resolver = await of("v=spf1 ip4:192.0.2.3 exists:%{p}.example -all")
    assert [kind for _, kind in resolver.queries] == ["TXT"]


@pytest.mark.parametrize(
    "term", ["include:%{s}.example", "exists:%{l}.example", "a:%{l}.example", "mx:%{l}.example", "ptr:%{l}.example"]
)
async def test_a_local_part_beyond_ascii_matches_nothing(term: str) -> None:  # RFC 8616 4
    sender = "\u00fcser@d.example"
    assert (await of(f"v=spf1 {term} ip4:192.0.2.3 -all", sender=sender))[0].result == "pass"
    assert (await of(f"v=spf1 -{term} +all", sender=sender))[0].result == "pass"
    assert (await of("v=spf1 redirect=%{l}.example", sender=sender))[0].result == "permerror"


async def test_the_null_mx_has_no_address() -> None:
    found, resolver = await of("v=spf1 mx:x.example -all", zones={"x.example": {"MX": [[0, "."]]}})
    assert (found.result, [kind for _, kind in resolver.queries]) == ("fail", ["TXT", "MX"])


async def test_names_of_a_client_that_lead_nowhere_are_nobodys_void_look_ups() -> None:
    zones: dict[str, Any] = {"192.0.2.3": {"PTR": [f"p{n}.example" for n in range(9)] + ["good.example"]}}
    zones["good.example"] = {"A": ["192.0.2.3"]}
    assert (await of("v=spf1 ptr:good.example -all", zones=zones))[0].result == "pass"


@pytest.mark.parametrize("record", ["v=spf1 ptr -all", "v=spf1 exists:%{p}.example -all", "v=spf1 -all exp=%{p}.example"])
async def test_time_that_is_over_is_never_a_mismatch(record: str) -> None:
    class Stuck(FakeResolver):
        async def query(self, name: str, kind: str) -> DnsAnswer:
            if kind != "TXT":
                await asyncio.sleep(60)
            return await super().query(name, kind)

    found = await evaluate(
        Stuck({"d.example": {"TXT": [record]}}),
        address="192.0.2.3",
        local_part="a",
        domain="d.example",
        helo="h",
        time_limit=0.02,
    )
    assert found.result == ("fail" if "exp" in record else "temperror")


async def test_the_time_ends_before_that_of_the_hook() -> None:
    """Then the result is temperror, and no error of the plugin."""

    class Stuck(FakeResolver):
        async def query(self, name: str, kind: str) -> DnsAnswer:
            await asyncio.sleep(60)
            return await super().query(name, kind)

    plugin = Spf(name="spf")
    assert plugin.options.time_limit > 1
    result = await run_plugin(plugin, transaction=a_transaction(), context=FakeContext(resolver=Stuck({})), timeout=1.0)
    assert {one.result for one in result.transaction.findings.of(AuthResult)} == {"temperror"}


async def test_the_explanation_is_asked_for_a_failure_only() -> None:  # RFC 7208 6.2
    for all_ in "+?~":
        _, resolver = await of(f"v=spf1 {all_}all exp=why.example")
        assert [name for name, _ in resolver.queries] == ["email.example.com"]
    zones: dict[str, Any] = {
        "why.example": {"TXT": ["a. " * 100 + "end of %{d}"]},
        "r.example": {"TXT": ["v=spf1 -all exp=why.example"]},
    }
    found, _ = await of("v=spf1 redirect=r.example exp=other.example", zones=zones)
    assert found.explanation.startswith("a. a. a. a. ")
    assert len(found.explanation) == 250


async def test_a_domain_without_a_top_label_can_be_reached_by_a_macro() -> None:
    found, _ = await of("v=spf1 include:%{h} -all", helo="localhost")
    assert found.result == "permerror"


THROUGH = (
    "ip4:192.0.2.3 of b.example matches 192.0.2.3 by include:b.example of a.example by {}include:a.example of email.example.com; "
    "2 of 10 look-ups"
)
EVIDENCE = [
    ("v=spf1 ip4:192.0.2.0/24 -all", "pass", "ip4:192.0.2.0/24 of email.example.com matches 192.0.2.3"),
    (
        "v=spf1 include:a.example -all",
        "pass",
        THROUGH.format(""),
    ),
    (
        "v=spf1 redirect=c.example",
        "softfail",
        "~all of c.example matches 192.0.2.3 by redirect=c.example of email.example.com; 1 of 10 look-ups",
    ),
    ("v=spf1 include:c.example mx", "neutral", "nothing in the record of email.example.com matches 192.0.2.3; 2 of 10 look-ups"),
    ("v=spf1 -include:a.example +all", "fail", THROUGH.format("-")),
    ("v=spf1 include:wrong.example -all", "permerror", "unknown mechanism moo (record of wrong.example)"),
    ("v=spf1 include:gone.example -all", "permerror",
     "No valid SPF record for included domain: gone.example: include:gone.example (record of email.example.com)"),
    ("v=spf1 a:dead.example", "temperror", "dead.example A: temporary failure (record of email.example.com)"),
    ("no record", "none", "email.example.com has no SPF record"),
]  # fmt: skip


@pytest.mark.parametrize(("record", "result", "evidence"), EVIDENCE)
async def test_evidence(record: str, result: str, evidence: str) -> None:
    zones: dict[str, Any] = {
        "b.example": {"TXT": ["v=spf1 ip4:192.0.2.3 -all"]},
        "c.example": {"TXT": ["v=spf1 ~all"]},
        "wrong.example": {"TXT": ["v=spf1 moo"]},
        "dead.example": "TEMPFAIL",
    }
    zones["a.example"] = {"TXT": ["v=spf1 include:b.example -all"]}
    found, _ = await of(record, zones=zones)
    assert (found.result, found.evidence("192.0.2.3")) == (result, evidence)


def test_a_record_is_read_whole() -> None:
    found = read_record(b"v=spf1 a mx:x.example exp=e.example unknown=1 redirect=r.example")
    assert (str(found), found.exp) == ("v=spf1 a mx:x.example redirect=r.example", "e.example")
    assert str(read_record(b"v=spf1 redirect=r.example -all")) == "v=spf1 -all"


async def checked(options: dict[str, Any], *, reverse_path: str = "alice@fail.example", helo: str = "client.example") -> Result:
    zones: dict[str, Any] = {
        "fail.example": {"TXT": ["v=spf1 -all"]},
        "client.example": {"TXT": ["v=spf1 ip4:192.0.2.1 -all"]},
        "wrong.example": {"TXT": ["v=spf1 moo"]},
        "soft.example": {"TXT": ["v=spf1 ~all"]},
        "dead.example": "TEMPFAIL",
    }
    transaction = a_transaction(reverse_path=reverse_path, session=a_session(helo=helo, client_address="192.0.2.1"))
    context = FakeContext(zones=zones)
    return await run_plugin(Spf(Options(**options), name="spf"), transaction=transaction, context=context)


@pytest.mark.parametrize(
    ("helo", "result"), [("fail.example", "fail"), ("soft.example", "softfail"), ("wrong.example", "permerror")]
)
async def test_each_result_of_helo_has_its_option(helo: str, result: str) -> None:
    verdict = (await checked({f"helo_{result}": "reject"}, reverse_path="a@client.example", helo=helo)).verdict
    assert isinstance(verdict, Reject)
    assert verdict.text == f"SPF HELO check: {result} for {helo}"
    assert verdict.enhanced == ("5.7.24" if result == "permerror" else "5.7.23")
    assert (await checked({result: "reject"}, reverse_path="a@client.example", helo=helo)).verdict is None


async def test_a_failure_of_dns_refuses_nothing_for_good() -> None:  # RFC 7208 8.6
    for key in ("temperror", "helo_temperror"):
        with pytest.raises(ValidationError):
            Options(**{key: "reject"})
    verdict = (await checked({"helo_temperror": "defer"}, helo="dead.example")).verdict
    assert isinstance(verdict, Defer)
    assert (verdict.code, verdict.enhanced, verdict.text) == (451, "4.4.3", "SPF HELO check: temperror for dead.example")


async def test_the_helo_name_for_null_senders_only() -> None:
    only = {"helo": "null", "helo_fail": "reject"}
    assert len((await checked(only)).findings) == 1
    assert (await checked(only, reverse_path="a@client.example", helo="fail.example")).verdict is None
    bounce = await checked(only, reverse_path="", helo="fail.example")
    assert len(bounce.findings) == 2
    assert isinstance(bounce.verdict, Reject)


async def test_received_spf_of_the_null_reverse_path() -> None:
    _, mailfrom = (await checked({"received_spf": True}, reverse_path="", helo="client.example")).edits
    assert isinstance(mailfrom, AddHeader)
    assert "domain of postmaster@client.example designates" in mailfrom.value
    assert "envelope-from" not in mailfrom.value


async def test_received_spf() -> None:  # RFC 7208 9.1
    assert (await checked({})).edits == ()
    helo, mailfrom = (await checked({"received_spf": True})).edits
    assert isinstance(helo, AddHeader)
    assert isinstance(mailfrom, AddHeader)
    server = FakeContext().server_name
    assert mailfrom.name == "Received-SPF"
    assert mailfrom.value.split("\r\n\t") == [
        f"Fail ({server}: domain of alice@fail.example does not designate 192.0.2.1 as permitted sender)",
        "client-ip=192.0.2.1;",
        'envelope-from="alice@fail.example";',
        "helo=client.example;",
        f"receiver={server};",
        "identity=mailfrom;",
        "mechanism=-all",
    ]
    assert helo.value.startswith(f"Pass ({server}: domain of client.example designates 192.0.2.1 as permitted sender)\r\n")
    assert helo.value.endswith('identity=helo;\r\n\tmechanism="ip4:192.0.2.1"')


_FIELD = re.compile(
    r"[A-Z][A-Za-z]+ \((?:[^()\\]|\\.)*\)(?:\r\n\t[a-z-]+=(?:[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*|\"(?:[^\"\\]|\\.)*\");?)*"
)
"""RFC 7208 9.1, as it is written here."""


@pytest.mark.parametrize("hostile", ['"a(b)\\\\\\"c"', '"' + "x" * 250 + '"', "ü(", "\x07\x1b"])
async def test_nothing_in_received_spf_ends_it(hostile: str) -> None:
    for edit in (await checked({"received_spf": True}, reverse_path=f"{hostile}@wrong.example", helo="(\u202e\\)")).edits:
        assert isinstance(edit, AddHeader)
        assert edit.value.isascii()
        assert all(len(line) < 600 for line in edit.value.split("\r\n"))
        assert _FIELD.fullmatch(edit.value), edit.value
        assert edit.value.replace("\r\n\t", "").isprintable()
