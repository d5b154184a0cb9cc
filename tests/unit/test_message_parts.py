"""MIME parts, names, types by content, text and URLs."""

import base64

import pytest

from gateway import Message, Part
from gateway.content import Content
from gateway.filetype import SIGNATURES, detect
from gateway.hypertext import read_html
from gateway.mime import Bounds


def message(text: str, bounds: Bounds | None = None) -> Message:
    return Message(Content(text.replace("\n", "\r\n").encode("utf-8", "surrogateescape")), bounds)


def part(header: str, body: str = "x") -> Part:
    (found,) = message(f"{header}\n\n{body}").parts
    return found


MIXED = """\
Content-Type: multipart/mixed; boundary="out er"

preamble
--out er
Content-Type: multipart/alternative; boundary=in

--in
Content-Type: text/plain; charset=utf-8

Grüße http://a.test/x, bye
--in
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: quoted-printable

<p>Gr=C3=BC=C3=9Fe <a href=3D"https://b.test/?a=3D1&amp;b">x</a></p>
--in--
epilogue
--out er  \t
Content-Type: application/pdf
Content-Disposition: attachment; filename=a.pdf
Content-Transfer-Encoding: base64

JVBERi0xLjQK
--out er--
--out er
ignored
"""


def test_tree() -> None:
    found = message(MIXED)
    assert [(p.content_type, p.depth, p.is_attachment) for p in found.parts] == [
        ("text/plain", 2, False),
        ("text/html", 2, False),
        ("application/pdf", 1, True),
    ]
    assert found.attachments == found.parts[2:]
    pdf = found.parts[2]
    assert (pdf.filename, pdf.detected_type, pdf.size, pdf.content()) == ("a.pdf", "application/pdf", 9, b"%PDF-1.4\n")
    assert found.text == "Grüße http://a.test/x, bye\n\nGrüße x\n"
    assert found.urls == ("https://b.test/?a=1&b", "http://a.test/x")
    assert found.limits_hit == ()


def test_outer_delimiter_ends_inner_parts() -> None:
    octets = "Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/mixed; boundary=i\n\n--i\n\nin\n--o\n\nout\n--o--\n"
    assert [p.content() for p in message(octets).parts] == [b"in", b"out"]


def test_unclosed_multipart_runs_to_the_end() -> None:
    assert [p.content() for p in message("Content-Type: multipart/mixed; boundary=o\n\n--o\n\nlast").parts] == [b"last"]


def test_attached_message_is_a_part_and_looked_into() -> None:
    found = message(
        "Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: message/rfc822\nContent-Disposition: attachment\n\n"
        "Subject: x\nContent-Type: application/x-sh; name=run.sh\n\n#!/bin/sh\n--o--\n"
    )
    assert [(p.content_type, p.content()) for p in found.attachments] == [
        ("message/rfc822", b"Subject: x\r\nContent-Type: application/x-sh; name=run.sh\r\n\r\n#!/bin/sh"),
        ("application/x-sh", b"#!/bin/sh"),
    ]
    assert found.attachments[1].detected_type == "text/x-script"


def test_multipart_without_boundary_or_delimiter_is_one_part() -> None:
    assert [p.content() for p in message("Content-Type: multipart/mixed\n\nx").parts] == [b"x"]
    assert message("Content-Type: multipart/mixed; boundary=b\n\nno delimiter").parts == ()


@pytest.mark.parametrize("levels", [21, 10_000])
def test_depth_is_bounded(levels: int) -> None:
    deep = "".join(f"Content-Type: multipart/mixed; boundary={n}\n\n--{n}\n" for n in range(levels)) + "\nx"
    found = message(deep)
    assert found.limits_hit == ("mime-depth",)
    assert [p.content_type for p in found.parts] == ["multipart/mixed"]


def test_twenty_levels_are_read() -> None:
    deep = "".join(f"Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n" for n in range(20)) + "\nx"
    found = message(deep)
    assert (found.limits_hit, [p.content() for p in found.parts]) == ((), [b"x"])


def test_messages_in_messages_are_bounded() -> None:
    assert message("Content-Type: message/rfc822\n\n" * 100 + "x").limits_hit == ("mime-depth",)


