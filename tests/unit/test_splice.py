"""Edits on the original octets: what each does, their order, and that the rest keeps its octets."""

from pathlib import Path

import pytest

from gateway import Edit, Message, add_header, insert_header, remove_header, replace_body, replace_header, tag_subject
from gateway.content import CHUNK, Content, Form
from gateway.quarantine.copies import edits_from_json, edits_to_json
from gateway.splice import apply
from gateway.spliced_content import SplicedContent

MAIL = b"Received: a\r\nSubject: Hello\r\n there\r\nX: 1\r\nx: 2\r\nX: 3\r\n\r\nbody\r\n"


def result(octets: bytes, *edits: Edit, on_top: bytes = b"", utf8: bool = False) -> bytes:
    spliced = apply(Content(octets), edits, on_top=on_top, utf8=utf8)
    joined = b"".join(spliced.chunks())
    assert len(joined) == spliced.size
    assert b"".join(spliced.chunks()) == joined, "chunks may be asked again"
    assert spliced.form is (Form.LINES if joined[-2:] in {b"\r\n", b""} else Form.UNENDED)
    return joined


CASES = [
    pytest.param((add_header("A", "1"),), b"A: 1\r\n" + MAIL, id="add"),
    pytest.param((add_header("A", "1"), add_header("B", "2")), b"B: 2\r\nA: 1\r\n" + MAIL, id="the last added stands highest"),
    pytest.param((add_header("A", "1\r\n 2"),), b"A: 1\r\n 2\r\n" + MAIL, id="folds are kept"),
    pytest.param((remove_header("x"),), MAIL.replace(b"X: 1\r\nx: 2\r\nX: 3\r\n", b""), id="remove all"),
    pytest.param((remove_header("X", 1),), MAIL.replace(b"x: 2\r\n", b""), id="remove one"),
    pytest.param((remove_header("X", 3),), MAIL, id="remove one that is not there"),
    pytest.param((remove_header("Absent"),), MAIL, id="remove none"),
    pytest.param((replace_header("x", "new", 1),), MAIL.replace(b"x: 2", b"x: new"), id="replace keeps the name as written"),
    pytest.param((replace_header("Y", "new"),), b"Y: new\r\n" + MAIL, id="replace adds what is not there"),
    pytest.param((replace_header("X", "new", 3),), b"X: new\r\n" + MAIL, id="replace adds past the last"),
    pytest.param((replace_header("X", "a"), replace_header("X", "b")), MAIL.replace(b"X: 1", b"X: b"), id="the last wins"),
    pytest.param((replace_header("X", "a"), remove_header("X", 0)), MAIL.replace(b"X: 1\r\n", b""), id="removed in the end"),
    pytest.param((remove_header("X", 0), replace_header("X", "a")), MAIL.replace(b"X: 1", b"X: a"), id="replaced in the end"),
    pytest.param(
        (add_header("X", "0"), remove_header("X", 0)), b"X: 0\r\n" + MAIL.replace(b"X: 1\r\n", b""), id="added ones not counted"
    ),
    pytest.param((remove_header("Subject"), remove_header("Received")), MAIL[37:], id="from the top"),
    pytest.param((tag_subject("[T]"),), MAIL.replace(b"Hello", b"[T] Hello"), id="tag"),
    pytest.param((tag_subject("[T]"), tag_subject("[t]")), MAIL.replace(b"Hello", b"[T] Hello"), id="tag once"),
    pytest.param((tag_subject("[T]"), tag_subject("[U]")), MAIL.replace(b"Hello", b"[U] [T] Hello"), id="two tags"),
    pytest.param((tag_subject("there"),), MAIL, id="tag that is in the subject"),
    pytest.param(
        (remove_header("Subject"), tag_subject("[T]")), b"Subject: [T]\r\n" + MAIL.replace(MAIL[13:37], b""), id="tag of none"
    ),
    pytest.param(
        (replace_header("Subject", "n"), tag_subject("[T]")), MAIL.replace(MAIL[13:37], b"Subject: [T] n\r\n"), id="tag of new"
    ),
]


@pytest.mark.parametrize(("edits", "expected"), CASES)
def test_edits(edits: tuple[Edit, ...], expected: bytes) -> None:
    assert result(MAIL, *edits) == expected


def test_tag_of_an_added_subject() -> None:
    assert result(b"A: 1\r\n\r\n", add_header("Subject", "s"), tag_subject("[T]")) == b"Subject: [T] s\r\nA: 1\r\n\r\n"
    assert result(b"A: 1\r\n\r\n", add_header("B", "s"), tag_subject("[T]")) == b"Subject: [T]\r\nB: s\r\nA: 1\r\n\r\n"


def test_on_top_of_everything() -> None:
    assert result(MAIL, add_header("A", "1"), on_top=b"Received: us\r\n") == b"Received: us\r\nA: 1\r\n" + MAIL
    assert result(MAIL, on_top=b"Received: us\r\n") == b"Received: us\r\n" + MAIL


