"""DMARC as a table: records, results of SPF and DKIM, and what RFC 9989 makes of them, each with its section."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest

from gateway.mailauth.dmarc import Answer, parse_record, select_record, walk_names
from gateway.plugins.dmarc.evaluate import Evaluation, Identifier, evaluate

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
    Case("4.7", "p is absent, somebody to report to: p=none", E, {E: "v=DMARC1; rua=mailto:d@example.com"}, "fail p=none example.com"),
    Case("4.10.1", "p is absent, nobody to report to: DMARC does not apply", E, {E: "v=DMARC1"}, "none", spf=f"pass:{E}"),
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
    Case("A.6", "pct is ignored", E, {E: "v=DMARC1; p=reject; pct=1"}, "fail p=reject example.com"),
    Case("4.8", "rubbish between tags is ignored", E, {E: "v=DMARC1; p=reject; ; nonsense; =x; 9=8"}, "fail p=reject example.com"),
    Case("4.8", "a wrong adkim is relaxed", E, {E: "v=DMARC1; p=reject; adkim=q"}, "pass p=reject example.com", dkim=(f"pass:{ME}",)),
    Case("4.8", "a wrong t is n", E, {E: "v=DMARC1; p=reject; t=maybe"}, "fail p=reject example.com"),
    Case("4.8", "a wrong psd is u", E, {E: "v=DMARC1; p=reject; psd=x"}, "fail p=reject example.com"),
    Case("4.10.1", "a wrong p with a report address is p=none", E, {E: "v=DMARC1; p=rejekt; rua=mailto:d@example.com"}, "fail p=none example.com"),
    Case("4.10.1", "a wrong p with an old size limit in rua", E, {E: "v=DMARC1; p=rejekt; rua=mailto:d@example.com!10m"}, "fail p=none example.com"),
    Case("4.10.1", "a wrong p and nobody to report to", E, {E: "v=DMARC1; p=rejekt"}, "none", spf=f"pass:{E}"),
    Case("4.10.1", "a wrong p and a wrong rua", E, {E: "v=DMARC1; p=rejekt; rua=nobody"}, "none"),
    Case("4.10.1", "a wrong sp is as bad", E, {E: "v=DMARC1; p=reject; sp=some"}, "none"),
    Case("4.10.1", "a wrong np is as bad", E, {E: "v=DMARC1; p=reject; np="}, "none"),
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
    # Alignment, the letter ----------------------------------------------------------------------------------------------
    Case("4.4.2", "SPF temperror of a stranger's domain", E, {E: REJECT}, "fail p=reject example.com", spf=f"temperror:{N}"),
    Case("4.4.2", "SPF permerror is no pass", E, {E: REJECT}, "fail p=reject example.com", spf=f"permerror:{E}"),
    Case("4.4.2", "SPF none is no pass", E, {E: REJECT}, "fail p=reject example.com", spf=f"none:{E}"),
    Case("4.4.2", "SPF fail of the author domain", E, {E: REJECT}, "fail p=reject example.com", spf=f"fail:{E}"),
    Case("4.4.2", "SPF without a domain", E, {E: REJECT}, "fail p=reject example.com", spf="pass:"),
    Case("4.4.2", "a bounce domain three labels below", "payments.example.com", {E: REJECT}, "pass p=reject example.com", spf="pass:a.cbg.bounces.example.com"),
    Case("4.4.2", "aspf=s refuses the parent", ME, {E: "v=DMARC1; p=reject; aspf=s"}, "fail p=reject example.com", spf=f"pass:{E}"),
    Case("4.4.2", "aspf=s at the author domain's own record", ME, {ME: "v=DMARC1; p=reject; aspf=s", E: REJECT}, "fail p=reject mail.example.com", spf=f"pass:{E}"),
    Case("4.4.2", "alignment mode is of the applied record, not of the organization's", ME, {ME: REJECT, E: "v=DMARC1; p=reject; aspf=s"}, "pass p=reject mail.example.com", spf=f"pass:{E}"),
    Case("4.4.1", "DKIM without a domain", E, {E: REJECT}, "fail p=reject example.com", dkim=("pass:",)),
    Case("4.4.1", "DKIM neutral is no pass", E, {E: REJECT}, "fail p=reject example.com", dkim=(f"neutral:{E}",)),
    Case("4.4.1", "DKIM policy is no pass", E, {E: REJECT}, "fail p=reject example.com", dkim=(f"policy:{E}",)),
    Case("4.4.1", "the tenth signature passes", E, {E: REJECT}, "pass p=reject example.com", dkim=(*["fail:example.com"] * 9, f"pass:{E}")),
    Case("4.4.1", "a signature of the parent of the author domain", ME, {E: REJECT}, "pass p=reject example.com", dkim=(f"pass:{E}",)),
    Case("4.4.1", "a signature of a sibling", "news.example.com", {E: REJECT}, "pass p=reject example.com", dkim=("pass:sign.example.com",)),
    Case("4.4.1", "d= of a top-level domain without a record", E, {E: REJECT}, "fail p=reject example.com", dkim=("pass:com",)),
    Case("4.4.1", "d= of a top-level domain with psd=y", E, {E: REJECT, "com": "v=DMARC1; p=none; psd=y"}, "fail p=reject example.com", dkim=("pass:com",)),
    Case("4.4.1", "adkim=s takes the same domain among others", E, {E: "v=DMARC1; p=reject; adkim=s"}, "pass p=reject example.com", dkim=(f"pass:{ME}", f"pass:{E}")),
    Case("4.4.1", "adkim=S: the value without case", E, {E: "v=DMARC1; p=reject; adkim=S"}, "fail p=reject example.com", dkim=(f"pass:{ME}",)),
    Case("4.4", "both strict, neither identical", E, {E: "v=DMARC1; p=reject; adkim=s; aspf=s"}, "fail p=reject example.com", spf=f"pass:{ME}", dkim=(f"pass:{ME}",)),
    Case("4.4", "both strict, DKIM identical", E, {E: "v=DMARC1; p=reject; adkim=s; aspf=s"}, "pass p=reject example.com", spf=f"pass:{ME}", dkim=(f"pass:{E}",)),
    Case("4.4", "both strict, SPF identical", E, {E: "v=DMARC1; p=reject; adkim=s; aspf=s"}, "pass p=reject example.com", spf=f"pass:{E}", dkim=(f"pass:{ME}",)),
    Case("4.4", "pass needs one of the two", E, {E: REJECT}, "pass p=reject example.com", spf=f"fail:{E}", dkim=(f"pass:{E}",)),
    Case("4.4", "a name that begins alike", E, {E: REJECT}, "fail p=reject example.com", dkim=("pass:example.com.evil.test",)),
    Case("4.4", "a name with the author's as one label", E, {E: REJECT}, "fail p=reject example.com", dkim=("pass:example-com.net",)),
    Case("4.10.2", "same domain, and a record there: its organization does not matter", ME, {ME: REJECT, E: REJECT}, "pass p=reject mail.example.com", spf=f"pass:{ME}"),
    Case("4.10.2", "same domain, and the record is above", ME, {E: REJECT}, "pass p=reject example.com", spf=f"pass:{ME}"),
    Case("4.10.2", "the author's record alone makes its parent a stranger", ME, {ME: REJECT}, "fail p=reject mail.example.com", dkim=(f"pass:{E}",), organization=ME),
    Case("4.10.2", "the author's record alone keeps what is below it", ME, {ME: REJECT}, "pass p=reject mail.example.com", dkim=("pass:x.mail.example.com",)),
    Case("4.10.2", "a child with a record of its own stays in the organization", E, {E: REJECT, ME: NONE}, "pass p=reject example.com", dkim=(f"pass:{ME}",)),
    Case("4.10.2", "a grandchild cut off by psd=n between", E, {E: REJECT, ME: "v=DMARC1; psd=n; p=none"}, "fail p=reject example.com", spf=f"pass:{AME}"),
    Case("4.10.2", "a grandchild cut off by psd=y between", E, {E: REJECT, ME: "v=DMARC1; psd=y; p=none"}, "fail p=reject example.com", spf=f"pass:{AME}"),
    Case("4.10.2", "psd=u in between changes nothing", E, {E: REJECT, ME: "v=DMARC1; psd=u; p=none"}, "pass p=reject example.com", spf=f"pass:{AME}"),
    # Policies -----------------------------------------------------------------------------------------------------------
    Case("4.7", "p=none, failing", E, {E: NONE}, "fail p=none example.com"),
    Case("4.7", "p=quarantine, failing", E, {E: QUARANTINE}, "fail p=quarantine example.com"),
    Case("4.7", "p=quarantine for a subdomain", ME, {E: QUARANTINE}, "fail p=quarantine example.com"),
    Case("4.7", "sp milder than p", ME, {E: "v=DMARC1; p=reject; sp=quarantine"}, "fail sp=quarantine example.com"),
    Case("4.7", "sp stricter than p", ME, {E: "v=DMARC1; p=none; sp=reject"}, "fail sp=reject example.com"),
    Case("4.7", "sp and the domain itself", E, {E: "v=DMARC1; p=reject; sp=none"}, "fail p=reject example.com"),
    Case("4.7", "np and the domain itself, even if it does not exist", E, {E: "v=DMARC1; p=quarantine; np=reject"}, "fail p=quarantine example.com", missing=(E,)),
    Case("4.7", "np stricter than sp", ME, {E: "v=DMARC1; p=reject; sp=none; np=quarantine"}, "fail np=quarantine example.com", missing=(ME,)),
    Case("4.7", "np milder than sp", ME, {E: "v=DMARC1; p=reject; sp=reject; np=none"}, "fail np=none example.com", missing=(ME,)),
    Case("4.7", "np=none for one that exists", ME, {E: "v=DMARC1; p=reject; np=none"}, "fail p=reject example.com"),
    Case("4.7", "np equal to sp needs no question", ME, {E: "v=DMARC1; p=none; sp=reject; np=reject"}, "fail sp=reject example.com", missing=(f"?{ME}",)),
    Case("4.7", "np for a name four labels down", "a.b.c.d.example.com", {E: "v=DMARC1; p=none; np=reject"}, "fail np=reject example.com", missing=("a.b.c.d.example.com",)),
    Case("4.7", "np in a record below the organization is ignored", AME, {ME: "v=DMARC1; p=none; np=reject", E: QUARANTINE}, "fail p=quarantine example.com", missing=(AME,)),
    Case("4.7", "sp in the author domain's own record, and nothing above", ME, {ME: "v=DMARC1; p=none; sp=reject"}, "fail p=none mail.example.com"),
    Case("4.7", "tags in any order", E, {E: "v=DMARC1; rua=mailto:d@example.com; sp=none; adkim=s; p=reject"}, "fail p=reject example.com"),
    Case("4.7", "p last, without a semicolon", E, {E: "v=DMARC1; t=n; p=quarantine"}, "fail p=quarantine example.com"),
    Case("4.7", "pass keeps the policy in sight", ME, {E: "v=DMARC1; p=reject; sp=quarantine"}, "pass sp=quarantine example.com", spf=f"pass:{E}"),
    Case("4.7", "t=y and a pass", E, {E: "v=DMARC1; p=reject; t=y"}, "pass p=quarantine example.com", spf=f"pass:{E}"),
    Case("4.7", "t=Y: the value without case", E, {E: "v=DMARC1; p=reject; t=Y"}, "fail p=quarantine example.com"),
    Case("4.7", "t=yes is none of its values", E, {E: "v=DMARC1; p=reject; t=yes"}, "fail p=reject example.com"),
    Case("4.7", "t=y with np", ME, {E: "v=DMARC1; p=none; np=reject; t=y"}, "fail np=quarantine example.com", missing=(ME,)),
    Case("4.7", "t=y with sp=quarantine", ME, {E: "v=DMARC1; p=reject; sp=quarantine; t=y"}, "fail sp=none example.com"),
    Case("4.7", "t=y with sp=none", ME, {E: "v=DMARC1; p=reject; sp=none; t=y"}, "fail sp=none example.com"),
    Case("4.7", "t=y of the suffix", E, {"com": "v=DMARC1; p=reject; psd=y; t=y"}, "fail p=quarantine com"),
    Case("4.7", "t in another domain's record does not count", ME, {ME: REJECT, E: "v=DMARC1; p=reject; t=y"}, "fail p=reject mail.example.com"),
    Case("A.6", "pct=0 does not turn the policy off", E, {E: "v=DMARC1; p=quarantine; pct=0"}, "fail p=quarantine example.com"),
    Case("A.6", "a pct that is no number", E, {E: "v=DMARC1; p=quarantine; pct=many"}, "fail p=quarantine example.com"),
    Case("9.3", "rf and ri are ignored, whatever they say", E, {E: "v=DMARC1; p=reject; rf=x!; ri=-1"}, "fail p=reject example.com"),
    Case("4.7", "fo without ruf, and nonsense in it", E, {E: "v=DMARC1; p=reject; fo=9:z"}, "fail p=reject example.com"),
    Case("4.7", "ruf alone is nobody for aggregate reports", E, {E: "v=DMARC1; p=rejekt; ruf=mailto:d@example.com"}, "none"),
    # The record's syntax ------------------------------------------------------------------------------------------------
    Case("4.8", "V: the tag's name without case", E, {E: "V=DMARC1; p=reject"}, "fail p=reject example.com"),
    Case("4.8", "no space anywhere", E, {E: "v=DMARC1;p=reject;aspf=s"}, "fail p=reject example.com", spf=f"pass:{ME}"),
    Case("4.8", "a semicolon at the end", E, {E: "v=DMARC1;p=reject;"}, "fail p=reject example.com"),
    Case("4.8", "tabs are white space", E, {E: "v=DMARC1\t;\tp\t=\treject\t"}, "fail p=reject example.com"),
    Case("4.8", "spaces at the end", E, {E: "v=DMARC1; p=reject   "}, "fail p=reject example.com"),
    Case("4.8", "a space in front: no record", E, {E: " v=DMARC1; p=reject"}, "none"),
    Case("4.8", "a quotation mark in front: no record", E, {E: '"v=DMARC1; p=reject"'}, "none"),
    Case("4.8", "no separator behind the version", E, {E: "v=DMARC1 p=reject"}, "none"),
    Case("4.8", "a comma for a separator", E, {E: "v=DMARC1, p=reject"}, "none"),
    Case("4.8", "a version with an addition", E, {E: "v=DMARC1x; p=reject"}, "none"),
    Case("4.8", "Dmarc1", E, {E: "v=Dmarc1; p=reject"}, "none"),
    Case("4.8", "an SPF record in its place", E, {E: "v=spf1 include:_spf.example.com -all"}, "none"),
    Case("4.8", "an empty record", E, {E: ""}, "none"),
    Case("4.8", "two semicolons in a row", E, {E: "v=DMARC1;; p=reject"}, "fail p=reject example.com"),
    Case("4.8", "a tag without a value", E, {E: "v=DMARC1; adkim; p=reject"}, "pass p=reject example.com", dkim=(f"pass:{ME}",)),
    Case("4.8", "an empty adkim is relaxed", E, {E: "v=DMARC1; p=reject; adkim="}, "pass p=reject example.com", dkim=(f"pass:{ME}",)),
    Case("4.8", "a wrong aspf is relaxed", E, {E: "v=DMARC1; p=reject; aspf=strict"}, "pass p=reject example.com", spf=f"pass:{ME}"),
    Case("4.8", "a digit in a tag's name makes it unknown", E, {E: "v=DMARC1; p2=none; p=reject"}, "fail p=reject example.com"),
    Case("4.8", "of a tag twice the first counts", E, {E: "v=DMARC1; p=reject; p=none"}, "fail p=reject example.com"),
    Case("4.8", "v twice: the second is unknown", E, {E: "v=DMARC1; v=DMARC2; p=reject"}, "fail p=reject example.com"),
    Case("4.8", "Sp and NP: names without case", ME, {E: "v=DMARC1; p=none; Sp=reject"}, "fail sp=reject example.com"),
    Case("4.8", "QUARANTINE", E, {E: "v=DMARC1; p=QUARANTINE"}, "fail p=quarantine example.com"),
    Case("4.8", "octets beyond ASCII spoil their own tag only", E, {E: "v=DMARC1; p=reject; x=\ufffd\ufffd; aspf=s"}, "fail p=reject example.com", spf=f"pass:{ME}"),
    Case("4.8", "a control character spoils its tag", E, {E: "v=DMARC1; p=reject; aspf=s\x00"}, "pass p=reject example.com", spf=f"pass:{ME}"),
    Case("4.8", "an equals sign in a value", E, {E: "v=DMARC1; p=reject; x=a=b=c"}, "fail p=reject example.com"),
    Case("4.8", "psd=N: the value without case", AME, {ME: "v=DMARC1; p=reject; psd=N", E: NONE}, "fail p=reject mail.example.com", organization=ME),
    Case("4.8", "psd=yes is none of its values", E, {"com": "v=DMARC1; p=reject; psd=yes"}, "fail p=reject com", organization="com"),
    Case("4.5", "a record among ten others", E, {E: [*(f"verification={n}" for n in range(10)), REJECT]}, "fail p=reject example.com"),
    Case("4.10", "two records, one of them wrong", E, {E: [REJECT, "v=DMARC1; p=rejekt"]}, "none"),
    Case("4.10", "two equal records", E, {E: [REJECT, REJECT]}, "none"),
    Case("4.10", "a record and one of another version", E, {E: [REJECT, "v=DMARC2; p=none"]}, "fail p=reject example.com"),
    # A policy that is none ----------------------------------------------------------------------------------------------
    Case("4.10.1", "a wrong p, somebody to report to, and a pass", E, {E: "v=DMARC1; p=rejekt; rua=mailto:d@example.com"}, "pass p=none example.com", spf=f"pass:{E}"),
    Case("4.10.1", "a wrong p drops sp with it", ME, {E: "v=DMARC1; p=rejekt; sp=reject; rua=mailto:d@example.com"}, "fail p=none example.com"),
    Case("4.10.1", "no p drops sp with it", ME, {E: "v=DMARC1; sp=reject; rua=mailto:d@example.com"}, "fail p=none example.com"),
    Case("4.10.1", "no p, sp and np, nobody to report to", ME, {E: "v=DMARC1; sp=reject; np=reject"}, "none"),
    Case("4.10.1", "a wrong sp with somebody to report to", E, {E: "v=DMARC1; p=reject; sp=bounce; rua=mailto:d@example.com"}, "fail p=none example.com"),
    Case("4.10.1", "an empty np with somebody to report to", ME, {E: "v=DMARC1; p=reject; np=; rua=mailto:d@example.com"}, "fail p=none example.com"),
    Case("4.10.1", "other tags of such a record still count", E, {E: "v=DMARC1; p=block; adkim=s; rua=mailto:d@example.com"}, "fail p=none example.com", dkim=(f"pass:{ME}",)),
    Case("4.10.1", "one of several report addresses is enough", E, {E: "v=DMARC1; p=block; rua=nobody,mailto:d@example.com"}, "fail p=none example.com"),
    Case("4.10.1", "a report address by another scheme", E, {E: "v=DMARC1; p=block; rua=https://example.com/dmarc"}, "fail p=none example.com"),
    Case("4.10.1", "mailto without an address", E, {E: "v=DMARC1; p=block; rua=mailto:"}, "none"),
    Case("4.10.1", "an address that is no URI", E, {E: "v=DMARC1; p=block; rua=dmarc@example.com"}, "none"),
    Case("4.8", "a URI with a bare exclamation mark", E, {E: "v=DMARC1; p=block; rua=mailto:d!x@example.com"}, "none"),
    Case("4.8", "a URI with a space", E, {E: "v=DMARC1; p=block; rua=mailto:d d@example.com"}, "none"),
    Case("4.8", "a URI with half an escape", E, {E: "v=DMARC1; p=block; rua=mailto:d%4@example.com"}, "none"),
    Case("4.8", "a URI with an escape", E, {E: "v=DMARC1; p=block; rua=mailto:d%2Cd@example.com"}, "fail p=none example.com"),
    Case("4.10.1", "a policy with a space within", E, {E: "v=DMARC1; p=re ject"}, "none"),
    Case("4.10.1", "an empty p", E, {E: "v=DMARC1; p=; rua=mailto:d@example.com"}, "fail p=none example.com"),
    Case("4.10.1", "the author domain's useless record ends the search", ME, {ME: "v=DMARC1; p=block", E: REJECT}, "none", spf=f"pass:{ME}"),
    Case("4.10.1", "the organization's useless record is the record", ME, {E: "v=DMARC1; p=block"}, "none"),
    Case("4.10.1", "its psd counts all the same", AME, {ME: "v=DMARC1; p=block; psd=n", E: REJECT}, "none", organization=ME),
    # Discovery, the letter ----------------------------------------------------------------------------------------------
    Case("4.10.1", "other TXT records at the author domain: go on upwards", ME, {ME: ["a", "b"], E: QUARANTINE}, "fail p=quarantine example.com"),
    Case("4.10.1", "a record of another version at the author domain: go on", ME, {ME: "v=DMARC2; p=none", E: REJECT}, "fail p=reject example.com"),
    Case("4.10.2", "two records above the author domain, one with psd=n: none counts", AME, {ME: ["v=DMARC1; p=reject; psd=n", NONE], E: QUARANTINE}, "fail p=quarantine example.com", organization=E),
    Case("4.10.2", "the fewest labels win, whatever lies between", "a.b.c.example.com", {"b.c.example.com": NONE, "c.example.com": QUARANTINE, E: REJECT}, "fail p=reject example.com", organization=E),
    Case("4.10.2", "psd=n below another psd=n", "x.a.mail.example.com", {AME: "v=DMARC1; p=none; psd=n", ME: "v=DMARC1; p=reject; psd=n"}, "fail p=none a.mail.example.com", organization=AME),
    Case("4.10.2", "psd=n at the author domain", ME, {ME: "v=DMARC1; p=reject; psd=n", E: NONE}, "fail p=reject mail.example.com", dkim=(f"pass:{E}",), organization=ME),
    Case("4.10.2", "psd=n at the top", AME, {"com": "v=DMARC1; p=reject; psd=n"}, "fail p=reject com", organization="com"),
    Case("4.10.2", "psd=y two labels up: the child of it", "x.a.mail.example.com", {E: "v=DMARC1; p=reject; psd=y"}, "fail p=reject example.com", organization=ME),
    Case("4.10.2", "psd=y, and a record of the organization below it", AME, {E: "v=DMARC1; p=reject; psd=y", ME: QUARANTINE}, "fail p=quarantine mail.example.com", organization=ME),
    Case("4.10.2", "psd=y, and a record further down: the suffix speaks for the organization", "x.a.mail.example.com", {E: "v=DMARC1; p=reject; psd=y", AME: NONE}, "fail p=reject example.com", organization=ME),
    Case("4.10.2", "psd=y at the author domain stops at once", ME, {ME: "v=DMARC1; p=reject; psd=y", E: NONE}, "fail p=reject mail.example.com", organization=ME),
    Case("4.10.2", "a suffix as author, signed below it", "bank", {"bank": "v=DMARC1; p=reject; psd=y"}, "fail p=reject bank", dkim=("pass:giant.bank",)),
    Case("4.10.2", "a suffix as author, signed by itself", "bank", {"bank": "v=DMARC1; p=reject; psd=y"}, "pass p=reject bank", dkim=("pass:bank",)),
    Case("4.10.2", "the suffix itself does not sign for its customer", "giant.bank", {"bank": "v=DMARC1; p=reject; psd=y"}, "fail p=reject bank", dkim=("pass:bank",)),
    Case("4.10.2", "a customer of a suffix, signed by its own subdomain", "giant.bank", {"bank": "v=DMARC1; p=reject; psd=y"}, "pass p=reject bank", spf="pass:mail.giant.bank"),
    Case("4.10.1", "sp of the suffix for a customer that exists", "giant.bank", {"bank": "v=DMARC1; p=none; sp=quarantine; np=reject; psd=y"}, "fail sp=quarantine bank"),
    Case("4.10.1", "sp of the suffix for a subdomain of a customer", "mail.giant.bank", {"bank": "v=DMARC1; p=reject; sp=quarantine; psd=y"}, "pass sp=quarantine bank", dkim=("pass:giant.bank",), organization="giant.bank"),
    Case("4.10.1", "np of the suffix for a customer that does not exist", "fake.bank", {"bank": "v=DMARC1; p=reject; sp=none; np=reject; psd=y"}, "fail np=reject bank", missing=("fake.bank",)),
    Case("B.4.3", "giant.bank.example and mega.bank.example below a suffix", "giant.bank.example", {"bank.example": "v=DMARC1; p=reject; psd=y; rua=mailto:psd@bank.example", "giant.bank.example": QUARANTINE}, "pass p=quarantine giant.bank.example", spf="pass:mail.giant.bank.example", dkim=("pass:mail.mega.bank.example",), organization="giant.bank.example"),
    Case("B.4.1", "records of the author and of the signer", E, {E: REJECT, "signing.example.com": REJECT}, "pass p=reject example.com", spf=f"pass:{E}", dkim=("pass:signing.example.com",), organization=E),
    Case("B.4.2", "a deep author, records only at the organization", "a.b.c.d.e.f.g.h.i.j.k.example.com", {E: REJECT, "signing.example.com": REJECT}, "pass p=reject example.com", dkim=("pass:signing.example.com",), organization=E),
    Case("5.1.8", "psd=n within reach of the shortcut", "mail.a.b.c.d.e.f.g.example.com", {"c.d.e.f.g.example.com": "v=DMARC1; p=none; psd=n", E: REJECT}, "fail p=none c.d.e.f.g.example.com", organization="c.d.e.f.g.example.com"),
    Case("4.10", "eight labels: the next name has seven", "a.b.c.d.e.f.example.com", {"b.c.d.e.f.example.com": "v=DMARC1; p=none; psd=n", E: REJECT}, "fail p=none b.c.d.e.f.example.com"),
    Case("4.10", "nine labels: the eighth is skipped", "x.a.b.c.d.e.f.example.com", {"a.b.c.d.e.f.example.com": "v=DMARC1; p=none; psd=n", E: REJECT}, "fail p=reject example.com"),
    Case("4.10", "seven labels: none is skipped", "b.c.d.e.f.example.com", {"c.d.e.f.example.com": "v=DMARC1; p=none; psd=n", E: REJECT}, "fail p=none c.d.e.f.example.com"),
    Case("4.10.2", "a deep signer and its organization", E, {E: REJECT}, "pass p=reject example.com", dkim=("pass:a.b.c.d.e.f.g.h.i.j.example.com",)),
    Case("4.10.2", "a deep signer's own record does not cut it off", E, {E: REJECT, "a.b.c.d.e.f.g.h.example.com": NONE}, "pass p=reject example.com", dkim=("pass:a.b.c.d.e.f.g.h.example.com",)),
    Case("4.10.2", "a deep signer with psd=n of its own is cut off", E, {E: REJECT, "a.b.c.d.e.f.g.h.example.com": "v=DMARC1; p=none; psd=n"}, "fail p=reject example.com", dkim=("pass:a.b.c.d.e.f.g.h.example.com",)),
    Case("4.10.1", "a top-level domain as author, without a record", "com", {}, "none", organization="com"),
    Case("4.10.1", "a record at a top-level domain without psd covers all below", E, {"com": REJECT}, "pass p=reject com", dkim=("pass:other.com",), organization="com"),
    Case("11.8", "psd=n guards against such a suffix", E, {"com": REJECT, E: "v=DMARC1; p=reject; psd=n"}, "fail p=reject example.com", dkim=("pass:other.com",), organization=E),
    Case("11.8", "a subdomain in other hands passes for its organization", E, {E: REJECT}, "pass p=reject example.com", spf="pass:evil.example.com"),
    Case("11.8", "strict alignment keeps it out", E, {E: "v=DMARC1; p=reject; aspf=s; adkim=s"}, "fail p=reject example.com", spf="pass:evil.example.com"),
    Case("5.3.2", "no record anywhere, and everything passes", AME, {}, "none", spf=f"pass:{AME}", dkim=(f"pass:{AME}",), organization=AME),
    # DNS fails, the letter ----------------------------------------------------------------------------------------------
    Case("4.10.2", "above the author's own record, and the same domain passes", E, {E: REJECT, "com": FAILS}, "pass p=reject example.com", dkim=(f"pass:{E}",)),
    Case("5.3.5", "above the author's own record, and nothing passes", E, {E: REJECT, "com": FAILS}, "fail p=reject example.com", spf=f"fail:{E}"),
    Case("5.3.6", "above the author's own record, and only another name could align", E, {E: REJECT, "com": FAILS}, "temperror", dkim=(f"pass:{ME}",)),
    Case("4.4.1", "above the author's own record, under strict alignment", E, {E: "v=DMARC1; p=reject; adkim=s", "com": FAILS}, "fail p=reject example.com", dkim=(f"pass:{ME}",)),
    Case("4.10.2", "above the author's own record, and a stranger of another top-level domain passes", E, {E: REJECT, "com": FAILS}, "fail p=reject example.com", dkim=(f"pass:{N}",)),
    Case("4.10", "psd=n ends the walk before the name that fails", ME, {ME: "v=DMARC1; p=reject; psd=n", E: FAILS}, "fail p=reject mail.example.com"),
    Case("4.10", "psd=y ends the walk before the name that fails", ME, {E: "v=DMARC1; p=reject; psd=y", "com": FAILS}, "fail p=reject example.com", organization=ME),
    Case("5.3.6", "the name between author and organization fails", AME, {ME: FAILS, E: REJECT}, "temperror", spf=f"pass:{AME}"),
    Case("5.3.6", "the top fails, the organization's record is known", ME, {E: REJECT, "com": FAILS}, "temperror"),
    Case("5.3.6", "the signer's walk fails, MAIL FROM is aligned", E, {E: REJECT, ME: FAILS}, "pass p=reject example.com", spf="pass:bounces.example.com", dkim=(f"pass:{ME}",)),
    Case("4.4.1", "the signer's walk fails where it is not needed", E, {E: "v=DMARC1; p=reject; adkim=s", ME: FAILS}, "fail p=reject example.com", dkim=(f"pass:{ME}",)),
    Case("4.4.1", "the signer's walk fails and its signature does not pass", E, {E: REJECT, ME: FAILS}, "fail p=reject example.com", dkim=(f"fail:{ME}",)),
    Case("5.3.6", "SPF and DKIM both could not be looked up", E, {E: REJECT}, "temperror", spf=f"temperror:{E}", dkim=(f"temperror:{E}",)),
    Case("5.3.6", "a temporary error of the parent's signature", ME, {E: REJECT}, "temperror", dkim=(f"temperror:{E}",)),
    Case("5.3.6", "a temporary error of a cut-off child's signature", E, {E: REJECT, ME: "v=DMARC1; p=none; psd=n"}, "fail p=reject example.com", dkim=(f"temperror:{ME}",)),
    Case("5.3.6", "a temporary error of a stranger beside a failure", E, {E: REJECT}, "fail p=reject example.com", spf=f"temperror:{N}", dkim=(f"fail:{E}",)),
    Case("5.3.5", "existence unknown, but it passes", ME, {E: "v=DMARC1; p=none; np=reject"}, "pass p=none example.com", missing=(f"?{ME}",), spf=f"pass:{E}"),
    Case("4.10.1", "DNS fails for the record, and nothing else is known", E, {E: FAILS}, "temperror"),
    Case("4.10.1", "DNS fails everywhere", AME, {AME: FAILS, ME: FAILS, E: FAILS, "com": FAILS}, "temperror", dkim=(f"pass:{AME}",)),
    # Names --------------------------------------------------------------------------------------------------------------
    Case("5.3.1", "A-labels are names like others", "xn--exmple-cua.org", {"xn--exmple-cua.org": REJECT}, "pass p=reject xn--exmple-cua.org", dkim=("pass:mail.xn--exmple-cua.org",)),
    Case("4.10", "a name with an underscore", "_x.example.com", {E: REJECT}, "fail p=reject example.com"),
    Case("4.10", "a name of 63 octets in a label", f"{'a' * 63}.example.com", {E: REJECT}, "fail p=reject example.com"),
    Case("4.10", "a name of 120 labels", ".".join("x" * 118) + ".example.com", {E: REJECT}, "fail p=reject example.com", organization=E),
    Case("4.10.2", "many signers below the organization, the last in reach", E, {E: "v=DMARC1; p=reject"}, "pass p=reject example.com", dkim=tuple(f"pass:s{n}.example.com" for n in range(50))),
    Case("4.10.2", "more signers than are walked from, all cut off", E, {E: REJECT, **{f"s{n}.example.com": "v=DMARC1; p=none; psd=n" for n in range(50)}}, "fail p=reject example.com", dkim=tuple(f"pass:s{n}.example.com" for n in range(50))),
    Case("4.10.2", "the same domain is never lost among them", E, {E: REJECT, **{f"s{n}.example.com": "v=DMARC1; p=none; psd=n" for n in range(50)}}, "pass p=reject example.com", dkim=(*(f"pass:s{n}.example.com" for n in range(50)), f"pass:{E}")),
]  # fmt: skip


def run(case: Case) -> tuple[Evaluation, int]:
    """Evaluate with DNS from the table; also how many names were asked for each domain that was walked from, at most."""
    identifiers: list[Identifier] = []
    for method, texts in (("spf", (case.spf,) if case.spf else ()), ("dkim", case.dkim)):
        kind: Literal["spf", "dkim"] = "spf" if method == "spf" else "dkim"
        pairs = (text.split(":") for text in texts)
        identifiers += [Identifier(method=kind, domain=domain.lower(), result=result) for result, domain in pairs]
    work = evaluate(case.author, identifiers)
    questions = next(work)
    most = 0
    while True:
        walked = {case.author} if not most else {one.domain for one in identifiers}
        most = max(most, 1 if not walked else -(-len(questions) // len(walked)))
        try:
            questions = work.send({question: answer(case, *question) for question in questions})
        except StopIteration as done:
            return done.value, most


def answer(case: Case, name: str, kind: str) -> Answer:
    if kind == "A":
        assert name == case.author, "only the author domain's existence is asked"
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
    assert len(CASES) >= 200
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


def test_the_details_tell_every_step() -> None:
    case = Case(
        "4.10",
        "",
        AME,
        {ME: [REJECT, NONE], E: "v=DMARC1; p=none; np=reject; t=y"},
        "",
        spf=f"fail:{AME}",
        dkim=(f"pass:{N}",),
        missing=(AME,),
    )
    found, _ = run(case)
    assert found.details == (
        "_dmarc.a.mail.example.com: no record",
        "_dmarc.mail.example.com: 2 records, so none counts",
        "_dmarc.example.com: v=DMARC1; p=none; np=reject; t=y",
        "_dmarc.com: no record",
        "np=reject of example.com counts, organizational domain example.com",
        "a.mail.example.com does not exist: np counts",
        "t=y makes reject one level milder",
        "spf=fail of a.mail.example.com: aligned, it is the author domain",
        "dkim=pass of example.net: not aligned, it is outside of example.com",
    )
    assert (
        found.reason
        == "not aligned: spf=fail of a.mail.example.com, dkim=pass of example.net; t=y makes np=reject one level milder"
    )


def test_long_records_are_cut_where_they_are_shown() -> None:
    found, _ = run(Case("4.7", "", E, {E: "v=DMARC1; p=reject; x=" + "y" * 3000}, ""))
    assert max(map(len, found.details)) < 200
    assert found.policy == "reject"


@pytest.mark.parametrize(
    ("rua", "uris"),
    [
        ("mailto:a@example.com", ("mailto:a@example.com",)),
        ("mailto:a@example.com!10m , mailto:b@example.com", ("mailto:a@example.com!10m", "mailto:b@example.com")),
        ("mailto:a@example.com,,x,https://example.com/d?a=b", ("mailto:a@example.com", "https://example.com/d?a=b")),
        ("mailto:", ()),
        ("", ()),
    ],
)
def test_report_addresses(rua: str, uris: tuple[str, ...]) -> None:
    record = parse_record(f"v=DMARC1; p=none; rua={rua}")
    assert record is not None
    assert record.rua == uris
