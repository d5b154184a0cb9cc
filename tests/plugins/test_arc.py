"""ARC: what dkimpy seals is valid, what is broken is told, trusted sealers count, and hostile chains are cheap."""

from __future__ import annotations

from typing import Any

import pytest

from gateway import Message
from gateway.content import Content
from gateway.plugins.arc import Arc, ArcFinding, ArcSet, Options
from gateway.testing import TEMPFAIL, Clock, FakeContext, FakeResolver, a_session, run_plugin
from tests.arc_chains import BODY, PLAIN, chain, sealed, zones

ONE, TWO, THREE = "one.example", "two.example", "three.example"
ALL = zones(ONE, TWO, THREE)


async def verify(
    content: bytes, table: dict[str, Any] | None = None, *, resolver: FakeResolver | None = None, **options: Any
) -> tuple[ArcFinding, list[ArcSet]]:
    resolver = FakeResolver(ALL if table is None else table) if resolver is None else resolver
    context = FakeContext(resolver=resolver, clock=Clock(1_795_000_100.0))
    result = await run_plugin(
        Arc(Options(**options)), message=Message(Content(content)), context=context, session=a_session(client_address="192.0.2.9")
    )
    assert result.verdict is None
    [found] = result.transaction.findings.of(ArcFinding)
    assert found.method == "arc"
    return found, result.transaction.findings.of(ArcSet)


async def reason(content: bytes, table: dict[str, Any] | None = None, **options: Any) -> str:
    found, _ = await verify(content, table, **options)
    assert found.result == "fail"
    assert found.property("header.oldest-pass") is None
    return found.reason


async def test_no_chain() -> None:
    found, sets = await verify(PLAIN)
    assert (found.result, found.reason, sets) == ("none", "no chain", [])
    assert found.properties == (("smtp.remote-ip", "192.0.2.9"),)


async def test_a_chain_of_three() -> None:
    found, sets = await verify(chain(ONE, TWO, THREE))
    assert (found.result, found.reason) == ("pass", "3 sets, the newest of three.example")
    assert found.properties == (("header.oldest-pass", "0"), ("smtp.remote-ip", "192.0.2.9"))
    assert found.sealers == (ONE, TWO, THREE)
    assert not found.is_trusted
    assert [(one.instance, one.sealer, one.signer, one.seal, one.message_signature) for one in sets] == [
        (number, domain, domain, "valid", "valid") for number, domain in enumerate((ONE, TWO, THREE), 1)
    ]
    assert sets[0].claims == "spf=pass"
    assert sets[1].claims == "spf=pass arc=pass"


