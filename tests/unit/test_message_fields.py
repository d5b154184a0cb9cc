"""The header section by offsets: what counts as a field, where it ends, and that hostile octets cost little."""

import mmap
import re
import time
from pathlib import Path

import pytest

from gateway import Message
from gateway.content import Content
from gateway.fields import scan
from gateway.mime import Bounds

SECTIONS = [
    pytest.param(b"A: 1\r\nB: 2\r\n\r\nbody\r\n", ["A", "B"], b"body\r\n", id="plain"),
    pytest.param(b"\r\nbody: no field\r\n", [], b"body: no field\r\n", id="begins with a blank line"),
    pytest.param(b"just text\r\nmore: text\r\n\r\nx", [], b"just text\r\nmore: text\r\n\r\nx", id="no header section"),
    pytest.param(b"", [], b"", id="empty"),
    pytest.param(b"A: 1\r\n", ["A"], b"", id="no body"),
    pytest.param(b"A: 1", ["A"], b"", id="no line end"),
    pytest.param(b"A: 1\r\n folded\r\n\tmore\r\nB:\r\n\r\nx", ["A", "B"], b"x", id="folded"),
    pytest.param(b"A: 1\r\n   \r\nB: 2\r\n\r\nx", ["A", "B"], b"x", id="continuation of spaces only"),
    pytest.param(b"A : 1\r\nB\t: 2\r\n\r\nx", ["A", "B"], b"x", id="space before the colon"),
    pytest.param(b"A: 1\r\nno field\r\nB: 2\r\n\r\nx", ["A"], b"no field\r\nB: 2\r\n\r\nx", id="malformed line ends it"),
    pytest.param(b" A: 1\r\nB: 2\r\n\r\nx", [], b" A: 1\r\nB: 2\r\n\r\nx", id="continuation of nothing"),
    pytest.param(b"From a@b Mon\r\nA: 1\r\n\r\nx", ["A"], b"x", id="mbox line"),
    pytest.param(b">From a@b Mon\r\nA: 1\r\n\r\nx", ["A"], b"x", id="quoted mbox line"),
    pytest.param(b"A: 1\nB: 2\n\nx\n", ["A", "B"], b"x\n", id="bare LF"),
    pytest.param(b"A\xe9: 1\r\n\r\nx", [], b"A\xe9: 1\r\n\r\nx", id="8-bit name"),
    pytest.param(b": 1\r\n\r\nx", [], b": 1\r\n\r\nx", id="no name"),
    pytest.param(b"A: \x00\r\n\r\nx", ["A"], b"x", id="NUL"),
    pytest.param(b"A:\r\r\n\r\nx", ["A"], b"x", id="bare CR"),
]


@pytest.mark.parametrize(("octets", "names", "body"), SECTIONS)
def test_finds_fields_and_body(octets: bytes, names: list[str], body: bytes) -> None:
    message = Message(Content(octets))
    assert [field.name for field in message.fields] == names
    assert octets[message.body_offset :] == body


@pytest.mark.parametrize(("octets", "names", "body"), SECTIONS)
def test_fields_lie_side_by_side(octets: bytes, names: list[str], body: bytes) -> None:
    section = scan(Content(octets))
    at = section.top
    for field in section.fields:
        assert field.start == at
        assert field.octets == octets[field.start : field.end]
        at = field.end
    assert at == section.end


def test_works_on_a_spool_file(tmp_path: Path) -> None:
    file = (tmp_path / "spool").open("w+b")
    file.write(b"Subject: x\r\n\r\nbody")
    content = Content.from_file(file)
    message = Message(content)
    assert isinstance(message.octets, mmap.mmap)
    assert message.subject == "x"
    assert message.text == "body"
    field = message.fields[0]
    content.close()
    assert field.octets == b""


def test_values() -> None:
    message = Message(Content(b"Subject: =?utf-8?B?w6k=?=\r\n =?utf-8?B?IGE=?=\r\nsubject: second\r\nX:\t tight \r\n\r\n"))
    assert message.subject == "é a"
    assert [field.raw for field in message.fields_named("SUBJECT")] == [
        b" =?utf-8?B?w6k=?=\r\n =?utf-8?B?IGE=?=",
        b" second",
    ]
    found = message.field("x")
    assert found is not None
    assert (found.value, found.unfolded, found.raw) == ("tight", "tight", b"\t tight ")
    assert message.field("absent") is None
    assert message.fields_named("absent") == ()


def test_number_of_fields_is_bounded_and_the_body_still_found() -> None:
    message = Message(Content(b"a:\r\n" * 50 + b"\r\nbody"), Bounds(fields=10))
    assert len(message.fields) == 10
    assert message.limits_hit == ("header-fields",)
    assert message.octets[message.body_offset :] == b"body"
    exactly = Message(Content(b"a:\r\n" * 10 + b"\r\nbody"), Bounds(fields=10))
    assert exactly.limits_hit == ()


def test_bare_lf_blank_line_behind_the_bound() -> None:
    message = Message(Content(b"a:\n" * 20 + b"\nbody"), Bounds(fields=10))
    assert message.octets[message.body_offset :] == b"body"
    endless = Message(Content(b"a:\n" * 20), Bounds(fields=10))
    assert endless.body_offset == endless.size


