"""Authentication-Results: what is written can be read back, what is forged goes, what is foreign stays."""

from __future__ import annotations

import re
from email.parser import BytesHeaderParser
from typing import Any

import pytest

from gateway import AddHeader, AuthResult, Edit, Message, RemoveHeader
from gateway.content import Content
from gateway.plugins.authres import AuthRes, Options
from gateway.splice import apply
from gateway.testing import FakeContext, a_message, a_session, a_transaction, run_plugin

SPF = AuthResult(
    method="spf", result="pass", reason="ip4 matches 192.0.2.1", properties=(("smtp.mailfrom", "alice@example.org"),)
)
DKIM = AuthResult(
    method="dkim",
    result="fail",
    reason="body hash does not match",
    properties=(("header.d", "example.org"), ("header.i", "@example.org"), ("header.b", "a/b+c=d;")),
)


async def edits(content: bytes, results: tuple[AuthResult, ...] = (), options: Options | None = None) -> tuple[Edit, ...]:
    transaction = a_transaction()
    for one in results:
        transaction.findings.add("test", one)
    context: Any = FakeContext(authserv_id="mx.example.org")
    result = await run_plugin(AuthRes(options), message=Message(Content(content)), transaction=transaction, context=context)
    return result.edits


async def test_forged_fields_go_and_ours_is_on_top() -> None:
    content = (
        b"Authentication-Results: example.net; spf=pass\r\n"
        b"authentication-results: (x) MX.EXAMPLE.ORG; dkim=pass\r\n"
        b"From: a@example.org\r\n"
        b"AUTHENTICATION-RESULTS:\r\n mx.example.org; dmarc=pass\r\n"
        b"Subject: x\r\n\r\nbody\r\n"
    )
    found = await edits(content, (SPF,))
    result = b"".join(apply(Content(content), found).chunks())
    fields = BytesHeaderParser().parsebytes(result).get_all("Authentication-Results")
    assert fields is not None
    assert len(fields) == 2
    assert fields[0].startswith("mx.example.org;")
    assert fields[1] == "example.net; spf=pass"
    assert result.endswith(b"From: a@example.org\r\nSubject: x\r\n\r\nbody\r\n")


async def test_all_forged_is_one_edit() -> None:
    found = await edits(b"Authentication-Results: mx.example.org; none\r\n" * 1000 + b"\r\n")
    assert len(found) == 2
    assert found[0] == RemoveHeader(name="Authentication-Results", occurrence=None)


async def test_options() -> None:
    content = b"Authentication-Results: old.example.org; none\r\nFrom: a@b.test\r\n\r\n"
    assert await edits(content, options=Options(add=False)) == ()
    assert len(await edits(content, options=Options(add=False, other_ids=("Old.example.org",)))) == 1


async def test_without_findings_none_is_said() -> None:
    result = await run_plugin(AuthRes(), message=a_message())
    [edit] = result.edits
    assert isinstance(edit, AddHeader)
    assert edit.value.endswith("; none")


async def test_behind_more_fields_than_are_looked_at() -> None:
    """A forged field cannot hide behind thousands of others (RFC 8601 5)."""
    forged = b"AUTHENTICATION-RESULTS :\r\n mx.example.org; dmarc=pass\r\n"
    padding = b"X-Padding: x\r\n" * 12_000
    content = padding + forged + b"X-Y: authentication-results: mx.example.org\r\n" + forged + b"From: a@b.test\r\n\r\n" + forged
    found = await edits(content)
    assert found[0] == RemoveHeader(name="Authentication-Results", occurrence=None)
    result = b"".join(apply(Content(content), found).chunks())
    assert result.startswith(b"Authentication-Results: mx.example.org; none\r\n" + padding)
    assert result.endswith(b"X-Y: authentication-results: mx.example.org\r\nFrom: a@b.test\r\n\r\n" + forged)
    assert result.count(forged) == 1
    assert len(result) == apply(Content(content), found).size


async def test_more_of_them_than_are_looked_at_all_go() -> None:
    content = b"Authentication-Results: example.net; none\r\n" * 61 + b"\r\n"
    assert (await edits(content))[0] == RemoveHeader(name="Authentication-Results", occurrence=None)
    content = b"Authentication-Results: example.net; none\r\n" * 60 + b"\r\n"
    assert len(await edits(content)) == 1


