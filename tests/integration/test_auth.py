"""AUTH through the gateway: swaks against a real Postfix whose passwords a real Dovecot knows. RFC 4954 4."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import smtplib
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from gateway.testing.wire import client_tls, server_certificate
from tests.integration.dovecot_auth import PASSWORD, USER, DovecotAuth
from tests.integration.gateway_process import Gateway
from tests.integration.peers import Client
from tests.integration.postfix import RealPostfix

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module")
def next_hop(require: Callable[[str], str]) -> Iterator[RealPostfix]:
    """A Postfix that relays for nobody but those who authenticate."""
    for program in ("postfix", "dovecot", "swaks"):
        require(program)
    if os.geteuid() != 0:
        pytest.skip("servers of the tests' own need root")
    with DovecotAuth() as dovecot, RealPostfix(settings=dovecot.postfix_settings) as postfix:
        yield postfix


@pytest.fixture
def submission(start: Callable[..., Any], next_hop: RealPostfix, tmp_path: Path) -> Iterator[Gateway]:
    certificate, key = server_certificate(tmp_path / "tls")
    listener = f'auth_route = "default"\ntls = {{ certificate = "{certificate}", key = "{key}" }}'
    with ExitStack() as stack:
        yield stack.enter_context(
            start(
                workers=1, domains=["example.test"], servers=[next_hop.address], listener=listener, server='log_level = "debug"'
            )
        )


def swaks(gateway: Gateway, *arguments: str, to: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["swaks", "--server", f"127.0.0.1:{gateway.smtp}", "--from", "joe@example.test", "--to", to, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_client_under_tls(submission: Gateway, next_hop: RealPostfix) -> None:
    """Python's smtplib, which chooses CRAM-MD5 where it is offered."""
    context = client_tls()
    with smtplib.SMTP("127.0.0.1", submission.smtp, timeout=20) as client:
        client.starttls(context=context)
        assert client.login(USER, PASSWORD)[0] == 235
        client.sendmail("joe@example.test", ["alice@example.test"], b"Subject: under TLS\r\n\r\nx\r\n")
    delivered = next_hop.wait_for("alice", b"Subject: under TLS")
    assert b"(Authenticated sender: joe)" in delivered
    assert b"with ESMTPSA id" in delivered


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_swaks_authenticates(submission: Gateway, next_hop: RealPostfix, mechanism: str) -> None:
    """It may relay then, the next hop knows the user, and the gateway has written down the name and no password."""
    next_hop.clear()
    arguments = ["--auth", mechanism, "--auth-user", USER, "--auth-password", PASSWORD]
    for recipient in ("somebody@elsewhere.test", "alice@example.test"):
        done = swaks(submission, *arguments, "--header", f"Subject: {mechanism}", to=recipient)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "235 2.7.0 Authentication successful" in done.stdout
    delivered = next_hop.wait_for("alice", mechanism.encode())
    assert b"(Authenticated sender: joe)" in delivered
    assert b"with ESMTPA id" in delivered
    written = submission.log.read_text() + submission.out.read_text()
    written += "".join(file.read_text("latin-1") for file in submission.state.rglob("*") if file.is_file())  # the journal too
    assert f'"mechanism": "{mechanism}"' in written or f"mechanism={mechanism}" in written
    for secret in (PASSWORD, base64.b64encode(PASSWORD.encode()).decode(), _plain()[8:]):
        assert secret not in written


def test_scram_in_three_steps(submission: Gateway, next_hop: RealPostfix) -> None:
    """RFC 5802 5: the server proves itself too, in the last challenge."""
    nonce, bare = "rOprNGfwEbeRWgbNEkqO", f"n={USER},r=rOprNGfwEbeRWgbNEkqO"
    with closing(Client(submission.smtp)) as client:
        client.say(b"EHLO client.test\r\n")
        first = client.say(b"AUTH SCRAM-SHA-256 " + base64.b64encode(f"n,,{bare}".encode()) + b"\r\n")
        assert first.startswith(b"334 ")
        server_first = base64.b64decode(first[4:]).decode()
        said = dict(part.split("=", 1) for part in server_first.split(","))
        assert said["r"].startswith(nonce)
        salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), base64.b64decode(said["s"]), int(said["i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = f"c=biws,r={said['r']}"
        message = f"{bare},{server_first},{without_proof}".encode()
        signature = hmac.digest(hashlib.sha256(key).digest(), message, "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True))).decode()
        second = client.say(base64.b64encode(f"{without_proof},p={proof}".encode()) + b"\r\n")
        assert second.startswith(b"334 ")
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        proven = base64.b64encode(hmac.digest(server_key, message, "sha256")).decode()
        assert base64.b64decode(second[4:]).decode() == f"v={proven}"
        assert client.say(b"\r\n").startswith(b"235 ")
        client.say(b"MAIL FROM:<joe@example.test>\r\n")
        assert client.say(b"RCPT TO:<somebody@elsewhere.test>\r\n").startswith(b"250 ")
    assert next_hop.is_running


def _plain(password: str = PASSWORD) -> str:
    return base64.b64encode(f"\0{USER}\0{password}".encode()).decode()


def test_a_wrong_password_and_what_comes_after(submission: Gateway, next_hop: RealPostfix) -> None:
    """Word for word as without the gateway, and nobody is logged in."""
    with Client(next_hop.port) as bare, Client(submission.smtp) as client:
        said = []
        for peer in (bare, client):
            assert b"AUTH" in peer.say(b"EHLO client.test\r\n")
            said.append(
                [
                    peer.say(f"AUTH PLAIN {_plain('wrong')}\r\n".encode()),
                    peer.say(b"MAIL FROM:<joe@example.test>\r\n"),
                    peer.say(b"RCPT TO:<alice@example.test>\r\n"),
                    peer.say(b"RSET\r\n"),
                    peer.say(f"AUTH PLAIN {_plain()}\r\n".encode()),
                    peer.say(b"MAIL FROM:<joe@example.test> AUTH=joe\r\n"),
                    peer.say(b"RCPT TO:<somebody@elsewhere.test>\r\n"),
                ]
            )
        assert [answer[:9] for answer in said[0]] == [answer[:9] for answer in said[1]]
        assert said[0][0] == said[1][0]
        assert said[1][0].startswith(b"535 5.7.8 ")
        assert said[1][4] == b"235 2.7.0 Authentication successful\r\n"
