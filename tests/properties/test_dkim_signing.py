"""Whatever the message: what we sign dkimpy and our verifier pass, and with one octet of it changed neither does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import AuthResult, Fact, Message
from gateway.content import Content
from gateway.plugins.dkim import Dkim
from gateway.plugins.dkim_sign import DkimSign, KeyOptions, Options
from gateway.testing import FakeContext, FakeResolver, a_session, a_transaction, run_plugin

METHODS = ("relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple")
NAMES = ("Subject", "TO", "cc", "Reply-To", "Date", "Message-ID", "X-Other", "List-Id", "Content-Type", "Received", "DKIM-Filter")
words = st.sampled_from(
    [b" ", b"\t", b"\r\n ", b"\r\n\t", b"a", b"B", b"=?utf-8?q?=C3=A9?=", b"<x@y.test>", b";", b":", b"\xc3\xa9", b"\xff"]
)
values = st.lists(words, max_size=12).map(b"".join).filter(lambda value: all(line.strip() for line in value.split(b"\r\n")[1:]))
fields = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from([b":", b": ", b":\t"]), values), max_size=12)
pieces = st.sampled_from(
    [b" ", b"\t", b"\r\n", b"a", b"bc ", b".", b"\x00", b"\xff", b"  ", b" \r\n", b"\r\n\r\n", b"From: x\r\n"]
)
bodies = st.lists(pieces, max_size=40).map(b"".join)
WHITE = b" \t\r\n"


def pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def content_of(listed: list[tuple[str, bytes, bytes]], place: int, body: bytes) -> bytes:
    lines = [name.encode() + colon + value + b"\r\n" for name, colon, value in listed]
    lines.insert(min(place, len(lines)), b"From: Alice <alice@example.org>\r\n")
    return b"".join(lines) + b"\r\n" + body


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DkimSign]:
    directory = tmp_path_factory.mktemp("keys")
    made = (rsa.generate_private_key(65537, 1024), ed25519.Ed25519PrivateKey.generate())
    options = []
    for number, key in enumerate(pem(key) for key in made):
        file = Path(directory / f"{number}.pem")
        file.write_bytes(key)
        file.chmod(0o600)
        options.append(KeyOptions(domain="example.org", selector=f"k{number}", file=str(file)))
    return {one: DkimSign(Options(key=tuple(options), canonicalization=one), name="dkim_sign") for one in METHODS}


def sign(plugin: DkimSign, content: bytes) -> bytes:
    transaction = a_transaction(session=a_session(identity="alice"))
    result = asyncio.run(run_plugin(plugin, message=Message(Content(content)), transaction=transaction, context=FakeContext()))
    assert len(result.signatures) == 2, result.findings
    return b"".join(f"{one.name}: {one.value}\r\n".encode() for one in reversed(result.signatures)) + content


def results(plugin: DkimSign, content: bytes) -> tuple[list[bool], list[str]]:
    """Of dkimpy and of ours. For dkimpy with the line end that DATA adds: space before a missing one it would count."""
    records = {key.record_name: key.key.record for key in plugin.signing_keys}

    def record(name: bytes, timeout: float = 5) -> bytes:
        return records[name.decode().rstrip(".")].encode()

    ended = content if content.endswith(b"\r\n") else content + b"\r\n"
    theirs = []
    for number in (0, 1):
        try:
            theirs.append(bool(dkim.DKIM(ended).verify(number, dnsfunc=record)))
        except dkim.ValidationError:
            theirs.append(False)
    context = FakeContext(resolver=FakeResolver({name: {"TXT": [text]} for name, text in records.items()}))
    result = asyncio.run(run_plugin(Dkim(), message=Message(Content(content)), context=context))
    return theirs, [one.result for one in result.findings if isinstance(one, AuthResult)]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.builds(content_of, fields, st.integers(0, 12), bodies), st.sampled_from(METHODS), st.data())
def test_signed_and_changed(signers: dict[str, DkimSign], content: bytes, method: str, data: st.DataObject) -> None:
    plugin = signers[method]
    signed = sign(plugin, content)
    assert results(plugin, signed) == ([True, True], ["pass", "pass"])
    # Any octet of the body or of a signed field's value, white space apart.
    top = len(signed) - len(content)
    message = Message(Content(signed))
    unsigned = {"x-other", "received", "dkim-filter", "dkim-signature"}
    open_ = [one for one in message.fields if one.name.lower() not in unsigned]
    places = [at for one in open_ for at in range(one.colon + 1, one.end) if signed[at] not in WHITE]
    places += [at for at in range(message.body_offset, len(signed)) if signed[at] not in WHITE]
    at = data.draw(st.sampled_from(places))
    assert at >= top
    broken = signed[:at] + (b"z" if signed[at] != ord("z") else b"y") + signed[at + 1 :]
    assert results(plugin, broken) == ([False, False], ["fail", "fail"])


heads = st.lists(
    st.sampled_from(
        [
            b"From: ",
            b"from:",
            b"a@example.org",
            b"\r\n",
            b"\n",
            b" ",
            b"<",
            b">",
            b'"',
            b"(",
            b"@",
            b"\xff",
            b"\0",
            b":",
            b",",
            b";",
        ]
    )
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=300), heads.map(b"".join)), st.booleans())
def test_nothing_makes_it_raise(signers: dict[str, DkimSign], octets: bytes, is_binary: bool) -> None:
    content = Content(b"From: a@example.org\r\n" + octets if is_binary else octets)
    content.is_binary = is_binary
    transaction = a_transaction(session=a_session(identity="alice"))
    result = asyncio.run(run_plugin(signers["relaxed/relaxed"], message=Message(content), transaction=transaction))
    assert len(result.signatures) == 2 or any(
        one.name == "dkim_sign.unsigned" for one in result.findings if isinstance(one, Fact)
    )