async def test_a_list_in_the_middle_breaks_older_message_signatures_only() -> None:
    content = sealed(chain(ONE, TWO).replace(b"Subject: ", b"Subject: [list] "), THREE)
    found, sets = await verify(content)
    assert found.result == "pass"
    assert found.property("header.oldest-pass") == "3"
    assert found.reason == "3 sets, the newest of three.example; i=2: ARC-Message-Signature: signature does not match"
    assert [one.message_signature for one in sets] == ["not checked", "signature does not match", "valid"]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b"how are", b"where are", "i=2: ARC-Message-Signature of two.example: body hash does not match"),
        (b"news", b"olds", "i=2: ARC-Message-Signature of two.example: signature does not match"),
        (b"i=1; mx.one", b"i=1; my.one", "i=2: ARC-Seal of two.example: signature does not match"),
        (b"ARC-Seal: i=1", b"ARC-Seal: i=3", "i=1: no ARC-Seal"),
        (b"ARC-Seal: i=1", b"X-Seal: i=1", "i=1: no ARC-Seal"),
        (b"ARC-Seal: i=1", b"ARC-Seal: i=2", "i=1: no ARC-Seal"),
        (b"ARC-Message-Signature: i=1", b"ARC-Message-Signature: i=2", "i=1: no ARC-Message-Signature"),
        (b"ARC-Seal: i=1", b"ARC-Seal: i=51", "ARC-Seal: the instance (i=) is not a number from 1 to 50"),
        (b"ARC-Seal: i=1", b"ARC-Seal: i=0", "ARC-Seal: the instance (i=) is not a number from 1 to 50"),
        (b"ARC-Seal: i=1", b"ARC-Seal: i=001", "ARC-Seal: the instance (i=) is not a number from 1 to 50"),
        (b"ARC-Seal: i=1", b"ARC-Seal: i=" + b"9" * 5000, "ARC-Seal: the instance (i=) is not a number from 1 to 50"),
        (b"ARC-Seal: i=1", b"ARC-Seal: i=1; i=1", "ARC-Seal: malformed: i= is there twice"),
        (b"ARC-Seal: i=1", b"ARC-Seal: \x00i=1", "ARC-Seal: malformed: control characters in it"),
        (b"ARC-Seal: i=1", b"ARC-Seal: x" + b" " * 9000 + b"=; i=1", "ARC-Seal: more than 8192 octets"),
        (b"cv=none", b"cv=pass", "i=1: the seal says cv=pass, and only none can be there"),
        (b"cv=pass", b"cv=none", "i=2: the seal says cv=none, and only pass can be there"),
        (b"cv=none", b"cv=fail", "i=1: the seal says cv=fail, and only none can be there"),
        (b"cv=pass", b"cv=fail", "i=2: sealed as a failed chain (cv=fail)"),
        (b"cv=pass", b"cv=temperror", "i=2: ARC-Seal: cv= is neither none, pass nor fail"),
        (
            b"ARC-Authentication-Results: i=1;",
            b"ARC-Authentication-Results: ",
            "ARC-Authentication-Results: no instance (i=) in front",
        ),
        (
            b"ARC-Authentication-Results: i=1;",
            b"ARC-Authentication-Results: I=1;",
            "ARC-Authentication-Results: no instance (i=) in front",
        ),
        (
            b"ARC-Authentication-Results: i=1;",
            b"ARC-Authentication-Results: i=1",
            "ARC-Authentication-Results: no semicolon behind the instance",
        ),
    ],
)
async def test_what_breaks_a_chain(old: bytes, new: bytes, why: str) -> None:
    content = chain(ONE, TWO)
    assert content.count(old) == 1
    assert await reason(content.replace(old, new)) == why


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b"; d=one.example", b"; h=from; d=one.example", "h= is not allowed in a seal"),
        (b"; d=one.example", b"", "d= is missing"),
        (b"a=rsa-sha256", b"a=rsa-sha1", "rsa-sha1 is no longer valid"),
        (b"a=rsa-sha256", b"a=dsa", "unknown algorithm (a=)"),
        (b"d=one.example", b"d=one..example", "d= is not a domain name"),
        (b"d=one.example", b"d=example", "d= is a single label, no domain"),
        (b"d=one.example", b"d=" + b"a" * 300, "d= is not a domain name"),
        (b"s=sel", b"s=", "s= is not a domain name"),
        (b"t=1795000000", b"t=soon", "t= is not a number"),
    ],
)
async def test_a_seal_that_cannot_count(old: bytes, new: bytes, why: str) -> None:
    content = chain(ONE)
    seal, rest = content[: content.index(b"ARC-Message")], content[content.index(b"ARC-Message") :]
    assert seal.startswith(b"ARC-Seal: ")
    assert seal.count(old) == 1
    assert await reason(seal.replace(old, new) + rest) == f"i=1: ARC-Seal: {why}"


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b"h=from", b"h=arc-seal : from", "h= names ARC-Seal"),
        (b"; h=", b"; H=", "h= is missing"),
        (b"h=from : ", b"h=", "From is not signed"),
        (b"c=relaxed/relaxed", b"c=relaxed/nofws", "unknown canonicalization (c=)"),
        (b"c=relaxed/relaxed", b"c=", "unknown canonicalization (c=)"),
        (b"c=relaxed/relaxed", b"c=relaxed/relaxed; q=carrier/pigeon", "no known way to its key (q=)"),
        (b"c=relaxed/relaxed", b"c=relaxed/relaxed; l=-1", "l= is not a number"),
        (b"c=relaxed/relaxed", b"c=relaxed/relaxed; x=1795000000", "x= is not after t="),
        (b"c=relaxed/relaxed", b"c=relaxed/relaxed; x=1795000001", "it has expired (x=)"),
        (b"bh=", b"bh=!", "bh= is not base64"),
    ],
)
async def test_a_message_signature_that_cannot_count(old: bytes, new: bytes, why: str) -> None:
    content = chain(ONE)
    assert content.count(old) == 1
    assert await reason(content.replace(old, new)) == f"i=1: ARC-Message-Signature: {why}"


