"""The plugin `webhook`: what a service gets, how it is signed, what its answers come to, and answers that are none."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import re
import ssl
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from gateway import (
    AuthResult,
    Defer,
    Discard,
    Fact,
    Finding,
    Label,
    Message,
    OptionError,
    Plugin,
    PluginError,
    Quarantine,
    Reject,
    Score,
    Verdict,
    add_header,
    hook,
    remove_header,
)
from gateway.plugins.webhook import Options, Webhook
from gateway.plugins.webhook.contract import Answer, Request, parse
from gateway.testing import FakeContext, FakeScanner, Result, a_message, a_session, a_transaction, run_chain, run_plugin

TOP = Path(__file__).parents[2]
SECRET = "0123456789abcdef-secret"


def asking(server: FakeScanner, **options: Any) -> Webhook:
    return Webhook(Options(url=f"http://{server.address}/mail?key=hidden", **options), name="webhook")


async def asked(answer: dict[str, Any] | str, **options: Any) -> Result:
    async with FakeScanner("http") as server:
        server.answers(answer)
        return await run_plugin(asking(server, **options))


async def sent(tmp_path: Path, message: Message | None = None, **options: Any) -> tuple[dict[str, str], bytes]:
    """Headers and body of the request."""
    (tmp_path / "secret").write_text(SECRET + "\n")
    (tmp_path / "token").write_text("t0ken\n")
    session = a_session(client_address="192.0.2.7", helo="client\u00e9\n", identity="alice")
    transaction = a_transaction(session=session, reverse_path="alice@client.example", recipients=["bob@example.org"])
    async with FakeScanner("http") as server:
        server.answers({})
        plugin = asking(server, **options)
        await run_plugin(plugin, message=message, transaction=transaction, context=FakeContext(base_directory=str(tmp_path)))
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    assert first == "POST /mail?key=hidden HTTP/1.1"
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}, body


@pytest.mark.parametrize("stage", ["check", "judge"])
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({}, None),
        ("", None),
        ({"verdict": "pass", "further": 1}, None),
        ({"verdict": "reject", "text": "No such thing", "reason": "r\u00e9ason"}, Reject),
        ({"verdict": "defer"}, Defer),
        ({"verdict": "quarantine", "box": "odd"}, Quarantine),
        ({"verdict": "discard"}, Discard),
    ],
)
async def test_verdicts(stage: str, answer: dict[str, Any] | str, expected: type[Verdict] | None) -> None:
    result = await asked(answer, stage=stage)
    assert (None if result.verdict is None else type(result.verdict)) is expected
    if isinstance(result.verdict, Reject):
        assert (result.verdict.text, result.verdict.evidence, result.verdict.reason) == ("No such thing", "r?ason", "webhook")
    if isinstance(result.verdict, Quarantine):
        assert result.verdict.box == "odd"


async def test_score_and_labels_at_check() -> None:
    result = await asked({"score": 3, "labels": ["bulk", "bulk", "x.y"], "reason": "why"}, score_factor=0.5)
    assert result.findings == (
        Label(name="webhook.bulk"),
        Label(name="webhook.x.y"),
        Score(symbol="webhook", weight=1.5, evidence="why"),
        Fact(name="webhook.verdict", value="pass why"),
    )


async def test_score_and_labels_at_judge() -> None:
    result = await asked({"score": 3, "labels": ["bulk"], "verdict": "reject"}, stage="judge")
    assert result.findings == (
        Score(symbol="webhook.bulk", weight=0.0, evidence=""),
        Score(symbol="webhook", weight=3.0, evidence=""),
    )
    assert isinstance(result.verdict, Reject)


async def test_header_fields_take_the_place_of_strangers() -> None:
    headers = [{"name": "X-One", "value": "1"}, {"name": "X-Two", "value": "2"}]
    async with FakeScanner("http") as server:
        server.answers({"headers": headers})
        plugin = asking(server)
        result = await run_plugin(plugin, message=a_message(headers=[("x-two", "forged")]))
    assert result.edits == (remove_header("x-two"), add_header("X-Two", "2"), add_header("X-One", "1"))
    assert not plugin._answers
    with pytest.raises(PluginError, match="a header field Subject, whose name does not begin with X-"):
        await asked({"headers": [{"name": "Subject", "value": "1"}]})


class Found(Plugin):
    gives: ClassVar[tuple[str, ...]] = ("auth.spf",)

    @hook
    async def check(self) -> list[Finding]:
        await asyncio.sleep(0.01)
        return [
            AuthResult(method="spf", result="pass", properties=(("smtp.mailfrom", "a@b"),)),
            Score(symbol="ODD", weight=float("inf")),
        ]


async def test_what_it_is_told(tmp_path: Path) -> None:
    message = a_message(subject="Gr\u00fc\u00dfe", attach=("a.exe", b"MZ\x90\x00", "image/png"))
    headers, body = await sent(tmp_path, message)
    told = Request.model_validate_json(body)
    assert headers["content-type"] == "application/json"
    assert "mailgateway-signature" not in headers
    assert told.client.address == "192.0.2.7"
    assert told.client.helo == "client\u00e9\n"  # text of JSON
    assert (told.client.identity, told.client.client_class) == ("alice", "authenticated")
    assert (told.envelope.reverse_path, told.envelope.recipients) == ("alice@client.example", ["bob@example.org"])
    assert (told.subject, told.size, told.content) == ("Gr\u00fc\u00dfe", message.size, None)
    assert [one.name for one in told.attachments] == ["a.exe"]
    assert ("Subject", "Gr\u00fc\u00dfe") in [(one.name, one.value) for one in told.fields]


async def test_it_is_told_findings_that_it_waits_for() -> None:
    async with FakeScanner("http") as server:
        server.answers({})
        await run_chain([asking(server), Found(name="spf")])
        told = Request.model_validate_json(server.requests[0].partition(b"\r\n\r\n")[2])
    assert [(one.plugin, one.kind, one.values.get("result")) for one in told.findings] == [
        ("spf", "AuthResult", "pass"),
        ("spf", "Score", None),
    ]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 200_000])
async def test_the_message_in_base64(tmp_path: Path, size: int) -> None:
    message = a_message(body="x" * size)
    headers, body = await sent(tmp_path, message, content="base64", secret_file="secret")
    assert base64.b64decode(json.loads(body)["content"], validate=True) == message.octets
    assert int(headers["content-length"]) == len(body)
    check_signature(headers, body)


async def test_the_message_in_a_part_of_its_own(tmp_path: Path) -> None:
    message = a_message(body="x" * 600_000)
    headers, body = await sent(tmp_path, message, content="raw", secret_file="secret", token_file="token")
    found = re.fullmatch(r"multipart/form-data; boundary=(\S+)", headers["content-type"])
    assert found is not None
    first, second = body.split(f"--{found[1]}\r\n".encode())[1:]
    assert Request.model_validate_json(first.partition(b"\r\n\r\n")[2]).size == message.size
    assert second.partition(b"\r\n\r\n")[2] == bytes(message.octets) + f"\r\n--{found[1]}--\r\n".encode()
    assert headers["authorization"] == "Bearer t0ken"
    check_signature(headers, body)


def check_signature(headers: dict[str, str], body: bytes) -> None:
    stamp, nonce = headers["mailgateway-timestamp"], headers["mailgateway-nonce"]
    assert stamp == "1795000000"
    assert len(nonce) == 32
    signed = f"{stamp}.{nonce}.".encode() + body
    assert headers["mailgateway-signature"] == "sha256=" + hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()


async def test_two_requests_never_have_one_nonce(tmp_path: Path) -> None:
    first, second = [(await sent(tmp_path))[0]["mailgateway-nonce"] for _ in range(2)]
    assert first != second


RUBBISH: list[Any] = [
    "[]",
    "{",
    "null",
    '"reject"',
    {"verdict": "maybe"},
    {"verdict": "reject", "text": "two\nlines"},
    {"text": "x" * 201},
    {"score": "3"},
    {"score": 1e300},
    '{"score": NaN}',
    {"labels": "x"},
    {"labels": ["with space"]},
    {"labels": ["x"] * 51},
    {"headers": [{"name": "X-A", "value": "a\r\nb"}]},
    {"headers": [{"name": "X A", "value": "a"}]},
    {"headers": [{"name": "X-A"}]},
    {"box": "../x"},
    {"reason": "x" * 501},
    '{"reason": "' + "x" * 70_000,
]


@pytest.mark.parametrize("answer", RUBBISH, ids=range(len(RUBBISH)))
async def test_what_is_no_answer_is_a_fault(answer: Any) -> None:
    with pytest.raises(PluginError) as caught:
        await asked(answer)
    told = str(caught.value).partition("\n")[0]
    assert told.isprintable()
    assert "hidden" not in told  # of the address only the host is told


@pytest.mark.parametrize(
    "octets",
    [b"", b"\xff\x00\r\n\r\n", b"HTTP/1.1 500 x\r\nContent-Length: 1\r\n\r\nx", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"],
)
async def test_what_is_no_http_is_a_fault(octets: bytes) -> None:
    async with FakeScanner("http") as server:
        server.drops(after=octets)
        with pytest.raises(PluginError, match="http://127"):
            await run_plugin(asking(server))


async def test_a_service_that_is_not_there_opens_the_circuit() -> None:
    async with FakeScanner("http") as server:
        plugin = asking(server, failures=2, rest=60)
    plugin.context = FakeContext()
    await plugin.startup(plugin.context)
    for what in ("cannot connect", "cannot connect", "not asked for"):
        with pytest.raises(PluginError, match=what):
            await run_plugin(plugin, start=False)
    await plugin.shutdown()


async def test_a_service_that_hangs() -> None:
    async with FakeScanner("http") as server:
        server.hangs()
        with pytest.raises(PluginError, match=r"no answer within 0\.27 s"):
            await run_plugin(asking(server), timeout=0.3)


async def test_messages_too_large_do_not_go_there() -> None:
    for stage in ("check", "judge"):
        async with FakeScanner("http") as server:
            result = await run_plugin(asking(server, stage=stage, max_size=10, oversize="quarantine"))
            assert isinstance(result.verdict, Quarantine)
            assert not server.requests


async def test_tls_is_verified(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 20\r\nConnection: close\r\n\r\n{"verdict":"reject"}')
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    surroundings = FakeContext(base_directory=str(tmp_path))
    try:
        plugin = Webhook(Options(url=url, ca_file="cert.pem"), name="webhook", context=surroundings)
        assert isinstance((await run_plugin(plugin, context=surroundings)).verdict, Reject)
        with pytest.raises(PluginError, match=r"cannot connect: .*certificate"):
            await run_plugin(Webhook(Options(url=url), name="webhook"))
    finally:
        server.close()


def make_certificate(directory: Path) -> None:
    """Of 127.0.0.1, signed by itself."""
    import datetime as dt
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (directory / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    (directory / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))


@pytest.mark.parametrize(
    "options",
    [{"url": "ftp://x/"}, {"url": "https:///x"}, {"url": "https://u:p@x/"}, {"url": "https://x/", "header_prefix": "X:"}],
)
def test_options_that_are_wrong(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Options(**options)


async def test_files_that_are_wrong(tmp_path: Path) -> None:
    context = FakeContext(base_directory=str(tmp_path))
    with pytest.raises(OptionError, match="certificates that cannot be used"):
        Webhook(Options(url="https://x/", ca_file="missing.pem"), name="webhook", context=context)
    (tmp_path / "secret").write_text("short")
    with pytest.raises(PluginError, match="a secret of 5 octets"):
        await run_plugin(Webhook(Options(url="https://x/", secret_file="secret"), name="webhook"), context=context)


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.plugins.webhook.MAX_WAITING", 2)
    async with FakeScanner("http") as server:
        plugin = asking(server)
        plugin.context = FakeContext()
        await plugin.startup(plugin.context)
        await asyncio.gather(*(plugin.check(a_transaction(), a_message()) for _ in range(4)))
        assert len(plugin._answers) <= 2
        await plugin.shutdown()


@pytest.mark.parametrize(("name", "model"), [("request", Request), ("answer", Answer)])
def test_the_schemas_are_those_of_the_models(name: str, model: Any) -> None:
    file = TOP / "docs" / "schemas" / f"webhook-{name}.json"
    assert json.loads(file.read_text(encoding="utf-8")) == model.model_json_schema(), f"write it anew: {file}"


def test_an_answer_without_anything() -> None:
    assert parse(b" \n") == Answer()
