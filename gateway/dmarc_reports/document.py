"""The XML of an aggregate report: RFC 9990 2.1.1, appendix A. One element tree for each record, so that memory stays small.

All text is a stranger's or may have been one's: `xml.etree` escapes it, and characters that XML 1.0 cannot hold become U+FFFD.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from gateway.journal.dmarc_rows import POLICIES

NAMESPACE = "urn:ietf:params:xml:ns:dmarc-2.0"
GENERATOR = "mailgateway"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_BEFORE = f'<?xml version="1.0" encoding="UTF-8"?>\n<feedback xmlns="{NAMESPACE}">\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """Who reports, about whom, and when."""

    organization: str
    address: str
    contact: str
    report_id: str
    begin: int
    end: int
    """Seconds since the epoch, both included."""
    policy_domain: str
    published: Mapping[str, str]
    """Tags of the policy record by name."""
    error: str = ""


def document(metadata: Metadata, rows: Iterable[tuple[Mapping[str, Any], int]]) -> Iterator[bytes]:
    """The document in pieces; `rows` with the number of messages of each."""
    yield _BEFORE.encode()
    yield b"  <version>1.0</version>\n"
    yield _piece(_report_metadata(metadata))
    yield _piece(_policy_published(metadata))
    for row, count in rows:
        yield _piece(_record(row, count))
    yield b"</feedback>\n"


def clean(text: object) -> str:
    """What an XML document may hold (XML 1.0 2.2)."""
    return _NOT_XML.sub("\ufffd", str(text))


def _piece(element: Element) -> bytes:
    return b"  " + tostring(element, encoding="unicode").encode() + b"\n"


def _add(parent: Element, name: str, text: object) -> None:
    SubElement(parent, name).text = clean(text)


def _report_metadata(metadata: Metadata) -> Element:
    """RFC 9990 2.1.1.3, 2.1.1.4."""
    element = Element("report_metadata")
    _add(element, "org_name", metadata.organization)
    _add(element, "email", metadata.address)
    if metadata.contact:
        _add(element, "extra_contact_info", metadata.contact)
    _add(element, "report_id", metadata.report_id)
    dates = SubElement(element, "date_range")
    _add(dates, "begin", metadata.begin)
    _add(dates, "end", metadata.end)
    if metadata.error:
        _add(element, "error", metadata.error)
    _add(element, "generator", GENERATOR)
    return element


def _policy_published(metadata: Metadata) -> Element:
    """RFC 9990 2.1.1.5."""
    element, published = Element("policy_published"), metadata.published
    _add(element, "domain", metadata.policy_domain)
    _add(element, "p", _one_of(published.get("p"), POLICIES))
    for name in ("sp", "np"):
        if published.get(name) in POLICIES:
            _add(element, name, published[name])
    for name in ("adkim", "aspf"):
        _add(element, name, _one_of(published.get(name), ("r", "s")))
    _add(element, "discovery_method", "treewalk")
    if published.get("fo"):
        _add(element, "fo", published["fo"])
    _add(element, "testing", _one_of(published.get("t"), ("n", "y")))
    return element


def _record(row: Mapping[str, Any], count: int) -> Element:
    """RFC 9990 2.1.1.7 to 2.1.1.14."""
    element = Element("record")
    place = SubElement(element, "row")
    _add(place, "source_ip", row["source"])
    _add(place, "count", count)
    evaluated = SubElement(place, "policy_evaluated")
    for name in ("disposition", "dkim", "spf"):
        _add(evaluated, name, row[name])
    if row["reason"]:
        kind, comment = row["reason"]
        reason = SubElement(evaluated, "reason")
        _add(reason, "type", kind)
        if comment:
            _add(reason, "comment", comment)
    identifiers = SubElement(element, "identifiers")
    _add(identifiers, "header_from", row["header_from"])
    _add(identifiers, "envelope_from", row["envelope_from"])
    if row.get("envelope_to"):
        _add(identifiers, "envelope_to", row["envelope_to"])
    results = SubElement(element, "auth_results")
    for domain, selector, result in row["signatures"]:
        dkim = SubElement(results, "dkim")
        _add(dkim, "domain", domain)
        _add(dkim, "selector", selector)
        _add(dkim, "result", result)
    if row["mail_from"]:
        domain, result = row["mail_from"]
        spf = SubElement(results, "spf")
        _add(spf, "domain", domain)
        _add(spf, "scope", "mfrom")
        _add(spf, "result", result)
    return element


def _one_of(value: object, allowed: tuple[str, ...]) -> str:
    """A value of the schema; its first one is the default of RFC 9989 4.7."""
    return str(value) if value in allowed else allowed[0]
