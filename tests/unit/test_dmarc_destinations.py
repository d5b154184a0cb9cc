"""Where a report may go: URIs, organizations, the consent of others (RFC 9990 2.5, 3)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dmarc_reports.destinations import Destination, NotThere, parse_uri, permitted
from gateway.dmarc_reports.organization import organizational_domain
from gateway.testing import TEMPFAIL, FakeResolver

RECORD = "v=DMARC1; p=none"


def a_resolver(records: dict[str, Any]) -> FakeResolver:
    return FakeResolver({name: text if text == TEMPFAIL else {"TXT": [text]} for name, text in records.items()})


@pytest.mark.parametrize(
    ("uri", "mailbox"),
    [
        ("mailto:a@example.org", "a@example.org"),
        (" MAILTO:A@Example.ORG ", "A@example.org"),
        ("mailto:a@example.org!10", "a@example.org"),
        ("mailto:a@example.org!10k", "a@example.org"),
        ("mailto:a@example.org!10M", "a@example.org"),
        ("mailto:a@example.org!1g", "a@example.org"),
        ("mailto:a@example.org!1t", "a@example.org"),
        ("mailto:a@example.org?subject=x", "a@example.org"),
        ("mailto:a%2Bb@example.org", "a+b@example.org"),
        ("mailto:a+b_c=d@x-1.example.org", "a+b_c=d@x-1.example.org"),
    ],
)
def test_uris(uri: str, mailbox: str) -> None:
    assert parse_uri(uri) == Destination(mailbox)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "a@example.org",
        "https://example.org/report",
        "mailto:",
        "mailto:a",
        "mailto:a@localhost",
        "mailto:a@[192.0.2.1]",
        "mailto:a@b@example.org",
        "mailto:a%0D%0ARCPT%20TO:%3Cb@example.net%3E@example.org",
        "mailto:a%3E%3Cb@example.org",
        "mailto:a b@example.org",
        "mailto:a%00@example.org",
        "mailto:%C3%A9@example.org",
        "mailto:%22a%22@example.org",
        "mailto:a,b@example.org",
        "mailto:a@example.org!10x",
        "mailto:a@example.org!10k!10k",
        "mailto:" + "a" * 65 + "@example.org",
        "mailto:a@" + "b." * 130 + "org",
        "mailto:.a@example.org",
        "mailto:a@example..org",
        "mailto:a@example.org\x00",
    ],
)
def test_what_is_no_mailbox_gets_nothing(uri: str) -> None:
    found = parse_uri(uri)
    assert isinstance(found, NotThere)
    assert found.fault == "unsupported"


@given(st.text(max_size=100))
def test_a_mailbox_never_holds_more_than_a_mailbox(text: str) -> None:
    found = parse_uri(f"mailto:{text}")
    if isinstance(found, Destination):
        assert found.mailbox.isascii()
        assert found.mailbox.isprintable()
        assert not set(found.mailbox) & set(' <>,;:"\\()[]')
        assert found.mailbox.count("@") == 1


def test_no_uri_takes_long() -> None:
    """A search that goes back and forth would not end within the time of a test."""
    for text in ("mailto:" + "a." * 100_000, "mailto:" + "!" * 200_000, "mailto:a@" + "b-" * 100_000, "a" * 200_000):
        assert isinstance(parse_uri(text), NotThere)


@pytest.mark.parametrize(
    ("domain", "records", "organization"),
    [
        ("a.example.org", {}, "a.example.org"),
        ("a.example.org", {"_dmarc.example.org": RECORD}, "example.org"),
        ("a.b.example.org", {"_dmarc.b.example.org": RECORD, "_dmarc.example.org": RECORD}, "example.org"),
        ("a.b.example.org", {"_dmarc.b.example.org": f"{RECORD}; psd=n", "_dmarc.example.org": RECORD}, "b.example.org"),
        ("a.b.bank.test", {"_dmarc.bank.test": f"{RECORD}; psd=y", "_dmarc.test": RECORD}, "b.bank.test"),
        ("bank.test", {"_dmarc.bank.test": f"{RECORD}; psd=y"}, "bank.test"),
        ("a.example.org", {"_dmarc.example.org": "v=spf1 -all"}, "a.example.org"),
    ],
)
async def test_organizations(domain: str, records: dict[str, str], organization: str) -> None:
    assert await organizational_domain(domain, a_resolver(records)) == organization


OWN = {"_dmarc.example.org": RECORD}
AGREED = "example.org._report._dmarc.reports.test"


@pytest.mark.parametrize(
    ("records", "uris", "mailboxes", "why"),
    [
        pytest.param({}, ["mailto:a@example.org"], ["a@example.org"], "", id="the domain itself: nothing is asked"),
        pytest.param(OWN, ["mailto:a@mail.example.org"], ["a@mail.example.org"], "", id="the same organization"),
        pytest.param(
            {**OWN, "_dmarc.mail.example.org": f"{RECORD}; psd=n"},
            ["mailto:a@mail.example.org"],
            [],
            "mail.example.org does not agree",
            id="a part of the name that is an organization of its own",
        ),
        pytest.param(OWN, ["mailto:a@reports.test"], [], "reports.test does not agree", id="no consent"),
        pytest.param({**OWN, AGREED: "v=DMARC1"}, ["mailto:a@reports.test"], ["a@reports.test"], "", id="consent"),
        pytest.param({**OWN, AGREED: "v=DMARC1;"}, ["mailto:a@reports.test!1k"], ["a@reports.test"], "", id="trailing semicolon"),
        pytest.param({**OWN, AGREED: "v=spf1"}, ["mailto:a@reports.test"], [], "does not agree", id="another record"),
        pytest.param(
            {**OWN, AGREED: "v=DMARC1; rua=mailto:b@reports.test"},
            ["mailto:a@reports.test"],
            ["b@reports.test"],
            "",
            id="another address there",
        ),
        pytest.param(
            {**OWN, AGREED: "v=DMARC1; rua=mailto:b@victim.test"},
            ["mailto:a@reports.test"],
            [],
            "leads on to another host",
            id="neither the original nor the other one",
        ),
        pytest.param({**OWN, AGREED: TEMPFAIL}, ["mailto:a@reports.test"], [], "temporary failure", id="another time"),
        pytest.param({"_dmarc.example.org": TEMPFAIL}, ["mailto:a@reports.test"], [], "temporary failure", id="no organization"),
        pytest.param(
            OWN,
            [f"mailto:{n}@example.org" for n in "abcdef"],
            ["a@example.org", "b@example.org", "c@example.org"],
            "",
            id="as many as we send to",
        ),
        pytest.param(
            OWN,
            ["https://example.org/", "mailto:a@example.org", "mailto:a@EXAMPLE.org!5", "mailto:b@example.org"],
            ["a@example.org", "b@example.org"],
            "https: is not mailto:",
            id="each once, others ignored",
        ),
    ],
)
async def test_consent(records: dict[str, str], uris: list[str], mailboxes: list[str], why: str) -> None:
    found = await permitted("example.org", uris, a_resolver(records), most=3)
    assert [one.mailbox for one in found if isinstance(one, Destination)] == mailboxes
    reasons = [one.why for one in found if isinstance(one, NotThere)]
    assert why in "".join(reasons)
    assert bool(why) == bool(reasons)


async def test_a_name_that_dns_could_not_hold() -> None:
    long = ".".join(["a" * 60] * 3) + ".org"
    [found] = await permitted(long, [f"mailto:a@{'b' * 60}.test"], a_resolver({}), most=2)
    assert isinstance(found, NotThere)
    assert found.fault == "unauthorized"
    assert "too long" in found.why
