"""Signing: whose messages, with which keys, over which fields; others verify it; keys stay where they are."""

from __future__ import annotations

import base64
import pickle
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from pydantic import ValidationError

from gateway import (
    AddHeader,
    AuthResult,
    Fact,
    Message,
    OptionError,
    Plugin,
    PluginError,
    Session,
    Transaction,
    Verdict,
    hook,
    quarantine,
)
from gateway.content import Content
from gateway.plugins.dkim import Dkim
from gateway.plugins.dkim_sign import DkimSign, Options
from gateway.testing import Clock, FakeContext, FakeResolver, Result, a_message, a_session, a_transaction, run_chain, run_plugin

NOW = 1_795_000_000.0
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ED = ed25519.Ed25519PrivateKey.generate()
MAIL = (
    b"Received: from a by b; Tue, 24 Nov 2026 10:00:00 +0000\r\n"
    b"From: Alice <alice@example.org>\r\nTo: bob@example.net\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\n  folded\there\r\n"
    b"Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.org>\r\nX-Other: x\r\n"
    b"\r\nHello,\r\n\r\n a  line \t with\tspaces  \r\n..dots\r\n\r\n\r\n"
)


def pem(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@pytest.fixture(autouse=True)
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`rsa.pem` and `ed.pem` in the directory of the configuration."""
    for name, key in (("rsa", RSA), ("ed", ED)):
        (tmp_path / f"{name}.pem").write_bytes(pem(key))
        (tmp_path / f"{name}.pem").chmod(0o600)
    monkeypatch.chdir(tmp_path)
    return tmp_path


BOTH = (
    {"domain": "example.org", "selector": "r", "file": "rsa.pem"},
    {"domain": "example.org", "selector": "e", "file": "ed.pem"},
)
MINE = a_session(identity="alice@example.org")


def signer(*keys: dict[str, Any], **options: Any) -> DkimSign:
    return DkimSign(Options(key=keys or BOTH, **options), name="dkim_sign")


async def run(
    plugin: DkimSign,
    content: bytes | Message = MAIL,
    session: Session = MINE,
    transaction: Transaction | None = None,
    **more: Any,
) -> Result:
    message = content if isinstance(content, Message) else Message(Content(content))
    if transaction is None:
        transaction = a_transaction(session=session)
    return await run_plugin(plugin, message=message, transaction=transaction, context=FakeContext(clock=Clock(NOW)), **more)


def octets(fields: tuple[AddHeader, ...], content: bytes = MAIL) -> bytes:
    return b"".join(f"{one.name}: {one.value}\r\n".encode() for one in reversed(fields)) + content


def tags(field: AddHeader) -> dict[str, str]:
    pairs = (re.sub(r"\s", "", one).partition("=") for one in field.value.split(";"))
    return {name: value for name, _, value in pairs}


def why(result: Result) -> str:
    assert result.signatures == ()
    [fact] = [one for one in result.findings if isinstance(one, Fact)]
    assert fact.name == "dkim_sign.unsigned"
    assert [step["outcome"] for step in result.trace if step["stage"] == "sign"] == ["finding"]
    return str(fact.value)


def published(plugin: DkimSign) -> dict[str, str]:
    return {key.record_name: key.key.record for key in plugin.signing_keys}


def by_dkimpy(plugin: DkimSign, content: bytes) -> list[bool]:
    """What dkimpy says to each signature, from the top."""
    records = published(plugin)

    def record(name: bytes, timeout: float = 5) -> bytes | None:
        return records.get(name.decode().rstrip("."), "").encode() or None

    count = content.partition(b"\r\n\r\n")[0].count(b"DKIM-Signature:")
    return [bool(dkim.DKIM(content).verify(number, dnsfunc=record)) for number in range(count)]


async def by_ours(plugin: DkimSign, content: bytes, now: float = NOW) -> list[str]:
    zones = {name: {"TXT": [text]} for name, text in published(plugin).items()}
    context = FakeContext(resolver=FakeResolver(zones), clock=Clock(now))
    result = await run_plugin(Dkim(), message=Message(Content(content)), context=context)
    return [one.result for one in result.findings if isinstance(one, AuthResult)]


@pytest.mark.parametrize("canonicalization", ["relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"])
async def test_two_signatures_that_others_verify(canonicalization: str) -> None:
    plugin = signer(canonicalization=canonicalization)
    result = await run(plugin)
    signed = octets(result.signatures)
    assert by_dkimpy(plugin, signed) == [True, True]
    assert await by_ours(plugin, signed) == ["pass", "pass"]
    top, below = (tags(one) for one in reversed(result.signatures))
    assert (top["a"], top["s"], below["a"], below["s"]) == ("rsa-sha256", "r", "ed25519-sha256", "e")
    assert top["c"] == canonicalization
    assert top["t"] == str(int(NOW))
    assert not {"l", "x", "i"} & top.keys()
    assert all(len(line) <= 78 for line in signed.partition(b"\r\n\r\n")[0].split(b"\r\n"))
    again = await run(signer(canonicalization=canonicalization))
    assert again.signatures == result.signatures


async def test_which_fields_are_signed_and_oversigned() -> None:
    content = MAIL.replace(b"X-Other: x", b"Cc: c@example.net\r\nCc: d@example.net\r\nList-Id: <l.example.org>")
    [field, _] = (await run(signer(), content)).signatures
    assert tags(field)["h"].split(":") == [
        "from", "from", "reply-to", "subject", "subject", "date", "date", "message-id", "message-id", "to", "to", "cc", "cc", "cc",
        "content-type", "content-transfer-encoding", "list-id", "list-id",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "added",
    [
        b"From: x@evil.test",
        b"Subject: x",
        b"To: x@x.test",
        b"Cc: x@x.test",
        b"Reply-To: x@x.test",
        b"Content-Type: text/html",
        b"Date: x",
    ],
)
async def test_a_field_added_breaks_it(added: bytes) -> None:
    plugin = signer()
    signed = octets((await run(plugin)).signatures)
    for broken in (added + b"\r\n" + signed, signed.replace(b"X-Other", added + b"\r\nX-Other")):
        assert by_dkimpy(plugin, broken) == [False, False]
        assert await by_ours(plugin, broken) == ["fail", "fail"]


@pytest.mark.parametrize("added", [b"Received: x", b"In-Reply-To: <x@x>", b"List-Id: <x>", b"X-Spam: no", b"Return-Path: <x@x>"])
async def test_what_servers_add_does_not(added: bytes) -> None:
    plugin = signer()
    signed = octets((await run(plugin)).signatures)
    assert await by_ours(plugin, added + b"\r\n" + signed) == ["pass", "pass"]


async def test_own_choice_of_fields() -> None:
    plugin = signer(BOTH[1], fields=["Subject", "X-Other"], oversign=["X-None"], oversign_present=[])
    [field] = (await run(plugin)).signatures
    assert tags(field)["h"] == "from:from:subject:x-other:x-none"
    assert await by_ours(plugin, octets((field,))) == ["pass"]


@pytest.mark.parametrize(
    ("session", "options", "reason"),
    [
        (a_session(), {}, "the client is stranger"),
        (a_session(client_class="trusted"), {}, ""),
        (a_session(client_class="trusted"), {"clients": ["authenticated"]}, "the client is trusted"),
        (MINE, {"listeners": ["submission"]}, "it came through the listener 'default'"),
        (a_session(identity="x", listener="submission"), {"listeners": ["submission"]}, ""),
        (a_session(listener="out"), {"listeners": ["out"], "clients": ["stranger"]}, ""),
        (a_session(listener="in"), {"listeners": ["out"], "clients": ["stranger"]}, "it came through the listener 'in'"),
        (MINE, {"match_identity": True}, ""),
        (a_session(identity="alice@Example.ORG"), {"match_identity": True}, ""),
        (
            a_session(identity="mallory@other.example"),
            {"match_identity": True},
            "an author's domain is not that of the client's identity",
        ),
        (a_session(identity="alice"), {"match_identity": True}, "an author's domain is not that of the client's identity"),
        (a_session(client_class="trusted"), {"match_identity": True}, ""),
    ],
)
async def test_whose_messages(session: Session, options: dict[str, Any], reason: str) -> None:
    result = await run(signer(**options), session=session)
    if reason:
        assert why(result) == reason
    else:
        assert len(result.signatures) == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (MAIL.replace(b"From:", b"X-From:"), "it has no From"),
        (MAIL.replace(b"To:", b"From: b@example.org\r\nTo:"), "it has 2 From fields"),
        (MAIL.replace(b"alice@example.org", b"alice@elsewhere.example"), "there is no key for the author (elsewhere.example)"),
        (MAIL.replace(b"alice@example.org", b"alice@sub.example.org"), "there is no key for the author (sub.example.org)"),
        (MAIL.replace(b"<alice@example.org>", b""), "there is no key for the author (no domain)"),
        (MAIL.replace(b"alice@example.org", b"alice@exa_mple..org"), "there is no key for the author (no domain)"),
        (MAIL.replace(b"X-Other", b"To: x\r\n" * 301 + b"X-Other"), "too many header fields, or too large ones"),
        (MAIL.replace(b"To: ", b"To: " + b" x" * 131_072), "too many header fields, or too large ones"),
        (MAIL.replace(b"X-Other", b"X: y\r\n" * 10_001 + b"X-Other"), "too many header fields"),
        (MAIL.replace(b"X-Other: x", b"no field at all"), "a line of the header section is no field"),
        (b"", "it has no From"),
        (b"Hello\r\n", "a line of the header section is no field"),
    ],
)
async def test_what_is_not_signed(content: bytes, reason: str) -> None:
    assert why(await run(signer(), content)) == reason


async def test_several_authors_and_a_group() -> None:
    for author in (b"x@elsewhere.example, alice@example.org", b"Team: alice@example.org, bob@example.org;"):
        plugin = signer()
        content = MAIL.replace(b"Alice <alice@example.org>", author)
        assert by_dkimpy(plugin, octets((await run(plugin, content)).signatures, content)) == [True, True]
    content = MAIL.replace(b"Alice <alice@example.org>", b"x@elsewhere.example, alice@example.org")
    assert "identity" in why(await run(signer(match_identity=True), content))


async def test_keys_by_what_they_are_for() -> None:
    plugin = signer(
        {"domain": "example.org", "selector": "own", "file": "ed.pem"},
        {"domain": "example.org", "selector": "below", "file": "ed.pem", "authors": ["*.example.org"]},
        {"domain": "provider.example", "selector": "all", "file": "ed.pem", "authors": ["*"]},
        {"domain": "bounce.example", "selector": "path", "file": "ed.pem", "by": "reverse-path"},
    )

    async def chosen(author: str, reverse_path: str) -> list[str]:
        content = MAIL.replace(b"alice@example.org", author.encode())
        result = await run(plugin, content, transaction=a_transaction(session=MINE, reverse_path=reverse_path))
        assert by_dkimpy(plugin, octets(result.signatures, content)) == [True] * len(result.signatures)
        return [tags(one)["s"] for one in reversed(result.signatures)]

    assert await chosen("a@example.org", "a@example.org") == ["own", "all"]
    assert await chosen("a@EXAMPLE.org", "a@bounce.example") == ["own", "all", "path"]
    assert await chosen("a@x.y.example.org", "") == ["below", "all"]
    assert await chosen("a@badexample.org", "a@sub.bounce.example") == ["all"]
    assert await chosen("a@bounce.example", "") == ["all", "path"]


async def test_no_more_than_ten_signatures() -> None:
    plugin = signer(*({**BOTH[1], "selector": f"s{number}"} for number in range(12)))
    result = await run(plugin)
    assert [tags(one)["s"] for one in reversed(result.signatures)] == [f"s{number}" for number in range(10)]


async def test_names_with_other_letters() -> None:
    plugin = signer({"domain": "BÜCHER.example", "selector": "e", "file": "ed.pem", "identity": "author"})
    content = MAIL.replace(b"alice@example.org", "zoë@bücher.example".encode())
    [field] = (await run(plugin, content)).signatures
    assert (tags(field)["d"], tags(field)["i"]) == ("xn--bcher-kva.example", "zo=C3=AB@xn--bcher-kva.example")
    assert field.value.isascii()
    assert by_dkimpy(plugin, octets((field,), content)) == [True]
    content = MAIL.replace(b"alice@example.org", b"a@xn--bcher-kva.example")
    assert await by_ours(plugin, octets((await run(plugin, content)).signatures, content)) == ["pass"]


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        ("", None),
        ("@sub.example.org", "@sub.example.org"),
        ("news@example.org", "news@example.org"),
        ("author", "alice@example.org"),
    ],
)
async def test_identity(identity: str, expected: str | None) -> None:
    plugin = signer({**BOTH[1], "identity": identity})
    [field] = (await run(plugin)).signatures
    assert tags(field).get("i") == expected
    assert await by_ours(plugin, octets((field,))) == ["pass"]


async def test_an_author_elsewhere_is_no_identity() -> None:
    plugin = signer({**BOTH[1], "identity": "author", "authors": ["*"]})
    [field] = (await run(plugin, MAIL.replace(b"alice@example.org", b"alice@elsewhere.example"))).signatures
    assert "i" not in tags(field)


class HoldsCarol(Plugin):
    """One recipient's copy is held."""

    @hook
    async def judge(self) -> Verdict:
        return quarantine("away").only("carol@example.net")


async def test_expiry_and_none_for_what_is_held() -> None:
    plugin = signer(BOTH[1], expires_after="7d")
    [field] = (await run(plugin)).signatures
    assert int(tags(field)["x"]) - int(tags(field)["t"]) == 7 * 86_400
    assert await by_ours(plugin, octets((field,)), NOW + 8 * 86_400) == ["fail"]
    transaction = a_transaction(session=MINE, recipients=["bob@example.net", "carol@example.net"])
    message = Message(Content(MAIL))
    result = await run_chain(
        [HoldsCarol(), plugin], message=message, transaction=transaction, context=FakeContext(clock=Clock(NOW))
    )
    assert "x" not in tags(*result.signatures)


async def test_binary_content() -> None:
    for body, is_signed in (
        (b"lines\r\n", True),
        (b"bare\nLF\r\n", False),
        (b"bare\rCR\r\n", False),
        (b"x" * 300_000 + b"\n", False),
    ):
        content = Content(MAIL + body)
        content.is_binary = True
        result = await run(signer(), Message(content))
        assert bool(result.signatures) == is_signed
        assert is_signed or "bare CR or LF" in why(result)


@pytest.mark.parametrize(
    "body", [b"", b"\r\n", b"no line end", b" \r\n\r\n", b"\xff\x00 8-bit \xc3\xa9\r\n", b"line \t\r\n" * 100_000]
)
async def test_bodies(body: bytes) -> None:
    content = MAIL.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body
    plugin = signer()
    signed = octets((await run(plugin, content)).signatures, content)
    assert await by_ours(plugin, signed) == ["pass", "pass"]
    assert by_dkimpy(plugin, signed) == [True, True]


async def test_a_message_that_is_signed_already_is_signed_again() -> None:
    plugin = signer(BOTH[1])
    once = octets((await run(plugin)).signatures)
    twice = octets((await run(plugin, once)).signatures, once)
    assert await by_ours(plugin, twice) == ["pass", "pass"]
    changed = once.replace(b"Subject: ", b"Subject: [list] ")
    mended = octets((await run(plugin, changed)).signatures, changed)
    assert await by_ours(plugin, mended) == ["pass", "fail"]


async def test_metrics() -> None:
    context = FakeContext(clock=Clock(NOW))
    for session in (MINE, a_session()):
        await run_plugin(signer(), message=Message(Content(MAIL)), transaction=a_transaction(session=session), context=context)
    found = [(name, value, labels) for name, value, labels in context.metrics.values]
    assert found == [("signatures", 2, {}), ("unsigned_messages", 1, {"reason": "client"})]


class NoPool(FakeContext):
    """The process pool is full."""

    async def run_in_process(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        raise PluginError("dkim_sign", "100 calls wait for the process pool already")


async def test_a_fault_while_signing() -> None:
    large = Message(Content(MAIL + b"x" * 300_000))
    settings: dict[str, Any] = {"message": large, "transaction": a_transaction(session=MINE), "context": NoPool(clock=Clock(NOW))}
    with pytest.raises(PluginError, match="process pool"):
        await run_plugin(signer(), **settings)
    result = await run_plugin(signer(), on_error="defer", **settings)
    assert result.decision is not None
    assert (result.decision.verdict.reason, result.decision.plugin) == ("plugin-error", "dkim_sign")
    settings["transaction"] = a_transaction(session=MINE)
    result = await run_plugin(signer(), on_error="ignore", **settings)
    assert (result.decision, result.signatures) == (None, ())


async def test_monitor_mode_signs_nothing() -> None:
    result = await run(signer(), mode="monitor")
    assert result.signatures == ()
    assert [step["outcome"] for step in result.trace if step["stage"] == "sign"] == ["would"]


# --- keys


def mistakes(*keys: dict[str, Any], **options: Any) -> list[tuple[tuple[str | int, ...], str]]:
    with pytest.raises(OptionError) as caught:
        DkimSign(Options(key=keys, **options), name="dkim_sign", context=FakeContext())
    return [(one.key, one.found) for one in caught.value.mistakes]


def test_every_key_that_cannot_be_used_is_told(keys: Path) -> None:
    (keys / "open.pem").write_bytes(pem(ED))
    (keys / "open.pem").chmod(0o644)
    (keys / "text.pem").write_text("no key")
    (keys / "text.pem").chmod(0o600)
    found = mistakes(
        BOTH[0],
        {**BOTH[1], "file": "nothing.pem"},
        {**BOTH[1], "selector": "open", "file": "open.pem"},
        {**BOTH[1], "selector": "text", "file": "text.pem"},
        {**BOTH[0], "file": "ed.pem"},
    )
    assert found == [
        (("key", 1, "file"), "'nothing.pem': a file that cannot be read: No such file or directory"),
        (("key", 2, "file"), "'open.pem': a file that everybody may read or write (mode 0644)"),
        (("key", 3, "file"), "'text.pem': not a private key in PEM or DER"),
        (("key", 4), "r._domainkey.example.org, twice"),
    ]
    assert mistakes() == [(("key",), "no key")]
    assert DkimSign(Options(key=({**BOTH[1], "file": "open.pem"},), key_permissions="any"), context=FakeContext()).signing_keys


@pytest.mark.parametrize(
    "options",
    [
        {"clients": ["stranger"]},
        {"fields": ["Received"]},
        {"oversign": ["DKIM-Signature"]},
        {"fields": ["ARC-Seal"]},
        {"fields": ["no name"]},
        {"fields": ["a;b"]},
        {"expires_after": "10m"},
        {"key": [{**BOTH[0], "identity": "@elsewhere.example"}]},
        {"key": [{**BOTH[0], "identity": "@badexample.org"}]},
        {"key": [{**BOTH[0], "domain": "no name"}]},
        {"key": [{**BOTH[0], "selector": "a;b"}]},
        {"key": [{**BOTH[0], "authors": ["*.*"]}]},
    ],
)
def test_options_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate(options)


async def test_the_key_is_shown_nowhere() -> None:
    plugin = signer()
    result = await run(plugin)
    secret = RSA.private_numbers()
    seed = ED.private_bytes(serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    everything = repr(
        [
            plugin,
            plugin.options,
            plugin.options.model_dump(),
            plugin.signing_keys,
            plugin.signing_keys[0].key,
            vars(plugin),
            result,
        ]
    )
    for hidden in (str(secret.d), f"{secret.p:x}", base64.b64encode(seed).decode(), seed.hex(), "BEGIN PRIVATE"):
        assert hidden not in everything
    for key in plugin.signing_keys:
        with pytest.raises(TypeError):
            pickle.dumps(key)


# --- verified by OpenDKIM


def opendkim(directory: Path, content: bytes, record: str) -> str:
    """What OpenDKIM's test mode says to the topmost signature; its key comes from a file as `opendkim-testkey` reads them."""
    if not shutil.which("opendkim"):
        pytest.skip("opendkim (package opendkim) is not installed")
    (directory / "zone").write_text(record)
    (directory / "message").write_bytes(content)
    (directory / "opendkim.conf").write_text(f"TestPublicKeys {directory}/zone\nMode v\n")
    command = ["opendkim", "-x", str(directory / "opendkim.conf"), "-t", str(directory / "message"), "-vv"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=20)
    return (done.stdout + done.stderr).decode("utf-8", "replace")


@pytest.mark.real
@pytest.mark.parametrize("canonicalization", ["relaxed/relaxed", "relaxed/simple", "simple/relaxed", "simple/simple"])
async def test_opendkim_verifies(keys: Path, canonicalization: str) -> None:
    plugin = signer(BOTH[0], canonicalization=canonicalization)
    signed = octets((await run(plugin)).signatures)
    [(name, record)] = published(plugin).items()
    said = opendkim(keys, signed, f"{name} {record}\n")
    assert "dkim=pass (2048-bit key) header.d=example.org" in said
    for broken in (signed.replace(b"Hello", b"Hallo"), signed.replace(b"Alice", b"Malice"), b"From: x@x.test\r\n" + signed):
        assert "dkim=pass" not in opendkim(keys, broken, f"{name} {record}\n")


async def test_by_the_builders_of_the_kit() -> None:
    plugin = signer(BOTH[1])
    message = a_message(from_="alice@example.org", html="<p>x</p>", attach="a.txt", subject="Grüße")
    signed = octets((await run(plugin, message)).signatures, bytes(message.octets))
    assert await by_ours(plugin, signed) == ["pass"]