def test_malformed_is_named() -> None:
    assert Message(Content(b"A: 1\r\nno field\r\n\r\nx")).limits_hit == ("header-malformed",)
    assert Message(Content(b"A: " + b"x" * 70_000 + b"\r\n\r\nx")).limits_hit == ("field-size",)


MEGABYTE = 1_000_000
HOSTILE = [
    pytest.param(b"a:\r\n" * MEGABYTE, id="short fields"),
    pytest.param(b"a" * 4 * MEGABYTE, id="name without a colon"),
    pytest.param(b"a" + b" " * 4 * MEGABYTE, id="spaces before no colon"),
    pytest.param(b"From: a" + b" " * 4 * MEGABYTE + b"\r\n\r\n", id="line of spaces"),
    pytest.param(b"Subject: " + b"=?a?q?" * MEGABYTE, id="unfinished encoded words"),
    pytest.param(b"Subject: " + b"=?utf-8?b?" + b"YQ==" * MEGABYTE + b"?=", id="one large encoded word"),
    pytest.param(b"Subject: a" + b"\r\n b" * MEGABYTE, id="folds"),
    pytest.param(b"From: " + b"(" * 4 * MEGABYTE, id="comments"),
    pytest.param(b"From: " + b'"' * 4 * MEGABYTE, id="quotes"),
    pytest.param(b"From: " + b"a@b," * MEGABYTE, id="addresses"),
    pytest.param(b"From: " + b"<@a," * MEGABYTE, id="routes"),
    pytest.param(b"Content-Type: text/plain;" + b" a" * 2 * MEGABYTE, id="parameters without values"),
    pytest.param(b"Content-Type: text/plain" + b"; name*0=a" * 400_000, id="parameter sections"),
    pytest.param(b"Content-Type: text/html\r\n\r\n" + b"<!--" * MEGABYTE, id="comments of HTML"),
    pytest.param(b"Content-Type: text/html\r\n\r\n" + b"<a href='" * 400_000, id="links without an end"),
    pytest.param(b"Content-Type: text/html\r\n\r\n" + b"<script>" * 400_000, id="scripts"),
    pytest.param(b"Content-Type: text/html\r\n\r\n" + b"&#" + b"9" * 4 * MEGABYTE, id="huge character reference"),
    pytest.param(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n" * MEGABYTE, id="empty parts"),
    pytest.param(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n" + b"a:\n" * MEGABYTE, id="fields of a part"),
    pytest.param(
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + (b"--b\r\n" + b"a:\n" * 300) * 2_000, id="parts of fields"
    ),
    pytest.param(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--\n" * 2 * MEGABYTE, id="lines like delimiters"),
    pytest.param(b"Content-Type: message/rfc822\r\n\r\n" * 200_000, id="messages in messages"),
    pytest.param(b"To: " + b"=?utf-8?q?a?= <a@b.test>, " * 200_000, id="names of addresses"),
    pytest.param(b"Content-Type: a/b" + b'; name="%41=?a?q?' * 200_000, id="readings of a name"),
    pytest.param(b"Content-Type: a/b; name=a" + b". " * 2 * MEGABYTE, id="end of a name"),
    pytest.param(b"Content-Type: text/html\r\n\r\n" + b"<a href=x><p hidden>" * 200_000, id="open anchors and hidden elements"),
    pytest.param(b"Content-Type: text/html\r\n\r\n" + b"<p style='color:#fff;" * 200_000, id="styles without an end"),
    pytest.param(b"\r\n" + b"http://a" + b")" * 4 * MEGABYTE, id="brackets behind a URL"),
    pytest.param(b"\r\n" + b"<http://a.test/\n" * 400_000, id="open brackets before URLs"),
    pytest.param(b"\r\n" + b"a.a-" * MEGABYTE, id="hosts without an end"),
    pytest.param(b"\r\n" + b"-----BEGIN PGP MESSAGE" * 200_000, id="armor"),
    pytest.param(b"Content-Type: application/pdf\r\n\r\n%PDF-" + b"/Encrypt " * MEGABYTE, id="dictionaries of a PDF"),
]


@pytest.mark.parametrize("octets", HOSTILE)
def test_hostile_content_costs_little(octets: bytes) -> None:
    # A generous bound: linear code needs well under a second for each of these, quadratic code needs hours.
    started = time.process_time()
    message = Message(Content(octets))
    _ = (message.subject, message.message_id, message.date, message.author_domains, message.attachments)
    _ = (message.text, message.urls, message.limits_hit, [part.detected_type for part in message.parts])
    _ = (message.links, message.hidden_text, message.nested, message.encryption, message.authors, message.to, message.cc)
    _ = [(part.extensions, part.name_tricks, part.sha256) for part in message.parts[:100]]
    _ = [part.size for part in message.parts[:100]]
    assert time.process_time() - started < 10


def test_every_word_of_limits_is_documented() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs" / "plugins" / "rules.md").read_text()
    words = set(
        re.findall(
            r"hit\.add\(\"([a-z-]+)\"\)",
            "".join((root / "gateway" / f).read_text() for f in ("mime.py", "message.py", "reading.py")),
        )
    )
    assert len(words) == 12
    assert all(f"| `{word}` |" in page for word in words), words
