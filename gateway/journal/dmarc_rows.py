"""What one decision record says for DMARC aggregate reports: RFC 9990 2.1. Pure; all of it comes from the DMARC finding.

A finding is recognised by `method = "dmarc"` and `rua`, so any plugin may give it. Nothing here trusts what it reads: domains,
selectors and addresses are strangers' text.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gateway.trace import Record, StepRecord

MAX_SIGNATURES = 20
"""Signatures of one row, the most telling first. RFC 9990 2.1.3 allows 100."""
MAX_TEXT = 255
"""Characters of a domain or selector."""
MAX_COMMENT = 200
MAX_URIS = 10
DKIM_RESULTS = frozenset({"none", "pass", "fail", "policy", "neutral", "temperror", "permerror"})
SPF_RESULTS = DKIM_RESULTS | {"softfail"}
OVERRIDES = frozenset({"local_policy", "mailing_list", "other", "policy_test_mode", "trusted_forwarder"})
"""RFC 9990 2.1.6."""
POLICIES = ("none", "quarantine", "reject")
_DISPOSED = {"reject": "reject", "discard": "reject", "quarantine": "quarantine"}
_RECEIVED = frozenset({"delivered", "held", "rejected", "discarded"})
"""A message that was deferred comes again, and is counted then."""
_INNER = tuple(
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8",
        "fc00::/7", "fe80::/10", "::1/128",
    )
)  # fmt: skip
_DOMAIN = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_][a-z0-9_-]{0,62})*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRow:
    """One message, as its row of the report has it."""

    day: str
    """In UTC, `2026-11-26`."""
    policy_domain: str
    row: str
    """JSON, the same for messages that belong together."""
    policy: str = field(compare=False)
    """JSON: `published`, `rua`. The last one seen in a day stands for it (RFC 9990 2.1)."""

    @property
    def key(self) -> bytes:
        """Tells rows apart."""
        return hashlib.sha256(self.row.encode()).digest()[:16]


def rows_of(record: Record, *, recipient_domains: bool) -> Iterator[ReportRow]:
    """A row for each DMARC finding of a message that was received, one as a rule. Raises what a wrong record raises."""
    source = _source(record["client"])
    # a submission is not mail received, and its address is a person's
    if not source or record["identity"] or not _was_received(record) or _came_by_another_gateway(record):
        return
    for step in record["steps"]:
        found = [one for one in step["findings"] if one.get("method") == "dmarc"] if step["stage"] == "check" else []
        for finding in found:
            domain = str(finding.get("policy_domain", "")).lower()
            if finding.get("rua") and len(domain) <= 253 and _DOMAIN.fullmatch(domain):
                yield _row(record, step, finding, domain, source, recipient_domains=recipient_domains)
        if found:  # a second plugin, on trial perhaps, does not count the message again
            return


def _row(
    record: Record, step: StepRecord, finding: dict[str, Any], domain: str, source: str, *, recipient_domains: bool
) -> ReportRow:
    aligned = finding.get("aligned") or ()
    disposition = _disposition(record, step["plugin"], finding)
    found: dict[str, Any] = {
        "source": source,
        "disposition": disposition,
        "dkim": "pass" if "dkim" in aligned else "fail",
        "spf": "pass" if "spf" in aligned else "fail",
        "reason": _reason(disposition, finding),
        "header_from": _text(finding.get("domain")),
        "envelope_from": _domain_of(record["reverse_path"]),
        "signatures": _signatures(finding),
        "mail_from": _mail_from(finding),
    }
    if recipient_domains:
        domains = {_domain_of(recipient["forward_path"]) for recipient in record["recipients"]}
        if len(domains) == 1:  # one message is one row: of several domains none is told
            found["envelope_to"] = domains.pop()
    policy = {
        "published": [[_text(name), _text(value)] for name, value in finding.get("published") or ()],
        "rua": [str(uri)[:500] for uri in finding["rua"]][:MAX_URIS],
    }
    day = datetime.fromtimestamp(record["time"], UTC).strftime("%Y-%m-%d")
    return ReportRow(day=day, policy_domain=domain, row=_json(found), policy=_json(policy))


def _was_received(record: Record) -> bool:
    return record["verdict"] in _RECEIVED or any(one["fate"] == "delivered" for one in record["recipients"])


def _came_by_another_gateway(record: Record) -> bool:
    """SPF is what that one found (`upstream`): it saw the client, we did not, and it is the one to report."""
    return any(
        finding.get("upstream") and finding.get("method") == "spf"
        for step in record["steps"]
        if step["stage"] == "check"
        for finding in step["findings"]
    )


def _source(client: str) -> str:
    """The client's address as RFC 3986 3.2.2 writes it; `` for one without, or of an inner network, which tells nobody anything."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return ""
    address = getattr(address, "ipv4_mapped", None) or address
    return "" if any(address in network for network in _INNER) else str(address)


