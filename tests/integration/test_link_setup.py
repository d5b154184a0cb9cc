"""Links to a real Postfix: TLS with certificates of an authority and without, our login, and Postfix judging by the client's address."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import re
import smtplib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from typing_extensions import override

from gateway.config.models import Config
from gateway.testing.in_process import InProcessGateway
from tests.integration.dovecot_auth import PASSWORD, USER, DovecotAuth
from tests.integration.postfix import RealPostfix

pytestmark = [pytest.mark.real, pytest.mark.slow]

BLOCKED = "127.0.0.66"
"""Loopback too, but Postfix refuses it by its address."""


class ProxiedPostfix(RealPostfix):
    """Takes connections with a PROXY header only."""

    @override
    def _greets(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1) as sock:
            sock.settimeout(2)
            sock.sendall(b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n")
            if sock.recv(100).startswith(b"220 "):
                sock.sendall(b"QUIT\r\n")
                return True
        return False


class Authority:
    """A certificate authority of the test, and a server certificate of it for `mail.test`."""

    def __init__(self, directory: Path) -> None:
        key, name = ec.generate_private_key(ec.SECP256R1()), self._name("The test's authority")
        self.certificate = self._write(directory / "ca.pem", self._signed(name, name, key.public_key(), key, is_ca=True))
        server = ec.generate_private_key(ec.SECP256R1())
        signed = self._signed(self._name("mail.test"), name, server.public_key(), key, is_ca=False)
        self.server = self._write(directory / "server.pem", signed, server)

    @staticmethod
    def _name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    @staticmethod
    def _signed(subject: x509.Name, issuer: x509.Name, public: Any, private: Any, *, is_ca: bool) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("mail.test")]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(private.public_key()), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(private, hashes.SHA256())
        )

    @staticmethod
    def _write(file: Path, certificate: x509.Certificate, key: Any = None) -> Path:
        octets = certificate.public_bytes(serialization.Encoding.PEM)
        if key is not None:  # Postfix wants the key in front
            form, encryption = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            octets = key.private_bytes(serialization.Encoding.PEM, form, encryption) + octets
        file.write_bytes(octets)
        return file


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def settings(authority: Authority, access: Path) -> dict[str, str]:
    """Only 127.0.0.1, the gateway's own address, may relay; `BLOCKED` may not even write here."""
    access.write_text(f"{BLOCKED} REJECT Not from there\n")
    return {
        "mynetworks": "127.0.0.1",
        "smtpd_tls_security_level": "may",
        "smtpd_tls_chain_files": str(authority.server),
        "smtpd_tls_received_header": "yes",
        "smtpd_authorized_xclient_hosts": "127.0.0.1",
        "smtpd_authorized_xforward_hosts": "127.0.0.1",
        "smtpd_recipient_restrictions": f"check_client_access texthash:{access}",
    }


@pytest.fixture(scope="module")
def server(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory, require: Callable[[str], str]
) -> Iterator[RealPostfix]:
    require("postfix")
    if os.geteuid() != 0:
        pytest.skip("a Postfix of the tests' own needs root")
    folder = tmp_path_factory.mktemp("access")
    for directory in (folder, folder.parent, folder.parent.parent):
        directory.chmod(0o755)  # Postfix reads it without root's rights
    with RealPostfix(settings=settings(authority, folder / "access")) as postfix:
        yield postfix


@pytest.fixture(scope="module")
def proxied(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory, require: Callable[[str], str]
) -> Iterator[RealPostfix]:
    require("postfix")
    if os.geteuid() != 0:
        pytest.skip("a Postfix of the tests' own needs root")
    folder = tmp_path_factory.mktemp("access")
    for directory in (folder, folder.parent, folder.parent.parent):
        directory.chmod(0o755)
    wanted = settings(authority, folder / "access") | {"smtpd_upstream_proxy_protocol": "haproxy"}
    with ProxiedPostfix(settings=wanted) as postfix:
        yield postfix


