"""After `authres` no reader finds a field with our name other than ours: ours, authres (PyPI), and readers that know little."""

from __future__ import annotations

import re
from email.parser import BytesParser
from typing import Any

import authres
from hypothesis import given
from hypothesis import strategies as st

from gateway import Message
from gateway.content import Content
from gateway.mailauth.results import id_key, read_results
from gateway.plugins.authres import AuthRes
from gateway.splice import apply
from gateway.testing import FakeContext, a_transaction
from gateway.words import decode_words
from tests.fuzzing import examples

several = examples(150)
OURS = "mx.exämple.org"
KEY = id_key(OURS)
CONTEXT: Any = FakeContext(authserv_id=OURS)

field_names = st.sampled_from(["Authentication-Results", "AUTHENTICATION-RESULTS", "authentication-results "])
names = st.sampled_from(
    [
        "mx.xn--exmple-cua.org",
        "MX.XN--EXMPLE-CUA.ORG.",
        OURS,
        OURS.upper(),
        "mx.ex\\ämple.org",
        "mx.exämple。org",
        "=?utf-8?Q?mx=2Eex=C3=A4mple=2Eorg?=",
    ]
)
around = st.lists(
    st.sampled_from(
        [
            "",
            " ",
            "\t",
            "\r\n ",
            "(c)",
            "(",
            ")",
            "\\",
            '"',
            ";",
            "example.net",
            "1",
            "=",
            "/",
            "\x00",
            "spf=pass",
            "(a (b)",
            "(\\)",
        ]
    ),
    max_size=5,
).map("".join)
bodies = st.tuples(around, names, around).map("".join) | around
fillers = st.sampled_from(["", "Subject: x\r\n", "From: a@b.test\r\n", "no field\r\n", "X: y\r\n" * 3])
fields = st.tuples(fillers, field_names, bodies).map(lambda parts: f"{parts[0]}{parts[1]}:{parts[2]}\r\n")
contents = st.tuples(st.just("Received: x\r\n"), st.lists(fields, max_size=4).map("".join)).map("".join)


def lax(body: str) -> set[str]:
    """Names as readers find them that know a little of the grammar, and not all of it."""
    flat = re.sub(r"\s+", " ", body)
    found = {flat.partition(";")[0]}
    without = re.sub(r"\([^()]*\)", "", flat)
    found |= {without.partition(";")[0], re.sub(r"\(.*?\)", "", flat).partition(";")[0]}
    found |= {decode_words(one) for one in found}
    found |= {one.replace("\\", "") for one in found}
    found |= {one.strip().strip("\"'") for one in found}
    found |= {one.strip().partition(" ")[0].strip("\"'") for one in found}
    return {id_key(one) for one in found}


@several
@given(contents)
def test_nobody_finds_another_field_of_ours(text: str) -> None:
    octets = text.encode() + b"\r\nbody\r\n"
    plugin = AuthRes(context=CONTEXT)
    edits = plugin.rewrite(a_transaction(), Message(Content(octets)))
    result = b"".join(apply(Content(octets), edits).chunks())
    ours = b"Authentication-Results: mx.xn--exmple-cua.org; none\r\n"
    assert result.startswith(ours)
    rest = result[len(ours) :]
    for field in Message(Content(rest)).fields_named("authentication-results"):
        body = field.raw.decode("utf-8", "replace")
        assert id_key(read_results(field.raw).authserv_id) != KEY
        assert KEY not in lax(body)
        try:
            theirs = authres.AuthenticationResultsHeader.parse("Authentication-Results: " + body)
        except Exception:
            continue
        assert id_key(theirs.authserv_id) != KEY
    # a reader that goes on behind a line that is no field, up to the blank line
    head = re.sub(rb"\r\n[ \t]", b" ", rest.partition(b"\r\n\r\n")[0])
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"authentication-results":
            assert KEY not in lax(value.decode("utf-8", "replace"))
    for found in BytesParser().parsebytes(rest).get_all("Authentication-Results", []):
        assert KEY not in lax(str(found))


@several
@given(contents)
def test_the_rest_keeps_its_octets(text: str) -> None:
    octets = text.encode() + b"\r\nbody\r\n"
    edits = AuthRes(context=CONTEXT).rewrite(a_transaction(), Message(Content(octets)))
    result = b"".join(apply(Content(octets), edits).chunks())
    left = iter(result.partition(b"\r\n")[2])
    # what is left is a subsequence of what came, and only these fields are missing
    assert all(any(octet == one for one in iter(octets)) for octet in left)
    kept = [field.octets for field in Message(Content(octets)).fields if field.name.lower() != "authentication-results"]
    for one in kept:
        assert one in result
