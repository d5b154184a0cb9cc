"""Authentication-Results: what we write is what we read, authres reads the same of well-formed fields, nothing raises."""

from __future__ import annotations

from typing import Any

import authres
from hypothesis import given
from hypothesis import strategies as st

from gateway import AuthResult
from gateway.mailauth.results import Names, bears_name, read_results, render_results
from tests.fuzzing import examples

several = examples(150)

keywords = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
printable = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=60).filter(
    lambda text: text == " ".join(text.split())
)
results = st.lists(
    st.builds(
        AuthResult,
        method=keywords,
        result=keywords,
        reason=printable | st.just(""),
        properties=st.lists(
            st.tuples(
                st.tuples(st.sampled_from(["smtp", "header", "policy", "body", "dns", "x"]), keywords).map(".".join), printable
            ),
            max_size=4,
        ).map(tuple),
    ),
    max_size=5,
)


@several
@given(printable, results)
def test_what_is_written_can_be_read(name: str, written: list[AuthResult]) -> None:
    reading = read_results(render_results(name, written))
    assert (reading.authserv_id, reading.problems, reading.is_none) == (name, (), not written)
    read = [(one.method, one.result, one.reason, one.properties) for one in reading.results]
    assert read == [(one.method, one.result, one.reason, one.properties) for one in written]


@several
@given(st.text(max_size=40), st.text(max_size=300), st.text(max_size=300))
def test_what_is_written_of_any_text_is_one_result(name: str, reason: str, value: str) -> None:
    for utf8 in (False, True):
        result = AuthResult(method="spf", result="fail", reason=reason, properties=(("smtp.mailfrom", value),))
        reading = read_results(render_results(name, [result], utf8=utf8).encode("utf-8", "strict"))
        assert reading.problems == () or not name.strip()
        [one] = reading.results
        assert (one.method, one.result, len(one.properties)) == ("spf", "fail", 1 if value else 0)


# Well-formed fields, spelt in the ways that the grammar allows and authres knows. What it does not know, although RFC 8601 2.2
# and RFC 5322 have it, and we read:
# - an authserv-id in quotes (it takes none); its case is lost
# - ptypes other than smtp, header, body and policy, which IANA may register
# - an empty quoted-string; space at the ends of one; escapes, which it leaves as they are
# - a property behind one whose value is in quotes
# - a second comment, or space behind a comment, in one place
# - a method that begins with `none`, a ptype that begins with `reason`
# - any version but 1
spaces = st.sampled_from([" ", "\t", "\r\n ", "  ", " (c)", "(a (b) \\) c)", "\r\n\t(x)"])
maybe = st.just("") | spaces
tokens = st.from_regex(r"[A-Za-z0-9!#$%&'*+^_`{|}~-]{1,10}", fullmatch=True)
quoted = st.from_regex(r'"[a;=.@()]([a ;=.@()]{0,6}[a;=.@()])?"', fullmatch=True)
domains = st.from_regex(r"[a-z0-9]{1,5}(\.[a-z]{2,4}){1,2}", fullmatch=True)
addresses = st.tuples(st.from_regex(r"[a-z+]{1,5}(\.[a-z]{1,3})?", fullmatch=True) | st.just(""), domains).map("@".join)
names = keywords.filter(lambda one: not one.startswith(("none", "reason")))


@st.composite
def properties(draw: Any, values: Any = tokens | domains | addresses) -> str:
    name = draw(st.sampled_from(["smtp", "header", "body", "policy"])) + draw(maybe) + "." + draw(maybe) + draw(keywords)
    return str(draw(spaces) + name + draw(maybe) + "=" + draw(maybe) + draw(values))


@st.composite
def clauses(draw: Any) -> str:
    text = draw(maybe) + ";" + draw(maybe) + draw(names)
    if draw(st.booleans()):
        text += draw(maybe) + "/" + draw(maybe) + draw(st.sampled_from(["1", "2", "17"]))
    text += draw(maybe) + "=" + draw(maybe) + draw(keywords)
    if draw(st.booleans()):
        text += draw(spaces) + "reason" + draw(maybe) + "=" + draw(maybe) + draw(tokens | quoted)
    text += "".join(draw(st.lists(properties(), max_size=3)))
    return str(text + draw(st.just("") | properties(quoted)))


@st.composite
def fields(draw: Any) -> str:
    text = draw(maybe) + draw(tokens | domains)
    if draw(st.booleans()):
        text += draw(spaces) + "1"
    if draw(st.booleans()):
        return str(text + draw(maybe) + ";" + draw(maybe) + "none" + draw(maybe))
    return str(text + "".join(draw(st.lists(clauses(), min_size=1, max_size=3))) + draw(maybe))


@several
@given(fields())
def test_authres_reads_the_same(body: str) -> None:
    theirs = authres.AuthenticationResultsHeader.parse("Authentication-Results:" + body)
    ours = read_results(body)
    assert ours.problems == ()
    assert ours.authserv_id.lower() == theirs.authserv_id
    assert [(one.method, one.result) for one in ours.results] == [(one.method, one.result.lower()) for one in theirs.results]
    assert [one.reason for one in ours.results] == [one.reason or "" for one in theirs.results]
    for our, their in zip(ours.results, theirs.results, strict=True):
        assert our.properties == tuple((f"{one.type}.{one.name}", one.value) for one in their.properties)


@several
@given(
    st.lists(
        st.sampled_from(
            [*list(' \t();=./@"\\1ax\xff\x00'), "\r\n ", "spf=pass", "mx.example.org", "smtp.helo=", "none", "(", "=?"]
        )
    )
)
def test_nothing_raises(pieces: list[str]) -> None:
    body = "".join(pieces).encode("latin-1")
    reading = read_results(body)
    assert len(reading.results) <= body.count(b"=")
    assert bears_name(body, Names(["mx.example.org"])) in {True, False}
