"""spf, dkim, dmarc and authres together, as a site uses them."""

from __future__ import annotations

import base64
import dataclasses
import pickle
import time
from typing import Any

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway import AddHeader, AuthResult, Message, Reject
from gateway.content import Content
from gateway.mailauth import BodyHashWanted, body_hashes
from gateway.plugins.authres import AuthRes
from gateway.plugins.dkim import Coverage, Dkim
from gateway.plugins.dmarc import Dmarc
from gateway.plugins.dmarc import Options as DmarcOptions
from gateway.plugins.spf import Spf
from gateway.plugins.spf.evaluation import SpfResult
from gateway.testing import Clock, FakeContext, FakeResolver, Result, a_session, a_transaction, run_chain

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
DER = KEY.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
PLAIN = b"From: alice@example.org\r\nSubject: hello\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n\r\nHello.\r\n"
ZONES: dict[str, Any] = {
    "example.org": {"TXT": ["v=spf1 ip4:192.0.2.0/24 -all"], "A": ["192.0.2.9"]},
    "sel._domainkey.example.org": {"TXT": [f"v=DKIM1; p={base64.b64encode(DER).decode()}"]},
    "_dmarc.example.org": {"TXT": ["v=DMARC1; p=reject"]},
}


async def run(content: bytes, client: str, order: str = "spf dkim dmarc authres") -> Result:
    plugins = {"spf": Spf(), "dkim": Dkim(), "dmarc": Dmarc(DmarcOptions(verdict="policy")), "authres": AuthRes()}
    context: Any = FakeContext(resolver=FakeResolver(ZONES), clock=Clock(time.time()), authserv_id="mx.example.net")
    transaction = a_transaction(reverse_path="alice@example.org", session=a_session(client_address=client))
    chosen: Any = [plugins[name] for name in order.split()]
    return await run_chain(chosen, message=Message(Content(content)), transaction=transaction, context=context)


def outcome(result: Result) -> dict[str, str]:
    return {one.method: one.result for one in reversed(result.transaction.findings.of(AuthResult))}


@pytest.mark.parametrize("order", ["spf dkim dmarc authres", "dmarc dkim authres spf"])
async def test_everything_passes(order: str) -> None:
    """dmarc waits for what it needs, wherever it stands."""
    content = dkim.sign(PLAIN, b"sel", b"example.org", PEM) + PLAIN
    result = await run(content, "192.0.2.7", order)
    assert outcome(result) == {"spf": "pass", "dkim": "pass", "dmarc": "pass"}
    assert result.verdict is None
    [edit] = result.edits
    assert isinstance(edit, AddHeader)
    assert edit.value.startswith("mx.example.net;\r\n\t")
    for part in ("spf=pass", "dkim=pass", "dmarc=pass", "header.from=example.org", "smtp.mailfrom=alice@example.org"):
        assert part in edit.value


async def test_a_forger_is_refused() -> None:
    result = await run(b"Authentication-Results: mx.example.net; dmarc=pass\r\n" + PLAIN, "198.51.100.1")
    assert outcome(result) == {"spf": "fail", "dkim": "none", "dmarc": "fail"}
    assert isinstance(result.verdict, Reject)
    assert (result.verdict.enhanced, result.decision and result.decision.plugin) == ("5.7.26", "dmarc")


async def test_a_forwarder_passes_by_its_signature() -> None:
    content = dkim.sign(PLAIN, b"sel", b"example.org", PEM) + PLAIN
    result = await run(content, "198.51.100.1")
    assert outcome(result) == {"spf": "fail", "dkim": "pass", "dmarc": "pass"}


def test_work_for_the_process_pool_can_be_sent() -> None:
    wanted = (BodyHashWanted(True, None), BodyHashWanted(False, 3))
    function, arguments = pickle.loads(pickle.dumps((body_hashes, (b"body\r\n", wanted))))
    found = pickle.loads(pickle.dumps(function(*arguments)))
    assert found == body_hashes(b"body\r\n", wanted)
    assert found[wanted[1]].size == 6


def test_what_the_trace_shows_within_a_finding_is_the_text_of_a_dataclass() -> None:
    spf = SpfResult(result="pass", domain="a.example", mechanism="mx", path=(("a.example", "mx"),), look_ups=1)
    dkim = Coverage(unsigned=("cc",), added=(("to", 2, 1),), is_from_sealed=True)
    for one in (spf, dkim):
        values = ", ".join(f"{field.name}={getattr(one, field.name)!r}" for field in dataclasses.fields(one))
        assert repr(one) == f"{type(one).__name__}({values})"