@pytest.mark.parametrize(("count", "limits"), [(5, ()), (6, ("mime-parts",))])
def test_number_of_parts_is_bounded(count: int, limits: tuple[str, ...]) -> None:
    found = message("Content-Type: multipart/mixed; boundary=b\n\n" + "--b\n\nx\n" * count + "--b--\n", Bounds(parts=5))
    assert (len(found.parts), found.limits_hit) == (5, limits)


def test_other_limits_are_named() -> None:
    many = "Content-Type: multipart/mixed; boundary=b\n\n--b\n" + "A: 1\n" * 300 + "\nx\n--b--\n"
    assert message(many).limits_hit == ("part-fields",)
    dashes = "Content-Type: multipart/mixed; boundary=b\n\n" + "--\n--x\n" * 200_001
    assert message(dashes).limits_hit == ("mime-lines",)
    assert message("\n" + "x" * 20, Bounds(text=10)).limits_hit == ("text",)
    assert message("\n" + "x" * 20, Bounds(text=10)).text == "x" * 10
    links = message("\n" + " ".join(f"http://{n}.test" for n in range(20)), Bounds(urls=3))
    assert (links.limits_hit, len(links.urls)) == (("urls",), 3)
    assert message("From: " + "a@b.test,c@d.test,e@f.test\n\n", Bounds(addresses=2)).limits_hit == ("author-addresses",)


NAMES = [
    ("Content-Disposition: attachment; filename=a.exe", ("a.exe",)),
    ('Content-Disposition: attachment; filename="a b.exe"', ("a b.exe",)),
    ('Content-Disposition: attachment; filename="a\\"b;c.exe"', ('a"b;c.exe',)),
    ("Content-Type: x/y; name=a.exe", ("a.exe",)),
    ('Content-Disposition: attachment; filename="=?utf-8?Q?=C3=A9.exe?="', ("é.exe",)),
    ("Content-Disposition: attachment; filename*=utf-8''%C3%A9.exe", ("é.exe",)),
    ("Content-Disposition: attachment; filename*=iso-8859-1'en'%E9.exe", ("é.exe",)),
    ("Content-Disposition: attachment; filename*1=b.exe; filename*0=a", ("ab.exe",)),
    ("Content-Disposition: attachment; filename*0*=utf-8''a%20; filename*1=\"%20.exe\"", ("a %20.exe",)),
    ("Content-Disposition: attachment; filename=a.txt; filename*=utf-8''b.exe", ("b.exe", "a.txt")),
    ("Content-Type: x/y; name=a.txt\nContent-Disposition: attachment; filename=b.exe", ("b.exe", "a.txt")),
    ("Content-Disposition: attachment; FileName = a.exe ; x", ("a.exe",)),
    ('Content-Disposition: attachment; filename="a.exe', ("a.exe",)),
    ("Content-Disposition: attachment; filename=é.exe", ("é.exe",)),
    ('Content-Disposition: attachment; filename="a\n .exe"', ("a .exe",)),
    ('Content-Disposition: attachment; filename="a\x1b\u202e.exe"', ("a\ufffd\ufffd.exe",)),
    ("Content-Disposition: attachment; filename=", ()),
    ("Content-Disposition: attachment; filename*9999=a", ("a",)),
    ("Content-Disposition: attachment; filename*99999=a; filename*x*=b", ()),
]


@pytest.mark.parametrize(("header", "names"), NAMES)
def test_file_names_as_mail_clients_show_them(header: str, names: tuple[str, ...]) -> None:
    found = part(header)
    assert found.filenames == names
    assert found.filename == (names[0] if names else "")
    assert found.is_attachment


def test_many_parameters_are_bounded() -> None:
    assert part("Content-Type: x/y" + "; a=b" * 300 + "; name=late").filename == ""


@pytest.mark.parametrize(
    ("header", "attached"),
    [
        ("Content-Type: text/plain", False),
        ("X: y", False),
        ("Content-Type: nonsense", False),
        ("Content-Type: text/plain\nContent-Disposition: attachment", True),
        ("Content-Type: text/plain; name=a.txt", True),
        ("Content-Type: image/png\nContent-Disposition: inline", True),
    ],
)
def test_what_is_an_attachment(header: str, attached: bool) -> None:
    assert part(header).is_attachment is attached


