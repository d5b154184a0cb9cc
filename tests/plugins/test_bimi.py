"""BIMI: Assertion Records found and read to the letter, by what is authenticated only, and nothing fetched."""

from __future__ import annotations

import base64
import time
from typing import Any

import dkim as dkimpy
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway import AddHeader, AuthResult, Message
from gateway.content import Content
from gateway.plugins.authres import AuthRes
from gateway.plugins.bimi import Bimi, BimiFinding, Options
from gateway.plugins.bimi.enforcement import objection
from gateway.plugins.bimi.record import (
    RecordError,
    is_assertion,
    parse_assertion,
    selector_of_field,
    selector_of_local_part,
)
from gateway.plugins.dkim import Dkim
from gateway.plugins.dmarc import Dmarc, DmarcFinding
from gateway.plugins.spf import Spf
from gateway.splice import apply
from gateway.testing import (
    TEMPFAIL,
    Clock,
    FakeContext,
    FakeResolver,
    Result,
    a_message,
    a_session,
    a_transaction,
    run_chain,
    run_plugin,
)

RECORD = "v=BIMI1; l=https://img.example.org/logo.svg; a=https://img.example.org/logo.pem"
ENFORCED = {"TXT": ["v=DMARC1; p=reject"]}
OTHER = "v=BIMI1; l=https://img.example.org/other.svg"


def passed(domain: str = "example.org", organization: str = "", **facts: Any) -> DmarcFinding:
    facts = {"policy": "reject", "organizational_domain": organization or domain} | facts
    return DmarcFinding(method="dmarc", result="pass", properties=(("header.from", domain), ("polrec.p", "reject")), **facts)


async def run(
    zones: dict[str, Any],
    *,
    dmarc: AuthResult | None = None,
    more: tuple[AuthResult, ...] = (),
    options: Options | None = None,
    client: str = "192.0.2.1",
    octets: bytes | None = None,
    **message: Any,
) -> Result:
    transaction = a_transaction(session=a_session(client_address=client))
    for one in (dmarc or passed(), *more):
        transaction.findings.add("test", one)
    context: Any = FakeContext(zones=zones)
    message = {"from_": "Alice <news@example.org>"} | message
    return await run_plugin(Bimi(options), message=a_message(octets, **message), transaction=transaction, context=context)


def bimi(result: Result) -> BimiFinding:
    [found] = result.transaction.findings.of(BimiFinding)
    return found


def zones(**records: Any) -> dict[str, Any]:
    """`default={…}` is default._bimi.example.org."""
    return {"_dmarc.example.org": ENFORCED} | {f"{name}._bimi.example.org": {"TXT": value} for name, value in records.items()}


async def test_a_record() -> None:
    found = bimi(await run(zones(default=[RECORD])))
    assert found == BimiFinding(
        method="bimi",
        result="pass",
        reason="neither indicator nor evidence was fetched",
        properties=(
            ("header.d", "example.org"),
            ("header.selector", "default"),
            ("policy.authority", "none"),
            ("policy.authority-uri", "https://img.example.org/logo.pem"),
            ("policy.indicator-uri", "https://img.example.org/logo.svg"),
            ("policy.logo-preference", "brand"),
        ),
        indicator="https://img.example.org/logo.svg",
        evidence="https://img.example.org/logo.pem",
        preference="brand",
    )