TOPS = [
    pytest.param(b"", b"A: 1\r\n", id="empty"),
    pytest.param(b"\r\nbody", b"A: 1\r\n\r\nbody", id="begins with a blank line"),
    pytest.param(b"body\r\n", b"A: 1\r\n\r\nbody\r\n", id="no header section"),
    pytest.param(b"From a Mon\r\nB: 2\r\n\r\n", b"From a Mon\r\nA: 1\r\nB: 2\r\n\r\n", id="mbox line"),
    pytest.param(b"From a Mon\r\nbody", b"From a Mon\r\nA: 1\r\n\r\nbody", id="mbox line and no header section"),
    pytest.param(b"B: 2\r\nmalformed\r\n", b"A: 1\r\nB: 2\r\nmalformed\r\n", id="malformed line"),
    pytest.param(b"B: 2", b"A: 1\r\nB: 2", id="no line end"),
]


@pytest.mark.parametrize(("octets", "expected"), TOPS)
def test_where_the_top_is(octets: bytes, expected: bytes) -> None:
    assert result(octets, add_header("A", "1")) == expected


def test_non_ascii_becomes_encoded_words_unless_utf8_was_agreed() -> None:
    octets = result(b"B: 2\r\n\r\n", add_header("X", "é ü"))
    assert octets.isascii()
    assert Message(Content(octets)).fields[0].value == "é ü"
    assert result(b"", add_header("X", "é"), utf8=True) == "X: é\r\n".encode()


@pytest.mark.parametrize("subject", [b"=?utf-8?B?w6k=?=", b"\xc3\xa9 raw", b"\xe9 latin", b" plain", b"", b"   "])
def test_tagging_keeps_the_subjects_own_octets(subject: bytes) -> None:
    mail = b"Subject:" + subject + b"\r\n\r\n"
    before = Message(Content(mail)).subject
    for tag in ("[EXT]", "[Außen]"):
        tagged = result(mail, tag_subject(tag))
        assert subject.strip() in tagged
        assert Message(Content(tagged)).subject == f"{tag} {before}".strip()
        assert result(tagged, tag_subject(tag)) == tagged, "never twice"
    assert result(mail, tag_subject("[ü]"), utf8=True).startswith("Subject: [ü]".encode())


def test_a_tag_that_stands_encoded_in_the_subject_is_seen() -> None:
    mail = b"Subject: Re: =?utf-8?Q?=5BEXT=5D_x?=\r\n\r\n"
    assert result(mail, tag_subject("[EXT]")) == mail


def test_a_long_subject_is_folded_behind_its_tag() -> None:
    mail = b"Subject: " + b"x" * 70 + b"\r\n y\r\n\r\n"
    assert result(mail, tag_subject("[EXTERNAL]")) == b"Subject: [EXTERNAL]\r\n " + b"x" * 70 + b"\r\n y\r\n\r\n"


