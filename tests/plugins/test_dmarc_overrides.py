"""Failures that are let through: trusted forwarders, mailing lists, ARC (RFC 9990), and what looks like forwarding (RFC 7960)."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway import AuthResult, Defer, Fact, Quarantine, Reject
from gateway.plugins.dmarc import Dmarc, DmarcFinding, Options
from gateway.plugins.dmarc.overrides import MailingList, TrustedForwarder
from gateway.testing import FakeContext, FakeResolver, Result, a_message, a_session, a_transaction, run_plugin

ZONES = {
    "_dmarc.bank.example": {"TXT": ["v=DMARC1; p=reject"]},
    "_dmarc.shop.example": {"TXT": ["v=DMARC1; p=quarantine"]},
    "_dmarc.good.example": {"TXT": ["v=DMARC1; p=reject"]},
}


def spf(result: str, mailbox: str) -> AuthResult:
    return AuthResult(method="spf", result=result, properties=(("smtp.mailfrom", mailbox),))


def helo(result: str, name: str) -> AuthResult:
    return AuthResult(method="spf", result=result, properties=(("smtp.helo", name),))


def dkim(result: str, domain: str) -> AuthResult:
    return AuthResult(method="dkim", result=result, reason="x", properties=(("header.d", domain), ("header.s", "s")))


async def run(
    *results: AuthResult,
    header: str = "",
    from_: str = "a@bank.example",
    sender: str = "a@bank.example",
    client: str = "192.0.2.7",
    name: str = "",
    **options: Any,
) -> tuple[DmarcFinding, Result]:
    session = a_session(client_address=client, client_name=name)
    transaction = a_transaction(session=session, reverse_path=sender)
    for one in results:
        transaction.findings.add("test", one)
    settings = Options.model_validate({"verdict": "policy", **options})
    message = a_message(f"From: {from_}\r\n{header}Subject: x\r\n\r\nbody\r\n".encode())
    context: Any = FakeContext(resolver=FakeResolver(ZONES))
    result = await run_plugin(Dmarc(settings), message=message, transaction=transaction, context=context)
    [finding] = transaction.findings.of(DmarcFinding)
    assert finding.is_let_through is (finding.property("policy.override") is not None)
    if finding.is_let_through:
        assert result.verdict is None
        assert finding.result == "fail", "the result itself is never made better"
        facts = {fact.name: fact.value for fact in transaction.findings.of(Fact)}
        assert facts["dmarc.override"] == finding.override[0] == finding.property("policy.override")
    return finding, result


BROKEN = dkim("fail", "bank.example")
FORWARDED = spf("fail", "a@bank.example")

# --- trusted forwarders


@pytest.mark.parametrize(
    ("entry", "results", "what", "comment"),
    [
        ({"networks": ["192.0.2.0/24"]}, [FORWARDED], {}, "client 192.0.2.7 in 192.0.2.0/24; spf=fail of bank.example"),
        ({"networks": ["192.0.2.7"]}, [BROKEN], {}, "client 192.0.2.7 in 192.0.2.7/32; dkim=fail of bank.example does not verify any more"),
        ({"networks": ["192.0.2.0/24"]}, [BROKEN], {"client": "::ffff:192.0.2.7"}, "client 192.0.2.7 in 192.0.2.0/24; dkim=fail of bank.example does not verify any more"),
        ({"networks": ["2001:db8::/32"]}, [BROKEN], {"client": "2001:db8::5"}, "client 2001:db8::5 in 2001:db8::/32; dkim=fail of bank.example does not verify any more"),
        ({"networks": ["192.0.2.0/24"]}, [], {"header": "List-Id: <x.example>\r\n"}, "client 192.0.2.7 in 192.0.2.0/24; List-Id: <x.example>"),
        ({"networks": ["192.0.2.0/24"]}, [], {"header": "Resent-From: b@x.example\r\n"}, "client 192.0.2.7 in 192.0.2.0/24; Resent-From: b@x.example"),
        ({"networks": ["192.0.2.0/24"]}, [], {"sender": "SRS0=abc=12=bank.example=a@fwd.example"}, "client 192.0.2.7 in 192.0.2.0/24; the reverse-path is rewritten (SRS)"),
        ({"domains": ["fwd.example"]}, [BROKEN, spf("pass", "x@out.fwd.example")], {}, "spf=pass of out.fwd.example; dkim=fail of bank.example does not verify any more"),
        ({"domains": ["fwd.example"]}, [FORWARDED, helo("pass", "mx.fwd.example")], {}, "spf=pass of mx.fwd.example; spf=fail of bank.example"),
        ({"domains": ["fwd.example"]}, [BROKEN, dkim("pass", "fwd.example")], {}, "dkim=pass of fwd.example; dkim=fail of bank.example does not verify any more"),
        ({"domains": ["FWD.example."]}, [FORWARDED], {"name": "mx1.fwd.example"}, "the client's verified name is mx1.fwd.example; spf=fail of bank.example"),
        ({"domains": ["fwd.example"], "networks": ["192.0.2.0/24"]}, [FORWARDED], {}, "client 192.0.2.7 in 192.0.2.0/24; spf=fail of bank.example"),
        ({"domains": ["fwd.example"], "authors": ["bank.example"]}, [FORWARDED], {"name": "mx1.fwd.example"}, "the client's verified name is mx1.fwd.example; spf=fail of bank.example"),
        ({"authors": ["bank.example"]}, [BROKEN], {}, "any client, for this author domain; dkim=fail of bank.example does not verify any more"),
        ({"authors": ["bank.example"]}, [dkim("permerror", "mail.bank.example")], {"from_": "a@news.bank.example"}, "any client, for this author domain; dkim=permerror of mail.bank.example does not verify any more"),
    ],
)  # fmt: skip
async def test_a_trusted_forwarder(entry: dict[str, Any], results: list[AuthResult], what: dict[str, Any], comment: str) -> None:
    finding, _ = await run(*results, trusted_forwarders=[entry], **what)
    assert finding.override == ("trusted_forwarder", comment)
    assert finding.reason.startswith(f"let through, trusted_forwarder: {comment}; p=reject")
    assert (finding.policy, finding.disposition) == ("reject", "none")


@pytest.mark.parametrize(
    ("entry", "results", "what"),
    [
        # another client, name or domain
        ({"networks": ["198.51.100.0/24"]}, [FORWARDED, BROKEN], {}),
        ({"networks": ["192.0.2.0/24"]}, [FORWARDED, BROKEN], {"client": ""}),
        ({"networks": ["0.0.0.0/0"]}, [FORWARDED, BROKEN], {"client": "2001:db8::5"}),
        ({"domains": ["fwd.example"]}, [FORWARDED, BROKEN], {}),
        ({"domains": ["fwd.example"]}, [FORWARDED, BROKEN, spf("fail", "x@fwd.example")], {}),
        ({"domains": ["fwd.example"]}, [FORWARDED, BROKEN, dkim("fail", "fwd.example")], {}),
        ({"domains": ["fwd.example"]}, [FORWARDED, BROKEN, dkim("pass", "notfwd.example")], {}),
        (
            {"domains": ["fwd.example"]},
            [FORWARDED],
            {"header": "Received: from mx.fwd.example\r\nX-Forwarded-For: x@fwd.example\r\n"},
        ),
        # another author
        ({"networks": ["192.0.2.0/24"], "authors": ["shop.example"]}, [FORWARDED, BROKEN], {}),
        ({"authors": ["shop.example"]}, [BROKEN], {}),
        ({"authors": ["notbank.example"]}, [BROKEN], {}),
        # nothing that looks like forwarding
        ({"networks": ["192.0.2.0/24"]}, [], {}),
        ({"networks": ["192.0.2.0/24"]}, [spf("pass", "x@evil.example")], {"sender": "x@evil.example"}),
        ({"networks": ["192.0.2.0/24"]}, [dkim("fail", "evil.example")], {}),
        ({"networks": ["192.0.2.0/24"]}, [dkim("none", "bank.example")], {}),
        ({"authors": ["bank.example"]}, [FORWARDED], {}),
        ({"authors": ["bank.example"]}, [], {"sender": "SRSX@fwd.example"}),
    ],
)
async def test_whoever_is_not_one_is_refused(entry: dict[str, Any], results: list[AuthResult], what: dict[str, Any]) -> None:
    finding, result = await run(*results, trusted_forwarders=[entry], **what)
    assert not finding.is_let_through
    assert isinstance(result.verdict, Reject)
    assert finding.override == ("", "")


async def test_of_several_forwarders_one_is_enough() -> None:
    entries = [{"networks": ["198.51.100.0/24"]}, {"networks": ["192.0.2.0/24"]}]
    finding, _ = await run(FORWARDED, trusted_forwarders=entries)
    assert finding.is_let_through


async def test_nobody_is_let_through_for_another_author() -> None:
    """A forwarder that is believed for one domain is no way around the policy of another."""
    entry = {"networks": ["192.0.2.0/24"], "authors": ["bank.example"]}
    for from_, domain, kind in (
        ("a@bank.example, b@good.example", "good.example", Reject),
        ("a@good.example, b@bank.example", "good.example", Reject),
        ("a@bank.example, b@shop.example", "shop.example", Quarantine),
    ):
        finding, result = await run(FORWARDED, BROKEN, from_=from_, trusted_forwarders=[entry])
        assert (finding.domain, type(result.verdict)) == (domain, kind)
    passing = dkim("pass", "good.example")
    finding, _ = await run(FORWARDED, BROKEN, passing, from_="a@bank.example, b@good.example", trusted_forwarders=[entry])
    assert (finding.domain, finding.is_let_through) == ("bank.example", True)
    finding, _ = await run(FORWARDED, BROKEN, from_="b@nothing.example, a@bank.example", trusted_forwarders=[entry])
    assert (finding.domain, finding.result, finding.is_let_through) == ("bank.example", "fail", True)


async def test_a_pass_needs_no_forwarder() -> None:
    finding, result = await run(dkim("pass", "bank.example"), trusted_forwarders=[{"networks": ["192.0.2.0/24"]}])
    assert (finding.result, finding.override, result.verdict) == ("pass", ("", ""), None)


@pytest.mark.parametrize(
    "entry",
    [{}, {"networks": ["192.0.2.1/24"]}, {"networks": ["x"]}, {"domains": ["a b"]}, {"authors": [""]}, {"domain": ["x.example"]}],
)
def test_wrong_entries(entry: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrustedForwarder.model_validate(entry)


# --- mailing lists

LIST = "List-Id: Developers <dev.lists.example>\r\n"


@pytest.mark.parametrize(
    ("entry", "header", "signer", "comment"),
    [
        ({"lists": ["lists.example"]}, LIST, "lists.example", "list dev.lists.example, dkim=pass of lists.example"),
        ({"lists": ["dev.lists.example"]}, LIST, "dev.lists.example", "list dev.lists.example, dkim=pass of dev.lists.example"),
        ({"lists": ["lists.example"]}, "list-id: <DEV.Lists.Example>\r\n", "mail.lists.example", "list dev.lists.example, dkim=pass of mail.lists.example"),
        ({"lists": ["lists.example"], "signers": ["host.example"]}, LIST, "host.example", "list dev.lists.example, dkim=pass of host.example"),
        ({"lists": ["lists.example"]}, "List-Post: <mailto:dev@lists.example?subject=x>\r\n", "lists.example", "list lists.example, dkim=pass of lists.example"),
        ({"lists": ["lists.example"]}, "List-Post: NO (closed), <MAILTO:dev@lists.example>\r\n", "lists.example", "list lists.example, dkim=pass of lists.example"),
        ({"lists": ["lists.example"]}, "List-Id: a\r\n b\r\n <dev.lists.example>\r\n", "lists.example", "list dev.lists.example, dkim=pass of lists.example"),
    ],
)  # fmt: skip
async def test_a_mailing_list(entry: dict[str, Any], header: str, signer: str, comment: str) -> None:
    finding, _ = await run(dkim("pass", signer), BROKEN, header=header, mailing_lists=[entry])
    assert finding.override == ("mailing_list", comment)


@pytest.mark.parametrize(
    ("entry", "header", "results"),
    [
        ({"lists": ["lists.example"]}, LIST, []),
        ({"lists": ["lists.example"]}, LIST, [dkim("fail", "lists.example")]),
        ({"lists": ["lists.example"]}, LIST, [dkim("pass", "evil.example")]),
        ({"lists": ["lists.example"]}, LIST, [spf("pass", "x@lists.example")]),
        ({"lists": ["lists.example"], "signers": ["host.example"]}, LIST, [dkim("pass", "lists.example")]),
        ({"lists": ["lists.example"]}, "", [dkim("pass", "lists.example")]),
        ({"lists": ["lists.example"]}, "List-Id: <dev.evil.example>\r\n", [dkim("pass", "lists.example")]),
        ({"lists": ["lists.example"]}, "List-Id: <notlists.example>\r\n", [dkim("pass", "lists.example")]),
        ({"lists": ["lists.example"]}, "List-Id: <lists.example> <dev.evil.example>\r\n", [dkim("pass", "lists.example")]),
        ({"lists": ["lists.example"]}, "List-Id: lists.example\r\n", [dkim("pass", "lists.example")]),
        ({"lists": ["lists.example"]}, "List-Post: dev@lists.example\r\n", [dkim("pass", "lists.example")]),
        ({"lists": ["lists.example"]}, "List-Post: <https://lists.example/>\r\n", [dkim("pass", "lists.example")]),
    ],
)
async def test_what_is_no_list_of_ours(entry: dict[str, Any], header: str, results: list[AuthResult]) -> None:
    finding, result = await run(*results, BROKEN, header=header, mailing_lists=[entry])
    assert not finding.is_let_through
    assert isinstance(result.verdict, Reject)


def test_a_list_without_a_domain_is_a_mistake() -> None:
    entries: list[dict[str, Any]] = [{}, {"lists": []}, {"lists": ["a b"]}, {"signers": ["host.example"]}]
    for entry in entries:
        with pytest.raises(ValidationError):
            MailingList.model_validate(entry)


# --- ARC


def arc(result: str, *properties: tuple[str, str]) -> AuthResult:
    return AuthResult(method="arc", result=result, properties=properties)


async def test_a_trusted_sealer() -> None:
    sealed = arc("pass", ("policy.trusted-sealer", "lists.example"))
    finding, _ = await run(sealed, BROKEN)
    assert finding.override == ("local_policy", "arc=pass, sealed by lists.example, which saw dmarc=pass")
    finding, result = await run(sealed, BROKEN, trust_arc=False)
    assert not finding.is_let_through
    assert isinstance(result.verdict, Reject)


@pytest.mark.parametrize(
    "sealed",
    [arc("pass"), arc("fail", ("policy.trusted-sealer", "x.example")), arc("none", ("policy.trusted-sealer", "x.example"))],
)
async def test_other_chains_let_nothing_through(sealed: AuthResult) -> None:
    finding, result = await run(sealed, BROKEN)
    assert not finding.is_let_through
    assert isinstance(result.verdict, Reject)


async def test_a_sealer_speaks_for_one_author() -> None:
    sealed = arc("pass", ("policy.trusted-sealer", "lists.example"))
    finding, result = await run(sealed, BROKEN, from_="a@bank.example, b@shop.example")
    assert not finding.is_let_through
    assert isinstance(result.verdict, Reject)


async def test_a_sealer_whose_key_could_not_be_looked_up() -> None:
    unread = arc("fail", ("policy.unverified-sealer", "lists.example"))
    _, result = await run(unread, BROKEN, temperror="defer")
    assert isinstance(result.verdict, Defer)
    assert (result.verdict.enhanced, result.verdict.evidence) == (
        "4.4.3",
        "the ARC chain of lists.example could not be looked up",
    )
    others: list[dict[str, Any]] = [{}, {"temperror": "defer", "trust_arc": False}]
    for options in others:
        _, result = await run(unread, BROKEN, **options)
        assert isinstance(result.verdict, Reject)
    _, result = await run(unread, BROKEN, temperror="defer", verdict="off")
    assert result.verdict is None
    _, result = await run(unread, BROKEN, temperror="defer", trusted_forwarders=[{"networks": ["192.0.2.0/24"]}])
    assert result.verdict is None


# --- careful


@pytest.mark.parametrize(
    ("from_", "results", "header", "kind"),
    [
        ("a@bank.example", [FORWARDED], "", Reject),
        ("a@bank.example", [spf("pass", "x@evil.example"), dkim("pass", "evil.example")], "", Reject),
        ("a@bank.example", [BROKEN], "", Quarantine),
        ("a@bank.example", [], LIST, Quarantine),
        ("a@bank.example", [], "Delivered-To: x@y.example\r\n", Quarantine),
        ("a@bank.example", [], "ARC-Seal: i=1; d=x.example\r\n", Quarantine),
        ("a@shop.example", [], "", Quarantine),
        ("a@nothing.example", [], LIST, None),
    ],
)
async def test_careful(from_: str, results: list[AuthResult], header: str, kind: type | None) -> None:
    finding, result = await run(*results, from_=from_, header=header, verdict="careful")
    assert type(result.verdict) is (kind or type(None))
    expected = "local_policy" if finding.policy == "reject" and kind is Quarantine else ""
    assert finding.override[0] == expected
    assert not expected or finding.override[1].startswith('verdict = "careful"; ')


async def test_what_the_options_make_milder_is_local_policy() -> None:
    for verdict, override in (
        ("off", ("local_policy", 'verdict = "off"')),
        ("quarantine", ("local_policy", 'verdict = "quarantine"')),
        ("policy", ("", "")),
    ):
        finding, _ = await run(FORWARDED, verdict=verdict)
        assert finding.override == override


async def test_what_strangers_write_stays_harmless() -> None:
    header = "List-Id: \x1b[31m\u202e\x00 x\r\n  <" + "y" * 400 + ">\r\nARC-Seal: " + "z" * 5000 + "\r\n"
    finding, _ = await run(BROKEN, header=header, trusted_forwarders=[{"networks": ["192.0.2.0/24"]}], verdict="careful")
    assert finding.is_let_through
    for text in (finding.reason, *finding.details):
        assert len(text) < 400
        assert text.isascii()
        assert text.isprintable()