@pytest.mark.parametrize(
    ("records", "result", "reason"),
    [
        ([], "none", "no record at default._bimi.example.org"),
        (
            ["v=spf1 -all", "v=bimi1; l=https://x.test/a.svg", " v=BIMI1; l=", "l=https://x.test/a.svg; v=BIMI1"],
            "none",
            "no record at",
        ),
        ([RECORD, "v=spf1 -all"], "pass", ""),
        ([RECORD, OTHER], "fail", "2 records at default._bimi.example.org"),
        (["v=BIMI1; l=; a="], "declined", "the record at default._bimi.example.org declines"),
        (["v=BIMI1; l=;"], "declined", "declines"),
        (["v=BIMI1"], "fail", "l= is missing"),
        (["v=BIMI1; a=https://x.test/a.pem"], "fail", "l= is missing"),
        (["v=BIMI1; L=https://x.test/a.svg"], "fail", "l= is missing"),
        (["v=BIMI1; l=; a=https://x.test/a.pem"], "fail", "a= without a location"),
        (["v=BIMI1; l=http://x.test/a.svg"], "fail", "l= is no single https URI"),
        (["v=BIMI1; l=https://x.test/a.svg,https://x.test/b.svg"], "fail", "l= is no single https URI"),
        (["v=BIMI1; l=https://x.test/a b.svg"], "fail", "l= is no single https URI"),
        (["v=BIMI1; l=https://localhost/a.svg"], "fail", "l= does not name a host by its full name"),
        (["v=BIMI1; l=https://192.0.2.1/a.svg"], "fail", "l= does not name a host"),
        (["v=BIMI1; l=https://[2001:db8::1]/a.svg"], "fail", "l= does not name a host"),
        (["v=BIMI1; l=https://x.test@evil.test/a.svg"], "fail", "l= does not name a host"),
        (["v=BIMI1; l=https://x.test:99999/a.svg"], "fail", "l= is no URI"),
        (["v=BIMI1; l=https://x.test:0/a.svg"], "fail", "l= does not name a host"),
        (["v=BIMI1; l=https://x.test/a.png"], "fail", "l= is no SVG"),
        (["v=BIMI1; l=https://x.test/a.svg; a=ftp://x.test/a"], "fail", "a= is no single https URI"),
        (["v=BIMI1; l=https://x.test/a.svg; l=https://x.test/a.svg"], "fail", "l= is there twice"),
        (["v=BIMI1; l=https://x.test/a.svg; what"], "fail", "something in it is no tag"),
        (["v=BIMI1; l=https://x.test/" + "a" * 1000], "fail", "l= is longer than 1000 octets"),
        (["v=BIMI1; l=https://x.test/" + "a" * 5000], "none", "no record"),
        (["v=BIMI1; l=https://x.test/\u00e9.svg"], "fail", "it is not ASCII"),
        ([["v=BIMI1; l=https://", "x.test/a.svg"]], "pass", ""),
        (["v = BIMI1 ; l = https://x.test/a.svgz ; a = ; xy=z ;"], "pass", ""),
        (["v=BIMI1;l=HTTPS://x.test:8443/logo?v=1.png"], "pass", ""),
    ],
)
async def test_records(records: list[Any], result: str, reason: str) -> None:
    found = bimi(await run(zones(default=records)))
    assert found.result == result
    assert reason in found.reason
    assert bool(found.indicator) == (result == "pass")
    assert found.property("header.d") == ("example.org" if result == "pass" else None)


@pytest.mark.parametrize(
    ("avp", "shown"),
    [("", "brand"), ("avp=brand", "brand"), ("avp=personal;", "personal"), ("avp=Personal", None), ("avp=x", None)],
)
async def test_preference(avp: str, shown: str | None) -> None:
    found = bimi(await run(zones(default=[f"{RECORD}; {avp}"])))
    assert (found.result, found.property("policy.logo-preference")) == ("pass", shown)


async def test_a_long_location_is_written_whole_or_not_at_all() -> None:
    location = "https://x.test/" + "a" * 300
    found = bimi(await run(zones(default=[f"v=BIMI1; l={location}"])))
    assert (found.result, found.indicator, found.property("policy.indicator-uri")) == ("pass", location, None)


SUB: Any = passed("sub.example.org", "example.org")


