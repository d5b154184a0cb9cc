"""Results of a gateway in front: believed when they are its own, never when a stranger wrote them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway import AuthResult, Fact, Message, Proxy, Reject
from gateway.content import Content
from gateway.plugins.authres import AuthRes
from gateway.plugins.dmarc import Dmarc
from gateway.plugins.dmarc import Options as DmarcOptions
from gateway.plugins.upstream import Options, Upstream, UpstreamResult
from gateway.splice import apply
from gateway.testing import FakeContext, Result, a_message, a_session, a_transaction, run_chain, run_plugin

MX1 = {"id": "mx1.example.org", "networks": ["192.0.2.0/24", "2001:db8::/32"]}
AR = b"Authentication-Results: mx1.example.org;\r\n\tspf=pass smtp.mailfrom=a@x.test; dkim=pass header.d=x.test\r\n"
FORGED = b"Authentication-Results: mx1.example.org; spf=pass smtp.mailfrom=bank.test; dmarc=pass header.from=bank.test\r\n"
OURS = b"Received: from mx1.example.org\r\n\tby inner; Tue\r\n"
THEIRS = b"Received: from x.test by mx1.example.org; Tue\r\n"
AUTHOR = b"From: a@x.test\r\nSubject: x\r\n\r\nbody\r\n"


def options(*trusted: dict[str, Any]) -> Options:
    return Options.model_validate({"trusted": trusted or [MX1]})


async def run(octets: bytes, *, client: str = "192.0.2.9", given: Options | None = None, **session: Any) -> Result:
    plugin = Upstream(options() if given is None else given)
    transaction = a_transaction(session=a_session(client_address=client, **session))
    return await run_plugin(plugin, message=a_message(octets), transaction=transaction)


def told(result: Result) -> list[str]:
    return [f"{one.method}={one.result}" for one in result.transaction.findings.of(UpstreamResult)]


def facts(result: Result) -> dict[str, object]:
    return {one.name: one.value for one in result.transaction.findings.of(Fact)}


def left(octets: bytes, result: Result) -> bytes:
    return b"".join(apply(Content(octets), result.edits).chunks())


@pytest.mark.parametrize("octets", [AR + THEIRS + AUTHOR, THEIRS + AR + AUTHOR], ids=["above its Received", "below its Received"])
@pytest.mark.parametrize("client", ["192.0.2.9", "2001:db8::5", "::ffff:192.0.2.9"])
async def test_what_the_gateway_found(octets: bytes, client: str) -> None:
    result = await run(octets, client=client)
    spf, dkim = result.transaction.findings.of(UpstreamResult)
    assert spf == UpstreamResult(
        method="spf",
        result="pass",
        properties=(("smtp.mailfrom", "a@x.test"), ("policy.upstream", "mx1.example.org")),
        upstream="mx1.example.org",
    )
    assert (dkim.method, dkim.result, dkim.property("header.d")) == ("dkim", "pass", "x.test")
    assert facts(result) == {"upstream.id": "mx1.example.org", "upstream.fields": 1}
    assert left(octets, result) == octets


@pytest.mark.parametrize("client", ["198.51.100.1", "2001:db9::1", "", "fe80::1%eth0", "not an address"])
async def test_a_stranger_is_not_the_gateway(client: str) -> None:
    result = await run(AR + THEIRS + AUTHOR, client=client)
    assert told(result) == []
    assert facts(result) == {}
    assert left(AR + THEIRS + AUTHOR, result) == THEIRS + AUTHOR


@pytest.mark.parametrize(
    ("octets", "expected", "removed"),
    [
        # a stranger's field stands below what the gateway wrote
        (THEIRS + AR + FORGED + AUTHOR, ["spf=pass", "dkim=pass"], 1),
        (AR + THEIRS + FORGED + AUTHOR, ["spf=pass", "dkim=pass"], 1),
        (THEIRS + AR + THEIRS + FORGED + AUTHOR, ["spf=pass", "dkim=pass"], 1),
        # below a Received that somebody else wrote, or among what an author writes
        (THEIRS + b"Received: from y by x; Tue\r\n" + FORGED + AUTHOR, [], 1),
        (THEIRS + b"Subject: x\r\n" + FORGED + AUTHOR, [], 1),
        (THEIRS + b"Content-Type: text/plain\r\n" + FORGED + AUTHOR, [], 1),
        (b"From: a@x.test\r\n" + FORGED + b"\r\n", [], 1),
        # several above its Received are all its own
        (
            AR + b"Authentication-Results: mx1.example.org; arc=none\r\n" + THEIRS + AUTHOR,
            ["spf=pass", "dkim=pass", "arc=none"],
            0,
        ),
        # another name, or the name in another spelling
        (b"Authentication-Results: mx2.example.org; spf=pass\r\n" + THEIRS + AUTHOR, [], 0),
        (b'AUTHENTICATION-RESULTS : "MX1.example.ORG." 1 ; spf=pass\r\n' + THEIRS + AUTHOR, ["spf=pass"], 0),
        (b"Authentication-Results: google.com; spf=fail\r\n" + AR + THEIRS + AUTHOR, ["spf=pass", "dkim=pass"], 0),
        # nothing at all
        (THEIRS + AUTHOR, [], 0),
        (b"Authentication-Results: mx1.example.org; none\r\n" + THEIRS + AUTHOR, [], 0),
        # other fields between do not matter
        (THEIRS + b"X-Spam: no\r\nReceived-SPF: pass\r\nDKIM-Filter: x\r\n" + AR + AUTHOR, ["spf=pass", "dkim=pass"], 0),
        # broken fields: what can be read is taken, what is in doubt is not
        (b"Authentication-Results: mx1.example.org; spf=pass; dkim; dmarc=pass )\r\n" + THEIRS + AUTHOR, ["spf=pass"], 0),
        (b"Authentication-Results: mx1.example.org; spf=pass (; dkim=pass\r\n" + THEIRS + AUTHOR, [], 0),
        (b"Authentication-Results: mx1.example.org 2; spf=pass\r\n" + THEIRS + AUTHOR, [], 0),
        (b"Authentication-Results: mx1.example.org; spf/2=pass; dkim/1=pass\r\n" + THEIRS + AUTHOR, ["dkim=pass"], 0),
        (b"Authentication-Results: spf=pass\r\n" + THEIRS + AUTHOR, [], 1),
        (
            b"Authentication-Results: mx1.example.org; x-odd=pass; bimi=pass; iprev=fail; auth=pass\r\n" + THEIRS,
            ["iprev=fail", "auth=pass"],
            0,
        ),
    ],
)
async def test_which_fields_are_believed(octets: bytes, expected: list[str], removed: int) -> None:
    result = await run(octets)
    assert told(result) == expected
    assert len(result.edits) == removed


async def test_what_could_not_be_read_is_told() -> None:
    octets = b"Authentication-Results: mx1.example.org 3; spf/2=pass; dkim\r\n" + THEIRS + AUTHOR
    assert facts(await run(octets))["upstream.problems"] == (
        "dkim: no method=result; version 3 of the field is not known here; spf: version 2 of the method is not known here"
    )


async def test_hosts_between() -> None:
    """The client is a relay of ours; the field stands below two Received fields of ours."""
    octets = OURS + THEIRS + AR + FORGED + AUTHOR
    assert told(await run(octets)) == []
    given = options(MX1 | {"hops": 2})
    result = await run(octets, given=given)
    assert told(result) == ["spf=pass", "dkim=pass"]
    assert left(octets, result) == OURS + THEIRS + AR + AUTHOR
    assert told(await run(OURS + AR + AR + THEIRS + FORGED + AUTHOR, given=given)) == ["spf=pass", "dkim=pass"] * 2


async def test_methods() -> None:
    assert told(await run(AR + THEIRS + AUTHOR, given=options(MX1 | {"methods": ["spf"]}))) == ["spf=pass"]


async def test_two_gateways() -> None:
    given = options(MX1, {"id": "mx2.example.org", "networks": ["198.51.100.0/24"]})
    octets = AR + b"Authentication-Results: mx2.example.org; spf=fail\r\n" + THEIRS + AUTHOR
    result = await run(octets, given=given)
    assert told(result) == ["spf=pass", "dkim=pass"]
    assert left(octets, result) == AR + THEIRS + AUTHOR
    result = await run(octets, given=given, client="198.51.100.7")
    assert told(result) == ["spf=fail"]
    assert left(octets, result).count(b"Authentication-Results") == 1


async def test_our_own_mark_cannot_be_brought_along() -> None:
    octets = b"Authentication-Results: mx1.example.org; spf=pass policy.upstream=bank.test action=none\r\n" + THEIRS + AUTHOR
    [spf] = (await run(octets)).transaction.findings.of(UpstreamResult)
    assert spf.properties == (("policy.upstream", "mx1.example.org"),)


async def test_hostile_fields() -> None:
    octets = (b"Authentication-Results: mx1.example.org; " + b"(" * 5000 + b"\r\n") * 90 + THEIRS + AUTHOR
    assert told(await run(octets)) == []
    octets = b"Authentication-Results: mx1.example.org; spf=pass\r\n" * 300 + THEIRS + AUTHOR
    result = await run(octets)
    assert len(told(result)) == 20
    assert left(octets, result) == THEIRS + AUTHOR


async def test_without_gateways_nothing_happens() -> None:
    result = await run(AR + THEIRS + AUTHOR, given=Options())
    assert (result.findings, result.edits) == ((), ())


@pytest.mark.parametrize(
    "wrong", [{"id": ""}, {"networks": []}, {"networks": ["x"]}, {"networks": ["192.0.2.1/24"]}, {"hops": 0}, {"hopps": 1}]
)
def test_wrong_options(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        options(MX1 | wrong)


ZONES = {"_dmarc.x.test": {"TXT": ["v=DMARC1; p=reject"]}, "_dmarc.bank.test": {"TXT": ["v=DMARC1; p=reject"]}}


async def chain(octets: bytes, client: str) -> Result:
    context: Any = FakeContext(zones=ZONES, authserv_id="inner.example.org")
    transaction = a_transaction(session=a_session(client_address=client))
    plugins: Any = [Upstream(options()), Dmarc(DmarcOptions(verdict="policy")), AuthRes()]
    return await run_chain(plugins, message=Message(Content(octets)), transaction=transaction, context=context)


async def test_dmarc_builds_on_it() -> None:
    octets = THEIRS + AR + AUTHOR
    result = await chain(octets, "192.0.2.9")
    [dmarc] = result.transaction.findings.of(AuthResult, method="dmarc")
    assert (dmarc.result, result.verdict) == ("pass", None)
    written = left(octets, result).decode()
    assert written.startswith(
        "Authentication-Results: inner.example.org;\r\n\tspf=pass smtp.mailfrom=a@x.test policy.upstream=mx1.example.org;"
    )
    assert written.endswith((THEIRS + AR + AUTHOR).decode())


async def test_a_forger_gets_nothing_by_it() -> None:
    forged = FORGED + THEIRS + b"From: a@bank.test\r\n\r\n"
    assert isinstance((await chain(forged, "198.51.100.1")).verdict, Reject)
    through_the_gateway = THEIRS + AR + FORGED + b"From: a@bank.test\r\n\r\n"
    assert isinstance((await chain(through_the_gateway, "192.0.2.9")).verdict, Reject)


async def test_all_gateways_may_bear_one_name() -> None:
    """One authserv-id for all nodes: what the node in front found is taken over and said again, and its field goes."""
    context: Any = FakeContext(zones=ZONES, authserv_id="mx1.example.org")
    transaction = a_transaction(session=a_session(client_address="192.0.2.9"))
    octets = THEIRS + AR + AUTHOR
    result = await run_chain(
        [Upstream(options()), AuthRes()], message=a_message(octets), transaction=transaction, context=context
    )
    assert told(result) == ["spf=pass", "dkim=pass"]
    written = left(octets, result).decode()
    assert written.count("Authentication-Results") == 1
    assert written.startswith(
        "Authentication-Results: mx1.example.org;\r\n\tspf=pass smtp.mailfrom=a@x.test policy.upstream=mx1.example.org"
    )


async def test_behind_xclient_the_clients_own_address_counts() -> None:
    """A gateway that tells the original client's address is not the client any more: its field is no evidence, and goes."""
    proxied = Proxy(address="192.0.2.9")
    result = await run(AR + THEIRS + AUTHOR, client="198.51.100.1", proxy=proxied)
    assert told(result) == []
    assert left(AR + THEIRS + AUTHOR, result) == THEIRS + AUTHOR
