"""A footer in every form that a text may have: what is written anew, what keeps its octets, and what is left alone."""

from __future__ import annotations

import base64
import email
import email.message
from typing import cast

import pytest

from gateway.edits import Edit, ReplacePart
from gateway.footer import MAX_TEXT, Footer
from gateway.splice import apply
from gateway.testing import a_message

PLAIN = Footer(text="Example Ltd\nLondon  ")
UMLAUT = Footer(text="Grüße aus Köln", html="<i>Grüße aus Köln</i>")
ALTERNATIVE = b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=B\r\n\r\npre\r\n--B\r\n%s\r\n--B\r\n%s\r\n--B--\r\nend \r\n"
HTML = b"Content-Type: text/html; charset=%s\r\n%s\r\n<html><body>Hi &amp; bye</BODY></html>"


def edited(content: bytes, footer: Footer, *, breaks_signatures: bool = False) -> bytes:
    message = a_message(content)
    edits = footer.edits(message, breaks_signatures=breaks_signatures)
    done = b"".join(apply(message.content, edits).chunks())
    assert footer.edits(a_message(done), breaks_signatures=breaks_signatures) == (), "never twice"
    return done


def texts(content: bytes) -> list[str]:
    """As another library reads them."""
    found = []
    for part in email.message_from_bytes(content).walk():
        if part.get_content_maintype() == "text":
            octets = cast("bytes", part.get_payload(decode=True))
            found.append(octets.decode(part.get_content_charset() or "ascii").replace("\r\n", "\n"))
    return found


def text(charset: bytes, encoding: bytes, body: bytes) -> bytes:
    return b"Subject: x\r\nContent-Type: text/plain; charset=%s; format=fixed\r\nContent-Transfer-Encoding: %s\r\n\r\n%s" % (
        charset,
        encoding,
        body,
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"hello\r\n", b"hello\r\n\r\nExample Ltd\r\nLondon\r\n"),
        (b"hello", b"hello\r\n\r\nExample Ltd\r\nLondon"),
        (b"", b"\r\nExample Ltd\r\nLondon"),
        (b"  odd \r\n\r\n\r\n", b"  odd \r\n\r\n\r\n\r\nExample Ltd\r\nLondon\r\n"),
    ],
)
def test_it_is_appended_and_every_octet_stays(before: bytes, after: bytes) -> None:
    head = b"Subject: x\r\n\r\n"
    assert edited(head + before, PLAIN) == head + after


@pytest.mark.parametrize(("charset", "octets"), [(b"utf-8", "ü".encode()), (b"iso-8859-1", b"\xfc"), (b"windows-1252", b"\x80")])
def test_8_bit_texts_get_it_in_their_charset(charset: bytes, octets: bytes) -> None:
    content = text(charset, b"8bit", octets + b"\r\n")
    done = edited(content, UMLAUT)
    assert done == content + b"\r\n" + "Grüße aus Köln".encode(charset.decode()) + b"\r\n"


@pytest.mark.parametrize("charset", [b"us-ascii", b"utf-8", b"iso-8859-2"])
def test_a_7_bit_text_is_written_anew_for_a_footer_that_needs_more(charset: bytes) -> None:
    done = edited(text(charset, b"7bit", b"hello\r\n. dot\r\n"), UMLAUT)
    assert texts(done) == ["hello\n. dot\n\nGrüße aus Köln\n"]
    parsed = email.message_from_bytes(done)
    assert (parsed["Content-Type"], parsed["Content-Transfer-Encoding"]) == (
        "text/plain; format=fixed; charset=utf-8",
        "quoted-printable",
    )


def test_a_charset_that_lacks_its_letters_becomes_utf_8() -> None:
    done = edited(text(b"koi8-r", b"8bit", "привет\r\n".encode("koi8-r")), UMLAUT)
    assert texts(done) == ["привет\n\nGrüße aus Köln\n"]
    assert texts(edited(text(b"iso-2022-jp", b"7bit", "日本\r\n".encode("iso-2022-jp")), PLAIN)) == [
        "日本\n\nExample Ltd\nLondon\n"
    ]


@pytest.mark.parametrize("body", [b"a=\r\n", b"a=", b"hello =\r\nworld", b"caf=E9\r\n", b""])
def test_quoted_printable_keeps_its_lines(body: bytes) -> None:
    content = text(b"iso-8859-1", b"quoted-printable", body)
    done = edited(content, UMLAUT)
    assert done.startswith(content)
    assert b"Gr=FC=DFe aus K=F6ln" in done
    assert texts(done)[0].endswith("\nGrüße aus Köln" + "\n" * body.endswith(b"\r\n"))


def test_base64_is_encoded_again_and_what_it_held_stays() -> None:
    held = b"hello \xe9\r\n"
    done = edited(text(b"iso-8859-1", b"base64", base64.encodebytes(held).replace(b"\n", b"\r\n")), UMLAUT)
    assert cast("bytes", email.message_from_bytes(done).get_payload(decode=True)) == held + b"\r\n" + "Grüße aus Köln\r\n".encode(
        "latin-1"
    )


def test_both_forms_of_an_alternative_get_it_and_nothing_else_changes() -> None:
    html = HTML % (b"us-ascii", b"")
    done = edited(ALTERNATIVE % (b"\r\nhello", html), PLAIN)
    assert done == ALTERNATIVE % (
        b"\r\nhello\r\n\r\nExample Ltd\r\nLondon",
        b"Content-Type: text/html; charset=us-ascii\r\n\r\n<html><body>Hi &amp; bye\r\n<hr>\r\n<p>Example Ltd<br>\r\nLondon</p>\r\n</BODY></html>",
    )