async def test_white_space_where_it_is_legal() -> None:
    content = chain(ONE).replace(
        b"ARC-Authentication-Results: i=1;", b"ARC-Authentication-Results:(a (nested) note)\r\n\ti (b) =\r\n 1 (c) ;"
    )
    assert await reason(content) == "i=1: ARC-Seal of one.example: signature does not match"  # read, but not what was sealed
    content = chain(ONE).replace(b"ARC-Seal: i=1;", b"ARC-Seal: \r\n\ti =\r\n 1 ;").replace(b"ARC-Seal:", b"ARC-Seal \t:")
    assert await reason(content) == "i=1: ARC-Seal of one.example: signature does not match"


async def test_keys() -> None:
    content = chain(ONE, TWO)
    assert await reason(content, zones(TWO)) == "i=1: ARC-Seal of one.example: no key for signature"
    assert await reason(content, zones(ONE)) == "i=2: ARC-Message-Signature of two.example: no key for signature"
    revoked = {"sel._domainkey.one.example": {"TXT": ["v=DKIM1; p="]}}
    assert await reason(content, ALL | revoked) == "i=1: ARC-Seal of one.example: key was revoked"
    assert "of 1024 bits, 2048 to 4096" in await reason(content, minimum_key_bits=2048)


async def test_a_failure_of_dns_is_a_failure_and_told() -> None:
    """RFC 8617 5.2.1: the chain fails; who decides can see that it may be otherwise in an hour."""
    content = chain(ONE, TWO)
    broken = {"sel._domainkey.one.example": {"TXT": TEMPFAIL}}
    found, _ = await verify(content, ALL | broken)
    assert found.result == "fail"
    assert found.is_temporary
    assert (
        found.reason
        == "i=1: ARC-Seal of one.example: the key could not be looked up: temporary failure, which RFC 8617 counts as a failure"
    )
    assert found.property("policy.unverified-sealer") is None
    found, _ = await verify(content, ALL | broken, trusted_sealers=(TWO,))
    assert found.property("policy.unverified-sealer") == TWO
    # What is broken for good goes first, wherever it is.
    found, _ = await verify(content.replace(b"how are", b"where are"), ALL | broken)
    assert not found.is_temporary
    assert "body hash" in found.reason
    dead = {"sel._domainkey.two.example": {"TXT": TEMPFAIL}}
    found, _ = await verify(content.replace(b"i=1; mx.one", b"i=1; my.one"), ALL | dead)
    assert not found.is_temporary
    assert found.reason == "i=1: ARC-Seal of one.example: signature does not match"


async def test_keys_are_asked_for_once_and_at_once() -> None:
    resolver = FakeResolver(ALL)
    await verify(chain(ONE, TWO, ONE), resolver=resolver)
    assert sorted(resolver.queries) == [("sel._domainkey.one.example", "TXT"), ("sel._domainkey.two.example", "TXT")]


async def test_a_long_chain_is_asked_about_from_its_newest_sets_on() -> None:
    domains = [f"hop{number}.example" for number in range(1, 9)]
    content = chain(*domains)
    resolver = FakeResolver(zones(*domains))
    found, _ = await verify(content, resolver=resolver)
    assert (found.result, found.property("header.oldest-pass")) == ("pass", "0")
    assert len(resolver.queries) == 8
    resolver = FakeResolver(zones(*domains))
    found, _ = await verify(content.replace(b"how are", b"where are"), resolver=resolver)
    assert found.result == "fail"
    assert len(resolver.queries) == 5


async def test_a_limit_of_sets() -> None:
    content = chain(ONE, TWO, THREE)
    assert (await verify(content, max_sets=3))[0].result == "pass"
    assert await reason(content, max_sets=2) == "more than 2 sets"


