"""DKIM verification to the letter: RFC 6376 with its errata, RFC 8301, RFC 8463, RFC 8616. Where dkimpy does otherwise, the RFC counts."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import AuthResult, Fact, Message
from gateway.content import Content
from gateway.mailauth import PrivateKey
from gateway.plugins.dkim import Dkim, DkimFinding, Options
from gateway.testing import TEMPFAIL, Clock, FakeContext, run_plugin
from tests.dkim_signer import ed25519_key, rsa_key, sign

NOW = 1_795_000_000
KEY, OTHER, ED = rsa_key(1024), rsa_key(1024), ed25519_key()
HEADER = (
    b"From: Alice <alice@example.org>\r\nTo: bob@example.net\r\nSubject: [x] hello\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n"
)
BODY = b"One line.\r\n\r\nAnother  line. \r\n"
PLAIN = HEADER + b"\r\n" + BODY
TEMPLATE = b" v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=sel; h=from:to:subject; bh={bh}; b={b}"
NAME = "sel._domainkey.example.org"
PASS = ("pass", "1024-bit key")


async def findings(content: bytes, txt: object = None, options: Options | None = None, name: str = NAME) -> tuple[Any, ...]:
    records = [KEY.record] if txt is None else txt
    context = FakeContext(zones={name: {"TXT": records}}, clock=Clock(NOW))
    return (await run_plugin(Dkim(options), message=Message(Content(content)), context=context)).findings


async def one(content: bytes, txt: object = None, options: Options | None = None, name: str = NAME) -> tuple[str, str]:
    [found] = [found for found in await findings(content, txt, options, name) if isinstance(found, AuthResult)]
    return found.result, found.reason


def signed(old: bytes = b"", new: bytes = b"", *, key: PrivateKey = KEY, content: bytes = PLAIN) -> bytes:
    """Signed over a template in which something is replaced: everything is right but that."""
    assert old in TEMPLATE
    return sign(content, key, TEMPLATE.replace(old, new, 1) if old else TEMPLATE + new)


def permerror(reason: str) -> tuple[str, str]:
    return "permerror", reason


NOT_BASE64, NOT_NAME = "bh= is not base64", "is not a domain name"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # RFC 6376 3.2: tag lists
        (b"", b"", PASS),
        (b"", b";", PASS),
        (b"", b"; \r\n\t", PASS),
        (b" v=1;", b"\r\n\tv = 1\t;", PASS),
        (b" v=1; a=rsa-sha256;", b" a=rsa-sha256; v=1;", PASS),
        (b" v=1;", b" unknown=any thing!; v=1; _x=1;", permerror("malformed signature: something in it is no tag")),
        (b" v=1;", b" unknown=any thing!; v=1;", PASS),
        (b" v=1;", b" V=2; v=1;", PASS),  # names are case-sensitive: V is unknown
        (b" v=1;", b" v=1; ;", permerror("malformed signature: something in it is no tag")),
        (b"", b";;", permerror("malformed signature: something in it is no tag")),
        (b" v=1;", b" v=1; d=example.org;", permerror("malformed signature: d= is there twice")),
        (b" v=1;", b" v=1; n=\x01;", permerror("malformed signature: control characters in it")),
        # 3.5 v=, a=, c=, q=
        (b"v=1;", b"v=1.0;", permerror("v= is not 1")),
        (b"v=1;", b"v=;", permerror("v= is not 1")),
        (b"v=1;", b"", permerror("no v= tag")),
        (b"a=rsa-sha256;", b"", permerror("no a= tag")),
        (b"a=rsa-sha256", b"a=RSA-SHA256", PASS),
        (b"a=rsa-sha256", b"a=rsa-sha512", permerror("unknown algorithm")),
        (b"a=rsa-sha256", b"a=", permerror("unknown algorithm")),
        (b"a=rsa-sha256", b"a=rsa-sha1", ("fail", "rsa-sha1 is no longer valid")),
        (b"c=relaxed/relaxed;", b"", PASS),
        (b"c=relaxed/relaxed;", b"c=relaxed;", PASS),
        (b"c=relaxed/relaxed;", b"c=simple;", PASS),
        (b"c=relaxed/relaxed;", b"c=simple/relaxed;", PASS),
        (b"c=relaxed/relaxed;", b"c=Relaxed/Relaxed;", PASS),
        (b"c=relaxed/relaxed;", b"c=;", permerror("unknown canonicalization")),
        (b"c=relaxed/relaxed;", b"c=relaxed/;", permerror("unknown canonicalization")),
        (b"c=relaxed/relaxed;", b"c=relaxed/nowsp;", permerror("unknown canonicalization")),
        (b" v=1;", b" v=1; q=dns/txt;", PASS),
        (b" v=1;", b" v=1; q=http/x : dns/txt;", PASS),
        (b" v=1;", b" v=1; q=dns/txt:other/y;", PASS),
        (b" v=1;", b" v=1; q=other;", permerror("q= has no known way to the key")),
        (b" v=1;", b" v=1; q=;", permerror("q= has no known way to the key")),
        # d=, s=, i=
        (b"d=example.org", b"d=EXAMPLE.org", PASS),
        (b"d=example.org", b"d=example.org.", permerror(f"d= {NOT_NAME}")),
        (b"d=example.org", b"d=", permerror(f"d= {NOT_NAME}")),
        (b"d=example.org", b"d=org", permerror("d= is a single label, no domain")),
        (b"d=example.org", b"d=" + b"x" * 300, permerror(f"d= {NOT_NAME}")),
        (b"d=example.org", b"d=exam\r\n ple.org", permerror(f"d= {NOT_NAME}")),
        (b"d=example.org", b"d=" + b"x." * 130 + b"org", permerror(f"d= {NOT_NAME}")),
        (b"d=example.org", b"d=\xc3", permerror(f"d= {NOT_NAME}")),
        (b"d=example.org", "d=b\u3002c".encode(), permerror(f"d= {NOT_NAME}")),
        (b"d=example.org", "d=\u2603.example".encode(), permerror(f"d= {NOT_NAME}")),
        (b"d=example.org", b"d=" + b".".join([b"d" * 60] * 4), permerror("s= and d= are too long for a DNS name")),
        (b"s=sel;", b"s=SEL;", PASS),
        (b"s=sel;", b"s=-;", permerror(f"s= {NOT_NAME}")),
        (b" v=1;", b" v=1; i=@example.org;", PASS),
        (b" v=1;", b" v=1; i=alice@example.org;", PASS),
        (b" v=1;", b" v=1; i=alice@News.Example.ORG;", PASS),
        (b" v=1;", b" v=1; i=a=3Bb=40x@news.example.org;", PASS),
        (b" v=1;", b" v=1; i=alice=40example.org;", PASS),
        (b" v=1;", b" v=1; i=a\r\n lice@exam\r\n ple.org;", PASS),
        (b" v=1;", b" v=1; i=a=ZZ@example.org;", permerror("i= is not quoted-printable")),
        (b" v=1;", b" v=1; i=a=4@example.org;", permerror("i= is not quoted-printable")),
        (b" v=1;", b" v=1; i=example.org;", permerror("i= has no @")),
        (b" v=1;", b" v=1; i=;", permerror("i= has no @")),
        (b" v=1;", b" v=1; i=alice@;", permerror(f"i= {NOT_NAME}")),
        (b" v=1;", b" v=1; i=alice@notexample.org;", permerror("i= is not in the domain of d=")),
        (b" v=1;", b" v=1; i=alice@org;", permerror("i= is not in the domain of d=")),
        (b" v=1;", b" v=1; i=alice@example.org@example.com;", permerror("i= is not in the domain of d=")),
        # h=
        (b"h=from:to:subject", b"h=From : TO\r\n\t:\r\n subject", PASS),
        (b"h=from:to:subject", b"h=from", PASS),
        (b"h=from:to:subject", b"h=from:from:subject:subject:x-none:to:to:cc", PASS),
        (b"h=from:to:subject", b"h=to:subject", permerror("From is not signed")),
        (b"h=from:to:subject", b"h=xfrom", permerror("From is not signed")),
        (b"h=from:to:subject", b"h=from::to", permerror("h= is not a list of field names")),
        (b"h=from:to:subject", b"h=from:", permerror("h= is not a list of field names")),
        (b"h=from:to:subject", b"h=from:s ubject", permerror("h= is not a list of field names")),
        (b"h=from:to:subject", b"h=", permerror("h= is not a list of field names")),
        (b"h=from:to:subject;", b"", permerror("no h= tag")),
        # bh=, b=
        (b"bh={bh}", b"bh=\r\n {bh} ", PASS),
        (b"bh={bh}", b"bh={bh}=", permerror(NOT_BASE64)),
        (b"bh={bh}", b"bh=!{bh}", permerror(NOT_BASE64)),
        (b"bh={bh}", b"bh=", permerror("bh= is empty")),
        (b"bh={bh};", b"", permerror("no bh= tag")),
        (b"b={b}", b"b \r\n =\t\r\n {b} \t", PASS),  # 3.7: the white space around the value is not hashed
        (b"bh={bh}; b={b}", b"b= {b} ; bh={bh} ", PASS),
        (b"b={b}", b"b=", permerror("b= is empty")),
        (b"b={b}", b"b={b}-", permerror("b= is not base64")),
        (
            b"b={b}",
            b"b=AAAA",
            ("fail", "signature does not match; the signature was not made with the published key, or is damaged"),
        ),
        # t=, x=
        (b" v=1;", b" v=1; t=%d;" % NOW, PASS),
        (b" v=1;", b" v=1; t=%d; x=%d;" % (NOW, NOW + 1), PASS),
        (b" v=1;", b" v=1; x=%d;" % (NOW - 299), PASS),
        (b" v=1;", b" v=1; x=%d;" % (NOW - 301), ("fail", "signature expired 5 minutes ago")),
        (b" v=1;", b" v=1; x=%d;" % (NOW - 86_400), ("fail", "signature expired 1 day ago")),
        (b" v=1;", b" v=1; x=0;", ("fail", "signature expired 20775 days ago")),
        (b" v=1;", b" v=1; t=%d; x=%d;" % (NOW, NOW), permerror("x= is not after t=")),
        (b" v=1;", b" v=1; t=-1;", permerror("t= is not a number")),
        (b" v=1;", b" v=1; t=;", permerror("t= is not a number")),
        (b" v=1;", b" v=1; t=1e3;", permerror("t= is not a number")),
        (b" v=1;", b" v=1; t=" + b"9" * 5000 + b";", permerror("t= is not a number")),
        (b" v=1;", b" v=1; x=" + b"9" * 76 + b";", PASS),
        (
            b" v=1;",
            b" v=1; t=" + b"9" * 76 + b";",
            ("fail", "signed in the future, 10000000 days ahead of our clock"),
        ),
        # l=
        (b" v=1;", b" v=1; l=31;", permerror("l= is more than the 28 octets of the body")),
        (b" v=1;", b" v=1; l=" + b"9" * 76 + b";", permerror("l= is more than the 28 octets of the body")),
        (b" v=1;", b" v=1; l=;", permerror("l= is not a number")),
        (b" v=1;", b" v=1; l=28;", ("pass", "1024-bit key, l= leaves 0 of 28 octets of the body unsigned")),
        (b" v=1;", b" v=1; l=0;", ("pass", "1024-bit key, l= leaves 28 of 28 octets of the body unsigned")),
    ],
)
async def test_signatures(old: bytes, new: bytes, expected: tuple[str, str]) -> None:
    assert await one(signed(old, new)) == expected


P = KEY.record.partition("p=")[2]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        # RFC 6376 3.6.1
        (f"p={P}", PASS),
        (f" p = {P} ", PASS),  # without k= and with spaces: dkimpy refuses it
        (f"v=DKIM1;p={P[:20]} {P[20:50]}\t{P[50:]};", PASS),
        (f"v=DKIM1; p={P.rstrip('=')}", PASS),
        (f"v=DKIM1; n=some notes; x=unknown; p={P}; g=*", PASS),
        (f"p={P}; v=DKIM1", permerror("the record is not DKIM1")),  # v= is first or absent
        (f"v=dkim1; p={P}", permerror("the record is not DKIM1")),
        (f"v=DKIM1 ; k = rsa ; p={P}", PASS),
        (f"v=DKIM1; k=RSA; p={P}", PASS),
        (f"v=DKIM1; k=; p={P}", permerror("key of another type than the signature")),
        (f"v=DKIM1; k=ed25519; p={P}", permerror("key of another type than the signature")),
        (ED.record, permerror("key of another type than the signature")),
        (f"v=DKIM1; p={P}; p={P}", permerror("malformed key record: p= is there twice")),
        (f"v=DKIM1; nonsense; p={P}", permerror("malformed key record: something in it is no tag")),
        (f"v=DKIM1; h=sha256; p={P}", PASS),
        (f"v=DKIM1; h=sha1:sha256; p={P}", PASS),
        (f"v=DKIM1; h= sha512 : SHA256 ; p={P}", PASS),
        (f"v=DKIM1; h=sha1; p={P}", permerror("key does not allow sha256")),
        (f"v=DKIM1; h=; p={P}", permerror("key does not allow sha256")),
        (f"v=DKIM1; s=*; p={P}", PASS),
        (f"v=DKIM1; s=tlsrpt : email; p={P}", PASS),
        (f"v=DKIM1; s=tlsrpt; p={P}", permerror("key is not for email")),
        (f"v=DKIM1; t=y; p={P}", ("pass", "1024-bit key, signer is testing")),
        (f"v=DKIM1; t= s : y ; p={P}", ("pass", "1024-bit key, signer is testing")),
        (f"v=DKIM1; t=s; p={P}", PASS),
        (f"v=DKIM1; t=unknown; p={P}", PASS),
        ("v=DKIM1; p=", permerror("key was revoked")),
        ("v=DKIM1; k=rsa; p= ; t=s", permerror("key was revoked")),
        ("v=DKIM1; k=rsa", permerror("the record has no key (p=)")),
        ("", permerror("the record has no key (p=)")),
        (f"v=DKIM1; p=*{P}", permerror("key is not base64")),
    ],
)
async def test_key_records(record: str, expected: tuple[str, str]) -> None:
    assert await one(signed(), [record]) == expected


async def test_several_records_at_a_name() -> None:
    """RFC 6376 3.6.2.2 leaves it open: the one that can be used is used."""
    assert await one(signed(), ["v=spf1 -all", ED.record, KEY.record]) == PASS
    assert await one(signed(), ["v=DKIM1; p=", ED.record]) == permerror("key was revoked")
    assert await one(signed(), ["v=spf1 -all", "v=DKIM1; p="]) == permerror("key was revoked")


async def test_dns() -> None:
    assert await one(signed(), []) == permerror("no key for signature")
    assert await one(signed(), name="other.example") == permerror("no key for signature")
    assert await one(signed(), TEMPFAIL) == ("temperror", "the key could not be looked up: temporary failure")


async def test_what_is_published_is_evidence_where_it_does_not_pass() -> None:
    async def details(txt: object) -> tuple[str, ...]:
        [found] = [found for found in await findings(signed(), txt) if isinstance(found, DkimFinding)]
        return found.details

    assert await details([KEY.record]) == ()
    assert await details([]) == (f"{NAME}: no TXT record",)
    assert await details(["v=spf1 -all", b"v=DKIM1; n=\xff; p="]) == (f"{NAME}: v=spf1 -all", f"{NAME}: v=DKIM1; n=\ufffd; p=")
    assert await details(["x" * 700] * 5) == (f"{NAME}: {'x' * 600}…",) * 3
    assert await details(TEMPFAIL) == ()


async def test_the_flag_s_of_a_key() -> None:
    """RFC 6376 3.6.1, t=s: no subdomain in i=."""
    record = [KEY.record.replace("k=rsa", "k=rsa; t=s")]
    assert await one(signed(b" v=1;", b" v=1; i=a@Example.org;"), record) == PASS
    expected = permerror("key does not allow a subdomain in i=")
    assert await one(signed(b" v=1;", b" v=1; i=a@news.example.org;"), record) == expected
    testing = [KEY.record.replace("k=rsa", "k=rsa; t=s:y")]
    assert await one(signed(b" v=1;", b" v=1; i=a@news.example.org;"), testing) == permerror(expected[1] + "; signer is testing")
    assert await one(signed(b" v=1;", b" v=1; i=@a=2Eexample.org;"), record) == expected


async def test_ed25519_and_rsa_are_not_mixed_up() -> None:
    """RFC 8463 3: dkimpy verifies a=ed25519-sha256 with an RSA key."""
    content = signed(b"a=rsa-sha256", b"a=ed25519-sha256", key=ED)
    assert await one(content, [ED.record]) == ("pass", "256-bit key")
    assert await one(content) == permerror("key of another type than the signature")
    assert await one(signed(b"a=rsa-sha256", b"a=ed25519-sha256")) == permerror("key of another type than the signature")
    wrong = ("fail", "signature does not match; signed header fields were changed, or another key signed")
    assert await one(signed(b"a=rsa-sha256", b"a=ed25519-sha256"), [ED.record]) == wrong


async def test_internationalized_domains() -> None:
    """RFC 8616 4: U-labels in d=, s= and i= are looked up as A-labels."""
    content = signed(b"d=example.org; s=sel;", "d=bücher.example; s=é; i=x@post.bücher.example;".encode())
    assert await one(content, name="xn--9ca._domainkey.xn--bcher-kva.example") == PASS
    # IDNA 2008: a sharp s is a letter of its own (RFC 5894 7.2).
    sharp = signed(b"d=example.org;", "d=stra\u00dfe.example;".encode())
    assert await one(sharp, name="sel._domainkey.xn--strae-oqa.example") == PASS
    mixed = signed(b"d=example.org;", "d=xn--bcher-kva.example; i=@bücher.example;".encode())
    assert await one(mixed, name="sel._domainkey.xn--bcher-kva.example") == PASS


async def test_the_signature_itself_is_never_among_the_signed_fields() -> None:
    """RFC 6376 3.5, h=: other signatures may be signed; a name too many stands for nothing, not for the field itself."""
    first = signed()
    second = signed(b"h=from", b"h=dkim-signature:dkim-signature:from", content=first)
    assert [found.result for found in await findings(second) if isinstance(found, AuthResult)] == ["pass", "pass"]
    assert await one(signed(b"h=from", b"h=dkim-signature:from")) == PASS


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"DKIM-Signature:", b"DKIM-Signature :"), (b"DKIM-Signature:", b"dkim-SIGNATURE:"), (b"From:", b"FROM \t:")],
)
async def test_the_spelling_of_names_is_relaxed_away_and_kept_by_simple(old: bytes, new: bytes) -> None:
    assert await one(signed().replace(old, new, 1)) == PASS
    simple = signed(b"c=relaxed/relaxed", b"c=simple/relaxed")
    assert await one(simple) == PASS
    assert (await one(simple.replace(old, new, 1)))[0] == "fail"


async def test_simple_keeps_white_space_at_the_end_of_the_signature() -> None:
    """RFC 6376 3.7: only the CRLF at the end goes; dkimpy strips white space too, and so cannot verify its tail."""
    template = TEMPLATE.replace(b"c=relaxed/relaxed", b"c=simple/simple") + b"; "
    assert await one(sign(PLAIN, KEY, template)) == PASS
    assert (await one(sign(PLAIN, KEY, template).replace(b"; \r\n", b";\r\n")))[0] == "fail"


@pytest.mark.parametrize("body", [b"no end", b"no end \t", b" \t", b"line\r\n \t", b"", b"\r\n\r\n"])
@pytest.mark.parametrize("canon", [b"simple/simple", b"relaxed/relaxed"])
async def test_a_body_without_an_end(body: bytes, canon: bytes) -> None:
    """RFC 6376 3.4.3, 3.4.4: a CRLF is added, and white space at the end of the last line is ignored by relaxed."""
    content = signed(b"c=relaxed/relaxed", b"c=" + canon, content=HEADER + b"\r\n" + body)
    assert await one(content) == PASS
    if body.strip(b"\r\n"):
        assert await one(content + b"\r\n") == PASS
    assert (await one(content + b" \t"))[0] == ("pass" if canon.startswith(b"relaxed") else "fail")


@pytest.mark.parametrize("line", [b"Odd Name: x\r\n", b"X-\xe9: x\r\n", b": x\r\n", b"no colon\r\n"])
async def test_a_line_that_is_no_field_ends_the_header_section(line: bytes) -> None:
    """One wrong line costs dkimpy every signature; here those above it are verified over what was read as header."""
    content = signed(content=HEADER + line + b"Date: x\r\n\r\n" + BODY)
    assert await one(content) == PASS


async def test_what_is_left_open_is_told() -> None:
    content = signed(b"h=from:to:subject", b"h=from:subject:date")
    found = await findings(content)
    assert isinstance(found[0], DkimFinding)
    assert found[0].coverage is not None
    assert found[0].coverage.unsigned == ("to",)
    assert (found[0].domain, found[0].selector, found[0].bits, found[0].body_size) == ("example.org", "sel", 1024, 28)
    facts = {fact.name: fact.value for fact in found if isinstance(fact, Fact)}
    assert facts == {"dkim.unsigned_fields": "to", "dkim.from_not_sealed": True}
    twice = b"Subject: another\r\nContent-Type: text/html\r\n" + content
    found = await findings(twice)
    assert found[0].reason == "1024-bit key, Subject occurs 2 times, signed 1"
    facts = {fact.name: fact.value for fact in found if isinstance(fact, Fact)}
    assert facts == {
        "dkim.unsigned_fields": "to,content-type",
        "dkim.added_fields": "subject",
        "dkim.from_not_sealed": True,
    }
    assert await one(twice, options=Options(added_fields="refuse")) == ("policy", "Subject occurs 2 times, signed 1")
    assert await one(content, options=Options(added_fields="refuse")) == PASS
    sealed = signed(b"h=from:to:subject", b"h=from:from:to:subject:date")
    assert not [found for found in await findings(sealed) if isinstance(found, Fact)]
    limited = signed(b" v=1;", b" v=1; l=11;", content=PLAIN)
    facts = {fact.name: fact.value for fact in await findings(limited) if isinstance(fact, Fact)}
    assert facts["dkim.unsigned_octets"] == 17
    # One signature over everything is enough.
    both = signed(b"h=from:to:subject", b"h=from:from:to:subject:date", content=limited)
    assert not [found for found in await findings(both) if isinstance(found, Fact)]
    # Nothing is said of what no valid signature covers.
    assert not [found for found in await findings(limited.replace(b"One", b"Two")) if isinstance(found, Fact)]


async def test_a_second_from() -> None:
    """RFC 6376 8.15: h= names From once, and a reader may be shown the other one."""
    content = b"From: Boss <boss@example.org>\r\n" + signed()
    assert await one(content) == ("fail", "signature does not match; From occurs 2 times, signed 1")
    below = signed().replace(b"\r\n\r\n", b"\r\nFrom: boss@example.org\r\n\r\n", 1)
    assert (await one(below))[0] == "fail"
    both = signed(b"h=from:to:subject", b"h=from:from", content=b"From: x@example.org\r\n" + PLAIN)
    assert await one(both) == PASS


async def test_signatures_are_told_apart_by_their_beginnings() -> None:
    """RFC 6008 3: eight characters of b= name the signature, or more where another one begins with the same."""
    field = "DKIM-Signature: v=1; d=example.org; b={}\r\n"
    written = ["AAAAAAAABBBB1", "AAAA\r\n AAAABBBB2", "AAAAAAAAC", "AAAAAAAAC", "D", "", "E" * 200 + "1", "E" * 200 + "2"]
    content = "".join(map(field.format, written)).encode() + PLAIN
    shown = [found.property("header.b") for found in await findings(content) if isinstance(found, AuthResult)]
    assert shown == ["AAAAAAAABBBB1", "AAAAAAAABBBB2", "AAAAAAAAC", "AAAAAAAAC", "D", None, "E" * 64, "E" * 64]


async def test_clock_skew() -> None:
    content = signed(b" v=1;", b" v=1; x=%d;" % (NOW - 1))
    assert await one(content) == PASS
    assert await one(content, options=Options(clock_skew=0.0)) == ("fail", "signature expired 1 second ago")


@pytest.mark.parametrize(("count", "expected"), [(1_990, PASS), (10_000, permerror("too many header fields"))])
async def test_many_fields(count: int, expected: tuple[str, str]) -> None:
    """More fields than are listed cannot be verified, and never pass for want of those that are not seen."""
    assert await one(signed(content=HEADER + b"X-Filler: x\r\n" * count + b"\r\n" + BODY)) == expected
