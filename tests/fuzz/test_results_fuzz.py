"""Hostile Authentication-Results fields, BIMI records and messages with them: nothing raises, and no step is long.

`make fuzz FUZZ=500` makes 1,000,000 fields and records, and 100,000 messages. Printed: how many, and the longest step.
"""

from __future__ import annotations

import gc
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from gateway import AuthResult, Message
from gateway.content import Content
from gateway.mailauth.results import Names, bears_name, id_key, read_results, render_results
from gateway.plugins.authres import AuthRes
from gateway.plugins.bimi import Bimi, BimiFinding
from gateway.plugins.bimi.enforcement import objection
from gateway.plugins.bimi.record import RecordError, is_assertion, parse_assertion, selector_of_field, selector_of_local_part
from gateway.plugins.upstream import Options, Upstream
from gateway.splice import apply
from gateway.testing import TEMPFAIL, FakeContext, a_session, a_transaction
from tests.fuzzing import TIMES, chances

FIELDS = 2_000 * TIMES
MESSAGES = 200 * TIMES
OURS = Names(["mx.example.org", "*.exämple.net"])

PIECES = [
    *(one.encode("latin-1") for one in ' \t();=./@"\\,:<>[]?*-_+1'),
    *[b"\r\n ", b"\r\n\t", b"\n", b"\r", b"\0", b"\x7f", b"\xff", b"\xc3\xa9", b"\xe2\x80\xae", b"\xef\xbf\xbd", b"=?", b"?="],
    *[b"mx.example.org", b"MX.Example.ORG.", b"mx1.example.org", b"a.xn--exmple-cua.net", b"=?utf-8?Q?mx=2Eexample=2Eorg?="],
    *[
        b"none",
        b"spf",
        b"dkim",
        b"=pass",
        b"=fail",
        b"reason=",
        b"smtp.mailfrom=",
        b"header.d=",
        b"policy.x=",
        b"/1",
        b" 1",
        b"; ",
    ],
    *[
        b"alice@example.org",
        b"@example.org",
        b'"a b"@x.test',
        b"(c)",
        b"(a (b) c)",
        b"(\\)",
        b"x" * 300,
        b"(" * 100,
        b'"' * 50,
        b" " * 500,
    ],
]
BIMI_PIECES = [
    *[b"v=BIMI1", b"v=bimi1", b"; ", b";", b" ", b"l=", b"a=", b"lps=true", b"avp=brand", b"avp=personal", b"=", b"s=", b"brand"],
    *[
        b"https://",
        b"http://",
        b"x.test",
        b"/a.svg",
        b"/a.png",
        b"@",
        b":8443",
        b":99999",
        b"[::1]",
        b",",
        b"%41",
        b"?",
        b"#",
        b"..",
        b"\\",
    ],
    *[
        b"\xc3\xa9",
        b"\0",
        b"\r\n ",
        b"\t",
        b"a" * 400,
        b"a." * 100,
        b"-",
        b"_",
        b"v=DMARC1",
        b"p=reject",
        b"p=none",
        b"sp=none",
        b"pct=1",
        b"t=y",
    ],
]


def made(chance: random.Random, pieces: list[bytes], most: int = 40) -> bytes:
    """Some pieces in some order; now and then one of them many times."""
    found = [chance.choice(pieces) for _ in range(chance.randrange(most))]
    if found and chance.random() < 0.05:
        found.insert(chance.randrange(len(found)), chance.choice(pieces) * chance.choice([100, 2_000, 20_000]))
    return b"".join(found)


