"""Wild messages and broken DNS through all six plugins: no hook fails, none takes long, and the edited message is well-formed.

The rules name every fact and every function there is, so that each is read from each message.
"""

from __future__ import annotations

import asyncio
import base64
import time
from typing import Any

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import event, given
from hypothesis import strategies as st

from gateway import Message, Plugin, TagSubject
from gateway.content import Content
from gateway.plugins.authres import AuthRes
from gateway.plugins.dkim import Dkim
from gateway.plugins.dmarc import Dmarc
from gateway.plugins.dmarc import Options as DmarcOptions
from gateway.plugins.recipients import Options as RecipientsOptions
from gateway.plugins.recipients import Recipients
from gateway.plugins.rules import Options as RulesOptions
from gateway.plugins.rules import Rules
from gateway.plugins.rules.facts import ELEMENTS, FACTS
from gateway.plugins.rules.functions import FUNCTIONS
from gateway.plugins.rules.kinds import ANY, BOOL, DOUBLE, INT, STRING, STRINGS
from gateway.plugins.spf import Spf
from gateway.splice import apply
from gateway.testing import TEMPFAIL, Clock, FakeContext, FakeResolver, a_session, a_transaction, run_chain
from tests.fuzzing import examples

DEPTH = examples(60)
LONGEST = 5.0
"""Seconds for a message on a busy machine; most take a hundredth of one."""

KEY = rsa.generate_private_key(public_exponent=65537, key_size=1024)
PEM = KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
DER = KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
GOOD_KEY = f"v=DKIM1; p={base64.b64encode(DER).decode()}"
VALID = [
    (
        b"From: Alice <alice@example.org>\r\nTo: bob@example.net\r\nSubject: hello\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n"
        b"Message-ID: <1@example.org>\r\n\r\nHello https://example.com/x\r\n"
    ),
    (
        b'From: a@example.org\r\nSubject: =?utf-8?B?w6TDtsO8?= =?x?Q?=\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n'
        b"Content-Type: text/html; charset=utf-16\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<a href=3D'http://x.test'>=E4=\r\n</a>\r\n"
        b"--b\r\nContent-Type: application/zip; name*0*=utf-8''%E4; name*1=b.exe\r\nContent-Disposition: attachment; filename=\"=?utf-8?B?eC5leGU=?=\"\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\nUEsDBAoAAAAAAA==\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nx\r\n--b--\r\n"
    ),
]
VALID.append(dkim.sign(VALID[0], b"sel", b"example.org", PEM) + VALID[0])
VALID.append(dkim.sign(VALID[1], b"sel", b"example.org", PEM, canonicalize=(b"simple", b"simple"), length=True) + VALID[1])

NAMES = [
    "From", "Sender", "To", "Subject", "Date", "Message-ID", "Content-Type", "Content-Transfer-Encoding", "Content-Disposition", "MIME-Version",
    "DKIM-Signature", "Authentication-Results", "ARC-Seal", "Received", "Received-SPF", "Return-Path", "Reply-To", "List-Id", "X" * 300, "Resent-From",
]  # fmt: skip
TOKENS = [
    "<", ">", "@", "<<", ">>", "(", "((", ")", '"', '\\"', ",", ";", ":", "=", "\r\n ", "\r\n\t", "\r\n", "a@example.org", "b@x@y", "@", "<a@[1.2.3.4]>", "group: a@b, c@d;",
    "=?utf-8?B?", "=?utf-8?B?w6Q=?=", "=?utf-8?Q?=ZZ?=", "=?x-none?Q?a?=", "=?utf-16?B?//4=?=", "=?utf-7?Q?+AGE-?=", "=?idna?Q?=FF?=", "=?punycode?Q?xn--=80?=", "=?unicode_escape?Q?=5Cx?=",
    "=?rot13?Q?a?=", "=?zlib?B?eA==?=", "=?" * 50, "multipart/mixed; boundary=b", "multipart/mixed; boundary=", 'multipart/signed; boundary=" b "', "message/rfc822", "message/external-body",
    "text/html; charset=", "text/plain; charset=utf-7", "text/plain; charset=base64", "text/plain; charset=\x00", "name*=''", "name*0*=utf-16''%FF", "name*99999999999999999999=a", "filename*=x'y'%",
    "base64", "quoted-printable", "x-uuencode", "8bit", "attachment; filename=", "v=1; a=rsa-sha256; d=example.org; s=sel; b=; bh=; h=from", "v=1;", "l=99999999999999999999", "t=1e9; x=-1", "c=x/y",
    "h=from:from:from", "i=@example.org", "d=xn--\xe4.test", "d=" + "a." * 130, "q=dns/txt", "mx.example.org; spf=pass", "mx.example.org 2; dkim=", "xn--a.test", "\xe4\xf6", "\u202e", "\ud83d\ude00", "\x00", "\x7f",
    "a" * 1200, "<a@" + "b." * 200 + "org>", "\U0001f600@example.org", "a@exa mple.org", "a@-x.test", "a@x..y", "a@\u3002test", "a@localhost", "a@co.uk", "a@org",
]  # fmt: skip
value = st.lists(st.sampled_from(TOKENS) | st.text(max_size=6), max_size=6).map(" ".join)
octets_of = st.sampled_from(["utf-8", "latin-1"])
header = st.builds(
    lambda name, text, kind: f"{name}: {text}\r\n".encode(kind, "replace"), st.sampled_from(NAMES), value, octets_of
)
HTML = [
    "<a href='http://a.test/?%'>",
    "<",
    "&#99999999;",
    "&#x0;",
    "<!--",
    "<style>",
    "<![CDATA[",
    "http://[::1",
    "http://\u2100.test/",
    "https://x.test:99999/",
    "<a href=" + "x" * 500,
    "</",
]
leaf = st.one_of(
    st.binary(max_size=60),
    st.lists(st.sampled_from(HTML), max_size=5).map(lambda parts: "".join(parts).encode()),
    st.binary(max_size=60).map(base64.encodebytes),
    st.sampled_from(
        [
            b"PK\x03\x04",
            b"%PDF-",
            b"MZ" + b"\0" * 70,
            b"=E4=\r\n=",
            b"begin 644 x\r\n",
            b"",
            b"\xff\xfe<\0a\0",
            b"+AGE-",
            b"\x1b$B",
        ]
    ),
)
part = st.builds(lambda fields, text: b"".join(fields) + b"\r\n" + text, st.lists(header, max_size=3), leaf)


