"""Authentication-Results: what is written can be read back, what is forged goes, what is foreign stays."""

from __future__ import annotations

from email.parser import BytesHeaderParser
from typing import Any

from gateway import AddHeader, AuthResult, Edit, Message, RemoveHeader
from gateway.content import Content
from gateway.plugins.authres import AuthRes, Options
from gateway.splice import apply
from gateway.testing import FakeContext, a_message, a_transaction, run_plugin

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
