"""Authentication-Results as others write it, right and wrong: what can be read is read, what cannot is told."""

from __future__ import annotations

import pytest

from gateway.mailauth.results import Reading, Resinfo, read_results
from gateway.mailauth.results.reading import MAX_PROPERTIES, MAX_RESINFO
from gateway.mailauth.results.scanner import MAX_TEXT

SPF = Resinfo(method="spf", result="pass", properties=(("smtp.mailfrom", "example.com"),))


def one(body: str | bytes) -> Resinfo:
    [result] = read_results(body).results
    return result


# The examples of RFC 8601, appendix B, as Reading values.
EXAMPLES = {
    "B.2": (" example.org 1; none", Reading(authserv_id="example.org", is_none=True)),
    "B.3": (
        " example.com;\r\n          spf=pass smtp.mailfrom=example.net",
        Reading(
            authserv_id="example.com",
            results=(Resinfo(method="spf", result="pass", properties=(("smtp.mailfrom", "example.net"),)),),
        ),
    ),
    "B.4": (
        " example.com;\r\n          auth=pass (cram-md5) smtp.auth=sender@example.net;\r\n          spf=pass smtp.mailfrom=example.net",
        Reading(
            authserv_id="example.com",
            results=(
                Resinfo(method="auth", result="pass", comment="cram-md5", properties=(("smtp.auth", "sender@example.net"),)),
                Resinfo(method="spf", result="pass", properties=(("smtp.mailfrom", "example.net"),)),
            ),
        ),
    ),
    "B.5": (
        ' example.com;\r\n       dkim=pass (good signature) header.d=example.com;\r\n       dkim=fail reason="bad signature" header.d=x.test',
        Reading(
            authserv_id="example.com",
            results=(
                Resinfo(method="dkim", result="pass", comment="good signature", properties=(("header.d", "example.com"),)),
                Resinfo(method="dkim", result="fail", reason="bad signature", properties=(("header.d", "x.test"),)),
            ),
        ),
    ),
    "B.7": (
        (
            " foo.example.net (foobar) 1 (baz);\r\n    dkim (Because I like it) / 1 (One yay) = (wait for it) fail\r\n"
            "      policy (A dot can go here) . (like that) expired\r\n      (this surprised me) = (as I wasn't expecting it) 1362471462"
        ),
        Reading(
            authserv_id="foo.example.net",
            results=(
                Resinfo(
                    method="dkim",
                    result="fail",
                    comment="Because I like it; One yay; wait for it; A dot can go here; like that; this surprised me; "
                    "as I wasn't expecting it",
                    properties=(("policy.expired", "1362471462"),),
                ),
            ),
        ),
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_of_the_rfc(name: str) -> None:
    body, expected = EXAMPLES[name]
    assert read_results(body) == expected
    assert read_results(body.encode()) == expected


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("example.org", "example.org"),
        ("alice@example.org", "alice@example.org"),
        ("@example.org", "@example.org"),
        (" (c) alice@example.org (d)", "alice@example.org"),
        ('"alice"', "alice"),
        ('"a\\"b\\\\c;d(e"', 'a"b\\c;d(e'),
        ('"a b"@example.org', '"a b"@example.org'),
        ('"a b" (c) @example.org', '"a b"@example.org'),
        ('"a"."b" @example.org', '"a"."b"@example.org'),
        ("a (x) . (y) b@example.org", "a.b@example.org"),
        ("a. b @example.org", "a.b@example.org"),
        ("a@ example.org", "a@example.org"),
        ("пример@пример.рф", "пример@пример.рф"),
        ('"two\r\n\twords"', "two\twords"),
        # not allowed without quotes, and met all the same
        ("bounce+a=b.test@example.org", "bounce+a=b.test@example.org"),
        ("<>", "<>"),
        ("2001:db8::1", "2001:db8::1"),
        ("iYM/bQ5j+D==", "iYM/bQ5j+D=="),
        ("", ""),
        ('""', ""),
    ],
)
def test_values(written: str, value: str) -> None:
    assert one(f"mx; spf=pass smtp.mailfrom={written}") == Resinfo(
        method="spf",
        result="pass",
        properties=(("smtp.mailfrom", value),),
        comment=one(f"mx; spf=pass smtp.mailfrom={written}").comment,
    )
    result = one(f"mx; spf=pass smtp.mailfrom={written} smtp.helo=h.test")
    assert result.properties == (("smtp.mailfrom", value), ("smtp.helo", "h.test"))
    assert one(f"mx; spf=pass reason={written} smtp.helo=h.test").reason == value


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            "mx; SPF=Pass SMTP.MailFrom=Example.com",
            Resinfo(method="spf", result="pass", properties=(("smtp.mailfrom", "Example.com"),)),
        ),
        ("mx; dkim/1=pass", Resinfo(method="dkim", result="pass")),
        ("mx; dkim / 2 = pass", Resinfo(method="dkim", result="pass", version=2)),
        ("mx 1;spf=pass", Resinfo(method="spf", result="pass")),
        ('"mx";spf=pass;', Resinfo(method="spf", result="pass")),
        ("mx;;; spf=pass;;", Resinfo(method="spf", result="pass")),
        ("mx; spf=pass; none", Resinfo(method="spf", result="pass")),
        ("mx; x-odd_one=pass", Resinfo(method="x-odd_one", result="pass")),
        ("mx; dmarc=pass action=none", Resinfo(method="dmarc", result="pass", properties=(("action", "none"),))),
        (
            "mx; dkim=pass header.d=example.org. x.y=z",
            Resinfo(method="dkim", result="pass", properties=(("header.d", "example.org."), ("x.y", "z"))),
        ),
        ("mx; none=pass", Resinfo(method="none", result="pass")),
        ("mx\r\n\t;\r\n\tspf\r\n\t=\r\n\tpass", Resinfo(method="spf", result="pass")),
    ],
)
def test_spellings(body: str, expected: Resinfo) -> None:
    reading = read_results(body)
    assert (reading.authserv_id, reading.results, reading.problems) == ("mx", (expected,), ())


