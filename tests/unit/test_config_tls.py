"""Mistakes in a listener's `tls`, each with its key, before a port is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.load import load
from gateway.errors import ConfigError
from tests.certificates import Authority


def problems(folder: Path, tls: str) -> list[tuple[str, str, str]]:
    authority = Authority(folder)
    authority.sign("mx")
    authority.sign("other")
    file = folder / "config.toml"
    file.write_text(f'[[listener]]\ntls = {{ certificate = "mx.pem", key = "mx.key", {tls} }}\n')
    try:
        load(file, environ={})
    except ConfigError as error:
        return [(problem.key, problem.found, problem.allowed) for problem in error.problems]
    return []


@pytest.mark.parametrize(
    "tls",
    [
        "implicit = true",
        'ciphers = "ECDHE+AESGCM"',
        'client_certificates = "ask", client_ca = "authority.pem"',
        'sni = [{ names = ["other.test"], certificate = "other.pem", key = "other.key" }]',
    ],
)
def test_what_is_fine(tmp_path: Path, tls: str) -> None:
    assert problems(tmp_path, tls) == []


@pytest.mark.parametrize(
    ("tls", "key", "found"),
    [
        ('ciphers = "NONSENSE"', "listener[0].tls.ciphers", "NONSENSE"),
        ('client_certificates = "require"', "listener[0].tls.client_certificates", "without client_ca"),
        ('client_certificates = "ask", client_ca = "none.pem"', "listener[0].tls.client_ca", "cannot be read"),
        ('client_certificates = "ask", client_ca = "mx.key"', "listener[0].tls.client_ca", "no certificate in it"),
        ('sni = [{ names = ["a.test"], certificate = "other.pem", key = "mx.key" }]', "listener[0].tls.sni[0]", "MISMATCH"),
        (
            'sni = [{ names = ["a.test"], certificate = "no.pem", key = "mx.key" }]',
            "listener[0].tls.sni[0].certificate",
            "cannot be read",
        ),
        ('sni = [{ names = [], certificate = "other.pem", key = "other.key" }]', "listener[0].tls.sni[0].names", ""),
    ],
)
def test_what_is_wrong_is_told_with_its_key(tmp_path: Path, tls: str, key: str, found: str) -> None:
    [(where, what, allowed)] = problems(tmp_path, tls)
    assert where == key
    assert found in what
    assert allowed
