"""DMARC as a table: records, results of SPF and DKIM, and what RFC 9989 makes of them, each with its section."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest

from gateway.plugins.dmarc.evaluate import Answer, Evaluation, Identifier, evaluate, walk_names
from gateway.plugins.dmarc.record import parse_record, select_record

FAILS = "TEMPFAIL"


@dataclass(frozen=True)
class Case:
    """One row. `records`: domain to TXT at `_dmarc.` of it; `spf`, `dkim`: `result:domain`; `expect`: result, tag=policy, where."""

    rfc: str
    title: str
    author: str
    records: dict[str, str | list[str]]
    expect: str
    spf: str = ""
    dkim: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    """Domains that do not exist (NXDOMAIN)."""
    organization: str = ""
    facts: dict[str, str] = field(default_factory=dict)


REJECT = "v=DMARC1; p=reject"
QUARANTINE = "v=DMARC1; p=quarantine"
NONE = "v=DMARC1; p=none"
E, ME, AME, N = "example.com", "mail.example.com", "a.mail.example.com", "example.net"

CASES = [
    # Alignment --------------------------------------------------------------------------------------------------------
    Case("4.4", "SPF aligned, identical", E, {E: REJECT}, "pass p=reject example.com", spf=f"pass:{E}"),
    Case("4.4", "DKIM aligned, identical", E, {E: REJECT}, "pass p=reject example.com", dkim=(f"pass:{E}",)),
    Case("4.4", "neither", E, {E: REJECT}, "fail p=reject example.com"),
    Case("4.4", "foo.example.com and news.example.com: relaxed", "news.example.com", {E: REJECT}, "pass p=reject example.com", dkim=("pass:foo.example.com",), organization=E),
    Case("4.4", "news.example.com and itself: strict", "news.example.com", {E: "v=DMARC1; p=reject; adkim=s"}, "pass p=reject example.com", dkim=("pass:news.example.com",)),
    Case("4.4", "foo.example.net and news.example.com: none", "news.example.com", {E: REJECT, N: REJECT}, "fail p=reject example.com", dkim=("pass:foo.example.net",)),
    Case("4.4", "names are compared without case", E, {E: REJECT}, "pass p=reject example.com", spf="pass:EXAMPLE.com"),
    Case("4.4.1", "any of several signatures is enough", E, {E: REJECT}, "pass p=reject example.com", dkim=("fail:example.com", f"pass:{N}", f"pass:{ME}")),
    Case("4.4.1", "a valid signature of a stranger is not", E, {E: REJECT}, "fail p=reject example.com", dkim=(f"pass:{N}",)),
    Case("4.4.1", "adkim=s refuses a subdomain", E, {E: "v=DMARC1; p=reject; adkim=s"}, "fail p=reject example.com", dkim=(f"pass:{ME}",)),
    Case("4.4.1", "adkim=s refuses the parent", ME, {E: "v=DMARC1; p=reject; adkim=s"}, "fail p=reject example.com", dkim=(f"pass:{E}",)),
    Case("4.4.1", "adkim=s says nothing about SPF", E, {E: "v=DMARC1; p=reject; adkim=s"}, "pass p=reject example.com", spf=f"pass:{ME}"),
    Case("4.4.2", "aspf=s refuses a subdomain", E, {E: "v=DMARC1; p=reject; aspf=s"}, "fail p=reject example.com", spf=f"pass:{ME}"),
    Case("4.4.2", "aspf=s says nothing about DKIM", E, {E: "v=DMARC1; p=reject; aspf=s"}, "pass p=reject example.com", dkim=(f"pass:{ME}",)),
    Case("4.4.2", "aspf=s takes the same domain", E, {E: "v=DMARC1; p=reject; aspf=s"}, "pass p=reject example.com", spf=f"pass:{E}"),
    Case("4.4.2", "SPF softfail is no pass", E, {E: QUARANTINE}, "fail p=quarantine example.com", spf=f"softfail:{E}"),
    Case("4.4.2", "SPF neutral is no pass", E, {E: QUARANTINE}, "fail p=quarantine example.com", spf=f"neutral:{E}"),
    Case("4.4.2", "SPF pass of another domain", E, {E: QUARANTINE}, "fail p=quarantine example.com", spf=f"pass:{N}"),
    Case("4.4.2", "a domain that only ends alike", E, {E: REJECT}, "fail p=reject example.com", spf="pass:badexample.com"),
    Case("4.10.2", "siblings below one organization", "a.example.com", {E: REJECT}, "pass p=reject example.com", spf="pass:b.example.com"),
    Case("4.10.2", "the parent of the author domain", ME, {E: REJECT}, "pass p=reject example.com", spf=f"pass:{E}"),
    # Records ----------------------------------------------------------------------------------------------------------
    Case("4.7", "no record", E, {}, "none", spf=f"pass:{E}"),
    Case("4.7", "p is absent: p=none", E, {E: "v=DMARC1; rua=mailto:d@example.com"}, "fail p=none example.com"),
    Case("4.7", "p is absent, nobody to report to: p=none", E, {E: "v=DMARC1"}, "fail p=none example.com"),
    Case("4.7", "v must come first", E, {E: "p=reject; v=DMARC1"}, "none"),
    Case("4.7", "v is case-sensitive", E, {E: "v=dmarc1; p=reject"}, "none"),
    Case("4.7", "another version", E, {E: "v=DMARC2; p=reject"}, "none"),
    Case("4.7", "a version that only begins alike", E, {E: "v=DMARC10; p=reject"}, "none"),
    Case("4.7", "t=y turns reject into quarantine", E, {E: "v=DMARC1; p=reject; t=y"}, "fail p=quarantine example.com"),
    Case("4.7", "t=y turns quarantine into none", E, {E: "v=DMARC1; p=quarantine; t=y"}, "fail p=none example.com"),
    Case("4.7", "t=y leaves none", E, {E: "v=DMARC1; p=none; t=y"}, "fail p=none example.com"),
    Case("4.7", "t=n is the default", E, {E: "v=DMARC1; p=reject; t=n"}, "fail p=reject example.com"),
    Case("4.7", "t=y with sp", ME, {E: "v=DMARC1; p=none; sp=reject; t=y"}, "fail sp=quarantine example.com"),
    Case("4.8", "white space around = and ;", E, {E: "v = DMARC1 ;  p = reject ; aspf = s ;"}, "fail p=reject example.com", spf=f"pass:{ME}"),
    Case("4.8", "tag names without case", E, {E: "v=DMARC1; P=reject; ASPF=s"}, "fail p=reject example.com", spf=f"pass:{ME}"),
    Case("4.8", "values without case", E, {E: "v=DMARC1; p=Reject"}, "fail p=reject example.com"),
    Case("4.8", "unknown tags are ignored", E, {E: "v=DMARC1; p=reject; pct=0; ri=1; x=y"}, "fail p=reject example.com"),
    Case("A.7", "pct is ignored", E, {E: "v=DMARC1; p=reject; pct=1"}, "fail p=reject example.com"),
    Case("4.8", "rubbish between tags is ignored", E, {E: "v=DMARC1; p=reject; ; nonsense; =x; 9=8"}, "fail p=reject example.com"),
    Case("4.8", "a wrong adkim is relaxed", E, {E: "v=DMARC1; p=reject; adkim=q"}, "pass p=reject example.com", dkim=(f"pass:{ME}",)),
    Case("4.8", "a wrong t is n", E, {E: "v=DMARC1; p=reject; t=maybe"}, "fail p=reject example.com"),
    Case("4.8", "a wrong psd is u", E, {E: "v=DMARC1; p=reject; psd=x"}, "fail p=reject example.com"),
    Case("4.10.1", "a wrong p with a report address is p=none", E, {E: "v=DMARC1; p=rejekt; rua=mailto:d@example.com"}, "fail p=none example.com"),
    Case("4.10.1", "a wrong p with an old size limit in rua", E, {E: "v=DMARC1; p=rejekt; rua=mailto:d@example.com!10m"}, "fail p=none example.com"),
    Case("4.10.1", "a wrong p and nobody to report to", E, {E: "v=DMARC1; p=rejekt"}, "permerror", spf=f"pass:{E}"),
    Case("4.10.1", "a wrong p and a wrong rua", E, {E: "v=DMARC1; p=rejekt; rua=nobody"}, "permerror"),
    Case("4.10.1", "a wrong sp is as bad", E, {E: "v=DMARC1; p=reject; sp=some"}, "permerror"),
    Case("4.10.1", "a wrong np is as bad", E, {E: "v=DMARC1; p=reject; np="}, "permerror"),
    Case("4.10", "two records are none", E, {E: [REJECT, QUARANTINE]}, "none"),
    Case("4.10", "other TXT records do not count", E, {E: ["v=spf1 -all", REJECT]}, "fail p=reject example.com"),
    # Discovery --------------------------------------------------------------------------------------------------------
    Case("4.10.1", "the author domain's own record goes first", ME, {ME: NONE, E: REJECT}, "fail p=none mail.example.com", organization=E),
    Case("4.10.1", "sp of the author domain's own record is ignored", ME, {ME: "v=DMARC1; p=none; sp=reject", E: REJECT}, "fail p=none mail.example.com"),
    Case("4.10.1", "else the organization's, p for lack of sp", ME, {E: REJECT}, "fail p=reject example.com"),
    Case("4.10.1", "sp for a subdomain that exists", ME, {E: "v=DMARC1; p=reject; sp=none; np=quarantine"}, "fail sp=none example.com"),
    Case("4.10.1", "np for one that does not exist", ME, {E: "v=DMARC1; p=none; sp=none; np=reject"}, "fail np=reject example.com", missing=(ME,)),
    Case("4.7", "np falls back to sp", ME, {E: "v=DMARC1; p=none; sp=quarantine"}, "fail sp=quarantine example.com", missing=(ME,)),
    Case("4.7", "np falls back to p", ME, {E: REJECT}, "fail p=reject example.com", missing=(ME,)),
    Case("4.7", "sp does not count for the organization itself", E, {E: "v=DMARC1; p=none; sp=reject; np=reject"}, "fail p=none example.com"),
    Case("4.10.1", "np without sp for one that exists: p", ME, {E: "v=DMARC1; p=none; np=reject"}, "fail p=none example.com"),
    Case("4.10.1", "a record in between that is not the organization's", AME, {ME: REJECT, E: QUARANTINE}, "fail p=quarantine example.com", organization=E),
    Case("4.10.1", "two records at the author domain: go on upwards", ME, {ME: [NONE, NONE], E: REJECT}, "fail p=reject example.com"),
    Case("4.10.1", "the Public Suffix Domain's, when the organization has none", E, {"com": "v=DMARC1; p=none; sp=reject; psd=y"}, "fail sp=reject com", organization=E),
    Case("4.10.1", "its np for an organization that does not exist", E, {"com": "v=DMARC1; p=none; sp=none; np=reject; psd=y"}, "fail np=reject com", missing=(E,)),
    Case("4.10.1", "not used when the organization published one", E, {E: NONE, "com": "v=DMARC1; p=reject; psd=y"}, "fail p=none example.com"),
    Case("5.3.1", "a Public Suffix Domain as author", "bank", {"bank": "v=DMARC1; p=reject; psd=y"}, "fail p=reject bank", organization="bank"),
    Case("4.10.1", "DNS fails at the author domain", E, {E: FAILS}, "temperror", spf=f"pass:{E}"),
    Case("4.10.1", "DNS fails on the way up", ME, {E: FAILS}, "temperror"),
    Case("5.3.6", "DNS fails for the existence, and it matters", ME, {E: "v=DMARC1; p=none; np=reject"}, "temperror", missing=(f"?{ME}",)),
    Case("5.3.6", "DNS fails for the existence, and it does not matter", ME, {E: "v=DMARC1; p=reject"}, "fail p=reject example.com", missing=(f"?{ME}",)),
    # The walk and the Organizational Domain -----------------------------------------------------------------------------
    Case("4.10.2", "records at mail.example.com and example.com", AME, {ME: REJECT, E: REJECT}, "fail p=reject example.com", organization=E),
    Case("4.10.2", "psd=n at mail.example.com", AME, {ME: "v=DMARC1; p=reject; psd=n", E: NONE}, "fail p=reject mail.example.com", organization=ME),
    Case("4.10.2", "only psd=y at com", AME, {"com": "v=DMARC1; p=reject; psd=y"}, "fail p=reject com", organization=E),
    Case("4.10.2", "psd=y at example.com: mail.example.com is the organization", AME, {E: "v=DMARC1; p=reject; psd=y"}, "fail p=reject example.com", organization=ME),
    Case("4.10.2", "psd=y ends the walk: nothing above counts", AME, {E: "v=DMARC1; p=reject; psd=y", "com": "v=DMARC1; p=none; psd=n"}, "fail p=reject example.com", organization=ME),
    Case("4.10.2", "two customers of one suffix are not aligned", "a.example.com", {E: "v=DMARC1; p=reject; psd=y"}, "fail p=reject example.com", dkim=("pass:b.example.com",), organization="a.example.com"),
    Case("4.10.2", "psd=n splits an organization: the parent does not align", AME, {ME: "v=DMARC1; p=reject; psd=n", E: REJECT}, "fail p=reject mail.example.com", spf=f"pass:{E}"),
    Case("4.10.2", "psd=n splits an organization: a cut-off child does not align", E, {ME: "v=DMARC1; p=none; psd=n", E: REJECT}, "fail p=reject example.com", dkim=(f"pass:{ME}",)),
    Case("4.10.2", "below psd=n names align", "x.mail.example.com", {ME: "v=DMARC1; p=reject; psd=n"}, "pass p=reject mail.example.com", dkim=("pass:y.mail.example.com",)),
    Case("4.10.2", "a suffix without psd=y swallows its customers", "a.co.test", {"co.test": REJECT}, "pass p=reject co.test", dkim=("pass:b.co.test",), organization="co.test"),
    Case("5.1.8", "a record deeper than the walk looks is not found", "mail.a.b.c.d.e.f.g.example.com", {"b.c.d.e.f.g.example.com": "v=DMARC1; p=none; psd=n", E: REJECT}, "fail p=reject example.com", organization=E),
    Case("5.1.8", "but the author domain's own is", "mail.a.b.c.d.e.f.g.example.com", {"mail.a.b.c.d.e.f.g.example.com": NONE, E: REJECT}, "fail p=none mail.a.b.c.d.e.f.g.example.com", organization=E),
    Case("4.10", "psd=y found after the shortcut", "a.b.c.d.e.f.g.h.i.example.com", {"g.h.i.example.com": "v=DMARC1; p=reject; psd=y"}, "fail p=reject g.h.i.example.com", organization="f.g.h.i.example.com"),
    # Temporary errors ---------------------------------------------------------------------------------------------------
    Case("5.3.6", "DKIM of the author domain could not be looked up", E, {E: REJECT}, "temperror", spf="fail:example.com", dkim=(f"temperror:{E}",)),
    Case("5.3.6", "SPF of a subdomain could not be looked up", E, {E: REJECT}, "temperror", spf=f"temperror:{ME}"),
    Case("5.3.6", "a temporary error where alignment is impossible", E, {E: REJECT}, "fail p=reject example.com", dkim=(f"temperror:{N}",)),
    Case("5.3.6", "a temporary error under strict alignment of another name", E, {E: "v=DMARC1; p=reject; adkim=s"}, "fail p=reject example.com", dkim=(f"temperror:{ME}",)),
    Case("5.3.5", "a temporary error beside an aligned pass", E, {E: REJECT}, "pass p=reject example.com", spf=f"temperror:{E}", dkim=(f"pass:{E}",)),
    Case("5.3.6", "the walk of an identifier fails", E, {E: REJECT, ME: FAILS}, "temperror", dkim=(f"pass:{ME}",)),
    Case("5.3.4", "permerror of DKIM is a failure", E, {E: REJECT}, "fail p=reject example.com", dkim=(f"permerror:{E}",)),
]  # fmt: skip


def run(case: Case) -> tuple[Evaluation, int]:
    """Evaluate with DNS from the table; also the most look-ups of one round."""
    identifiers: list[Identifier] = []
    for method, texts in (("spf", (case.spf,) if case.spf else ()), ("dkim", case.dkim)):
        kind: Literal["spf", "dkim"] = "spf" if method == "spf" else "dkim"
        pairs = (text.split(":") for text in texts)
        identifiers += [Identifier(method=kind, domain=domain.lower(), result=result) for result, domain in pairs]
    work = evaluate(case.author, identifiers)
    questions = next(work)
    most = 0
    while True:
        most = max(most, len(questions))
        try:
            questions = work.send({question: answer(case, *question) for question in questions})
        except StopIteration as done:
            return done.value, most


def answer(case: Case, name: str, kind: str) -> Answer:
    if kind == "A":
        return Answer(exists=name not in case.missing, failed=f"?{name}" in case.missing)
    found = case.records.get(name.removeprefix("_dmarc."), [])
    if found == FAILS:
        return Answer(failed=True)
    return Answer(tuple([found] if isinstance(found, str) else found))


@pytest.mark.parametrize("case", CASES, ids=[f"{case.rfc} {case.title}" for case in CASES])
def test_table(case: Case) -> None:
    found, most = run(case)
    shown: str = found.result
    if found.tag and found.result in {"pass", "fail"}:
        shown = f"{found.result} {found.tag}={found.policy} {found.policy_domain}"
    assert shown == case.expect, found
    if case.organization:
        assert found.organizational_domain == case.organization
    assert found.domain == case.author
    assert most <= 8
    assert found.result == "pass" or not found.aligned


def test_the_table_is_large_enough() -> None:
    assert len(CASES) >= 60
    assert len({case.title for case in CASES}) == len(CASES)


def test_the_eight_names_of_the_rfc() -> None:
    """RFC 9989 4.10 and 5.1.8 list them."""
    assert walk_names("a.b.c.d.e.f.g.h.i.j.mail.example.com") == [
        "a.b.c.d.e.f.g.h.i.j.mail.example.com",
        "g.h.i.j.mail.example.com",
        "h.i.j.mail.example.com",
        "i.j.mail.example.com",
        "j.mail.example.com",
        "mail.example.com",
        "example.com",
        "com",
    ]
    assert walk_names("mail.a.b.c.d.e.f.g.example.com")[1] == "c.d.e.f.g.example.com"
    assert walk_names("example.com") == ["example.com", "com"]
    assert walk_names("com") == ["com"]
    eight = "a.b.c.d.e.f.g.com"
    assert walk_names(eight)[:2] == [eight, "b.c.d.e.f.g.com"]
    assert max(len(walk_names(".".join("x" * n))) for n in range(1, 127)) == 8


def test_records_are_read_defensively() -> None:
    assert parse_record("") is None
    assert parse_record("v=DMARC1" + ";" * 5000) is None
    assert parse_record(" v=DMARC1; p=reject") is None
    record = parse_record("v=DMARC1; p=reject; p=none")
    assert record is not None
    assert record.p == "reject"
    assert select_record([]) is None
    assert parse_record("v=DMARC1; p=reject; sp=\x00reject") is not None
