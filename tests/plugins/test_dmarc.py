"""The DMARC plugin: author domains, what it reads of SPF and DKIM, verdicts."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway import AuthResult, Defer, Quarantine, Reject
from gateway.plugins.dmarc import Dmarc, DmarcFinding, Options
from gateway.testing import TEMPFAIL, FakeContext, FakeResolver, Result, a_message, a_session, a_transaction, run_plugin

REJECT = "v=DMARC1; p=reject"
PASS = AuthResult(method="spf", result="pass", properties=(("smtp.mailfrom", "x@example.org"),))


async def run(
    from_: str, records: dict[str, str], *results: AuthResult, options: Options | None = None, zones: dict[str, Any] | None = None
) -> tuple[DmarcFinding, Result]:
    table: dict[str, Any] = {domain: {"A": ["192.0.2.1"]} for domain in records}
    table |= {f"_dmarc.{domain}": TEMPFAIL if text == TEMPFAIL else {"TXT": [text]} for domain, text in records.items()}
    transaction = a_transaction()
    for one in results:
        transaction.findings.add("test", one)
    context: Any = FakeContext(resolver=FakeResolver({**table, **(zones or {})}))
    message = a_message(f"{from_}\r\nSubject: x\r\n\r\nbody\r\n".encode())
    result = await run_plugin(Dmarc(options), message=message, transaction=transaction, context=context)
    [finding] = transaction.findings.of(DmarcFinding)
    return finding, result


async def test_pass() -> None:
    finding, result = await run("From: a@example.org", {"example.org": REJECT}, PASS, options=Options(verdict="policy"))
    assert finding.result == "pass"
    assert finding.properties == (("header.from", "example.org"), ("policy.dmarc", "reject"))
    assert finding.reason == "p=reject: spf of example.org is aligned"
    assert result.verdict is None


async def test_the_helo_identity_does_not_count() -> None:
    helo = AuthResult(method="spf", result="pass", properties=(("smtp.helo", "example.org"),))
    finding, _ = await run("From: a@example.org", {"example.org": REJECT}, helo)
    assert finding.result == "fail"


async def test_dkim_is_read() -> None:
    dkim = AuthResult(method="dkim", result="pass", properties=(("header.d", "Mail.Example.ORG"),))
    finding, _ = await run("From: a@news.example.org", {"example.org": REJECT}, dkim)
    assert finding.result == "pass"
    assert finding.policy_domain == finding.organizational_domain == "example.org"
    assert finding.reason == "p=reject of example.org: dkim of mail.example.org is aligned"
    assert finding.aligned == ("dkim",)


@pytest.mark.parametrize(
    ("verdict", "policy", "kind"),
    [
        ("off", "reject", None),
        ("off", "quarantine", None),
        ("quarantine", "none", None),
        ("quarantine", "quarantine", Quarantine),
        ("quarantine", "reject", Quarantine),
        ("reject", "none", None),
        ("reject", "quarantine", Reject),
        ("reject", "reject", Reject),
        ("policy", "none", None),
        ("policy", "quarantine", Quarantine),
        ("policy", "reject", Reject),
        ("policy", "reject; t=y", Quarantine),
        ("policy", "quarantine; t=y", None),
    ],
)
async def test_verdicts(verdict: Any, policy: str, kind: type | None) -> None:
    options = Options(verdict=verdict, box="forged")
    finding, result = await run("From: a@example.org", {"example.org": f"v=DMARC1; p={policy}"}, options=options)
    assert finding.result == "fail"
    if kind is None:
        assert result.verdict is None
    else:
        assert isinstance(result.verdict, kind)
    if isinstance(result.verdict, Reject):
        assert (result.verdict.code, result.verdict.enhanced, result.verdict.reason) == (550, "5.7.26", "dmarc-fail")
        assert result.verdict.text == "Message rejected per DMARC policy for example.org, published at _dmarc.example.org"
        assert "neither SPF nor DKIM" in result.verdict.evidence
    if isinstance(result.verdict, Quarantine):
        assert result.verdict.box == "forged"


async def test_temporary_errors() -> None:
    finding, result = await run("From: a@example.org", {"example.org": TEMPFAIL}, options=Options(verdict="policy"))
    assert (finding.result, result.verdict) == ("temperror", None)
    _, result = await run("From: a@example.org", {"example.org": TEMPFAIL}, options=Options(temperror="defer"))
    assert isinstance(result.verdict, Defer)
    assert (result.verdict.code, result.verdict.enhanced) == (451, "4.4.3")


@pytest.mark.parametrize(("verdict", "kind"), [("accept", None), ("quarantine", Quarantine), ("reject", Reject)])
async def test_what_no_author_costs(verdict: Any, kind: type | None) -> None:
    _, result = await run("From: undisclosed:;", {}, options=Options(without_author=verdict))
    assert type(result.verdict) is (kind or type(None))
    if result.verdict is not None:
        assert result.verdict.reason == "dmarc-no-author"
    _, result = await run("From: a@example.org", {}, options=Options(without_author=verdict))
    assert result.verdict is None


@pytest.mark.parametrize("from_", ["X-None: 1", "From: ", "From: nobody", "From: undisclosed:;"])
async def test_no_author(from_: str) -> None:
    finding, result = await run(from_, {}, options=Options(verdict="policy"))
    assert (finding.result, finding.reason, result.verdict) == ("none", "no author domain in From", None)


async def test_a_host_without_a_name() -> None:
    finding, result = await run("From: a@[192.0.2.1]", {}, options=Options(verdict="policy", without_author="reject"))
    assert (finding.result, finding.reason) == ("none", "the author's host has no name")
    assert isinstance(result.verdict, Reject)


@pytest.mark.parametrize("domain", ["a..b", "-", "x" * 300, "a b\u2028c", "ex\x00ample.org"])
async def test_an_author_that_is_no_domain(domain: str) -> None:
    finding, result = await run(f"From: <a@{domain}>", {}, options=Options(verdict="policy"))
    assert finding.result in {"permerror", "none"}
    assert result.verdict is None


async def test_u_labels() -> None:
    finding, _ = await run("From: a@Exämple.org", {"xn--exmple-cua.org": REJECT})
    assert (finding.result, finding.domain) == ("fail", "xn--exmple-cua.org")


@pytest.mark.parametrize(
    "from_",
    [
        "From: a@example.net, b@example.org",
        "From: a@example.org, b@example.net",
        "From: a@example.net\r\nFrom: b@example.org",
        "From: a@none.test, b@example.org",
        "From: b@example.org, x@[192.0.2.1]",
        "From: x@a..b, b@example.org",
    ],
)
async def test_of_several_authors_the_worst_counts(from_: str) -> None:
    """Otherwise a second author would be a way around the policy of the first."""
    passing = AuthResult(method="dkim", result="pass", properties=(("header.d", "example.net"),))
    records = {"example.net": REJECT, "example.org": REJECT}
    finding, result = await run(from_, records, passing, options=Options(verdict="policy"))
    assert (finding.result, finding.domain) == ("fail", "example.org")
    assert "the worst of 2 author domains" in finding.reason or "[192" in from_
    assert isinstance(result.verdict, Reject)


async def test_one_domain_twice_is_one() -> None:
    finding, _ = await run("From: a@example.org, b@EXAMPLE.org", {"example.org": REJECT}, PASS)
    assert finding.result == "pass"


async def test_too_many_authors() -> None:
    from_ = "From: " + ", ".join(f"a@d{n}.test" for n in range(20))
    finding, result = await run(from_, {})
    assert (finding.result, result.verdict) == ("permerror", None)
    _, result = await run(from_, {}, options=Options(verdict="policy"))
    assert isinstance(result.verdict, Reject)
    assert "too many authors in From" in result.verdict.text


async def test_a_name_that_does_not_exist() -> None:
    finding, _ = await run("From: a@gone.example.org", {"example.org": "v=DMARC1; p=none; np=reject"})
    assert finding.policy == "reject"
    finding, _ = await run(
        "From: a@there.example.org", {"example.org": "v=DMARC1; p=none; np=reject"}, zones={"there.example.org": {"MX": []}}
    )
    assert finding.policy == "none"


async def test_a_record_in_several_strings() -> None:
    """RFC 9989 4.5: joined without anything between them."""
    finding, _ = await run("From: a@example.org", {}, zones={"_dmarc.example.org": {"TXT": [["v=DMARC1; p=rej", "ect"]]}})
    assert finding.policy == "reject"


async def test_look_ups_are_few() -> None:
    resolver = FakeResolver({"_dmarc.example.org": {"TXT": [REJECT]}})
    transaction = a_transaction()
    for number in range(50):
        signer = AuthResult(method="dkim", result="pass", properties=(("header.d", f"d{number}.evil.test"),))
        transaction.findings.add("test", signer)
    context: Any = FakeContext(resolver=resolver)
    message = a_message(b"From: a@" + b"x." * 60 + b"example.org\r\n\r\n")
    await run_plugin(Dmarc(), message=message, transaction=transaction, context=context)
    assert len(resolver.queries) <= 9


@pytest.mark.parametrize("client_class", ["authenticated", "trusted"])
async def test_only_strangers_are_asked_about(client_class: str) -> None:
    for all_clients in (False, True):
        transaction = a_transaction(session=a_session(client_class=client_class))
        context: Any = FakeContext(resolver=FakeResolver({"_dmarc.example.org": {"TXT": [REJECT]}}))
        options = Options(verdict="policy", all_clients=all_clients)
        result = await run_plugin(
            Dmarc(options), message=a_message(b"From: a@example.org\r\n\r\nx\r\n"), transaction=transaction, context=context
        )
        assert bool(transaction.findings.of(DmarcFinding)) is all_clients
        assert isinstance(result.verdict, Reject) is all_clients


async def test_a_trusted_client_that_spf_was_checked_for() -> None:
    """So it is behind another gateway, whose results `upstream` takes over."""
    transaction = a_transaction(session=a_session(client_class="trusted"))
    taken_over = AuthResult(method="spf", result="fail", properties=(("smtp.mailfrom", "example.org"),))
    transaction.findings.add("upstream", taken_over)
    context: Any = FakeContext(resolver=FakeResolver({"_dmarc.example.org": {"TXT": [REJECT]}}))
    message = a_message(b"From: a@example.org\r\n\r\nx\r\n")
    result = await run_plugin(Dmarc(Options(verdict="policy")), message=message, transaction=transaction, context=context)
    assert isinstance(result.verdict, Reject)


@pytest.mark.parametrize(
    ("learn_more", "domain", "text"),
    [
        ("", "news.example.org", "for news.example.org, published at _dmarc.example.org"),
        ("https://help.example/dmarc", "example.org", "for example.org; see https://help.example/dmarc"),
        ("https://help.example/?d={domain}", "example.org", "for example.org; see https://help.example/?d=example.org"),
        ("", "x." * 110 + "example.org", "for " + "x." * 110 + "example.org"),
        ("https://help.example/" + "y" * 150, "x." * 110 + "example.org", "for " + "x." * 110 + "example.org"),
    ],
)
async def test_the_reply_says_where_to_learn_more(learn_more: str, domain: str, text: str) -> None:
    options = Options(verdict="reject", learn_more=learn_more)
    _, result = await run(f"From: a@{domain}", {"example.org": REJECT}, options=options)
    assert isinstance(result.verdict, Reject)
    assert result.verdict.text == f"Message rejected per DMARC policy {text}"


@pytest.mark.parametrize(
    "url", ["help.example", "https://a b", "https://ä.example", "https://x\r\ny", "javascript:x", "https://" + "x" * 300]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        Options(learn_more=url)


async def test_what_cannot_be_read_is_held_or_refused() -> None:
    from_ = "From: " + ", ".join(f"a{n}@example.org" for n in range(200))
    kinds = {}
    for verdict in ("off", "quarantine", "careful", "policy", "reject"):
        finding, result = await run(from_, {}, PASS, options=Options(verdict=verdict))
        assert (finding.result, finding.is_unreadable) == ("permerror", True)
        kinds[verdict] = type(result.verdict)
    assert kinds == {"off": type(None), "quarantine": Quarantine, "careful": Quarantine, "policy": Reject, "reject": Reject}


async def test_many_signers_cost_few_look_ups() -> None:
    resolver = FakeResolver({"_dmarc.example.org": {"TXT": [REJECT]}})
    transaction = a_transaction()
    for number in range(50):
        domain = "x." * 10 + f"d{number}.example.org"
        transaction.findings.add("test", AuthResult(method="dkim", result="pass", properties=(("header.d", domain),)))
    context: Any = FakeContext(resolver=resolver)
    await run_plugin(Dmarc(), message=a_message(b"From: a@example.org\r\n\r\n"), transaction=transaction, context=context)
    assert len(resolver.queries) == len(set(resolver.queries)) <= 2 + 10 * 6


async def test_what_an_aggregate_report_needs() -> None:
    dkim = AuthResult(method="dkim", result="fail", properties=(("header.d", "News.example.org"), ("header.s", "k1")))
    helo = AuthResult(method="spf", result="pass", properties=(("smtp.helo", "mx.example.org"),))
    record = "v=DMARC1; p=reject; sp=quarantine; t=y; aspf=s; fo=1; rua=mailto:a@example.org!10m , nonsense,mailto:b@example.net"
    finding, _ = await run("From: a@sub.example.org", {"example.org": record}, PASS, helo, dkim)
    assert (finding.result, finding.requested, finding.policy) == ("fail", "quarantine", "none")
    assert finding.published == (
        ("p", "reject"), ("sp", "quarantine"), ("adkim", "r"), ("aspf", "s"), ("fo", "1"), ("t", "y"),
    )  # fmt: skip
    assert finding.rua == ("mailto:a@example.org!10m", "mailto:b@example.net")
    assert finding.authenticated == (("spf", "example.org", "", "pass"), ("dkim", "news.example.org", "k1", "fail"))
    assert finding.aligned == ()
    aligned, _ = await run("From: a@example.org", {"example.org": record}, PASS)
    assert aligned.aligned == ("spf",)


async def test_reports_are_wanted_although_the_policy_is_wrong() -> None:
    finding, _ = await run("From: a@example.org", {"example.org": "v=DMARC1; p=wrong; rua=mailto:a@example.org"})
    assert (finding.rua, finding.published[0]) == (("mailto:a@example.org",), ("p", "none"))


async def test_nobody_wants_reports() -> None:
    finding, _ = await run("From: a@example.org", {"example.org": REJECT})
    assert finding.rua == ()
    nowhere, _ = await run("From: a@example.org", {})
    assert (nowhere.rua, nowhere.published) == ((), ())


async def test_where_no_domain_can_be_named_there_is_no_link_to_it() -> None:
    from_ = "From: " + ", ".join(f"a@d{n}.test" for n in range(20))
    for learn_more, more in (("https://help.example/?d={domain}", ""), ("https://help.example/", "; see https://help.example/")):
        _, result = await run(from_, {}, options=Options(verdict="policy", learn_more=learn_more))
        assert isinstance(result.verdict, Reject)
        assert result.verdict.text == f"Message rejected: too many authors in From for DMARC{more}"
