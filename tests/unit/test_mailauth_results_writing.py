"""Authentication-Results is written so that nothing in it breaks out, and folded."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import AddHeader, AuthResult
from gateway.mailauth.results import render_results

SPF = AuthResult(
    method="spf", result="pass", reason="ip4 matches 192.0.2.1", properties=(("smtp.mailfrom", "alice@example.org"),)
)
DKIM = AuthResult(
    method="dkim",
    result="fail",
    reason="body hash does not match",
    properties=(("header.d", "example.org"), ("header.i", "@example.org"), ("header.b", "a/b+c=d;")),
)


def test_the_field() -> None:
    assert render_results("mx.example.org", [SPF, DKIM]) == (
        "mx.example.org;\r\n"
        '\tspf=pass reason="ip4 matches 192.0.2.1" smtp.mailfrom=alice@example.org;\r\n'
        '\tdkim=fail reason="body hash does not match" header.d=example.org\r\n'
        '\theader.i=@example.org header.b="a/b+c=d;"'
    )
    assert render_results("mx.example.org", []) == "mx.example.org; none"
    assert render_results("a name", []) == '"a name"; none'
    assert render_results("x" * 255, []) == "x" * 255 + "; none"
    assert render_results("x" * 1000, []) == '"' + "x" * 200 + '"; none'


def test_a_fold_within_quotes_keeps_the_space() -> None:
    """RFC 5322 2.2.3: unfolding takes the line end away, and the space behind it is the text's own."""
    reason = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    text = render_results("mx", [AuthResult(method="x", result="pass", reason=reason)])
    assert len(text.split("\r\n")) == 3
    assert text.replace("\r\n", "") == f'mx;\tx=pass reason="{reason}"'


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
        ("a@exämple.org", "a@xn--exmple-cua.org"),
        ("exämple.org", "xn--exmple-cua.org"),
        ("straße.org", "xn--strae-oqa.org"),
        ("a@Ä.Example", "a@xn--4ca.Example"),
        ("\ud800.org", '"?.org"'),
        ("ä b", '"? b"'),
        ("2001:db8::1", '"2001:db8::1"'),
        ("<>", '"<>"'),
        ("a,b", '"a,b"'),
        ("x" * 500, '"' + "x" * 200 + '"'),
    ],
)
def test_values_cannot_break_out(value: str, written: str) -> None:
    text = render_results("mx", [AuthResult(method="spf", result="pass", properties=(("smtp.mailfrom", value),))])
    assert re.sub("\r\n[\t ]", " ", text) == f"mx; spf=pass smtp.mailfrom={written}"


def test_smtputf8() -> None:
    """RFC 8616 3: in an internationalized message U-labels and UTF-8 local-parts are written as they are, quoted."""
    result = AuthResult(method="spf", result="pass", reason="для всех", properties=(("smtp.mailfrom", "é@exämple.org"),))
    assert render_results("mx.exämple.org", [result], utf8=True) == (
        '"mx.exämple.org";\r\n\tspf=pass reason="для всех" smtp.mailfrom="é@exämple.org"'
    )
    assert render_results("mx.exämple.org", [result]).startswith("mx.xn--exmple-cua.org;\r\n")
    assert render_results("mx", [AuthResult(method="x", result="pass", reason="a\u202eb\ud800")], utf8=True).endswith('"a?b?"')


def test_what_is_no_keyword_is_left_out() -> None:
    odd = AuthResult(method="a b", result="pass")
    assert render_results("mx", [odd]) == "mx; none"
    odd = AuthResult(method="x", result="pass;", properties=())
    assert render_results("mx", [odd]) == "mx; none"
    odd = AuthResult(method="x", result="pass", properties=(("no dot", "v"), ("a.b=c", "v"), ("a.b", "")))
    assert render_results("mx", [odd]) == "mx;\r\n\tx=pass"
    assert render_results("mx", [AuthResult(method="x", result="pass")] * 100).count("x=pass") == 50


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
    ),
    st.booleans(),
)
def test_any_text_makes_one_field(results: list[AuthResult], utf8: bool) -> None:
    text = render_results("mx.example.org", results, utf8=utf8)
    AddHeader(name="Authentication-Results", value=text)
    assert utf8 or text.isascii()
    for line in text.split("\r\n"):
        assert line.lstrip("\t").isprintable()
        assert len(line) <= 77 or " " not in line.strip()
    unfolded = re.sub("\r\n([\t ])", r"\1", text)
    without_quotes = re.sub(r'"(?:[^"\\]|\\.)*"', "Q", unfolded)
    assert without_quotes.count(";") == max(1, len(results))
    assert "(" not in without_quotes
