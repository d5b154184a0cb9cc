"""Addresses with their display names, dates and messages inside, from RFC-conformant and hostile fields."""

from email.utils import parsedate_to_datetime

import pytest

from gateway import Message
from gateway.authors import HeaderAddress, addresses, named_addresses
from gateway.content import Content
from gateway.mime import Bounds


def message(text: str, bounds: Bounds | None = None) -> Message:
    return Message(Content(text.replace("\n", "\r\n").encode("utf-8", "surrogateescape")), bounds)


NAMED = [
    ("a@b.test", [("", "a@b.test")]),
    ("A  B <a@b.test>", [("A B", "a@b.test")]),
    ('"B, \\"A\\"" <a@b.test>, c@d.test', [('B, "A"', "a@b.test"), ("", "c@d.test")]),
    ('"=?utf-8?q?J=C3=B6rg?=" <a@b.test>', [("Jörg", "a@b.test")]),
    ("=?utf-8?q?=22x=40corp.test=22?= <a@b.test>", [('"x@corp.test"', "a@b.test")]),
    ("a@b.test (Ann =?utf-8?q?=C3=84?=)", [("Ann Ä", "a@b.test")]),
    ("(Ann) <a@b.test>", [("Ann", "a@b.test")]),
    ("Ann (work) <a@b.test>", [("Ann", "a@b.test")]),
    ("Group: Ann <a@b.test>, Bob <c@d.test>;", [("Ann", "a@b.test"), ("Bob", "c@d.test")]),
    ("Ann <a@b.test> Bob <c@d.test>", [("Ann", "a@b.test"), ("Bob", "c@d.test")]),
    ("Ann <a@b.test>, Other <a@b.test>", [("Ann", "a@b.test")]),
    ("Grüße <a@b.test>", [("Grüße", "a@b.test")]),
    ('"unclosed <a@b.test>', [("", '"unclosed <a@b.test>')]),
    ("", []),
    ("=?x?q?", []),
]


@pytest.mark.parametrize(("body", "expected"), NAMED)
def test_display_names(body: str, expected: list[tuple[str, str]]) -> None:
    found = named_addresses(body)
    assert [(one.name, one.address) for one in found] == expected
    assert addresses(body) == [address for _, address in expected]


def test_names_are_bounded() -> None:
    [found] = named_addresses("x" * 5_000 + " <a@b.test>")
    assert len(found.name) == 1_000


def test_fields_of_addresses() -> None:
    found = message(
        "From: A <a@A.test>\nFrom: b@b.test\nSender: S <s@s.test>, t@t.test\nReply-To: r@r.test\nTo: 1@t.test\nTo: 2@t.test\nCc: c@c.test\n\n"
    )
    assert found.authors == (HeaderAddress(name="A", address="a@A.test"), HeaderAddress(name="", address="b@b.test"))
    assert found.authors[0].domain == "a.test"
    assert found.author_addresses == ("a@A.test", "b@b.test")
    assert found.sender == HeaderAddress(name="S", address="s@s.test")
    assert [one.address for one in (*found.reply_to, *found.to, *found.cc)] == ["r@r.test", "1@t.test", "2@t.test", "c@c.test"]
    empty = message("Subject: x\n\n")
    assert (empty.sender, empty.to, empty.cc, empty.reply_to, empty.authors) == (None, (), (), (), ())


def test_addresses_are_bounded() -> None:
    many = message("To: " + ",".join(f"{n}@t.test" for n in range(300)) + "\n\n", Bounds(header_addresses=100))
    assert (len(many.to), many.limits_hit) == (100, ("addresses",))
    wide = message("".join(f"To: {'x' * 30_000} <{n}@t.test>\n" for n in range(10)) + "\n")
    assert (len(wide.to), wide.limits_hit) == (3, ("addresses",))  # 64 KiB of all fields of a name
    few = message("To: a@t.test, b@t.test\n\n", Bounds(header_addresses=3))
    assert (len(few.to), few.limits_known, few.limits_hit) == (2, (), ())


DATES = [
    ("Tue, 24 Nov 2026 09:00:00 +0000", 1795510800.0),
    ("Tue, 24 Nov 2026 10:00:00 +0100", 1795510800.0),
    ("24 Nov 2026 09:00:00 -0000", 1795510800.0),
    ("24 Nov 26 09:00", 1795510800.0),
    ("Fri, 31 Dec 9999 23:59:59 -2359", 253402387139.0),
    ("24 Nov 2026 09:00:00 +9999", None),
    ("yesterday", None),
    ("", None),
]


@pytest.mark.parametrize("zone", ["+0000", "-0000", "+0530", "-0800", "+2359", "+2400", "-9999", "GMT", ""])
@pytest.mark.parametrize(
    "day", ["Tue, 24 Nov 2026", "1 Jan 1000", "Mon, 31 Feb 2026", "tue, 24 nov 2026", "24 Nov 99", "Tue 24 Nov 2026"]
)
@pytest.mark.parametrize("time", ["10:00:00", "24:00:00", "10:00:60", "10:00"])
def test_a_usual_date_is_read_as_the_library_reads_it(day: str, time: str, zone: str) -> None:
    text = f"{day} {time} {zone}".strip()
    try:
        wanted = parsedate_to_datetime(text)
    except ValueError:
        wanted = None
    found = message(f"Date: {text}\n\n").date
    assert repr(found) == repr(wanted)  # naive or not, too


@pytest.mark.parametrize(("date", "seconds"), DATES)
def test_dates(date: str, seconds: float | None) -> None:
    assert message(f"Date: {date}\n\n").date_seconds == seconds


def test_nested_messages() -> None:
    found = message(
        "Content-Type: multipart/mixed; boundary=b\nSubject: outer\n\n--b\nContent-Type: message/rfc822\n\n"
        "From: Ann <a@a.test>\nSubject: =?utf-8?q?=C3=84?=\nDate: Tue, 24 Nov 2026 09:00:00 +0000\nMessage-ID: <1@x>\n"
        "Content-Type: message/rfc822\n\nSubject: innermost\n\nx\n--b--\n"
    )
    assert [(one.subject, one.depth, one.message_id) for one in found.nested] == [("Ä", 2, "<1@x>"), ("innermost", 3, "")]
    assert found.nested[0].authors[0].name == "Ann"
    assert found.nested[0].date_seconds == 1795510800.0
    assert found.nested[0].part.content_type == "message/rfc822"
    assert message("\nx").nested == ()