@pytest.mark.parametrize(
    ("records", "result", "domain"),
    [
        ({"default._bimi.sub.example.org": RECORD, "default._bimi.example.org": OTHER}, "pass", "sub.example.org"),
        ({"default._bimi.example.org": OTHER}, "pass", "example.org"),
        ({"default._bimi.sub.example.org": "v=BIMI1; l=; a=;", "default._bimi.example.org": OTHER}, "declined", None),
        ({"default._bimi.sub.example.org": "v=BIMI1; l=x", "default._bimi.example.org": OTHER}, "fail", None),
        ({"default._bimi.sub.example.org": "v=spf1", "default._bimi.example.org": OTHER}, "pass", "example.org"),
        ({}, "none", None),
    ],
)
async def test_the_organizational_domain(records: dict[str, str], result: str, domain: str | None) -> None:
    zone = {"_dmarc.example.org": ENFORCED} | {name: {"TXT": [text]} for name, text in records.items()}
    found = bimi(await run(zone, dmarc=SUB, from_="news@sub.example.org"))
    assert (found.result, found.property("header.d")) == (result, domain)


@pytest.mark.parametrize(
    ("own", "organizations", "reason"),
    [
        (None, "v=DMARC1; p=none", "example.org has p=none"),
        ("v=DMARC1; p=reject", "v=DMARC1; p=none", "example.org has p=none"),
        ("v=DMARC1; p=none", "v=DMARC1; p=reject", "sub.example.org has p=none"),
        (None, "v=DMARC1; p=reject; sp=none", "example.org has sp=none"),
        (None, "v=DMARC1; p=quarantine; pct=50", "example.org has p=quarantine with pct=50"),
        (None, "v=DMARC1; p=quarantine; pct=0", "pct=0"),
        (None, "v=DMARC1; p=quarantine; t=y", "example.org has t=y"),
        (None, "v=DMARC1; p=reject; t=y", "t=y"),
        (None, "v=DMARC1", "p=none"),
        (None, "v=DMARC1; p=quarantine; pct=100", ""),
        (None, "v=DMARC1; p=quarantine; pct=0100", ""),
        (None, "v=DMARC1; p=reject; pct=10", ""),
        ("v=DMARC1; p=quarantine; sp=reject; t=n", "V=DMARC1; P=Reject", ""),
    ],
)
async def test_dmarc_must_be_enforced(own: str | None, organizations: str, reason: str) -> None:
    zone = {"_dmarc.example.org": {"TXT": [organizations]}, "default._bimi.example.org": {"TXT": [RECORD]}}
    if own is not None:
        zone["_dmarc.sub.example.org"] = {"TXT": [own]}
    found = bimi(await run(zone, dmarc=SUB, from_="news@sub.example.org"))
    assert found.result == ("skipped" if reason else "pass")
    assert reason in found.reason


def test_records_that_are_no_dmarc_records() -> None:
    assert objection([]) == ""
    assert objection([b"v=spf1", b"v=DMARC1; p=none", b"v=DMARC1; p=none"]) == ""
    assert objection([b"v=DMARC1; p=none" + b" " * 5000]) == ""


@pytest.mark.parametrize(
    ("dmarc", "reason"),
    [
        (AuthResult(method="spf", result="pass"), "DMARC was not evaluated"),
        (AuthResult(method="dmarc", result="fail", properties=(("header.from", "example.org"),)), "DMARC did not pass: fail"),
        (AuthResult(method="dmarc", result="none", properties=(("header.from", "example.org"),)), "DMARC did not pass: none"),
        (AuthResult(method="dmarc", result="pass", properties=(("header.from", "bank.test"),)), "DMARC was not evaluated"),
        (
            AuthResult(method="dmarc", result="pass", properties=(("header.from", "example.org"), ("polrec.p", "none"))),
            "the policy is none",
        ),
        (passed(policy="none"), "the policy is none"),
    ],
)
async def test_dmarc_must_pass(dmarc: AuthResult, reason: str) -> None:
    result = await run(zones(default=[RECORD]), dmarc=dmarc)
    assert bimi(result).result == "skipped"
    assert reason in bimi(result).reason