def test_large_content_comes_in_pieces(tmp_path: Path) -> None:
    body = b"0123456789abcdef" * (CHUNK // 8)
    mail = b"A: 1\r\nSubject: s\r\nB: " + b"b" * (2 * CHUNK) + b"\r\nC: 3\r\n\r\n" + body
    file = (tmp_path / "spool").open("w+b")
    file.write(mail)
    content = Content.from_file(file)
    spliced = apply(content, [remove_header("A"), replace_header("C", "4"), add_header("D", "5")])
    pieces = list(spliced.chunks())
    assert b"".join(pieces) == b"D: 5\r\n" + mail[6:].replace(b"C: 3", b"C: 4")
    assert all(len(piece) <= CHUNK + 100 for piece in pieces)
    assert len(pieces) <= len(mail) // CHUNK + 4
    content.close()


def test_without_edits_nothing_is_read_anew() -> None:
    content = Content(MAIL)
    spliced = apply(content, [])
    assert spliced.size == len(MAIL)
    assert next(iter(spliced.chunks())) is MAIL


@pytest.mark.parametrize(
    ("octets", "edits", "form"),
    [
        (b"A: 1\r\n\r\nbody", (), Form.UNENDED),
        (b"A: 1\r\n\r\nbody\n", (), Form.UNENDED),
        (b"A: 1\r\n\r\nbody\r\n", (), Form.LINES),
        (b"", (), Form.LINES),
        (b"\n", (), Form.UNENDED),
        (b"A: 1\r\nB: 2", (replace_header("B", "3"),), Form.LINES),
        (b"A: 1\r\nB: 2", (remove_header("B"),), Form.LINES),
        (b"A: 1\r\nB: 2", (remove_header("A"),), Form.UNENDED),
        (b"A: 1", (remove_header("A"),), Form.LINES),
        (b"A: 1", (add_header("B", "2"),), Form.UNENDED),
    ],
)
def test_how_the_result_may_travel(octets: bytes, edits: tuple[Edit, ...], form: Form) -> None:
    """RFC 3030 2: DATA would add a CRLF to a last line without one."""
    spliced = apply(Content(octets), edits)
    joined = b"".join(spliced.chunks())
    assert spliced.form is form, joined
    assert (form is Form.UNENDED) is not (joined.endswith(b"\r\n") or not joined)
    binary = Content(octets)
    binary.is_binary = True
    assert apply(binary, edits).form is Form.BINARY


def test_what_nobody_signs_is_not_put_together() -> None:
    content = SplicedContent(apply(Content(MAIL), [add_header("X-A", "1")]), is_binary=True)
    whole = b"X-A: 1\r\n" + MAIL
    assert (content.size, content.is_binary, content._whole) == (len(whole), True, b"")
    assert Message(content).subject == "Hello there"
    assert Message(content).octets == whole
    assert content.octets is content.octets  # put together once
    content.close()


MESSAGE = b"A: 1\r\nB: 2\r\n folded\r\nC: 3\r\n\r\nbody\r\n"


@pytest.mark.parametrize(
    ("content", "edits", "wanted"),
    [
        (MESSAGE, [insert_header("X", "x", 1)], b"A: 1\r\nX: x\r\nB: 2\r\n folded\r\nC: 3\r\n\r\nbody\r\n"),
        (MESSAGE, [insert_header("X", "x", 2)], b"A: 1\r\nB: 2\r\n folded\r\nX: x\r\nC: 3\r\n\r\nbody\r\n"),
        (
            MESSAGE,
            [insert_header("X", "x", 99), insert_header("Y", "y", 3)],
            MESSAGE.replace(b"\r\n\r\n", b"\r\nX: x\r\nY: y\r\n\r\n"),
        ),
        (
            MESSAGE,
            [insert_header("X", "x", 1), replace_header("A", "0"), remove_header("B"), add_header("T", "t")],
            b"T: t\r\nA: 0\r\nX: x\r\nC: 3\r\n\r\nbody\r\n",
        ),
        (b"A: 1", [insert_header("X", "x", 1)], b"A: 1\r\nX: x\r\n"),
        (b"\r\nbody", [insert_header("X", "x", 1)], b"X: x\r\n\r\nbody"),
        (MESSAGE, [replace_body(b"new\r\n")], MESSAGE.replace(b"body", b"new")),
        (
            MESSAGE,
            [replace_body(b"old\r\n"), add_header("T", "t"), replace_body(b"")],
            b"T: t\r\n" + MESSAGE.removesuffix(b"body\r\n"),
        ),
        (b"A: 1\r\n", [replace_body(b"new\r\n")], b"A: 1\r\n\r\nnew\r\n"),
        (b"A: 1", [replace_body(b"new\r\n"), insert_header("X", "x", 9)], b"A: 1\r\nX: x\r\n\r\nnew\r\n"),
        (b"A: 1\r\nno field\r\n", [replace_body(b"new\r\n"), insert_header("X", "x", 9)], b"A: 1\r\nX: x\r\n\r\nnew\r\n"),
        (b"no header\r\n", [replace_body(b"new\r\n")], b"new\r\n"),
        (b"A: 1\r\nno field\r\nB: 2\r\n\r\nbody", [remove_header("B"), replace_body(b"new")], b"A: 1\r\n\r\nnew"),
    ],
)
def test_fields_in_between_and_another_body(content: bytes, edits: list[Edit], wanted: bytes) -> None:
    spliced = apply(Content(content), edits)
    assert b"".join(spliced.chunks()) == wanted
    assert spliced.size == len(wanted)
    assert edits_from_json(edits_to_json(edits)) == tuple(edits)


def test_what_is_no_insertion_and_no_body() -> None:
    with pytest.raises(ValueError, match="add_header"):
        insert_header("X", "x", 0)
    for octets in (b"a\n", b"a\r", b"\n\r"):
        with pytest.raises(ValueError, match="bare CR or LF"):
            replace_body(octets)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        *[(f"a{octet}b", "bare CR, LF or NUL") for octet in "\r\n\0"],
        *[(f"a\r\n {octet}b", "bare CR, LF or NUL") for octet in "\r\n\0"],
        ("a\r\nb", "begin with a space or tab"),
        ("a\r\n", "begin with a space or tab"),
        ("a\r\n \t", "not be blank"),
        ("a\r\n \u2003", "not be blank"),
        ("a\r\n " + "b" * 998, "longer than 998"),
        ("\u00fc" * 499, "longer than 998"),
    ],
)
def test_a_field_that_no_message_may_have(value: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        add_header("X", value)


@pytest.mark.parametrize("value", ["", "a", "a\r\n b", "a\r\n\t \tb\r\n c", "b" * 995, "\u00fc" * 490, "a\r\n " + "b" * 997])
def test_a_field_that_a_message_may_have(value: str) -> None:
    assert add_header("X", value).value == value
