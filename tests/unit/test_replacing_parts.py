"""Parts that give way to others: what may be replaced, what is refused and why, and hostile MIME."""

from __future__ import annotations

import email

import pytest

from gateway import Edit, Message, Part, ReplacePart, add_header, remove_header, remove_part, replace_body, replace_part
from gateway.cli.tree import edit_line
from gateway.content import Content
from gateway.mime import Bounds
from gateway.quarantine.copies import edits_from_json, edits_to_json
from gateway.splice import apply
from gateway.testing import a_message
from gateway.trace import jsonable

TEXT = (("Content-Type", "text/plain"),)
TOP = b"A: 1\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
MAIL = TOP + b"pre\r\n--b\r\n\r\none\r\n--b\r\nContent-Type: x/y\r\n\r\ntwo\r\n--b--\r\npost\r\n"
GONE = b"Content-Type: text/plain\r\n\r\ngone"


def result(octets: bytes, *edits: Edit) -> bytes:
    spliced = apply(Content(octets), edits)
    joined = b"".join(spliced.chunks())
    assert len(joined) == spliced.size
    return joined


def replaced(octets: bytes, number: int = -1, body: bytes = b"gone") -> bytes:
    return result(octets, replace_part(Message(Content(octets)).parts[number], body, headers=TEXT))


@pytest.mark.parametrize(
    ("mail", "wanted"),
    [
        pytest.param(MAIL, MAIL.replace(b"Content-Type: x/y\r\n\r\ntwo", GONE), id="as it should be"),
        pytest.param(TOP + b"--b\r\n\r\none", TOP + b"--b\r\n" + GONE + b"\r\n", id="no end boundary, no last CRLF"),
        pytest.param(TOP + b"--b\r\n\r\none\r\n", TOP + b"--b\r\n" + GONE + b"\r\n", id="no end boundary"),
        pytest.param(TOP + b"--b\n\none\n--b--", TOP + b"--b\n" + GONE + b"\n--b--", id="LF lines"),
        pytest.param(TOP + b"--b\r\n--b--\r\n", TOP + b"--b\r\n" + GONE + b"\r\n--b--\r\n", id="nothing at all"),
        pytest.param(TOP + b"--b\n--b--\n", TOP + b"--b\n" + GONE + b"\r\n--b--\n", id="nothing at all, LF"),
        pytest.param(TOP + b"--b\r\nX: 1\r\n--b--\r\n", TOP + b"--b\r\n" + GONE + b"\r\n--b--\r\n", id="no blank line"),
        pytest.param(TOP + b"--b\r\nX: 1\r\n\r\n--b--\r\n", TOP + b"--b\r\n" + GONE + b"\r\n--b--\r\n", id="no body"),
        pytest.param(TOP + b"--b\r\nno field\r\n--b--", TOP + b"--b\r\n" + GONE + b"\r\n--b--", id="no header section"),
    ],
)
def test_a_part_gives_way(mail: bytes, wanted: bytes) -> None:
    assert replaced(mail) == wanted


def test_a_removed_part_is_an_empty_text() -> None:
    after = result(MAIL, remove_part(Message(Content(MAIL)).parts[1]))
    assert after == MAIL.replace(b"Content-Type: x/y\r\n\r\ntwo", b"Content-Type: text/plain\r\n\r\n")
    read = email.message_from_bytes(after)
    assert [(one.get_content_type(), one.get_payload()) for one in read.walk()][1:] == [
        ("text/plain", "one"),
        ("text/plain", ""),
    ]
    assert read.defects == []


def nested(kind: bytes, more: bytes = b"") -> bytes:
    inner = b"Content-Type: " + kind + b"; boundary=i\r\n" + more + b"\r\n--i\r\nContent-Type: x/y\r\n\r\ntwo\r\n--i--\r\n"
    return TOP + b"--b\r\n\r\none\r\n--b\r\n" + inner + b"--b--\r\n"


@pytest.mark.parametrize("kind", [b"multipart/mixed", b"multipart/alternative", b"multipart/related"])
def test_a_part_of_a_multipart_in_a_multipart(kind: bytes) -> None:
    mail = nested(kind)
    assert replaced(mail) == mail.replace(b"Content-Type: x/y\r\n\r\ntwo", GONE)


ATTACHED = TOP + b"--b\r\nContent-Type: message/rfc822\r\nContent-Disposition: attachment\r\n\r\nS: 1\r\n\r\nbody\r\n--b--\r\n"


@pytest.mark.parametrize(
    ("mail", "number", "why"),
    [
        (b"A: 1\r\n\r\nbody\r\n", 0, "the message itself"),
        (nested(b"multipart/signed"), -1, "lies in multipart/signed"),
        (nested(b"multipart/encrypted"), -1, "lies in multipart/encrypted"),
        (MAIL.replace(b"multipart/mixed", b"Multipart/SIGNED"), 0, "lies in multipart/signed"),
        (ATTACHED, 0, r"message of its own \(message/rfc822"),
        (ATTACHED, 1, r"message of its own \(message/rfc822"),
        (MAIL.replace(b"x/y", b"message/delivery-status"), 1, "message/delivery-status"),
        (MAIL.replace(b"x/y", b"multipart/mixed"), 1, "has parts itself"),
        (
            MAIL.replace(b"=b", b'=":b"').replace(b"--b", b"--:b").replace(b"x/y\r\n\r\ntwo", b"x/y"),
            1,
            "header section without end",
        ),
        (TOP + b"--b", 0, "a boundary"),
    ],
)
def test_what_is_refused(mail: bytes, number: int, why: str) -> None:
    part = Message(Content(mail)).parts[number]
    with pytest.raises(ValueError, match=why):
        replace_part(part, b"")
    with pytest.raises(ValueError, match=why):
        remove_part(part)