@pytest.mark.parametrize(
    "octets",
    [
        b"From: a@example.org, b@example.org\r\n\r\n",
        b"From: a@example.org\r\nFrom: a@example.org\r\n\r\n",
        b"Subject: x\r\n\r\n",
        b"From: \r\n\r\n",
    ],
)
async def test_one_author_only(octets: bytes) -> None:
    assert bimi(await run(zones(default=[RECORD]), octets=octets)).reason == "From has not one address"


@pytest.mark.parametrize("name", ["_dmarc.example.org", "default._bimi.example.org"])
async def test_temporary_failure(name: str) -> None:
    found = bimi(await run(zones(default=[RECORD]) | {name: TEMPFAIL}))
    assert (found.result, found.reason) == ("temperror", f"{name} could not be looked up")


# The selector: named by the message, signed.

SIGNATURE = "v=1; a=rsa-sha256; d=example.org; s=sel; h=From:Subject:BIMI-Selector; bh=x; b=AbCd EfGhIjKl"


def signed(domain: str = "example.org", **more: str) -> AuthResult:
    properties = {"header.d": domain, "header.s": "sel", "header.b": "AbCdEfGh"} | {
        f"header.{key}": value for key, value in more.items()
    }
    return AuthResult(method="dkim", result="pass", properties=tuple(properties.items()))


@pytest.mark.parametrize(
    ("headers", "results", "selector"),
    [
        ([("DKIM-Signature", SIGNATURE)], (signed(),), "brand"),
        ([("DKIM-Signature", SIGNATURE.replace("BIMI-S", "bimi-s"))], (signed(),), "brand"),
        ([("DKIM-Signature", SIGNATURE.replace(":BIMI-Selector", ""))], (signed(),), "default"),
        ([("DKIM-Signature", SIGNATURE)], (), "default"),
        ([("DKIM-Signature", SIGNATURE)], (signed(s="other"),), "default"),
        ([("DKIM-Signature", SIGNATURE)], (signed(b="XbCdEfGh"),), "default"),
        ([("DKIM-Signature", SIGNATURE)], (signed(b=""),), "default"),
        ([("DKIM-Signature", SIGNATURE.replace("d=example.org", "d=bank.test"))], (signed("bank.test"),), "default"),
        ([("DKIM-Signature", SIGNATURE.replace("d=example.org", "d=m.example.org"))], (signed("m.example.org"),), "brand"),
        # a signature made to look like the one that passed
        ([("DKIM-Signature", SIGNATURE), ("DKIM-Signature", SIGNATURE.replace(":BIMI-Selector", ""))], (signed(),), "default"),
        ([("DKIM-Signature", "not a tag list"), ("DKIM-Signature", SIGNATURE)], (signed(),), "brand"),
        ([("DKIM-Signature", SIGNATURE)] * 21, (signed(),), "default"),
    ],
)
async def test_the_selector_must_be_signed(
    headers: list[tuple[str, str]], results: tuple[AuthResult, ...], selector: str
) -> None:
    more = [*headers, ("BIMI-Selector", "v=BIMI1; s=Brand")]
    found = bimi(await run(zones(default=[RECORD], brand=[OTHER]), more=results, headers=more))
    assert (found.result, found.property("header.selector")) == ("pass", selector)


async def test_strict_alignment_counts_for_the_selector() -> None:
    headers = [("DKIM-Signature", SIGNATURE.replace("d=example.org", "d=m.example.org")), ("BIMI-Selector", "v=BIMI1; s=brand")]
    dmarc = passed(published=(("p", "reject"), ("adkim", "s")))
    found = bimi(await run(zones(default=[RECORD], brand=[OTHER]), dmarc=dmarc, more=(signed("m.example.org"),), headers=headers))
    assert found.property("header.selector") == "default"