class Longest:
    """The longest step, of all that were measured."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.what = ""

    def __call__(self, what: str, call: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        before = time.thread_time()
        result = call(*arguments, **more)
        took = time.thread_time() - before
        if took > self.seconds:
            self.seconds, self.what = took, f"{what} of {len(arguments[0]) if isinstance(arguments[0], bytes) else '?'} octets"
        return result


def check_field(body: bytes, step: Longest) -> None:
    reading = step("read_results", read_results, body)
    forged = step("bears_name", bears_name, body, OURS)
    if reading.authserv_id in OURS and len(body) < 900:
        assert forged, body
    assert not any(
        c < " " and c != "\t"
        for one in reading.results
        for _, value in one.properties
        for c in value.replace("\r", "").replace("\n", "")
    )
    results = [
        AuthResult(method=one.method, result=one.result, reason=one.reason, properties=one.properties) for one in reading.results
    ]
    for utf8 in (False, True):
        text = step("render_results", render_results, reading.authserv_id or "mx", results, utf8=utf8)
        assert all(len(line.encode()) <= 998 for line in text.split("\r\n"))
        again = read_results(text.encode())
        assert again.problems == () or text.startswith('""'), (body, text)
        assert len(again.results) <= min(len(results), 50)


def check_record(record: bytes, step: Longest) -> None:
    step("objection", objection, [record])
    step("selector_of_field", selector_of_field, record)
    step("selector_of_local_part", selector_of_local_part, record.decode("latin-1"))
    if not step("is_assertion", is_assertion, record):
        return
    told, uris = "", ("", "")
    try:
        found = step("parse_assertion", parse_assertion, record)
    except RecordError as error:
        told = str(error)
    else:
        uris = (found.location, found.evidence)
    assert told.isascii()
    assert all(uri == "" or (uri.lower().startswith("https://") and uri.isprintable() and uri.isascii()) for uri in uris)


def test_fields_and_records() -> None:
    chance, step = chances(8601), Longest()
    gc.collect()
    for number in range(FIELDS):
        if number % 2:
            check_record((b"v=BIMI1; " if chance.random() < 0.6 else b"") + made(chance, BIMI_PIECES, 20), step)
        else:
            check_field(made(chance, PIECES), step)
    sys.stdout.write(f"{FIELDS} fields and records, the longest step {step.seconds * 1000:.1f} ms: {step.what}\n")


def a_hostile_message(chance: random.Random) -> bytes:
    names = [
        b"Authentication-Results",
        b"authentication-results ",
        b"Received",
        b"From",
        b"BIMI-Selector",
        b"BIMI-Location",
        b"DKIM-Signature",
        b"no field",
    ]
    fields = []
    for _ in range(chance.choice([3, 10, 10, 150])):
        name = chance.choice(names)
        pieces = BIMI_PIECES if name.startswith(b"BIMI") else PIECES
        body = made(chance, pieces, 15).replace(b"\0", b"").replace(b"\r\n\r\n", b"")
        fields.append(name + (b"" if name == b"no field" and chance.random() < 0.5 else b":") + body + b"\r\n")
    fields.insert(0, b"From: news@example.org\r\n")
    return b"".join(fields) + b"\r\nbody\r\n"


async def test_messages() -> None:
    chance, longest, size = chances(8601), 0.0, 0
    session = a_session(client_address="192.0.2.1")
    upstream = Upstream(Options.model_validate({"trusted": [{"id": "mx1.example.org", "networks": ["192.0.2.0/24"]}]}))
    passed = AuthResult(method="dmarc", result="pass", properties=(("header.from", "example.org"),))
    for _ in range(MESSAGES):
        zones: Any = {
            "_dmarc.example.org": {"TXT": ["v=DMARC1; p=reject"]},
            "default._bimi.example.org": {"TXT": chance.choice([[b"v=BIMI1; " + made(chance, BIMI_PIECES, 10)], TEMPFAIL, []])},
        }
        context: Any = FakeContext(zones=zones)
        authres, bimi = AuthRes(context=context), Bimi(context=context)
        upstream.context = context
        octets = a_hostile_message(chance)
        message, transaction = Message(Content(octets)), a_transaction(session=session)
        transaction.findings.add("test", passed)
        before = time.thread_time()
        transaction.findings.extend("upstream", upstream.check(transaction, message))
        found = await bimi.check(transaction, message)
        edits = [
            *upstream.rewrite(transaction, message),
            *bimi.rewrite(transaction, message),
            *authres.rewrite(transaction, message),
        ]
        left = b"".join(apply(message.content, edits, section=message.header).chunks())
        took = time.thread_time() - before
        if took > longest:
            longest, size = took, len(octets)
        assert isinstance(found, BimiFinding)
        after = Message(Content(left))
        assert after.field("bimi-location") is None
        mine, *others = after.fields_named("authentication-results")
        assert mine.start == 0
        assert all(id_key(read_results(one.raw).authserv_id) != "mx.example.org" for one in others)
    sys.stdout.write(f"{MESSAGES} messages, the longest in {longest * 1000:.1f} ms: of {size} octets\n")