@contextlib.asynccontextmanager
async def gateway(directory: Path, server: RealPostfix, **route: Any) -> AsyncIterator[InProcessGateway]:
    config = Config.model_validate(
        {
            "server": {"name": "gateway.test"},
            "listener": [{"bind": "127.0.0.1:0", "lenient_networks": []}],
            "route": [{"domains": ["example.test"], "servers": [server.address], **route}],
        }
    )
    async with InProcessGateway(config, directory=directory) as running:
        yield running


def talk(port: int, source: str, recipient: str, marker: str = "") -> tuple[int, str]:
    """One message of a client at `source`: the reply that decided, to RCPT or to the content."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname="client.test", timeout=20, source_address=(source, 0)) as client:
        client.ehlo()
        code, text = client.mail("a@client.test")
        if code == 250:
            code, text = client.rcpt(recipient)
        if code == 250:
            code, text = client.data(f"Subject: {marker}\r\n\r\n{marker}\r\n")
        return code, text.decode()


async def said(running: InProcessGateway, source: str, recipient: str, marker: str = "") -> tuple[int, str]:
    return await asyncio.to_thread(talk, running.port(), source, recipient, marker)


def link_of(running: InProcessGateway) -> str:
    return next((step["evidence"] for step in running.records[-1]["steps"] if step["outcome"] == "link"), "")


async def test_a_certificate_of_an_authority(tmp_path: Path, server: RealPostfix, authority: Authority) -> None:
    wanted = {"tls": "verified", "tls_ca": str(authority.certificate), "tls_name": "mail.test"}
    async with gateway(tmp_path, server, **wanted) as running:
        assert (await said(running, "127.0.0.1", "alice@example.test", "checked"))[0] == 250
        assert re.search(r": TLSv1\.[23] \S+, verified$", link_of(running))
    delivered = await asyncio.to_thread(server.wait_for, "alice", b"Subject: checked")
    assert re.search(rb"\(using TLSv1\.[23] with cipher", delivered)


async def test_a_certificate_that_nobody_vouches_for(tmp_path: Path, server: RealPostfix) -> None:
    """What `verified` refuses, `required` takes; neither goes in the clear."""
    async with gateway(tmp_path / "1", server, tls="verified", tls_name="mail.test") as running:
        code, text = await said(running, "127.0.0.1", "alice@example.test")
        assert (code, text[:5]) == (451, "4.7.5")
    async with gateway(tmp_path / "2", server, tls="required") as running:
        assert (await said(running, "127.0.0.1", "alice@example.test", "unchecked"))[0] == 250
        assert link_of(running).endswith(", not verified")
    with server.with_settings(smtpd_tls_security_level="none"):
        async with gateway(tmp_path / "3", server, tls="required") as running:
            code, text = await said(running, "127.0.0.1", "alice@example.test")
            assert (code, text[:5]) == (451, "4.7.4")
        async with gateway(tmp_path / "4", server, tls="opportunistic") as running:
            assert (await said(running, "127.0.0.1", "alice@example.test", "clear"))[0] == 250
            assert link_of(running).endswith("in the clear: STARTTLS is not offered")


async def judged_by_the_clients_address(running: InProcessGateway) -> None:
    """Two strangers and the trusted address itself, in turns: each is judged as itself."""
    for _ in range(3):
        assert await said(running, "127.0.0.2", "x@elsewhere.test") == (554, "5.7.1 <x@elsewhere.test>: Relay access denied")
        code, text = await said(running, BLOCKED, "alice@example.test")
        assert (code, "Not from there" in text) == (554, True)
        assert (await said(running, "127.0.0.2", "alice@example.test", "judged"))[0] == 250
        assert (await said(running, "127.0.0.1", "x@elsewhere.test"))[0] == 250  # in Postfix's mynetworks


async def test_xclient(tmp_path: Path, server: RealPostfix) -> None:
    decides = {"domains": ["*"], "next_hop_decides": True, "client_address": "xclient"}
    async with gateway(tmp_path / "1", server, **decides) as running:
        await judged_by_the_clients_address(running)
    log = server.log()
    assert re.search(
        r"NOQUEUE: reject: RCPT from unknown\[127\.0\.0\.2\]: 554 5\.7\.1 .*Relay access denied.*helo=<client\.test>", log
    )
    assert re.search(rf"reject: RCPT from unknown\[{BLOCKED}\]", log)
    with server.with_settings(smtpd_authorized_xclient_hosts=""):
        async with gateway(tmp_path / "2", server, **decides) as running:
            assert (await said(running, "127.0.0.2", "alice@example.test"))[0] == 451


async def test_xclient_inside_tls(tmp_path: Path, server: RealPostfix) -> None:
    async with gateway(
        tmp_path, server, domains=["*"], next_hop_decides=True, client_address="xclient", tls="required"
    ) as running:
        await judged_by_the_clients_address(running)


async def test_xforward(tmp_path: Path, server: RealPostfix) -> None:
    """For its log; what it allows stays the gateway's."""
    async with gateway(tmp_path, server, client_address="xforward") as running:
        assert (await said(running, "127.0.0.3", "alice@example.test", "forwarded"))[0] == 250
        assert (await said(running, BLOCKED, "alice@example.test", "too"))[0] == 250
        idents = [record["id"] for record in running.records]
    for source, ident in zip(("127.0.0.3", BLOCKED), idents, strict=True):
        assert re.search(
            rf"client=\S+\[127\.0\.0\.1\], orig_queue_id={ident}, orig_client=unknown\[{re.escape(source)}\]", server.log()
        )