def test_parts_at_the_limits() -> None:
    deep = Message(Content(nested(b"multipart/mixed")), Bounds(depth=1)).parts
    with pytest.raises(ValueError, match="has parts itself"):
        replace_part(deep[-1], b"")
    many = Message(Content(MAIL), Bounds(parts=1))
    assert many.limits_hit == ("mime-parts",)
    [only] = many.parts
    assert result(MAIL, replace_part(only, b"1")) == MAIL.replace(b"\r\none", b"\r\n1")


def test_a_part_whose_end_was_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.mime._MAX_DELIMITERS", 2)
    first, last = Message(Content(MAIL)).parts
    with pytest.raises(ValueError, match="too many lines like boundaries"):
        replace_part(last, b"")
    assert result(MAIL, replace_part(first, b"1")) == MAIL.replace(b"\r\none", b"\r\n1")


@pytest.mark.parametrize("body", [b"--b", b"x\r\n--b--", b"x\r\n--bc\r\n", b"bare\n", b"bare\r"])
def test_a_body_that_would_break_the_message_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"boundary|bare"):
        replaced(MAIL, body=body)
    assert replaced(MAIL, body=b"-- \r\nx--b")


@pytest.mark.parametrize("field", [("a b", "x"), ("X", "a\r\nb"), ("X", "a\nb")])
def test_headers_that_cannot_be_are_refused(field: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="field"):
        replace_part(Message(Content(MAIL)).parts[1], b"", headers=[field])


def parts() -> list[Part]:
    return list(Message(Content(MAIL)).parts)


def test_together_with_other_edits() -> None:
    one, two = parts()
    first, second = replace_part(one, b"1"), replace_part(two, b"2", headers=TEXT)
    both = MAIL.replace(b"\r\none", b"\r\n1").replace(b"x/y\r\n\r\ntwo", b"text/plain\r\n\r\n2")
    assert result(MAIL, second, add_header("T", "t"), first) == b"T: t\r\n" + both
    assert result(MAIL, remove_part(one), first, second) == both, "the last of one part wins"
    body = replace_body(b"new\r\n")
    assert result(MAIL, first, body) == result(MAIL, body, first) == TOP + b"new\r\n", "a new body takes the place of its parts"


def test_fields_behind_a_malformed_header_section_that_lie_in_the_part() -> None:
    mail = (
        b"Content-Type: multipart/mixed; boundary=b\r\nno field\r\n--b\r\nno field\r\nX: 1\r\n--b\r\nX: 2\r\n\r\ntwo\r\n--b--\r\n"
    )
    part = Message(Content(mail)).parts[0]
    wanted = mail.replace(b"no field\r\nX: 1", b"\r\nnew").replace(b"X: 2\r\n", b"")
    assert result(mail, remove_header("X"), replace_part(part, b"new")) == wanted


def test_edits_that_are_of_another_message_do_nothing() -> None:
    far = ReplacePart(start=len(MAIL), end=len(MAIL) + 1, octets=b"")
    assert result(MAIL, far, ReplacePart(start=1, end=9, octets=b"")) == MAIL
    overlapping = (
        ReplacePart(start=len(TOP), end=len(TOP) + 3, octets=b"1"),
        ReplacePart(start=len(TOP) + 1, end=len(MAIL), octets=b"2"),
    )
    assert result(MAIL, *overlapping) == MAIL.replace(b"pre", b"1")
    for start, end in ((0, 3), (5, 4)):
        with pytest.raises(ValueError, match="cannot be from"):
            ReplacePart(start=start, end=end, octets=b"")


def test_it_is_stored_as_it_is_and_shown() -> None:
    edit = replace_part(parts()[1], b"\xff\x00 octets", headers=[("Subject", "Grüße")], note="a.pdf, 3 octets")
    assert edits_from_json(edits_to_json([edit])) == (edit,)
    assert result(MAIL, *edits_from_json(edits_to_json([edit]))) == result(MAIL, edit)
    assert b"Subject: =?utf-8?" in edit.octets
    shown = jsonable(edit)
    assert shown is not None
    assert edit_line(shown) == f"replace the part at {edit.start}–{edit.end}: a.pdf, 3 octets"


def test_where_a_part_lies() -> None:
    [plain] = a_message().parts
    assert plain.within == ()
    part = Message(Content(nested(b"multipart/signed"))).parts[-1]
    assert [one.content_type for one in part.within] == ["multipart/mixed", "multipart/signed"]
    assert [one.boundary for one in part.within] == ["b", "i"]
    message, body = Message(Content(ATTACHED)).parts
    assert body.within == (message.within[0], message)
