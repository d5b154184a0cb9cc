"""Authentication-Results: what is written can be read back, what is forged goes, what is foreign stays."""

from __future__ import annotations

import re
from email.parser import BytesHeaderParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import AddHeader, AuthResult, Edit, Message, RemoveHeader
from gateway.content import Content
from gateway.plugins.authres import AuthRes, Options, claims, render
from gateway.splice import apply
from gateway.testing import FakeContext, a_message, a_transaction, run_plugin

OURS = frozenset({"mx.example.org"})
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


def test_the_field() -> None:
    assert render("mx.example.org", [SPF, DKIM]) == (
        "mx.example.org;\r\n"
        '\tspf=pass reason="ip4 matches 192.0.2.1" smtp.mailfrom=alice@example.org;\r\n'
        '\tdkim=fail reason="body hash does not match" header.d=example.org\r\n'
        '\theader.i=@example.org header.b="a/b+c=d;"'
    )
    assert render("mx.example.org", []) == "mx.example.org; none"
    assert render("a name", []) == '"a name"; none'


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("example.org", "example.org"),
        ("@example.org", "@example.org"),
        ("a b@example.org", '"a b@example.org"'),
        ('"a\\b"@example.org', '"\\"a\\\\b\\"@example.org"'),
        ("a@example.org\r\nX-Evil: 1", '"a@example.org??X-Evil: 1"'),
        ("a@example.org; dkim=pass", '"a@example.org; dkim=pass"'),
        ("a@example.org (", '"a@example.org ("'),
        ("café@example.org", '"caf?@example.org"'),
        ("<>", '"<>"'),
        ("a,b", '"a,b"'),
        ("x" * 500, '"' + "x" * 200 + '"'),
    ],
)
def test_values_cannot_break_out(value: str, written: str) -> None:
    text = render("mx", [AuthResult(method="spf", result="pass", properties=(("smtp.mailfrom", value),))])
    assert text.replace("\r\n\t", " ") == f"mx; spf=pass smtp.mailfrom={written}"


def test_what_is_no_keyword_is_left_out() -> None:
    odd = AuthResult(method="a b", result="pass")
    assert render("mx", [odd]) == "mx; none"
    odd = AuthResult(method="x", result="pass;", properties=())
    assert render("mx", [odd]) == "mx; none"
    odd = AuthResult(method="x", result="pass", properties=(("no dot", "v"), ("a.b=c", "v"), ("a.b", "")))
    assert render("mx", [odd]) == "mx;\r\n\tx=pass"
    assert render("mx", [AuthResult(method="x", result="pass")] * 100).count("x=pass") == 50


@given(
    st.lists(
        st.builds(
            AuthResult,
            method=st.sampled_from(["spf", "dkim", "dmarc"]),
            result=st.sampled_from(["pass", "fail"]),
            reason=st.text(max_size=300),
            properties=st.lists(st.tuples(st.sampled_from(["smtp.mailfrom", "header.d"]), st.text(max_size=300)), max_size=3).map(
                tuple
            ),
        ),
        max_size=5,
    )
)
def test_any_text_makes_one_field(results: list[AuthResult]) -> None:
    text = render("mx.example.org", results)
    AddHeader(name="Authentication-Results", value=text)
    assert text.isascii()
    for line in text.split("\r\n"):
        assert line.isprintable() or line.startswith("\t")
        assert len(line) <= 77 or " " not in line.strip()
    unfolded = text.replace("\r\n\t", " ")
    without_quotes = re.sub(r'"(?:[^"\\]|\\.)*"', "Q", unfolded)
    assert without_quotes.count(";") == max(1, len(results))
    assert "(" not in without_quotes


@pytest.mark.parametrize(
    "body",
    [
        " mx.example.org; spf=pass",
        " MX.Example.ORG; spf=pass",
        "mx.example.org;spf=pass",
        "\r\n\tmx.example.org;\r\n\tspf=pass",
        " (comment) mx.example.org; spf=pass",
        " (a (nested \\) one)) (two)\r\n mx.example.org 1; none",
        ' "mx.example.org"; spf=pass',
        ' "mx.ex\\ample.org"; spf=pass',
        " mx.example.org(comment); none",
        " mx.example.org. ; none",
        " mx.example.org",
        " mx.example.org spf=pass",
        " mx.example.org/1; spf=pass",
        " example.net mx.example.org; spf=pass",
        " ; mx.example.org; spf=pass",
        " spf=pass smtp.mailfrom=a@example.org",
        "",
        " (never closed mx.example.org; spf=pass",
        ' "never closed; spf=pass',
        " \x00mx.example.org; spf=pass",
    ],
)
def test_forged(body: str) -> None:
    assert claims(body, OURS)


@pytest.mark.parametrize(
    "body",
    [
        " example.net; spf=pass",
        " mx.example.org.example.net; spf=pass",
        " notmx.example.org; spf=pass",
        " (mx.example.org) example.net; spf=pass",
        ' example.net 1; spf=pass reason="mx.example.org"',
        " example.net",
        " google.com; dkim=pass header.i=@mx.example.org",
        " example.net spf=pass",
        " пример.рф; spf=pass",
    ],
)
def test_foreign(body: str) -> None:
    assert not claims(body, OURS)


@given(st.text(alphabet=' \t\r\n()"\\;=.mx1/é', max_size=60))
def test_any_body_is_judged(body: str) -> None:
    assert claims(body, OURS) in {True, False}


@pytest.mark.parametrize(
    "body", ["(" * 500_000, "(\\" * 200_000, '"\\' * 200_000, " " * 500_000, "(" * 200_000 + ")" * 200_000, "() " * 100_000]
)
def test_hostile_bodies_are_cheap(body: str) -> None:
    claims(body, OURS)  # within the time limit of the suite: linear


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