def _multipart(parts: list[bytes], boundary: str, *, is_open: bool) -> bytes:
    mark = boundary.encode()
    kind = b'Content-Type: multipart/mixed; boundary="%s"\r\n\r\n' % mark
    return kind + b"".join(b"--%s\r\n%s\r\n" % (mark, one) for one in parts) + (b"" if is_open else b"--%s--\r\n" % mark)


nested = st.recursive(
    part,
    lambda inner: st.builds(_multipart, st.lists(inner, max_size=3), st.sampled_from(["b", "c", ""]), is_open=st.booleans()),
    max_leaves=6,
)
built = st.builds(lambda fields, rest: b"".join(fields) + rest, st.lists(header, max_size=6), nested)


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """A valid message with octets changed, header fields on top, lines doubled or lost."""
    octets = draw(st.sampled_from(VALID))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(octets)))
        cut = draw(st.sampled_from([0, 0, 1, 5, 60]))
        octets = (
            octets[:at]
            + draw(st.binary(max_size=4) | value.map(lambda text: text.encode("utf-8", "replace")))
            + octets[at + cut :]
        )
    return b"".join(draw(st.lists(header, max_size=2))) + octets


message = (built | changed()).flatmap(
    lambda octets: st.sampled_from([octets, octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")])
)
RECORDS = [
    [], ["v=spf1 -all"], ["v=spf1 ip4:192.0.2.0/24 -all", "v=spf1 +all"], ["v=spf1 include:example.org redirect=example.org"], ["v=spf1 exists:%{i}.%{l1r-}.%{d99}.x.test mx ptr a//999"],
    ["v=spf1 ip4:1.2.3 ip6:::::/500 a:%% mx:\x00"], ["v=spf1 exp=%{s}.test -all"], ["v=spf1 " + "a:x.test " * 20], ["v=spf1 mx:" + "a" * 300], ["v=DMARC1; p=reject; sp=none; pct=-1; rua=mailto:"], ["v=DMARC1"],
    ["v=DMARC1; p=x; adkim=q; aspf="], ["v=DMARC1; p=quarantine; p=none", "v=DMARC1; p=reject"], ["v=DMARC1;" + ";" * 300], [GOOD_KEY], [GOOD_KEY[:-9]], ["v=DKIM1; p="], ["v=DKIM1; k=ed25519; p=AAAA"],
    ["v=DKIM2; p=x"], ["p=" + "A" * 3000], ["k=rsa; h=md5; t=y:s; s=x; g=*; p=MA=="], [b"\xff\xfe\x00"], ["\u00e4"], [""], TEMPFAIL,
]  # fmt: skip
records = st.sampled_from(RECORDS)
zones = st.builds(
    lambda here, key, policy, other: {
        "example.org": {"TXT": here, "A": ["192.0.2.9"], "MX": [[10, "mx.example.org"], [0, "."]]},
        "mx.example.org": {"A": ["192.0.2.1"], "AAAA": TEMPFAIL},
        "sel._domainkey.example.org": {"TXT": key},
        "_dmarc.example.org": {"TXT": policy},
        "client.example": {"TXT": other},
        "x.test": {"CNAME": ["x.test"]},
        "192.0.2.1": {"PTR": ["x.test", "mx.example.org", "\u00e4.test"]},
    },
    records,
    records,
    records,
    records,
)

_READING = {
    STRING: '{0} == "x"',
    INT: "{0} > 9999999",
    DOUBLE: "{0} > 9999999.0",
    BOOL: "{0}",
    STRINGS: '{0}.exists(e, e == "x")',
}
_CALLS = {
    "header": 'header("Subject") + header("From") == "x"',
    "header_raw": 'header_raw("Subject") == "x"',
    "headers": 'headers("Received").exists(e, e == "x")',
    "headers_raw": 'headers_raw("From").exists(e, e == "x")',
    "has_header": 'has_header("Date") && has_header("")',
    "auth_values": 'auth_values("dkim", "header.d").exists(e, e == "x")',
    "fact": 'fact("x.y") == "x"',
    "in_network": 'in_network(client.address, "192.0.3.0/24")',
    "in_domain": 'message.author_domains.exists(e, in_domain(e, "nowhere.test"))',
    "domain_of": 'domain_of(header("From")) == "x"',
    "url_host": 'message.urls.exists(e, url_host(e) == "nowhere.test")',
    "looks_like": 'links.exists(e, looks_like(e.host, ["nowhere.test", "paypal.com"]))',
    "in_list": 'in_list("known", message.author_domains)',
    "list_age": 'list_age("known") > 9999999',
    "within": 'within("Mon 00:00-00:01")',
    "rate": 'rate(message.subject, "1h") > 9999999',
    "similar": 'similar(header("Subject"), "nowhere.test") > 2.0',
    "lower": 'lower(header("Subject")) == "x"',
    "matches_any": 'matches_any(message.text, ["(a|b)*c{5}never"])',
}


def every_rule() -> list[dict[str, object]]:
    """A rule for each fact and function; what they do is harmless."""
    conditions = [_READING[row.kind].format(row.path) for row in FACTS if row.kind in _READING]
    for row in ELEMENTS:
        group, _, name = row.path.partition(".")
        conditions.append(f"{group}.exists(one, {_READING[row.kind].format('one.' + name)})")
    conditions += [_CALLS[row.name] for row in FUNCTIONS]
    tables: list[dict[str, object]] = [
        {"name": f"r{number}", "when": condition, "then": {"score": 1.0}} for number, condition in enumerate(conditions)
    ]
    tag: dict[str, object] = {
        "name": "tag",
        "when": "true",
        "then": [{"tag_subject": "[\u00c4 X]"}, {"add_header": "X-Seen: yes"}],
    }
    return [*tables, tag, {"name": "last", "when": "score.total > 900.0", "then": "quarantine"}]


RULES = RulesOptions.model_validate({"rule": every_rule(), "list": {"known": {"kind": "domains", "entries": ["nowhere.test"]}}})


def test_every_fact_and_function_is_asked_for() -> None:
    assert {row.kind for row in (*FACTS, *ELEMENTS)} - set(_READING) <= {
        kind for kind in (row.kind for row in FACTS) if kind.name in ("list", "map", ANY.name)
    }
    assert set(_CALLS) == {row.name for row in FUNCTIONS}


async def run(octets: bytes, table: dict[str, Any], reverse_path: str) -> bytes:
    plugins: list[Plugin[Any]] = [
        Spf(),
        Dkim(),
        Dmarc(DmarcOptions(verdict="policy", temperror="defer")),
        AuthRes(),
        Recipients(RecipientsOptions(known={"example.net": ("bob",)})),
        Rules(RULES),
    ]
    context: Any = FakeContext(resolver=FakeResolver(table), clock=Clock(time.time()))
    transaction = a_transaction(
        reverse_path=reverse_path, recipients=("bob@example.net",), session=a_session(client_address="192.0.2.1")
    )
    content = Content(octets)
    result = await run_chain(plugins, message=Message(content), transaction=transaction, context=context)
    event(f"verdict {type(result.verdict).__name__}")
    spliced = apply(content, [*result.edits, TagSubject(tag="[Y]")], on_top=b"Received: from here\r\n\tby there\r\n")
    edited = b"".join(spliced.chunks())
    assert len(edited) == spliced.size
    return edited


@DEPTH
@given(
    octets=message,
    table=zones,
    reverse_path=st.sampled_from(["alice@example.org", "", "x@client.example", '"a b"@x.test', "a@xn--\u00e4.test"]),
)
def test_no_hook_fails(octets: bytes, table: dict[str, Any], reverse_path: str) -> None:
    began = time.process_time()
    edited = asyncio.run(run(octets, table, reverse_path))  # PluginError for whatever a hook raises
    assert time.process_time() - began < LONGEST
    assert edited.startswith(b"Received: from here\r\n\tby there\r\n")
    is_clean = octets.count(b"\n") == octets.count(b"\r") == octets.count(b"\r\n")
    assert not is_clean or edited.count(b"\n") == edited.count(b"\r") == edited.count(b"\r\n")
    split = octets.find(b"\r\n\r\n")
    if is_clean and split != -1 and Message(Content(octets)).body_offset == split + 4:
        assert edited.endswith(octets[split:]), "the body is as it was"