async def test_a_thousand_fields() -> None:
    flood = b"".join(b"ARC-Seal: i=%d; cv=none; b=x\r\n" % number for number in range(1000)) + PLAIN
    resolver = FakeResolver(ALL)
    found, sets = await verify(flood, resolver=resolver)
    assert (found.result, found.reason, sets, resolver.queries) == ("fail", "more than 50 sets", [], [])


async def test_more_header_fields_than_the_gateway_lists() -> None:
    content = chain(ONE).replace(b"Subject:", b"X: y\r\n" * 11_000 + b"Subject:")
    assert await reason(content) == "the message has too many header fields"


async def test_from_outside_of_smtp_there_is_no_address() -> None:
    result = await run_plugin(Arc(), message=Message(Content(PLAIN)), session=a_session(client_address=""))
    [found] = result.transaction.findings.of(ArcFinding)
    assert found.properties == ()


# Trusted sealers

DMARC = "dmarc=pass header.from=author.example"


async def trusted(content: bytes, *names: str) -> ArcFinding:
    found, _ = await verify(content, trusted_sealers=names)
    return found


async def test_a_trusted_sealer_is_believed() -> None:
    content = chain(ONE, results=DMARC)
    found = await trusted(content, ONE)
    assert (found.is_trusted, found.trusted_from) == (True, 1)
    assert found.claimed == (("dmarc", "pass"),)
    assert found.property("policy.trusted-sealer") == ONE
    assert (await trusted(content, "*.example")).is_trusted
    for strangers in ((), (TWO,), ("sub.one.example",), ("*.one.example",)):
        found = await trusted(content, *strangers)
        assert (found.is_trusted, found.trusted_from, found.claimed) == (False, 0, ())
        assert found.property("policy.trusted-sealer") is None


async def test_all_sealers_after_the_one_who_saw_it_must_be_trusted() -> None:
    content = sealed(sealed(chain(ONE, results=DMARC), TWO, "dmarc=fail header.from=author.example"), THREE, "dmarc=fail")
    assert (await trusted(content, ONE, TWO, THREE)).property("policy.trusted-sealer") == ONE
    for some in ((ONE, TWO), (ONE, THREE), (TWO, THREE), (THREE,)):
        assert (await trusted(content, *some)).property("policy.trusted-sealer") is None
    found = await trusted(content, TWO, THREE)
    assert (found.is_trusted, found.trusted_from, found.claimed) == (True, 2, (("dmarc", "fail"), ("arc", "pass")))


async def test_a_later_trusted_sealer_may_have_seen_it_pass() -> None:
    content = sealed(chain(ONE, results="dmarc=none"), TWO, DMARC)
    assert (await trusted(content, TWO)).property("policy.trusted-sealer") == TWO
    assert (await trusted(content, ONE, TWO)).property("policy.trusted-sealer") == TWO


@pytest.mark.parametrize(
    ("results", "counts"),
    [
        ("dmarc=pass", True),
        ("dmarc=pass header.from=Author.Example", True),
        ("dmarc=pass header.from=alice@author.example", True),
        ("dmarc=pass header.from=other.example", False),
        ("dmarc=fail header.from=author.example", False),
        ("dmarc=temperror", False),
        ("spf=pass smtp.mailfrom=author.example; dkim=pass header.d=author.example", False),
        ('spf=fail reason="dmarc=pass"', False),
        ("spf=fail (; dmarc=pass)", False),
        ("none", False),
    ],
)
async def test_what_the_sealer_must_say(results: str, counts: bool) -> None:
    found = await trusted(chain(ONE, results=results), ONE)
    assert found.is_trusted
    assert (found.property("policy.trusted-sealer") is not None) == counts


async def test_a_broken_chain_is_not_believed() -> None:
    content = chain(ONE, results=DMARC).replace(BODY, b"Buy!\r\n")
    found = await trusted(content, ONE)
    assert (found.result, found.is_trusted) == ("fail", False)
    assert found.property("policy.trusted-sealer") is None


@pytest.mark.parametrize("names", [("",), ("*.",), (".",)])
def test_an_empty_name_is_no_sealer(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="no domain"):
        Options(trusted_sealers=names)