async def test_proxy(tmp_path: Path, proxied: RealPostfix) -> None:
    async with gateway(tmp_path, proxied, domains=["*"], next_hop_decides=True, client_address="proxy") as running:
        await judged_by_the_clients_address(running)
    assert "connect from unknown[127.0.0.2]" in proxied.log()


async def test_proxy_in_front_of_tls(tmp_path: Path, proxied: RealPostfix, authority: Authority) -> None:
    wanted = {"tls": "verified", "tls_ca": str(authority.certificate), "tls_name": "mail.test"}
    async with gateway(tmp_path, proxied, domains=["*"], next_hop_decides=True, client_address="proxy", **wanted) as running:
        await judged_by_the_clients_address(running)


@pytest.fixture(scope="module")
def with_passwords(authority: Authority, require: Callable[[str], str]) -> Iterator[RealPostfix]:
    """It relays for nobody but those who authenticate, and a real Dovecot knows the passwords."""
    require("postfix")
    require("dovecot")
    if os.geteuid() != 0:
        pytest.skip("servers of the tests' own need root")
    tls = {"smtpd_tls_security_level": "may", "smtpd_tls_chain_files": str(authority.server), "smtpd_tls_auth_only": "yes"}
    with DovecotAuth() as dovecot, RealPostfix(settings=dovecot.postfix_settings | tls) as postfix:
        yield postfix


def login(authority: Authority, password: str, *mechanisms: str) -> dict[str, Any]:
    """Inside TLS, the only place where this Postfix offers it."""
    return {
        "domains": ["elsewhere.test"],
        "tls": "verified",
        "tls_ca": str(authority.certificate),
        "tls_name": "mail.test",
        "auth": {"user": USER, "password": password, **({"mechanisms": mechanisms} if mechanisms else {})},
    }


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN"])
async def test_our_own_login(tmp_path: Path, with_passwords: RealPostfix, authority: Authority, mechanism: str) -> None:
    async with gateway(tmp_path, with_passwords, **login(authority, PASSWORD, mechanism)) as running:
        assert (await said(running, "127.0.0.1", "x@elsewhere.test"))[0] == 250
    assert f"sasl_method={mechanism}, sasl_username={USER}" in with_passwords.log()


async def test_our_own_login_refused(tmp_path: Path, with_passwords: RealPostfix, authority: Authority) -> None:
    async with gateway(tmp_path, with_passwords, **login(authority, "wrong")) as running:
        code, text = await said(running, "127.0.0.1", "x@elsewhere.test")
        assert (code, text[:5]) == (451, "4.3.5")
        assert "uthentication" not in text
    assert "SASL SCRAM-SHA-256 authentication failed" in with_passwords.log()
