"""The report itself: valid by the schema of RFC 9990 whatever is in it, read by another reader, and the message around it."""

from __future__ import annotations

import email
import gzip
import json
import re
from collections.abc import Iterable
from email.header import decode_header, make_header
from pathlib import Path
from typing import Any

import parsedmarc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from gateway.dmarc_reports.document import NAMESPACE, Metadata, document
from gateway.dmarc_reports.mail import Letter, begin_of, compress, message, report_id
from gateway.journal.dmarc_rows import rows_of
from tests.dmarc_records import a_finding, a_record

SCHEMA = etree.XMLSchema(etree.parse(str(Path(__file__).parents[1] / "schemas" / "dmarc-2.0.xsd")))
HOSTILE = "]]><a b='\"&amp;\x00\x1b\x7f\ud800\udcff\ufffe\u202e𝄞é\r\n\t"


def metadata(**changes: Any) -> Metadata:
    facts: dict[str, Any] = {
        "organization": "Here & There <Ltd>",
        "address": "dmarc@here.test",
        "contact": "https://here.test/dmarc?a=1&b=2",
        "report_id": "abc123",
        "begin": 1_764_028_800,
        "end": 1_764_115_199,
        "policy_domain": "example.org",
        "published": {"p": "reject", "sp": "none", "adkim": "s", "aspf": "r", "fo": "1:d", "t": "y"},
    }
    return Metadata(**(facts | changes))


