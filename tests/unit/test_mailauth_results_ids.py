"""Whose Authentication-Results field it is, in whatever spelling, for careful and for careless readers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mailauth.results import Names, bears_name, id_key

OURS = Names(["mx.example.org"])


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
        ' "mx.\r\n example.org"; spf=pass',
        " mx.example.org(comment); none",
        " mx.example.org. ; none",
        " mx.example.org",
        " mx.example.org spf=pass",
        " mx.example.org/1; spf=pass",
        " mx.example.org:25; spf=pass",
        " <mx.example.org>; spf=pass",
        " example.net mx.example.org; spf=pass",
        " example.net, mx.example.org; spf=pass",
        " ; mx.example.org; spf=pass",
        " spf=pass smtp.mailfrom=a@example.org",
        "",
        " (never closed mx.example.org; spf=pass",
        ' "never closed; spf=pass',
        " \x00mx.example.org; spf=pass",
        " m\x00x.example.org; spf=pass",
        " mx.exam\u200bple.org; spf=pass",
        " mx.exam\u00adple.org; spf=pass",
        " ｍx.example.org; spf=pass",
        " mx。example．org; spf=pass",
        " mx(c).(d)example.org; spf=pass",
        " mx . example . org; spf=pass",
        " =?utf-8?Q?mx=2Eexample.org?=; spf=pass",
        " =?us-ascii?B?bXguZXhhbXBsZS5vcmc=?= ; spf=pass",
        ' "mx.example.org; x"; spf=pass',
        " (a\\) mx.example.org; spf=pass ) example.net; none",
        " (a (b) mx.example.org; spf=pass) example.net; none",
        " 'mx.example.org'; spf=pass",
        " " * 2000 + "mx.example.org; spf=pass",
        " example.net" + " " * 2000 + "mx.example.org; spf=pass",
        " " + "()" * 100 + "mx.example.org; spf=pass",
    ],
)
def test_forged(body: str) -> None:
    assert bears_name(body.encode(), OURS)


@pytest.mark.parametrize(
    "body",
    [
        " example.net; spf=pass",
        " mx.example.org.example.net; spf=pass",
        " notmx.example.org; spf=pass",
        " sub.mx.example.org; spf=pass",
        " example.org; spf=pass",
        " (mx.example.org) example.net; spf=pass",
        ' example.net 1; spf=pass reason="mx.example.org"',
        " example.net",
        " google.com; dkim=pass header.i=@mx.example.org",
        " example.net spf=pass",
        " пример.рф; spf=pass",
        " \xff\xfe; spf=pass",
        ' "a b"; spf=pass',
        " example.net; " + "dkim=pass (x) header.d=example.net; " * 1000,
    ],
)
def test_foreign(body: str) -> None:
    assert not bears_name(body.encode("utf-8"), OURS)
    assert not bears_name(body.encode("latin-1", "ignore") or b"x;", OURS)


@pytest.mark.parametrize("ours", ["mx.exämple.org", "MX.XN--EXMPLE-CUA.ORG"])
@pytest.mark.parametrize(
    "name",
    [
        b"mx.xn--exmple-cua.org",
        b"mx.XN--EXMPLE-CUA.org.",
        "mx.exämple.org".encode(),
        "MX.EXÄMPLE.ORG".encode(),
        b"mx.ex\xe4mple.org",
    ],
)
def test_a_labels_and_u_labels_are_one_name(ours: str, name: bytes) -> None:
    assert bears_name(b" " + name + b"; spf=pass", Names([ours]))
    assert not bears_name(b" x" + name + b"; spf=pass", Names([ours]))


@pytest.mark.parametrize("ours", ["straße.test", "xn--strae-oqa.test", "STRAẞE.test"])
@pytest.mark.parametrize("name", ["straße.test", "xn--strae-oqa.test", "STRASSE.test"])
def test_what_the_two_idnas_see_differently(ours: str, name: str) -> None:
    """IDNA 2008 has an A-label of its own for ß, IDNA 2003 makes it ss: either may be what a reader sees."""
    assert bears_name(f" {name}; spf=pass".encode(), Names([ours]))


def test_names_below_another() -> None:
    names = Names(["*.example.org"])
    assert "mx.example.org" in names
    assert "A.B.example.ORG." in names
    assert "example.org" not in names
    assert "notexample.org" not in names
    assert bears_name(b' "mx3.example.org" 1; none', names)
    assert not bears_name(b" example.org; none", names)


def test_keys() -> None:
    assert id_key("Straße.test") == "xn--strae-oqa.test"
    assert id_key("☃.test") == "xn--n3h.test"
    assert id_key("MX.Example.org.") == id_key(" mx.example. org") == "mx.example.org"
    assert id_key("ß" * 300 + ".org").endswith(".org")
    assert id_key("a name") == "aname"


@given(st.text(alphabet=' \t\r\n()"\\;=.mx1/é?', max_size=60))
def test_any_body_is_judged(body: str) -> None:
    assert bears_name(body.encode(), OURS) in {True, False}


@pytest.mark.parametrize(
    "body",
    [
        "(" * 500_000,
        "(\\" * 200_000,
        '"\\' * 200_000,
        " " * 500_000,
        "(" * 200_000 + ")" * 200_000,
        "() " * 100_000,
        "=?a?q?" * 90_000,
    ],
)
def test_hostile_bodies_are_cheap(body: str) -> None:
    bears_name(body.encode(), OURS)  # within the time limit of the suite: bounded
