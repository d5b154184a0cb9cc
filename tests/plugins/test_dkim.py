"""DKIM: what dkimpy and OpenDKIM sign verifies, what is broken does not, and hostile input is cheap."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from gateway import AuthResult, Message
from gateway.content import Content
from gateway.mailauth import body_hashes, find_prefixes
from gateway.plugins.dkim import Dkim, Options
from gateway.testing import TEMPFAIL, Clock, FakeContext, FakeResolver, run_plugin

KEYS = {bits: rsa.generate_private_key(public_exponent=65537, key_size=bits) for bits in (1024, 2048)}
ED = ed25519.Ed25519PrivateKey.generate()
HEADER = b"From: Alice <alice@example.org>\r\nTo: bob@example.net\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\n  folded\there\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n"
BODY = b"Hello,\r\n\r\n a  line \t with\tspaces  \r\n..dots\r\n\r\n\r\n"
PLAIN = HEADER + b"\r\n" + BODY


def pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def record(key: rsa.RSAPublicKey, tags: str = "v=DKIM1; k=rsa") -> str:
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"{tags}; p={base64.b64encode(der).decode()}"


def zones(txt: object, name: str = "sel._domainkey.example.org") -> dict[str, Any]:
    return {name: {"TXT": [txt]} if isinstance(txt, str) and txt != TEMPFAIL else {"TXT": txt}}


def signed(
    content: bytes = PLAIN, *, key: int = 2048, canon: tuple[bytes, bytes] = (b"relaxed", b"simple"), **more: object
) -> bytes:
    arguments = {"identity": None, **more}
    return dkim.sign(content, b"sel", b"example.org", pem(KEYS[key]), canonicalize=canon, **arguments) + content  # type: ignore[arg-type]


HEADER_CHANGED = "signature does not match; signed header fields were changed"
BODY_CHANGED = "body hash does not match; the header fields are as signed"
ANOTHER_KEY = "signature does not match; the signature was not made with the published key, or is damaged"
GOOD = record(KEYS[2048].public_key())


async def verify(
    content: bytes, txt: object = GOOD, options: Options | None = None, table: dict[str, Any] | None = None
) -> list[AuthResult]:
    resolver = FakeResolver(zones(txt) if table is None else table)
    context: Any = FakeContext(resolver=resolver, clock=Clock(time.time()))
    result = await run_plugin(Dkim(options), message=Message(Content(content)), context=context)
    assert result.verdict is None
    return [finding for finding in result.findings if isinstance(finding, AuthResult)]


async def one(content: bytes, txt: object = GOOD, options: Options | None = None) -> tuple[str, str]:
    [found] = await verify(content, txt, options)
    assert found.method == "dkim"
    return found.result, found.reason


CANONS = [(h, b) for h in (b"simple", b"relaxed") for b in (b"simple", b"relaxed")]


@pytest.mark.parametrize("canon", CANONS)
@pytest.mark.parametrize(
    "body", [BODY, b"", b"\r\n\r\n", b" \t \r\n", b"no line end at all\r\n", b"x" * 300_000 + b"\r\n" + b" \r\n" * 1000]
)
async def test_what_dkimpy_signs_verifies(canon: tuple[bytes, bytes], body: bytes) -> None:
    [found] = await verify(signed(HEADER + b"\r\n" + body, canon=canon))
    assert (found.result, found.reason) == ("pass", "2048-bit key")
    assert found.property("header.d") == "example.org"
    assert found.property("header.s") == "sel"
    assert found.property("header.i") == "@example.org"
    assert found.property("header.a") == "rsa-sha256"
    assert len(found.property("header.b") or "") == 8


async def test_ed25519() -> None:
    seed = ED.private_bytes(serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    public = ED.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    content = dkim.sign(PLAIN, b"sel", b"example.org", base64.b64encode(seed), signature_algorithm=b"ed25519-sha256") + PLAIN
    txt = f"v=DKIM1; k=ed25519; p={base64.b64encode(public).decode()}"
    assert await one(content, txt) == ("pass", "256-bit key")
    assert (await one(content.replace(b"Hello", b"Hallo"), txt))[0] == "fail"
    assert (await one(content, GOOD)) == ("permerror", "key of another type than the signature")
    assert (await one(content, "k=ed25519; p=AAAA")) == ("permerror", "key is not an ed25519 key")


def opendkim(directory: Path, content: bytes, canon: str) -> bytes:
    """The content with the field that the real OpenDKIM puts on top: its test mode prints what its milter would insert."""
    if not shutil.which("opendkim"):
        pytest.skip("opendkim (package opendkim) is not installed")
    key, settings, message = directory / "key.pem", directory / "opendkim.conf", directory / "message"
    key.write_bytes(pem(KEYS[2048]))
    key.chmod(0o600)
    settings.write_text("RequireSafeKeys no\n")
    message.write_bytes(content)
    command: list[str | Path] = [
        "opendkim",
        "-x",
        settings,
        "-t",
        message,
        "-d",
        "example.org",
        "-k",
        key,
        "-s",
        "sel",
        "-c",
        canon,
        "-b",
        "s",
        "-vvv",
    ]
    output = subprocess.run(command, capture_output=True, check=True).stdout
    found = re.search(rb"hname='DKIM-Signature' hvalue='([^']+)'", output)
    assert found, output
    return b"DKIM-Signature: " + re.sub(rb"\r?\n", b"\r\n", found[1]) + b"\r\n" + content


@pytest.mark.real
@pytest.mark.parametrize("canon", ["simple/simple", "relaxed/relaxed", "relaxed/simple", "simple/relaxed"])
async def test_what_opendkim_signs_verifies(tmp_path: Path, canon: str) -> None:
    content = opendkim(tmp_path, PLAIN, canon)
    assert await one(content) == ("pass", "2048-bit key")
    assert await one(content.replace(b"Subject: ", b"Subject: X")) == ("fail", HEADER_CHANGED)
    assert await one(content.replace(b"Hello", b"Hallo")) == ("fail", BODY_CHANGED)


async def test_an_unsigned_message() -> None:
    assert await one(PLAIN) == ("none", "no signature")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (b"Hello", b"Hallo", ("fail", BODY_CHANGED)),
        (b"Subject:", b"Subject: x", ("fail", HEADER_CHANGED)),
        (
            b"\r\nFrom:",
            b"\r\nFrom: <evil@example.com>\r\nFrom:",
            ("fail", "signature does not match; From was added after signing"),
        ),
        (b"a=rsa-sha256", b"a=rsa-sha1", ("fail", "rsa-sha1 is no longer valid")),
        (b"a=rsa-sha256", b"a=rsa-md5", ("permerror", "unknown algorithm")),
        (b"v=1", b"v=2", ("permerror", "v= is not 1")),
        (b"v=1;", b"", ("permerror", "no v= tag")),
        (b" s=sel;", b"", ("permerror", "no s= tag")),
        (b"q=dns/txt", b"q=http", ("permerror", "q= has no known way to the key")),
        (b"c=relaxed/simple", b"c=odd/simple", ("permerror", "unknown canonicalization")),
        (b"c=relaxed/simple", b"c=a/b/c", ("permerror", "unknown canonicalization")),
        (b"i=@example.org", b"i=example.org", ("permerror", "i= has no @")),
        (b"i=@example.org", b"i=@example.com", ("permerror", "i= is not in the domain of d=")),
        (b"d=example.org", b"d=exa mple.org", ("permerror", "d= is not a domain name")),
        (b"s=sel;", b"s=a..b;", ("permerror", "s= is not a domain name")),
        (b"s=sel;", b"s=\xff;", ("permerror", "s= is not a domain name")),
        (b"s=sel;", b"s=" + b"x" * 64 + b";", ("permerror", "s= is not a domain name")),
        (b"v=1;", b"v=1; l=;", ("permerror", "l= is not a number")),
        (b"v=1;", b"v=1; l=99999999999999999999;", ("permerror", "l= is more than the 44 octets of the body")),
        (b"v=1;", b"v=1; x=" + b"9" * 5000 + b";", ("permerror", "x= is not a number")),
        (b"v=1;", b"v=1; x=soon;", ("permerror", "x= is not a number")),
        (b"v=1;", b"v=1; x=1;", ("permerror", "x= is not after t=")),
        (b"v=1;", b"v=1; v=1;", ("permerror", "malformed signature: v= is there twice")),
        (b"v=1;", b"v=1; nonsense;", ("permerror", "malformed signature: something in it is no tag")),
        (b" bh=", b" bh=A===", ("permerror", "bh= is not base64")),
        (b"h=from", b"h=x-from", ("fail", HEADER_CHANGED)),
    ],
)
async def test_a_broken_signature(old: bytes, new: bytes, expected: tuple[str, str]) -> None:
    content = signed()
    assert old in content
    assert await one(content.replace(old, new, 1)) == expected


async def test_from_must_be_signed() -> None:
    head = b"DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=sel; h=subject; bh=AAAA; b=AAAA\r\n"
    assert await one(head + PLAIN) == ("permerror", "From is not signed")


async def test_expiry_and_clock() -> None:
    head = b"DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=sel; h=from; bh=AAAA; b=AAAA; t=%d; x=%d\r\n"
    context: Any = FakeContext(resolver=FakeResolver(zones(GOOD)), clock=Clock(time.time()))
    now = int(context.clock())
    for signed_at, expires, reason in (
        (now - 1000, now - 400, "signature expired 6 minutes ago"),
        (now - 1_000_000, now - 3 * 86_400, "signature expired 3 days ago"),
        (now + 50_000, now + 60_000, "signed in the future, 13 hours ahead of our clock"),
    ):
        message = Message(Content(head % (signed_at, expires) + PLAIN))
        result = await run_plugin(Dkim(), message=message, context=context)
        [found] = [finding for finding in result.findings if isinstance(finding, AuthResult)]
        assert (found.result, found.reason) == ("fail", reason)


SMALL = "v=DKIM1; k=rsa; p=MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKwTuDjI4nFZ3BtPzr1t4q4wHdVQGyw0o0mI3jhr5bHhW6hkQ2wR5mO7c7ZC8gYJfXoQbq3hSjv0Wb8o0nQhE3kCAwEAAQ=="


@pytest.mark.parametrize(
    ("txt", "expected"),
    [
        ([], ("permerror", "no key for signature")),
        ("v=DKIM1; p=", ("permerror", "key was revoked")),
        ("v=DKIM1; k=rsa", ("permerror", "the record has no key (p=)")),
        ("v=DKIM2; p=AAAA", ("permerror", "the record is not DKIM1")),
        ("v=spf1 -all", ("permerror", "the record is not DKIM1")),
        ("p=!!!!", ("permerror", "key is not base64")),
        ("p=AAA", ("permerror", "key is not an RSA key")),
        ("p=AAAA", ("permerror", "key is not an RSA key")),
        ("v=DKIM1; k=dsa; p=AAAA", ("permerror", "key of another type than the signature")),
        ("x" * 5000, ("permerror", "key record of more than 4096 octets")),
        (record(KEYS[2048].public_key(), "v=DKIM1; h=sha1"), ("permerror", "key does not allow sha256")),
        (record(KEYS[2048].public_key(), "v=DKIM1; s=tlsrpt"), ("permerror", "key is not for email")),
        (record(KEYS[2048].public_key(), "v=DKIM1; s=other:email; h=sha1:sha256"), ("pass", "2048-bit key")),
        (record(KEYS[2048].public_key(), "v=DKIM1; t=y"), ("pass", "2048-bit key, signer is testing")),
        (record(KEYS[2048].public_key(), "v=DKIM1; t=s"), ("pass", "2048-bit key")),
        (record(KEYS[1024].public_key()), ("fail", ANOTHER_KEY)),
        (TEMPFAIL, ("temperror", "the key could not be looked up: temporary failure")),
    ],
)
async def test_a_broken_key(txt: object, expected: tuple[str, str]) -> None:
    assert await one(signed(), txt) == expected


async def test_key_sizes() -> None:
    content = signed(key=1024)
    txt = record(KEYS[1024].public_key())
    assert await one(content, txt) == ("pass", "1024-bit key")
    assert await one(content, txt, Options(minimum_key_bits=2048)) == (
        "policy",
        "RSA key of 1024 bits, 2048 to 4096 are accepted",
    )
    big = rsa.RSAPublicNumbers(e=65537, n=(1 << 16383) + 1).public_key()
    assert (await one(content, record(big)[:4000]))[0] in {"permerror", "policy"}


async def test_a_huge_exponent_is_not_tried() -> None:
    n = KEYS[2048].public_key().public_numbers().n
    try:
        huge = rsa.RSAPublicNumbers(e=(1 << 63) + 1, n=n).public_key()
    except ValueError:
        pytest.skip("this cryptography refuses such a key itself")
    assert await one(signed(), record(huge)) == ("policy", "RSA key with a huge exponent")


async def test_testing_subdomain_flag() -> None:
    content = dkim.sign(PLAIN, b"sel", b"example.org", pem(KEYS[2048]), identity=b"a@news.example.org") + PLAIN
    assert (await one(content))[0] == "pass"
    assert await one(content, record(KEYS[2048].public_key(), "t=s")) == ("permerror", "key does not allow a subdomain in i=")


async def test_a_length_is_reported() -> None:
    content = signed(length=True)
    assert (await one(content))[0] == "pass"
    result, reason = await one(content + b"added below\r\n")
    assert result == "pass"
    assert reason == "2048-bit key, l= leaves 17 of 61 octets of the body unsigned"
    assert await one(content + b"added below\r\n", options=Options(unsigned_body="refuse")) == (
        "policy",
        "l= leaves 17 of 61 octets of the body unsigned",
    )
    assert (await one(content, options=Options(unsigned_body="refuse")))[0] == "pass"


async def test_several_signatures() -> None:
    content = signed(signed())
    assert [found.result for found in await verify(content)] == ["pass", "pass"]
    broken = content.replace(b"s=sel", b"s=gone", 1)
    assert [found.result for found in await verify(broken)] == ["permerror", "pass"]


async def test_more_signatures_than_the_limit() -> None:
    content = PLAIN
    for _ in range(4):
        content = signed(content)
    found = await verify(content, options=Options(max_signatures=2))
    assert [one.result for one in found] == ["pass", "pass", "policy"]
    assert "2 more signatures" in found[2].reason
    found = await verify(b"DKIM-Signature: x\r\n" * 1500 + PLAIN)
    assert len(found) == 9


async def test_other_fields_malformed_do_not_hide_a_signature() -> None:
    """dkimpy's own parser refuses the whole message for a space before a colon."""
    content = signed().replace(b"Date:", b"X-Odd : 1\r\nDate:", 1)
    assert (await one(content))[0] == "pass"