@pytest.mark.parametrize(
    ("fields", "selector"),
    [
        (["v=BIMI1; s=brand"], "brand"),
        (["v=BIMI1;s=brand;"], "brand"),
        (["\r\n\tv=BIMI1;\r\n\ts=brand"], "brand"),
        (["v=BIMI1; s=a.b-c"], "a.b-c"),
        (["s=brand"], "default"),
        (["v=BIMI2; s=brand"], "default"),
        (["v=bimi1; s=brand"], "default"),
        (["s=brand; v=BIMI1"], "default"),
        (["v=BIMI1"], "default"),
        (["v=BIMI1; s="], "default"),
        (["v=BIMI1; s=a b"], "default"),
        (["v=BIMI1; s=a_b"], "default"),
        (["v=BIMI1; s=-a"], "default"),
        (["v=BIMI1; s=a..b"], "default"),
        (["v=BIMI1; s=" + "a" * 64], "default"),
        (["v=BIMI1; s=brand; s=brand"], "default"),
        (["v=BIMI1; s=brand", "v=BIMI1; s=brand"], "default"),
    ],
)
async def test_what_the_selector_field_says(fields: list[str], selector: str) -> None:
    zone = zones(default=[RECORD], brand=[OTHER]) | {"a.b-c._bimi.example.org": {"TXT": [OTHER]}}
    headers = [("BIMI-Selector", one) for one in fields]
    found = bimi(await run(zone, headers=headers, options=Options(unsigned_selector=True)))
    assert (found.result, found.property("header.selector")) == ("pass", selector)


@pytest.mark.parametrize(
    ("records", "result", "domain"),
    [
        ({"brand._bimi.sub.example.org": OTHER}, "pass", "sub.example.org"),
        ({"brand._bimi.example.org": OTHER}, "pass", "example.org"),
        ({"default._bimi.sub.example.org": OTHER, "default._bimi.example.org": OTHER}, "none", None),  # appendix B.5
    ],
)
async def test_a_selector_that_does_not_exist(records: dict[str, str], result: str, domain: str | None) -> None:
    zone = {"_dmarc.example.org": ENFORCED} | {name: {"TXT": [text]} for name, text in records.items()}
    headers = [("BIMI-Selector", "v=BIMI1; s=brand")]
    options = Options(unsigned_selector=True)
    found = bimi(await run(zone, dmarc=SUB, from_="news@sub.example.org", headers=headers, options=options))
    assert (found.result, found.property("header.d")) == (result, domain)


# The selector made from the local-part.


@pytest.mark.parametrize(
    ("local_part", "selector"),
    [
        ("news", "news"),
        ("News+2026", "news"),
        ("a.b_c", "a-b-c"),
        ("a._.b", "a-b"),
        ("_a.", "a"),
        ("-a-", "a"),
        ("a--b", "a--b"),
        ("+x", None),
        ("é", None),
        ('"a b"', None),
        ("a" * 63, "a" * 63),
        ("a" * 64, None),
    ],
)
def test_local_parts(local_part: str, selector: str | None) -> None:
    assert selector_of_local_part(local_part) == selector


@pytest.mark.parametrize(
    ("default", "news", "result", "selector"),
    [
        (RECORD + "; lps=true", [OTHER], "pass", "news"),
        (RECORD, [OTHER], "pass", "default"),
        (RECORD + "; lps=false", [OTHER], "pass", "default"),
        (RECORD + "; lps=True", [OTHER], "pass", "default"),
        (RECORD + "; lps=true", [], "pass", "default"),
        (RECORD + "; lps=true", ["v=BIMI1; l=x"], "pass", "default"),
        (RECORD + "; lps=true", [OTHER, OTHER], "pass", "default"),
        (RECORD + "; lps=true", ["v=BIMI1; l="], "declined", None),
        ("v=BIMI1; l=; a=; lps=true", [OTHER], "pass", "news"),
        ("v=BIMI1; l=; a=; lps=true", [], "declined", None),
    ],
)
async def test_the_local_part_as_selector(default: str, news: list[str], result: str, selector: str | None) -> None:
    found = bimi(await run(zones(default=[default], news=news)))
    assert (found.result, found.property("header.selector")) == (result, selector)


