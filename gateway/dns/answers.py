"""What a message of a name server says: records in plain types, and how long it holds (RFC 1034 3.6.2, RFC 2308 2, 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

KINDS = {kind: dns.rdatatype.from_text(kind) for kind in ("A", "AAAA", "CNAME", "MX", "NS", "PTR", "SOA", "TXT")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One answer, read."""

    records: tuple[Any, ...]
    exists: bool
    authenticated: bool
    ttl: float
    """Seconds; 0 when nothing says how long an absence holds (RFC 2308 5)."""
    canonical: str
    """Where the CNAME chain in the answer ends, or ``."""
    unfinished: bool
    """The chain ends in a name that the answer says nothing about: it is to be asked for."""


class BadAnswerError(Exception):
    """The server failed, refused, or said what cannot be. `cause` is one of DnsError's."""

    def __init__(self, what: str, cause: str = "answer") -> None:
        super().__init__(what)
        self.cause = cause


CAUSES = {"SERVFAIL": "servfail", "REFUSED": "refused"}


def read(message: dns.message.Message, kind: str) -> Reading:
    """Raises BadAnswerError for SERVFAIL, REFUSED and the like, and for a message that contradicts itself."""
    rcode = message.rcode()
    if rcode not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
        what = dns.rcode.to_text(rcode)
        raise BadAnswerError(what, CAUSES.get(what, "answer"))
    if not isinstance(message, dns.message.QueryMessage):
        raise BadAnswerError("not an answer to a query")
    try:
        chain = message.resolve_chaining()
    except dns.exception.DNSException as error:
        raise BadAnswerError(type(error).__name__) from error
    has_soa = any(rrset.rdtype == dns.rdatatype.SOA for rrset in message.authority)
    canonical = _text(chain.canonical_name) if chain.cnames else ""
    exists = rcode == dns.rcode.NOERROR
    authenticated = bool(message.flags & dns.flags.AD)
    if chain.answer is not None:
        records = tuple(_record(kind, rdata) for rdata in chain.answer)
        ttl = float(chain.minimum_ttl)
        return Reading(records=records, exists=True, authenticated=authenticated, ttl=ttl, canonical=canonical, unfinished=False)
    unfinished = bool(chain.cnames) and exists and not has_soa
    ttl = float(chain.minimum_ttl) if has_soa or unfinished else 0.0
    return Reading(records=(), exists=exists, authenticated=authenticated, ttl=ttl, canonical=canonical, unfinished=unfinished)


def _text(name: Any) -> str:
    text: str = name.to_text(omit_final_dot=True)
    return text


def _record(kind: str, rdata: Any) -> Any:
    match kind:
        case "A" | "AAAA":
            return rdata.address
        case "MX":
            return rdata.preference, _text(rdata.exchange)
        case "TXT":
            return tuple(rdata.strings)
        case "SOA":
            return _text(rdata.mname)
        case _:
            return _text(rdata.target)
