"""Encoded words, author addresses, Date and Message-ID, from RFC-conformant and hostile fields."""

import base64
from datetime import UTC, datetime

import pytest

from gateway import Message
from gateway.authors import addresses, domain_of
from gateway.content import Content
from gateway.words import decode_base64, decode_words, encode_words

WORDS = [
    ("plain", "plain"),
    ("=?utf-8?B?w6k=?=", "é"),
    ("=?UTF-8?b?w6k=?= =?utf-8?q?=C3=A9?=", "éé"),  # RFC 2047 6.2
    ("=?utf-8?q?a_b=5Fc?=", "a b_c"),
    ("=?iso-8859-1?q?=E9?= =?utf-8?q?=C3=A9?=", "éé"),
    ("=?utf-8?B?ww==?= =?utf-8?B?qQ==?=", "é"),  # a character cut in two
    ("a =?utf-8?q?b?= c", "a b c"),
    ("a=?utf-8?q?b?=c", "abc"),
    ("=?utf-8?q?a b?=", "a b"),
    ("=?utf-8?q??=", ""),
    ("=?utf-8*en?q?a?=", "a"),  # RFC 2231 5
    ("=?no-such?q?=C3=A9?=", "é"),
    ("=?utf-8?x?a?=", "=?utf-8?x?a?="),
    ("=?utf-8?q?a", "=?utf-8?q?a"),
    ("=?utf-8?b?!!!?=", ""),
    ("=?utf-7?q?+2AA-?=", "?"),
    ("=?utf-7?q?+AOk-?=", "é"),
    ("=?utf-8?q?=ZZ=4?=", "=ZZ=4"),
]


@pytest.mark.parametrize(("text", "expected"), WORDS)
def test_decodes_words(text: str, expected: str) -> None:
    assert decode_words(text) == expected


@pytest.mark.parametrize("text", ["é", "a é b", "é ü", "plain é " + "ü" * 100 + " end", "a\r\n é", "日本語 " * 40])
def test_encoded_words_decode_to_the_text(text: str) -> None:
    encoded = encode_words(text)
    assert encoded.isascii()
    assert all(len(word) <= 75 for word in encoded.split())
    assert decode_words(encoded.replace("\r\n", "")) == text.replace("\r\n", "")


AUTHORS = [
    ("a@b.test", ["a@b.test"]),
    ("A B <a@b.test>", ["a@b.test"]),
    ('"B, A" <a@b.test>, c@d.test', ["a@b.test", "c@d.test"]),
    ('"x@evil.test" <a@b.test>', ["a@b.test"]),
    ("=?utf-8?q?x=40evil.test?= <a@b.test>", ["a@b.test"]),
    ("(x@y.test) a@b.test (c (d) e)", ["a@b.test"]),
    ("a@b.test (unclosed", ["a@b.test"]),
    ("<a@b.test> <c@d.test>", ["a@b.test", "c@d.test"]),
    ("x@y.test <a@b.test>", ["a@b.test"]),
    ("<@r.test,@s.test:a@b.test>", ["a@b.test"]),
    ("Group: a@b.test, <c@d.test>;", ["a@b.test", "c@d.test"]),
    ("undisclosed:;", []),
    ("a @ b . test", ["a@b.test"]),
    ('"a b"@c.test', ['"a b"@c.test']),
    ('"a@x.test"@c.test', ['"a@x.test"@c.test']),
    ("a@[192.0.2.1]", ["a@[192.0.2.1]"]),
    ("<a@b.test", ["a@b.test"]),
    ("a@b.test>", ["a@b.test"]),
    ("no address", []),
    ("", []),
    (", ,,", []),
    ("<>", []),
    ("a@b.test, A@b.test, a@b.test", ["a@b.test", "A@b.test"]),
    ('"unclosed <a@b.test>', ['"unclosed <a@b.test>']),
]


@pytest.mark.parametrize(("body", "expected"), AUTHORS)
def test_author_addresses(body: str, expected: list[str]) -> None:
    assert addresses(body) == expected


def test_addresses_are_bounded() -> None:
    assert len(addresses(",".join(f"a{n}@b.test" for n in range(500)), limit=7)) == 7
    assert len(addresses("a@" + "b" * 5_000)[0]) == 1_000


@pytest.mark.parametrize(
    ("address", "domain"),
    [("a@B.Test", "b.test"), ("a@b.test.", "b.test"), ("a@x@b.test", "b.test"), ("a@", ""), ("a@ b .test", "b.test")],
)
def test_domains(address: str, domain: str) -> None:
    assert domain_of(address) == domain


def test_all_from_fields_count() -> None:
    message = Message(Content(b"From: a@one.test\r\nFROM: b@Two.test, c@one.test\r\n\r\n"))
    assert message.author_addresses == ("a@one.test", "b@Two.test", "c@one.test")
    assert message.author_domains == ("one.test", "two.test")


@pytest.mark.parametrize(
    ("field", "expected"),
    [("<a@b>", "<a@b>"), ("(x) <a@b> junk", "<a@b>"), ("a@b", "a@b"), ("", ""), ("<a\r\n b@c>", "<a b@c>")],
)
def test_message_id(field: str, expected: str) -> None:
    assert Message(Content(f"Message-ID: {field}\r\n\r\n".encode())).message_id == expected


def test_no_message_id_date_or_subject() -> None:
    message = Message(Content(b""))
    assert (message.message_id, message.date, message.subject, message.author_domains) == ("", None, "", ())


@pytest.mark.parametrize("field", ["", "yesterday", "Mon, 99 Foo 2026", "1" * 500, "Tue, 24 Nov 99999999999 09:58:22 +0000"])
def test_unreadable_dates(field: str) -> None:
    assert Message(Content(f"Date: {field}\r\n\r\n".encode())).date is None


def test_date() -> None:
    message = Message(Content(b"Date: Tue, 24 Nov 2026 09:58:22 +0000\r\n\r\n"))
    assert message.date == datetime(2026, 11, 24, 9, 58, 22, tzinfo=UTC)


@pytest.mark.parametrize("piece", [1, 3, 4, 5, 77, 1_000_000])
def test_base64_in_pieces_with_what_does_not_belong_to_it(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr("gateway.words._PIECE", piece)
    data = bytes(range(256))
    for size in (0, 1, 2, 3, 57, 58, 256):
        encoded = base64.encodebytes(data[:size])
        assert decode_base64(encoded) == data[:size]
        assert decode_base64(b"\r\n" + encoded.replace(b"\n", b" \xff\r\n").replace(b"=", b"")) == data[:size]
    assert decode_base64(b"QQ==Qg==") == base64.b64decode(b"QQQg"), "padding in between is passed over"
    assert decode_base64(b"QUJDR") == b"ABC", "six bits alone are no octet"