async def test_smtputf8() -> None:
    transaction = a_transaction(parameters=["SMTPUTF8"])
    transaction.findings.add("test", AuthResult(method="spf", result="pass", properties=(("smtp.mailfrom", "é@ñ.test"),)))
    context: Any = FakeContext(authserv_id="mx.example.org")
    result = await run_plugin(AuthRes(), transaction=transaction, context=context)
    [edit] = result.edits
    assert isinstance(edit, AddHeader)
    assert edit.value.endswith('smtp.mailfrom="é@ñ.test" smtp.remote-ip=192.0.2.1')


async def written(results: tuple[AuthResult, ...] = (), options: Options | None = None, **session: Any) -> str:
    transaction = a_transaction(session=a_session(**session))
    for one in results:
        transaction.findings.add("test", one)
    context: Any = FakeContext(authserv_id="mx.example.org")
    result = await run_plugin(AuthRes(options), transaction=transaction, context=context)
    [edit] = result.edits
    assert isinstance(edit, AddHeader)
    return re.sub("\r\n[\t ]", " ", edit.value)


HELO = AuthResult(method="spf", result="none", properties=(("smtp.helo", "client.example"),))
IPREV = AuthResult(method="iprev", result="pass", properties=(("policy.iprev", "192.0.2.1"),))


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("192.0.2.1", " smtp.remote-ip=192.0.2.1"),
        ("2001:DB8:0::1", ' smtp.remote-ip="2001:db8::1"'),
        ("::ffff:192.0.2.1", " smtp.remote-ip=192.0.2.1"),
        ("fe80::1%eth0", ' smtp.remote-ip="fe80::1"'),
        ("", ""),
        ("unknown", ""),
    ],
)
async def test_the_clients_address(address: str, shown: str) -> None:
    assert await written((HELO, IPREV), client_address=address) == (
        f"mx.example.org; spf=none smtp.helo=client.example{shown}; iprev=pass policy.iprev=192.0.2.1{shown}"
    )
    assert "remote-ip" not in await written((HELO,), Options(remote_ip=False), client_address=address)
    assert "remote-ip" not in await written((DKIM,), client_address=address)


async def test_the_address_is_not_said_twice_nor_of_another_client() -> None:
    own = AuthResult(method="spf", result="pass", properties=(("smtp.remote-ip", "198.51.100.1"),))
    assert await written((own,)) == "mx.example.org; spf=pass smtp.remote-ip=198.51.100.1"
    told = AuthResult(method="spf", result="pass", properties=(("policy.upstream", "mx1.example.org"),))
    assert await written((told,)) == "mx.example.org; spf=pass policy.upstream=mx1.example.org"


@pytest.mark.parametrize(
    ("identity", "auth", "expected"),
    [
        ("alice", "identity", "mx.example.org; auth=pass smtp.auth=alice"),
        ("alice@example.org", "identity", "mx.example.org; auth=pass smtp.auth=alice@example.org"),
        ("a;b c", "identity", 'mx.example.org; auth=pass smtp.auth="a;b c"'),
        ("alice", "result", "mx.example.org; auth=pass"),
        ("alice", "off", "mx.example.org; none"),
        ("", "identity", "mx.example.org; none"),
    ],
)
async def test_a_client_that_logged_in(identity: str, auth: Any, expected: str) -> None:
    assert await written((), Options(auth=auth), identity=identity) == expected


async def test_received_spf_and_arc() -> None:
    content = (
        b"Received-SPF: pass\r\nReceived: x\r\nRECEIVED-SPF: fail\r\n"
        b"ARC-Authentication-Results: i=1; mx.example.org; spf=pass\r\nFrom: a@b.test\r\n\r\n"
    )
    assert await edits(content, options=Options(add=False)) == ()
    found = await edits(content, options=Options(add=False, remove_received_spf=True))
    result = b"".join(apply(Content(content), found).chunks())
    assert result == (b"Received: x\r\nARC-Authentication-Results: i=1; mx.example.org; spf=pass\r\nFrom: a@b.test\r\n\r\n")
    assert await edits(b"From: a@b.test\r\n\r\n", options=Options(add=False, remove_received_spf=True)) == ()
