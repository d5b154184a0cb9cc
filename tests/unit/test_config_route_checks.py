"""Link settings of a route that contradict each other, or name files that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.load import load
from gateway.config.show import toml_text
from gateway.errors import ConfigError
from gateway.testing.wire import server_certificate


def problems(directory: Path, route: str) -> list[tuple[int | None, str, str]]:
    file = directory / "config.toml"
    servers = "" if "servers" in route else 'servers = ["mail.example.org"]\n'
    file.write_text(f'[[route]]\ndomains = ["example.org"]\n{servers}{route}\n')
    try:
        load(file, environ={})
    except ConfigError as error:
        return [(problem.line, problem.key, problem.found) for problem in error.problems]
    return []


@pytest.mark.parametrize(
    ("route", "key", "found"),
    [
        ('servers = ["smtps://a.test"]\ntls = "off"', "tls", '"off" with a server that is smtps://'),
        ('servers = ["unix:/run/x"]\ntls = "verified"', "tls", '"verified" with unix:/run/x'),
        ('tls = "maybe"', "tls", '"maybe"'),
        ('tls_key = "key.pem"', "tls_key", "tls_key without tls_certificate"),
        ('tls_ca = "none.pem"', "tls_ca", '"none.pem", which cannot be read: No such file or directory'),
        ('tls_ca = "config.toml"', "tls_ca", '"config.toml", which OpenSSL refuses: NO_CERTIFICATE_OR_CRL_FOUND'),
        ('tls_certificate = "config.toml"', "tls_certificate", '"config.toml", which OpenSSL refuses: '),
        ('auth = { user = "u" }', "auth", "neither password nor password_file"),
        ('auth = { user = "u", password = "p", password_file = "key.pem" }', "auth", "both password and password_file"),
        ('auth = { user = "u", password_file = "none" }', "auth.password_file", "a file that cannot be read: No such file"),
        ('auth = { user = "u", password = "p" }\ntls = "off"', "tls", '"off" with auth towards another host'),
        ('auth = { user = "u", password = "p" }\nclient_address = "xclient"', "client_address", '"xclient" with auth'),
        ('auth = { user = "u", password = "p" }\nnext_hop_decides = true', "auth", "auth with next_hop_decides"),
        ('auth = { user = "", password = "p" }', "auth.user", '""'),
        ('tls_certificate = "certificate.pem"', "tls_certificate", '"certificate.pem", which OpenSSL refuses: '),
    ],
)
def test_what_cannot_be_meant(tmp_path: Path, route: str, key: str, found: str) -> None:
    server_certificate(tmp_path)
    line, at, what = problems(tmp_path, route)[0]
    assert (line is not None, at) == (True, f"route[0].{key}")
    assert what.startswith(found)


@pytest.mark.parametrize(
    "route",
    [
        'auth = { user = "u", password_file = "key.pem" }\ntls = "verified"',
        'servers = ["127.0.0.1:25"]\nauth = { user = "u", password = "p" }\ntls = "off"',
        'servers = ["smtps://a.test"]\ntls = "verified"',
        'servers = ["unix:/run/x"]\ntls = "verified"\ntls_name = "a.test"',
        'tls_ca = "certificate.pem"\ntls_certificate = "certificate.pem"\ntls_key = "key.pem"',
        'servers = [7, "x y", "a.test"]\ntls_ca = 7',
    ],
)
def test_what_may_be_meant(tmp_path: Path, route: str) -> None:
    server_certificate(tmp_path)
    assert not [key for _, key, _ in problems(tmp_path, route) if ("tls" in key or "auth" in key) and "7" not in route]


def test_a_password_to_a_server_that_anybody_may_be(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    front = '[[route]]\ndomains = ["example.org"]\nauth = { user = "u", password = "secret" }\n'
    file.write_text(front + 'servers = ["a.test"]\n')
    loaded = load(file, environ={})
    assert len(loaded.warnings) == 1
    assert "certificate is not checked" in loaded.warnings[0]
    assert "secret" not in toml_text(loaded.config)
    for rest in ('servers = ["a.test"]\ntls = "verified"\n', 'servers = ["127.0.0.1:25"]\n'):
        file.write_text(front + rest)
        assert not load(file, environ={}).warnings


def test_the_password_from_the_environment(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("p\n")
    names = {"DOMAINS": '["example.org"]', "SERVERS": '["a.test"]', "TLS": "verified", "AUTH__USER": "u"}
    environ = {f"MAILGATEWAY__ROUTE__OUT__{name}": value for name, value in names.items()}
    loaded = load(None, environ={**environ, "MAILGATEWAY__ROUTE__OUT__AUTH__PASSWORD_FILE": str(tmp_path / "secret")})
    auth = loaded.config.route[0].auth
    assert auth is not None
    assert auth.password_file == str(tmp_path / "secret")