@pytest.mark.parametrize(
    ("encoding", "body", "expected"),
    [
        ("base64", "aGVs\nbG8=\n", b"hello"),
        ("base64", "aGVsbG8", b"hello"),
        ("BASE64", "aG!!Vs bG8=", b"hello"),
        ("base64", "aGVsbG8=x", b"hello\xc4"[:5]),
        ("base64", "A", b""),
        ("quoted-printable", "a=20b=\nc=ZZ", b"a bc=ZZ"),
        ("8bit", "ä", "ä".encode()),
        ("x-unknown", "abc", b"abc"),
    ],
)
def test_transfer_encodings(encoding: str, body: str, expected: bytes) -> None:
    found = part(f"Content-Type: x/y\nContent-Transfer-Encoding: {encoding}", body)
    assert found.content()[: len(expected) or None] == expected
    assert found.content(0) == b""


def test_charsets() -> None:
    raw = Message(Content(b"Content-Type: text/plain; charset=iso-8859-1\r\n\r\n\xe9"))
    assert raw.text == "é"
    for charset in ("utf-8", "no-such-charset", "idna", "zlib", "rot13", "../../x", "\x00", "undefined", "cp65001"):
        octets = f"Content-Type: text/plain; charset={charset}\r\n\r\né".encode()
        assert Message(Content(octets)).text == "é", charset
    assert Message(Content(b"Content-Type: text/plain; charset=utf-8\r\n\r\n\xe9")).text == "é"


@pytest.mark.parametrize(("offset", "octets", "name"), SIGNATURES)
def test_signatures(offset: int, octets: bytes, name: str) -> None:
    assert detect(b"\0" * offset + octets + b"rest") == name
    encoded = base64.encodebytes(b"\0" * offset + octets + b"rest" * 3_000).decode()
    assert part("Content-Type: text/plain\nContent-Transfer-Encoding: base64", encoded).detected_type == name


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"PK\x03\x04" + b"\0" * 26 + b"a.txt", "application/zip"),
        (b"PK\x03\x04" + b"\0" * 26 + b"[Content_Types].xml", "application/vnd.openxmlformats-officedocument"),
        (b"PK\x03\x04" + b"\0" * 26 + b"META-INF/MANIFEST.MF", "application/java-archive"),
        (b"PK\x03\x04" + b"\0" * 26 + b"mimetypeapplication/vnd.oasis.opendocument.text", "application/vnd.oasis.opendocument"),
        (b"junk%PDF-1.7", "application/pdf"),
        (b"\xef\xbb\xbf <!DOCTYPE HTML>", "text/html"),
        (b"<svg xmlns", "image/svg+xml"),
        (b"hello", ""),
        (b"", ""),
    ],
)
def test_types_by_content(head: bytes, name: str) -> None:
    assert detect(head) == name


HTML = [
    ("a<b>b</b>c", "abc", []),
    ("<p>a</p><p>b</p>", "\na\n\nb\n", []),
    ("a<br/>b", "a\nb", []),
    ("&lt;&#65;&#x42;&eacute;&#99999999999999999999;", "<ABé\ufffd", []),
    ("&#0000000000000065;", "A", []),
    ("<script>if (a<b) '</p>'</script>x", "x", []),
    ("<style>p{}", "", []),
    ("<title>t</title>x", "tx", []),
    ("<!-- <a href=x> -->y", "y", []),
    ("<!-->y", "y", []),
    ("<!-- open", "", []),
    ("<!doctype html>y<?x?>z</>!", "yz!", []),
    ("a < b <3", "a < b <3", []),
    ("<a href=http://x.test/a>y</a>", "y", ["http://x.test/a"]),
    ("<A HREF = 'http://x.test/\n a'>y", "y", ["http://x.test/ a"]),
    ("<img alt='a>b' src=\"cid:x\"><form action=/p><a href=#top>", "\n", ["cid:x", "/p"]),
    ('<a href="java&#115;cript:x">', "", ["javascript:x"]),
    ('<a href="unclosed>text', "", []),
    ("<a href=", "", []),
    ("<a ==>x", "x", []),
    ('<a ">x"<b>y', 'x"y', []),
    ("<a/href=x>", "", ["x"]),
]


@pytest.mark.parametrize(("source", "text", "links"), HTML)
def test_html(source: str, text: str, links: list[str]) -> None:
    found = read_html(source)
    assert (found.text, found.links) == (text, links)


def test_html_links_are_bounded() -> None:
    assert read_html("<a href=x>" * 10, max_links=3).links == ["x"] * 3