def test_hostile_records_and_fields() -> None:
    for text in (
        b"v=BIMI1" + b";" * 4000,
        b"v=BIMI1; l=https://" + b"a." * 480,
        b"v=BIMI1;l=https://x.t" + b"." * 900,
        b"v" + b" " * 4000,
    ):
        if is_assertion(text):
            with pytest.raises(RecordError):
                parse_assertion(text)
        assert selector_of_field(text) is None
    assert selector_of_field(b" v=BIMI1; s=" + b"a." * 3000) is None
    assert selector_of_local_part("_." * 200_000) is None


# Fields of the recipient's site.


@pytest.mark.parametrize(
    ("client", "keep", "stay"),
    [
        ("192.0.2.1", [], False),
        ("192.0.2.1", ["192.0.2.0/24"], True),
        ("198.51.100.1", ["192.0.2.0/24"], False),
        ("", ["0.0.0.0/0"], False),
        ("::ffff:192.0.2.1", ["192.0.2.0/24"], True),
    ],
)
async def test_strangers_may_not_write_what_the_recipients_site_writes(client: str, keep: list[str], stay: bool) -> None:
    octets = (
        b"BIMI-Location: v=BIMI1; l=https://evil.test/a.svg\r\nbimi-indicator:\r\n PHN2Zz4=\r\nFrom: a@example.org\r\n"
        b"BIMI-Selector: v=BIMI1; s=brand\r\nBIMI-LOGO-PREFERENCE : avp=brand\r\nBIMI-Location: x\r\n\r\nBIMI-Location: body\r\n"
    )
    result = await run({}, octets=octets, client=client, options=Options.model_validate({"keep_from": keep}))
    left = b"".join(apply(Content(octets), result.edits).chunks())
    assert left == (octets if stay else b"From: a@example.org\r\nBIMI-Selector: v=BIMI1; s=brand\r\n\r\nBIMI-Location: body\r\n")


async def test_nor_behind_a_line_that_is_no_field() -> None:
    octets = b"From: a@example.org\r\nno field\r\nBIMI-Location: x\r\n\r\nbody"
    result = await run({}, octets=octets)
    assert b"BIMI" not in b"".join(apply(Content(octets), result.edits).chunks())
    assert (await run({}, octets=b"From: a@example.org\r\n\r\n")).edits == ()


# With the other plugins, as a site uses it.


async def test_the_whole_chain() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    plain = b"From: Alice <news@sub.example.org>\r\nSubject: hello\r\nBIMI-Selector: v=BIMI1; s=brand\r\n\r\nHello.\r\n"
    content = dkimpy.sign(plain, b"sel", b"sub.example.org", pem, include_headers=[b"from", b"subject", b"bimi-selector"]) + plain
    zone: dict[str, Any] = {
        "sel._domainkey.sub.example.org": {"TXT": [f"v=DKIM1; p={base64.b64encode(der).decode()}"]},
        "_dmarc.example.org": {"TXT": ["v=DMARC1; p=quarantine"]},
        "brand._bimi.example.org": {"TXT": [RECORD]},
    }
    context: Any = FakeContext(resolver=FakeResolver(zone), clock=Clock(time.time()), authserv_id="mx.example.net")
    plugins: Any = [Bimi(), AuthRes(), Spf(), Dkim(), Dmarc()]
    result = await run_chain(plugins, message=Message(Content(content)), transaction=a_transaction(), context=context)
    [written] = [one.value for one in result.edits if isinstance(one, AddHeader)]
    text = " ".join(written.split())
    assert (
        'bimi=pass reason="neither indicator nor evidence was fetched" header.d=example.org header.selector=brand policy.authority=none '
        'policy.authority-uri="https://img.example.org/logo.pem" policy.indicator-uri="https://img.example.org/logo.svg" '
        "policy.logo-preference=brand"
    ) in text