@pytest.mark.parametrize(
    "field",
    [
        b"",
        b"=",
        b";;;",
        b"b",
        b"v=1; a=rsa-sha256; d=; s=; h=from; bh=; b=",
        b"v=1; a=rsa-sha256; d=\xff\xfe; s=x; h=from; bh=AAAA; b=AAAA",
        b"v=1; a=rsa-sha256; d=example.org; s=sel; h=from; bh=AAAA; b=" + b" " * 7900 + b"!",
        b"v=1; a=rsa-sha256; d=example.org; s=sel; h=from; bh=AAAA; b=A" + b"=" * 7900 + b"!",
        b"v=1; a=rsa-sha256; d=example.org; s=sel; h=" + b"from:" * 1500 + b"x; bh=AAAA; b=AAAA",
        b"x" * 9000,
        b"v=1; a=ed25519-sha256; d=example.org; s=sel; h=from; bh=AAAA; b=AAAA",
    ],
)
async def test_hostile_fields_are_cheap(field: bytes) -> None:
    content = (b"DKIM-Signature: " + field + b"\r\n") * 8 + PLAIN
    started = time.process_time()
    found = await verify(content)
    assert time.process_time() - started < 0.5
    assert {one.result for one in found} <= {"permerror", "fail"}


async def test_a_first_line_that_is_folded() -> None:
    assert (await verify(b" folded\r\n" + signed()))[0].method == "dkim"


