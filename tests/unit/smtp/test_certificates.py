"""A listener's TLS without a socket: which certificate is shown, what is known of the client's, what a renewed file changes."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import pytest

from gateway.config.models import TlsConfig
from gateway.session import Tls
from gateway.smtp.certificates import ServerTls, facts
from tests.certificates import Authority, Pair


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def settings(pair: Pair, **more: object) -> TlsConfig:
    return TlsConfig.model_validate({"certificate": pair.certificate.name, "key": pair.key.name, **more})


def shaken(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None) -> tuple[Tls, str]:
    """The server's facts and the name in the certificate that the client saw. ssl.SSLError."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = client.wrap_bio(down, up, server_hostname=name)
    there = server.wrap_bio(up, down, server_side=True)
    waiting = [here, there]
    while waiting:
        for one in tuple(waiting):
            try:
                one.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(one)
    shown = here.getpeercert()
    assert shown is not None
    there.write(b"x")  # a client that has no certificate finds out with the first octets
    here.read(1)
    return facts(there), str(dict(pair[0] for pair in shown["subject"])["commonName"])  # type: ignore[misc] # as the stubs have it


def client(authority: Authority, certificate: Pair | None = None, *, maximum: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.file))
    context.check_hostname = False
    if certificate is not None:
        context.load_cert_chain(certificate.certificate, certificate.key)
    if maximum is not None:
        context.maximum_version = maximum
    return context


def test_the_name_that_is_asked_for_decides_on_the_certificate(authority: Authority, tmp_path: Path) -> None:
    other, wild = authority.sign("Other.example.test"), authority.sign("wild.example.test")
    sni = [
        {"names": ["Other.example.test.", "third.test"], "certificate": other.certificate.name, "key": other.key.name},
        {"names": ["*.wild.test"], "certificate": wild.certificate.name, "key": wild.key.name},
    ]
    tls = ServerTls(settings(authority.sign("mx.example.test"), sni=sni), directory=tmp_path)
    shown = {
        name: shaken(tls.context, client(authority), name)[1]
        for name in ("mx.example.test", "OTHER.example.test", "third.test", "a.wild.test", "b.a.wild.test", "nobody.test", None)
    }
    assert shown == {
        "mx.example.test": "mx.example.test",
        "OTHER.example.test": "Other.example.test",
        "third.test": "Other.example.test",
        "a.wild.test": "wild.example.test",
        "b.a.wild.test": "mx.example.test",
        "nobody.test": "mx.example.test",
        None: "mx.example.test",
    }
    assert shaken(tls.context, client(authority), "OTHER.example.test")[0].server_name == "other.example.test"
    assert shaken(tls.context, client(authority), None)[0].server_name == ""


def test_what_is_known_of_the_handshake_and_of_the_clients_certificate(authority: Authority, tmp_path: Path) -> None:
    config = settings(authority.sign("mx.example.test"), client_certificates="ask", client_ca=authority.file.name)
    tls = ServerTls(config, directory=tmp_path)
    pair = authority.sign("client.example.test")
    found, _ = shaken(tls.context, client(authority, pair), "mx.example.test")
    assert (found.version, found.bits, found.peer_subject, found.peer_issuer) == (
        "TLSv1.3",
        256,
        "CN=client.example.test",
        "CN=authority",
    )
    der = ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())
    assert found.peer_fingerprint == hashlib.sha256(der).hexdigest()
    without, _ = shaken(tls.context, client(authority), "mx.example.test")
    assert (without.peer_subject, without.peer_issuer, without.peer_fingerprint) == ("", "", "")


def test_a_certificate_of_another_authority_ends_the_handshake(authority: Authority, tmp_path: Path) -> None:
    config = settings(authority.sign("mx.example.test"), client_certificates="require", client_ca=authority.file.name)
    tls = ServerTls(config, directory=tmp_path)
    stranger = Authority(tmp_path, "another").sign("client.example.test")
    with pytest.raises(ssl.SSLCertVerificationError, match="verify failed"):
        shaken(tls.context, client(authority, stranger), "mx.example.test")


def test_versions_and_ciphers(authority: Authority, tmp_path: Path) -> None:
    pair = authority.sign("mx.example.test")
    new = ServerTls(settings(pair, minimum="TLSv1.3"), directory=tmp_path)
    with pytest.raises(ssl.SSLError):
        shaken(new.context, client(authority, maximum=ssl.TLSVersion.TLSv1_2), None)
    chosen = ServerTls(settings(pair, ciphers="ECDHE-ECDSA-AES256-GCM-SHA384"), directory=tmp_path)
    found, _ = shaken(chosen.context, client(authority, maximum=ssl.TLSVersion.TLSv1_2), None)
    assert (found.version, found.cipher, found.bits) == ("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384", 256)
    with pytest.raises(ssl.SSLError):
        ServerTls(settings(pair, ciphers="NONSENSE"), directory=tmp_path)


def test_a_renewed_certificate_serves_and_a_bad_one_does_not(authority: Authority, tmp_path: Path) -> None:
    pair = authority.sign("old.example.test", file="mx")
    tls = ServerTls(settings(pair), directory=tmp_path)
    assert tls.refresh() is None
    old = tls.context

    key = pair.key.read_bytes()
    authority.sign("new.example.test", file="mx")
    new_key = pair.key.read_bytes()
    pair.key.write_bytes(key)  # as in the middle of a renewal: the key is not there yet
    problem = tls.refresh()
    assert problem
    assert "MISMATCH" in problem.upper()
    assert tls.refresh() is None, "told once"
    assert tls.context is old
    assert shaken(tls.context, client(authority), None)[1] == "old.example.test"

    pair.key.unlink()
    assert tls.refresh(), "another problem is told"
    pair.key.write_bytes(new_key)
    assert tls.refresh() == ""
    assert tls.context is not old
    assert shaken(tls.context, client(authority), None)[1] == "new.example.test"
    assert tls.refresh() is None


def test_facts_without_tls_are_no_lie() -> None:
    assert facts(None) == Tls(version="TLS", cipher="unknown")
