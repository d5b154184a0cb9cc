"""The header section is found in one match, and two of its fields without the others: the same as field after field."""

import re

from hypothesis import given
from hypothesis import strategies as st

from gateway import Message
from gateway.content import Content
from gateway.fields import scan
from gateway.smtp.received import hops

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*\n?")
PIECES = st.sampled_from(
    [
        b"Subject: s\r\n",
        b"subject \t:two\n",
        b"Subject-Of: x\r\n",
        b"Message-ID:\r\n <a@b>\r\n",
        b"MESSAGE-ID: text\r\n",
        b"Received: from a\r\n\tby mx.test (mailgateway) with SMTP id 1;\r\n",
        b"received: from b\n",
        b" folded\r\n",
        b"\tsubject: no field\r\n",
        b"From x\r\n",
        b">>From x",
        b"\r\n",
        b"\n",
        b"\r",
        b":",
        b" ",
        b"\xe9\x00",
        b"A",
    ]
)
MAIL = st.lists(PIECES, max_size=12).map(b"".join)


def _one_by_one(octets: bytes, max_fields: int) -> tuple[int, list[tuple[int, int]]]:
    at = 0
    if re.match(rb">*From ", octets):
        at = octets.find(b"\n") + 1 or len(octets)
    top = at
    found: list[tuple[int, int]] = []
    while at < len(octets) and len(found) < max_fields:
        field = _FIELD.match(octets, at)
        if field is None:
            break
        found.append(field.span())
        at = field.end()
    return top, found


@given(MAIL, st.integers(1, 4))
def test_fields_are_those_found_one_by_one(octets: bytes, max_fields: int) -> None:
    section = scan(Content(octets), max_fields=max_fields)
    top, found = _one_by_one(octets, max_fields)
    assert (section.top, section.has_fields) == (top, bool(found))
    assert [(field.start, field.end) for field in section.fields] == found
    end = found[-1][1] if found else top
    assert section.is_cut == (len(found) == max_fields and _FIELD.match(octets, end) is not None)
    if not section.is_cut:
        blank = re.match(rb"\r?\n", octets[end:])
        assert (section.end, section.body_offset) == (end, end + len(blank[0]) if blank else end)


@given(MAIL)
def test_subject_and_message_id_are_those_of_the_list(octets: bytes) -> None:
    alone, listed = Message(Content(octets)), Message(Content(octets))
    named = [listed.fields_named(name) for name in ("subject", "message-id")]
    assert alone.subject == listed.subject == (named[0][0].value if named[0] else "")
    assert alone.message_id == listed.message_id
    assert bool(alone.message_id) == bool(named[1] and named[1][0].unfolded)


def test_they_are_read_and_decoded_once() -> None:
    message = Message(Content(b"Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <a@b>\r\n\r\n"))
    assert message.subject is message.subject == "Grüße"
    assert message.message_id is message.message_id == "<a@b>"


@given(MAIL)
def test_hops_are_lines_before_the_body(octets: bytes) -> None:
    header = scan(Content(octets))
    before = octets[: header.body_offset].lower()
    own = before.count(b"by mx.test (mailgateway)") if re.search(rb"(?m)^received:", before) else 0
    assert hops(header.lowered, "MX.test") == (len(re.findall(rb"(?m)^received:", before)), own)