@pytest.mark.parametrize("line", [b" " * 996 + b"\r\n", b"\r\n", b" \t" * 498 + b"x\r\n", b"\r\n \r\n"])
async def test_hostile_bodies_are_cheap(line: bytes) -> None:
    """2 MB of these cost dkimpy's relaxed canonicalization seconds, for each signature."""
    body = line * (2_000_000 // len(line))
    head = b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=sel; h=from; bh=AAAA; b=AAAA\r\n"
    started = time.process_time()
    found = await verify(head * 8 + HEADER + b"\r\n" + body)
    assert time.process_time() - started < 2
    assert {one.result for one in found} == {"fail"}


def watched_context() -> tuple[Any, list[object]]:
    context: Any = FakeContext(resolver=FakeResolver(zones(GOOD)), clock=Clock(time.time()))
    called: list[object] = []
    inner = context.run_in_process

    async def watched(function: object, *arguments: object, **named: object) -> object:
        called.append(function)
        return await inner(function, *arguments, **named)

    context.run_in_process = watched
    return context, called


async def test_a_big_body_goes_to_a_process() -> None:
    context, called = watched_context()
    content = signed(HEADER + b"\r\n" + b"line\r\n" * 60_000)
    result = await run_plugin(Dkim(), message=Message(Content(content)), context=context)
    assert [found.result for found in result.findings if isinstance(found, AuthResult)] == ["pass"]
    assert called == [body_hashes]


async def test_twenty_signatures_over_a_big_body_take_one_process_one_pass() -> None:
    context, called = watched_context()
    body = b"line  of text\r\n" * 100_000
    heads = [
        b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/%s; d=example.org; s=sel; h=from;%s bh=AAAA; b=AAAA\r\n" % (canon, length)
        for canon in (b"relaxed", b"simple")
        for length in (b"", *(b" l=%d;" % (number * 1000) for number in range(1, 10)))
    ]
    content = b"".join(heads) + HEADER + b"\r\n" + body
    result = await run_plugin(Dkim(Options(max_signatures=20)), message=Message(Content(content)), context=context)
    assert [found.result for found in result.findings if isinstance(found, AuthResult)] == ["fail"] * 20
    assert called == [body_hashes, find_prefixes]


async def test_a_signature_that_is_not_verified_costs_no_hash() -> None:
    context, called = watched_context()
    content = signed(HEADER + b"\r\n" + b"line\r\n" * 60_000).replace(b"s=sel", b"s=gone")
    await run_plugin(Dkim(), message=Message(Content(content)), context=context)
    assert called == []
