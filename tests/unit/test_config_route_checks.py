"""Link settings of a route that contradict each other, or name files that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.load import load
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
        'servers = ["smtps://a.test"]\ntls = "verified"',
        'servers = ["unix:/run/x"]\ntls = "verified"\ntls_name = "a.test"',
        'tls_ca = "certificate.pem"\ntls_certificate = "certificate.pem"\ntls_key = "key.pem"',
        'servers = [7, "x y", "a.test"]\ntls_ca = 7',
    ],
)
def test_what_may_be_meant(tmp_path: Path, route: str) -> None:
    server_certificate(tmp_path)
    assert not [key for _, key, _ in problems(tmp_path, route) if "tls" in key and "7" not in route]