@pytest.mark.parametrize(
    ("body", "problem", "results"),
    [
        ("spf=pass smtp.mailfrom=example.com", "no authserv-id", (SPF,)),
        ("", "no authserv-id", ()),
        ("; spf=pass smtp.mailfrom=example.com", "no authserv-id", (SPF,)),
        ("mx x y; spf=pass smtp.mailfrom=example.com", "something between authserv-id and results", (SPF,)),
        ("mx; spf; spf=pass smtp.mailfrom=example.com", "spf: no method=result", (SPF,)),
        ("mx; =pass; spf=pass smtp.mailfrom=example.com", "a result: no method=result", (SPF,)),
        ("mx; dkim=; spf=pass smtp.mailfrom=example.com", "dkim: no result", (SPF,)),
        ("mx; dkim/x=pass; spf=pass smtp.mailfrom=example.com", "dkim: the version of the method is no number", (SPF,)),
        ("mx; ) ; spf=pass smtp.mailfrom=example.com", "a result: no method=result", (SPF,)),
        ("mx; spf=pass smtp.mailfrom=example.com; (spf=fail", "a comment has no end", (SPF,)),
        ('mx "; spf=pass', "a quoted string has no end", ()),
    ],
)
def test_what_cannot_be_read_is_told(body: str, problem: str, results: tuple[Resinfo, ...]) -> None:
    reading = read_results(body)
    assert problem in reading.problems
    assert reading.results == results


@pytest.mark.parametrize(
    ("rest", "problem"),
    [
        ("smtp.mailfrom", "something that is no property"),
        ("smtp.=x", "something that is no property"),
        (".mailfrom=x", "something that is no property"),
        ("smtp.helo=x )", "something that is no property"),
        ('"a b"', "something that is no property"),
        ('smtp.helo="x', "a quoted string has no end"),
        ("smtp.helo=x (y", "a comment has no end"),
        (" ".join(["a.b=c"] * (MAX_PROPERTIES + 1)), f"more than {MAX_PROPERTIES} properties"),
    ],
)
def test_a_result_that_is_read_in_part_says_so(rest: str, problem: str) -> None:
    reading = read_results(f"mx; spf=pass {rest}; dkim=pass")
    assert (reading.results[0].method, reading.results[0].result) == ("spf", "pass")
    assert reading.results[0].problem == problem
    assert f"spf: {problem}" in reading.problems


def test_an_unknown_version() -> None:
    assert read_results("mx 2; spf=pass").version == 2
    assert read_results("mx 99999999999; spf=pass").problems == ("something between authserv-id and results",)


def test_what_is_no_utf8_and_controls() -> None:
    reading = read_results(b"mx.\xff\x00; x=pass a.b=c\x1b[31md")
    assert reading.authserv_id == "mx.\ufffd\ufffd"
    assert reading.results[0].property("a.b") == "c\ufffd[31md"


def test_bounds() -> None:
    assert len(read_results("mx" + ";x=y" * 1000).results) == MAX_RESINFO
    assert read_results("mx" + ";" * 1000 + "x=y").problems == (f"more than {MAX_RESINFO} results",)
    assert len(read_results("mx" + ";x" * 9000).problems) == MAX_RESINFO + 2
    assert read_results("mx; a=b " + "x" * MAX_TEXT).problems[0] == "the field is too long"
    assert len(read_results(f"mx; a=b ({'x' * 9000})").results[0].comment) <= 500


@pytest.mark.parametrize(
    "piece",
    [
        "(",
        "(\\",
        '"\\',
        " ",
        "() ",
        "x=y a.b=",
        "x=y;",
        " ( ) .",
        '""',
        "smtp.a= ",
        "a. ",
        "=?",
        "a.b=c ",
        ";",
        "\r\n\t",
        "\\",
        ")",
        "a@ ",
        "/1",
        '"',
    ],
)
def test_hostile_bodies_are_linear(piece: str) -> None:
    """A quadratic reader would take minutes for these, and the suite's time limit is one."""
    body = "mx; x=y z.a=" + piece * (MAX_TEXT // len(piece))
    for _ in range(3):
        assert read_results(body).authserv_id == "mx"