def _disposition(record: Record, plugin: str, finding: dict[str, Any]) -> str:
    """What DMARC did, and nobody else: what other filters did is not told (RFC 9990 7.3)."""
    decided = [_DISPOSED.get(one["verdict"], "none") for one in record["recipients"] if one["plugin"] == plugin]
    strongest = max(decided, key=POLICIES.index, default="none")
    if strongest == "none" and finding.get("result") == "pass" and finding.get("requested", "none") != "none":
        return "pass"
    return strongest


def _reason(disposition: str, finding: dict[str, Any]) -> list[str]:
    """[type, comment] where the policy was not applied to a message that failed; RFC 9990 2.1.1.9 wants it then. Else []."""
    result, requested = finding.get("result"), finding.get("requested", "none")
    if result == "pass" or disposition == requested:
        return []
    kind, comment = (*(finding.get("override") or ()), "", "")[:2]
    if kind == "local_policy":
        return [kind, ""]  # how we filter is not told (RFC 9990 7.3)
    if kind in OVERRIDES:
        return [kind, str(comment)[:MAX_COMMENT]]
    if result == "temperror":
        return ["other", "temporary failure of DNS"]
    if ["t", "y"] in [list(pair) for pair in finding.get("published") or ()] and disposition == finding.get("policy"):
        return ["policy_test_mode", ""]
    return ["local_policy", ""]


def _signatures(finding: dict[str, Any]) -> list[list[str]]:
    """[domain, selector, result], in the order of RFC 9990 2.1.3: aligned passes, the nearest first, other passes, the rest."""
    author, policy_domain = _text(finding.get("domain")), _text(finding.get("policy_domain"))

    def rank(one: list[str]) -> int:
        if one[2] != "pass":
            return 3
        return 0 if one[0] == author else 1 if one[0] == policy_domain or one[0].endswith(f".{policy_domain}") else 2

    found = [[_text(domain), _text(selector), _text(result)] for method, domain, selector, result in _evaluated(finding, "dkim")]
    known = [one for one in found if one[2] in DKIM_RESULTS and one[0]]
    return sorted(known, key=rank)[:MAX_SIGNATURES]


def _mail_from(finding: dict[str, Any]) -> list[str]:
    """[domain, result] of SPF; [] where it was not evaluated. The MAIL FROM identity only (RFC 9990 2.1.1.13)."""
    for _, domain, _, result in _evaluated(finding, "spf"):
        if domain and result in SPF_RESULTS:
            return [_text(domain), result]
    return []


def _evaluated(finding: Mapping[str, Any], method: str) -> Iterable[tuple[str, str, str, str]]:
    return [tuple(one) for one in finding.get("authenticated") or () if len(one) == 4 and one[0] == method]


def _domain_of(path: str) -> str:
    """The domain of a path in brackets, which may have a source route and a quoted local part; `` for `<>`."""
    return _text(path.removesuffix(">").rpartition("@")[2] if "@" in path else "")


def _text(value: object) -> str:
    """A domain, a selector or a word, which are the same in any case."""
    return str(value or "")[:MAX_TEXT].lower()


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
