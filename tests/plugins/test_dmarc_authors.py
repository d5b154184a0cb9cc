"""Who the author is, as a table of From fields: RFC 9989 5.3.1 and 11.5, RFC 5322 3.4, 3.6.2 and 4.4."""

from __future__ import annotations

import pytest

from gateway.plugins.dmarc.authors import Authors, a_label, read_authors
from gateway.testing import a_message


def read(header: str | bytes) -> Authors:
    octets = header if isinstance(header, bytes) else header.encode()
    return read_authors(a_message(octets + b"\r\nSubject: x\r\n\r\nbody\r\n"), 4)


@pytest.mark.parametrize(
    ("from_", "domains"),
    [
        ("a@bank.example", ["bank.example"]),
        ("Alice <a@bank.example>", ["bank.example"]),
        ("<a@BANK.Example>", ["bank.example"]),
        ("a@bank.example.", ["bank.example"]),
        ('"Doe, John" <j@bank.example>, a@bank.example', ["bank.example"]),
        ("a@bank.example (comment (nested, b@evil.example))", ["bank.example"]),
        ("a(b@evil.example)@(c)bank.example(d)", ["bank.example"]),
        ("a@bank.example\r\n ,\r\n b@evil.example", ["bank.example", "evil.example"]),
        # Display names are no addresses, whatever is in them (RFC 5322 3.4).
        ('"a@bank.example" <x@evil.example>', ["evil.example"]),
        ("a@bank.example <x@evil.example>", ["evil.example"]),
        ("=?utf-8?q?a=40bank.example?= <x@evil.example>", ["evil.example"]),
        ("=?utf-8?b?YUBiYW5rLmV4YW1wbGU=?= <x@evil.example>", ["evil.example"]),
        ('"<a@bank.example>" <x@evil.example>', ["evil.example"]),
        ('"a@bank.example\\"" <x@evil.example>', ["evil.example"]),
        # Two addresses where one belongs: both count.
        ("<a@bank.example> <x@evil.example>", ["bank.example", "evil.example"]),
        ("a@bank.example, x@evil.example", ["bank.example", "evil.example"]),
        ("x@evil.example, a@bank.example", ["evil.example", "bank.example"]),
        ("a@bank.example@evil.example", ["bank.example", "evil.example"]),
        ("<a@bank.example@evil.example>", ["bank.example", "evil.example"]),
        # Quoted local parts (RFC 5322 3.4.1).
        ('"a@evil.example"@bank.example', ["bank.example"]),
        ('"a\\"@evil.example"@bank.example', ["bank.example"]),
        ('<"a b"@bank.example>', ["bank.example"]),
        # Groups (RFC 6854).
        ("Team: a@bank.example, b@evil.example;", ["bank.example", "evil.example"]),
        ("Team: A <a@bank.example>;", ["bank.example"]),
        ("undisclosed-recipients:;", []),
        ("Nobody: ;", []),
        ("G: ;, a@bank.example", ["bank.example"]),
        # Obsolete forms (RFC 5322 4.4).
        ("<@relay.example:a@bank.example>", ["bank.example"]),
        ("<@r1.example,@r2.example:a@bank.example>", ["bank.example"]),
        ("a@bank . example", ["bank.example"]),
        ("A <a@bank\r\n\t.example>", ["bank.example"]),
        (", a@bank.example,,", ["bank.example"]),
        # Broken ones.
        ("A <a@bank.example", ["bank.example"]),
        ('"a@bank.example', ["bank.example"]),
        ("a@bank.example>", ["bank.example"]),
        ("a@bank.example; b@evil.example", ["bank.example", "evil.example"]),
        ("<>", []),
        ("", []),
        ("Mailer-Daemon", []),
        ("a@", []),
        ("@", []),
        # Names beyond ASCII (RFC 6532, RFC 5891): A-labels are what is looked up.
        ("a@Exämple.org", ["xn--exmple-cua.org"]),
        ("jörg@xn--exmple-cua.org", ["xn--exmple-cua.org"]),
        ("a@faß.de", ["xn--fa-hia.de"]),
        ("a@FASS.de", ["fass.de"]),
        ("a@bank\u3002example", ["bank.example"]),
        ("a@ｂａｎｋ.example", ["bank.example"]),
        ("a@ba\u00adnk.example", ["bank.example"]),
        ("a@💩.la", ["xn--ls8h.la"]),
        ("a@מייל.קום", ["xn--eebajf.xn--9dbq2a"]),
    ],
)
def test_the_authors(from_: str, domains: list[str]) -> None:
    found = read(f"From: {from_}")
    assert list(found.domains) == domains
    assert found.problem == ""


@pytest.mark.parametrize(
    "from_", ["a@b..example", "a@-", "a@b_c!d.example", f"a@{'x' * 64}.example", "a@" + "x." * 130 + "example"]
)
def test_what_is_no_domain_is_told(from_: str) -> None:
    found = read(f"From: {from_}")
    assert found.domains == ()
    assert found.malformed


def test_spaces_of_unicode_hide_nothing() -> None:
    for space in "\u00a0\u2003\u3000\u200b\u2060":
        found = read(f"From: Boss <ceo@bank{space}.example>")
        assert found.domains in {("bank.example",), ()}
        assert found.domains or found.malformed


def test_control_characters_are_no_domain() -> None:
    found = read(b"From: <a@bank\x00.example>")
    assert found.domains == ()
    assert found.malformed
    assert read(b"From: <a@bank\x7f.example>").malformed


@pytest.mark.parametrize("from_", ["a@[192.0.2.1]", "A <a@[IPv6:2001:db8::1]>", "a@[x@bank.example]"])
def test_domain_literals(from_: str) -> None:
    found = read(f"From: {from_}")
    assert (found.domains, found.has_literal) == ((), True)


def test_several_fields() -> None:
    assert read("From: a@bank.example\r\nFrom: b@evil.example").domains == ("bank.example", "evil.example")
    assert read("FROM: a@bank.example\r\nfrom : b@evil.example").domains == ("bank.example", "evil.example")
    assert read("X-From: a@bank.example\r\nSender: b@evil.example").domains == ()


def test_what_may_hide_an_author_is_told() -> None:
    """Everything behind a bound of ours: otherwise it would be a way around the policy."""
    many = ", ".join(f"a{n}@bank.example" for n in range(500))
    assert "100 or more addresses" in read(f"From: {many}, x@evil.example").problem
    assert "65536 octets" in read(f"From: a@bank.example ({'x' * 70_000}), x@evil.example").problem
    assert "65536 octets" in read(f"From: a@bank.example ({'x' * 300})\r\n" * 300 + "From: x@evil.example").problem
    assert "more than 4 different" in read("From: " + ", ".join(f"a@d{n}.example" for n in range(5))).problem
    assert "more than 4 different" in read("From: a" + "@bank.example@" * 3 + "@".join(f"d{n}.example" for n in range(9))).problem
    assert "header fields" in read("X: y\r\n" * 10_001 + "From: x@evil.example").problem
    assert read("From: " + ", ".join(["a@bank.example"] * 99)).problem == ""


def test_a_label_is_bounded() -> None:
    assert a_label("ä" * 100_000) == ""
    assert a_label("a." * 100_000) == ""
    assert a_label("ä" * 60 + ".example") == ""
    assert a_label("") == ""
    assert a_label("EXAMPLE.org.") == "example.org"