@pytest.mark.parametrize("encoding", [b"quoted-printable", b"base64", b"7bit"])
def test_html_carries_other_letters_as_references(encoding: bytes) -> None:
    html = b"<html><body>Hi</body></html>"
    body = {b"base64": base64.encodebytes(html)[:-1], b"quoted-printable": html}.get(encoding, html)
    part = b"Content-Type: text/html\r\nContent-Transfer-Encoding: " + encoding + b"\r\n\r\n" + body
    done = edited(
        ALTERNATIVE % (b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nhi", part), UMLAUT
    )
    assert texts(done)[1].replace("\n", "") == "<html><body>Hi<i>Gr&#252;&#223;e aus K&#246;ln</i></body></html>"


def test_of_a_mixed_message_the_first_text_gets_it() -> None:
    mixed = ALTERNATIVE.replace(b"alternative", b"mixed")
    two = edited(mixed % (b"\r\nfirst", b"\r\nsecond"), PLAIN)
    assert two == mixed % (b"\r\nfirst\r\n\r\nExample Ltd\r\nLondon", b"\r\nsecond")
    attached = edited(mixed % (b"Content-Disposition: attachment; filename=a.txt\r\n\r\nno", b"\r\nyes"), PLAIN)
    assert texts(attached) == ["no", "yes\n\nExample Ltd\nLondon"]


def test_a_part_with_a_header_section_of_its_own_is_written_anew() -> None:
    part = b'X-Own: 1\r\ncontent-type: text/plain;\r\n charset="us-ascii"\r\nContent-ID: <a@b>\r\n\r\nhi'
    done = edited(ALTERNATIVE % (part, HTML % (b"utf-8", b"")), UMLAUT)
    assert (
        b"\r\n--B\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\nX-Own: 1\r\nContent-ID: <a@b>\r\n\r\nhi\r\n"
        in done
    )
    assert texts(done)[0] == "hi\n\nGrüße aus Köln"


@pytest.mark.parametrize("said", ["Example Ltd London", "> Example Ltd\r\n> London", "Example\r\nLtd   London"])
def test_a_message_that_has_it_gets_none(said: str) -> None:
    assert PLAIN.edits(a_message(body=f"hello\r\n{said}\r\nbye\r\n")) == ()


SIGNED = b'Content-Type: multipart/signed; boundary=B; protocol="application/pgp-signature"\r\n\r\n--B\r\n\r\nhi\r\n--B\r\nContent-Type: application/pgp-signature\r\n\r\nx\r\n--B--\r\n'
WHY = [
    (SIGNED, "multipart/signed, which others vouch for"),
    (b"Content-Type: application/pkcs7-mime\r\n\r\nAAAA\r\n", "application/pkcs7-mime"),
    (b"DKIM-Signature: v=1\r\n\r\nhi\r\n", "the message has DKIM-Signature, which would not verify any more"),
    (b"Subject: x\r\n\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\nhi\r\n", "signed or encrypted with OpenPGP"),
    (b"Content-Type: image/png\r\n\r\nx", "no text of its own"),
    (b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nhi\r\n", "no text of its own"),
    (text(b"utf-16", b"base64", base64.b64encode("hi".encode("utf-16"))), "its text has the charset 'utf-16'"),
    (text(b"x-unknown", b"8bit", b"hi"), "its text has the charset 'x-unknown'"),
    (text(b"us-ascii", b"x-uuencode", b"hi"), "its text has the encoding 'x-uuencode'"),
    (text(b"us-ascii", b"7bit", b"hi \xff\r\n"), "its text is not in its charset 'us-ascii'"),
    (b"Subject: x\r\n\r\n" + b"x" * (MAX_TEXT + 1), "more than 5000000 octets"),
    (
        b"Content-Type: multipart/mixed; boundary=B\r\n\r\n--B\r\nContent-Type: text/plain\r\nX: no end",
        "its header section has no end",
    ),
    (b"Content-Type: multipart/mixed; boundary=Gr\r\n\r\n--Gr\r\n\r\nhi\r\n--Gr--\r\n", ""),
]


@pytest.mark.parametrize(("content", "why"), WHY, ids=[str(number) for number in range(len(WHY))])
def test_what_cannot_have_it_stays_and_says_why(content: bytes, why: str) -> None:
    if not why:
        with pytest.raises(ValueError, match="begins as a boundary"):
            Footer(text="--Grenze").edits(a_message(content))
        return
    with pytest.raises(ValueError, match=why):
        UMLAUT.edits(a_message(content))


def test_a_signature_is_broken_where_that_is_wanted() -> None:
    assert edited(b"DKIM-Signature: v=1\r\n\r\nhi\r\n", PLAIN, breaks_signatures=True).endswith(
        b"hi\r\n\r\nExample Ltd\r\nLondon\r\n"
    )


def test_a_signed_message_that_is_attached_is_somebody_elses() -> None:
    mixed = ALTERNATIVE.replace(b"alternative", b"mixed")
    done = edited(
        mixed
        % (b"\r\nsee below", b"Content-Type: message/rfc822\r\n\r\n" + SIGNED.replace(b"--B", b"--C").replace(b"=B", b"=C")),
        PLAIN,
    )
    assert b"see below\r\n\r\nExample Ltd\r\nLondon\r\n--B" in done


@pytest.mark.parametrize("wrong", ["", " \n ", "x" * 901])
def test_a_footer_that_cannot_be(wrong: str) -> None:
    with pytest.raises(ValueError, match="1 or more lines"):
        Footer(text=wrong)


def test_the_edits_are_values_of_the_body() -> None:
    edits: tuple[Edit, ...] = PLAIN.edits(a_message(body="hi"))
    assert [type(one) for one in edits] == [ReplacePart]