def a_row(finding: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    [one] = rows_of(a_record(finding, **changes), recipient_domains=True)
    found: dict[str, Any] = json.loads(one.row)
    return found


def made(rows: Iterable[tuple[dict[str, Any], int]], **changes: Any) -> bytes:
    return b"".join(document(metadata(**changes), rows))


def test_valid_by_the_schema() -> None:
    findings = [
        a_finding(),
        a_finding(result="pass", aligned=["dkim", "spf"]),
        a_finding(override=["trusted_forwarder", "lists.test"]),
        a_finding(authenticated=[]),
        a_finding(authenticated=[["spf", "example.net", "", "softfail"], ["dkim", "x.test", "s", "temperror"]] * 30),
    ]
    rows = [(a_row(one, reverse_path=path), n + 1) for n, one in enumerate(findings) for path in ("<>", "<a@example.net>")]
    xml = made([*rows, (a_row(client="2001:db8::1"), 7)], error="not whole")
    SCHEMA.assertValid(etree.fromstring(xml))
    for name in (b"version", b"generator", b"testing", b"discovery_method", b"error", b"reason", b"envelope_to", b"scope"):
        assert f"<{name.decode()}>".encode() in xml


def test_the_schema_is_one() -> None:
    """What is wrong is found: else the tests above say nothing."""
    xml = made([(a_row(), 1)])
    for before, after in ((b"<p>reject</p>", b"<p>block</p>"), (b"treewalk", b"guess"), (b"<report_id>abc123</report_id>", b"")):
        assert not SCHEMA.validate(etree.fromstring(xml.replace(before, after)))
    assert not SCHEMA.validate(etree.fromstring(made([])))


def test_whatever_a_stranger_wrote() -> None:
    finding = a_finding(
        domain=HOSTILE,
        published=[["p", HOSTILE], ["sp", HOSTILE], ["fo", HOSTILE], ["t", HOSTILE], ["adkim", HOSTILE], [HOSTILE, HOSTILE]],
        authenticated=[["dkim", HOSTILE, HOSTILE, "pass"], ["spf", HOSTILE, "", "fail"], ["dkim", "x", "y", HOSTILE]],
        override=["other", HOSTILE],
    )
    row = a_row(finding, reverse_path=f"<a@{HOSTILE}>", recipients=[])
    published = {"p": HOSTILE, "sp": HOSTILE, "fo": HOSTILE, "t": HOSTILE, "adkim": HOSTILE}
    xml = made([(row, 1)], published=published, organization=HOSTILE, contact=HOSTILE, policy_domain=HOSTILE, error=HOSTILE)
    tree = etree.fromstring(xml)
    SCHEMA.assertValid(tree)
    text = xml.decode()
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", text)
    assert "<a b=" not in text
    assert "&lt;a b=" in text


@given(st.lists(st.tuples(*[st.text(max_size=30)] * 4), max_size=5), st.text(max_size=60), st.text(max_size=60))
def test_any_text_gives_a_valid_document(results: list[tuple[str, ...]], domain: str, path: str) -> None:
    wanted = [["dkim", *one[1:3], "pass"] for one in results] + [list(one) for one in results]
    rows = [(a_row(a_finding(authenticated=wanted, domain=domain, override=["other", path]), reverse_path=path), 3)]
    SCHEMA.assertValid(etree.fromstring(made(rows, organization=domain)))


def test_another_reader_reads_the_same() -> None:
    rows = [(a_row(client=f"192.0.2.{n}"), n) for n in range(1, 20)]
    rows.append((a_row(a_finding(result="pass", aligned=["dkim"]), client="2001:db8::1", reverse_path="<>"), 1000))
    report = parsedmarc.parse_aggregate_report_xml(made(rows), offline=True, always_use_local_files=True)
    assert report["xml_namespace"] == NAMESPACE
    assert report["report_metadata"]["org_name"] == "Here & There <Ltd>"
    assert report["policy_published"]["domain"] == "example.org"
    assert (report["policy_published"]["p"], report["policy_published"]["testing"]) == ("reject", "y")
    assert {one["source"]["ip_address"]: one["count"] for one in report["records"]} == {
        **{f"192.0.2.{n}": n for n in range(1, 20)},
        "2001:db8::1": 1000,
    }
    last = report["records"][-1]
    assert last["policy_evaluated"]["dkim"] == "pass"
    assert last["auth_results"]["dkim"][0] == {
        "domain": "example.net",
        "selector": "k1",
        "result": "pass",
        "human_result": None,
    }


# -- the message -------------------------------------------------------------------------------------------------------


def a_letter(**changes: Any) -> Letter:
    facts: dict[str, Any] = {
        "address": "dmarc@here.test",
        "organization": "Here",
        "submitter": "mx.here.test",
        "policy_domain": "example.org",
        "day": "2026-11-25",
        "report_id": report_id("mx.here.test", "example.org", "2026-11-25"),
        "text": "Hello\r\n",
    }
    return Letter(**(facts | changes))


def test_the_message() -> None:
    letter = a_letter()
    octets = message(letter, compress([b"<x/>"]), to="a@example.org", now=begin_of("2026-11-26") + 5400.0)
    assert b"\n" not in octets.replace(b"\r\n", b"")
    assert max(map(len, octets.split(b"\r\n"))) < 200
    assert octets.isascii()
    parsed: Any = email.message_from_bytes(octets)
    begin = begin_of("2026-11-25")
    id_ = letter.report_id
    assert re.fullmatch(r"[0-9a-f]{32}", id_)
    subject = re.sub(r"\s+", " ", parsed["Subject"])
    assert subject == f"Report Domain: example.org Submitter: mx.here.test Report-ID: {id_}"
    assert (parsed["From"], parsed["To"]) == ("Here <dmarc@here.test>", "a@example.org")
    assert parsed["Auto-Submitted"] == "auto-generated"
    assert parsed["Date"] == "Thu, 26 Nov 2026 01:30:00 +0000"
    assert parsed["Message-ID"].startswith(f"<{id_}.")
    text, report = parsed.get_payload()
    assert text.get_content_type() == "text/plain"
    assert report.get_content_type() == "application/gzip"
    assert report.get_content_disposition() == "attachment"
    assert report.get_filename() == f"mx.here.test!example.org!{begin}!{begin + 86_399}!{id_}.xml.gz"
    assert gzip.decompress(report.get_payload(decode=True)) == b"<x/>"


def test_long_names_and_other_scripts() -> None:
    domain = ".".join(["a" * 60] * 4)
    octets = message(a_letter(policy_domain=domain, organization="Größe & Söhne, GmbH", text="é"), b"x", to="a@b.test", now=0.0)
    assert octets.isascii()
    assert max(map(len, octets.split(b"\r\n"))) < 998  # RFC 5322 2.1.1
    parsed: Any = email.message_from_bytes(octets)
    assert str(make_header(decode_header(parsed["From"]))) == "Größe & Söhne, GmbH <dmarc@here.test>"
    assert f"Domain: {domain} Submitter:" in re.sub(r"\s+", " ", parsed["Subject"])
    assert domain in parsed.get_payload()[1].get_filename()


def test_the_same_report_is_the_same_octets() -> None:
    assert compress([b"a", b"b"]) == compress([b"ab"])
    ids = {report_id(*one) for one in (("a", "b", "c"), ("a", "b", "d"), ("a", "x", "c"), ("x", "b", "c"))}
    assert len(ids) == 4


def test_another_reader_finds_the_report_in_the_message() -> None:
    octets = message(a_letter(), compress(document(metadata(), [(a_row(), 5)])), to="a@example.org", now=0.0)
    found = parsedmarc.parse_report_email(octets, offline=True, always_use_local_files=True)
    assert found["report_type"] == "aggregate"
    assert found["report"]["records"][0]["count"] == 5


@pytest.mark.parametrize("day", ["2026-02-30", "", "yesterday", "2026-1-1", "２026-11-25"])
def test_a_day_that_is_none(day: str) -> None:
    with pytest.raises(ValueError, match=r"does not match|out of range"):
        begin_of(day)
