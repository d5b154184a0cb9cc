"""Facts of messages that somebody wrote and of what becomes of them when octets change: nothing raises, and what is read agrees."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import find_urls, host_of, looks_like, skeleton, u_labels, unwrap
from gateway.charsets import read_text
from gateway.content import Content
from gateway.filenames import MAX_NAMES, extension, tricks
from gateway.flowed import unflow
from gateway.hypertext import read_html
from gateway.message import Message
from gateway.plugins.rules.facts import ELEMENTS, FACTS, Subject
from gateway.redirectors import _IN_PATH, _IN_QUERY
from gateway.testing import a_transaction
from gateway.urls import shown_host
from tests.fuzz.test_message_fuzz import message as made
from tests.generated import examples

CORPUS = sorted((Path(__file__).parents[1] / "corpus").glob("*/*.txt"))
SEEDS = [file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for file in CORPUS]
SEEDS += [
    (
        b"From: =?utf-8?q?J=C3=B6rg?= <a@b.test>\r\nTo: x: a@b.test, (c) <d@e.test>;\r\nDate: Tue, 24 Nov 2026 09:00:00 +0000\r\n"
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; format=flowed; delsp=yes\r\n\r\n"
        b"http://a.test/one/ \r\ntwo bit.ly/x <http://b.test/\r\n c>\r\n--b\r\nContent-Type: text/html; charset=utf-16\r\n\r\n"
        b'<a href="https://www.google.com/url?q=https://p\xd0\xb0ypal.com">www.paypal.com</a><p style="display:none">x\r\n'
        b"--b\r\nContent-Type: application/pdf; name*0*=utf-8''a%2; name*1*=Eexe\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        b"JVBERi0xLjcKL0VuY3J5cHQgMTIgMCBS\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n"
        b"Content-Type: application/pkcs7-mime; name=smime.p7m\r\n\r\nx\r\n--b--\r\n"
    ),
]
PIECES = [
    b"", b"\0", b"\r\n", b"\n--", b"--b\r\n", b"=?utf-8?B?", b"?=", b"=\r\n", b"%", b"''", b"*0*=", b'"', b"\\", b"(", b"<", b">", b"<a href=", b"&#x", b"http://",
    b"xn--", b"@", b",", b"\xff\xfe", b"\xe2\x80\xae", b"\x1b$B", b"+AGE-", b"Content-Type: ", b"boundary=", b"charset=utf-32\r\n", b"-----BEGIN PGP MESSAGE-----",
]  # fmt: skip


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """A message of the corpus with octets changed, lost and put in."""
    octets = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, len(octets)))
        cut = draw(st.sampled_from([0, 1, 2, 20, 200]))
        octets = octets[:at] + draw(st.sampled_from(PIECES) | st.binary(max_size=4)) + octets[at + cut :]
    return octets


def read_all(octets: bytes) -> Message:
    """Every fact, and of each list every element's."""
    transaction = a_transaction()
    subject = Subject(transaction, Message(Content(octets)), recipient=transaction.recipients[0])
    values: dict[str, Any] = {row.path: row.read(subject) for row in FACTS}
    for row in ELEMENTS:
        for element in values[row.path.partition(".")[0]]:
            row.read(element)
    return subject.message


@pytest.mark.parametrize("octets", SEEDS[:-1], ids=[file.name for file in CORPUS])
def test_messages_of_a_corpus(octets: bytes) -> None:
    assert set(read_all(octets).limits_hit) <= {"header-malformed"}


@examples(150)
@given(changed() | made)
def test_nothing_raises_and_what_is_read_agrees(octets: bytes) -> None:
    message = read_all(octets)
    assert [one.address for one in message.authors] == list(message.author_addresses)
    for part in message.parts:
        content = part.content()
        assert (part.size, part.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert b"".join(part.pieces()) == content
        assert len(part.filenames) <= MAX_NAMES
        assert all(name.isprintable() for name in part.filenames)
    for link in message.links:
        assert link.host == link.host.lower()
        assert link.is_wrapped == (link.target != link.url)
    assert message.limits_known == message.limits_hit


texts = st.text(max_size=40) | st.lists(st.sampled_from(["=?utf-8?q?", "?=", "%41", "''", ".exe", " ", ".", ":", "::$DATA", "\u202e", "/", "é", "xn--", "0x7f"])).map("".join)  # fmt: skip
urls = st.builds(
    lambda entry, rest: f"https://{entry[0]}{entry[1]}{rest}",
    st.sampled_from([*_IN_QUERY, *_IN_PATH]),
    st.lists(st.sampled_from(["?u=", "&q=", "?url=", "https%3A%2F%2F", "a.test", "___", "v3/__", "__;", "*", "**A", "!", "%", "=", "-", "_"])).map("".join)
    | texts,
)  # fmt: skip


@examples(200)
@given(texts | urls)
def test_functions_of_text_never_raise(text: str) -> None:
    assert host_of(text) == host_of(text).lower()
    assert all(found in text for found in find_urls(text) if "\n" not in text)
    assert len(shown_host(text)) <= 2_048
    target = unwrap(text)
    assert not target or "." in host_of(target)
    assert extension(text) == "" or extension(text)[0] == "."
    assert set(tricks((text,))) <= {"direction", "invisible", "trailing", "stream", "path", "spaces", "double-extension"}
    assert skeleton(u_labels(text)) == skeleton(text)
    assert looks_like(text, [text]) == ""
    assert unflow(text).count("\n") <= text.count("\n")
    assert len(read_html(text).text) <= 10 * len(text) + 10


@examples(150)
@given(
    st.binary(max_size=60),
    st.sampled_from(["", "utf-8", "utf-16", "utf-32", "utf-7", "iso-2022-jp", "hz", "gb2312", "big5", "x", "cp037"]),
)
def test_any_octets_are_text_of_any_charset(octets: bytes, charset: str) -> None:
    for is_html in (False, True):
        text = read_text(octets, charset, is_html=is_html)
        text.encode()  # no half of a surrogate pair
        assert len(text) <= 2 * len(octets) + 2
