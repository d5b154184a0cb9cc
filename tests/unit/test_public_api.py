"""`import gateway` is what a plugin pays for: it stays light, and names everything a plugin may use."""

from __future__ import annotations

import subprocess
import sys

import gateway
import gateway.mailauth
import gateway.testing

HEAVY = [
    "aiosmtpd",
    "aiosmtplib",
    "sqlalchemy",
    "dns",
    "prometheus_client",
    "structlog",
    "typer",
    "rich",
    "uvicorn",
    "starlette",
    "celpy",
]


def test_importing_the_public_api_pulls_in_nothing_heavy() -> None:
    code = f"import sys, gateway; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_the_pytest_plugin_pulls_in_nothing_until_it_is_used() -> None:
    code = (
        "import sys, gateway.testing.pytest_plugin as p; "
        "print([m for m in ('aiosmtpd', 'aiosmtplib', 'sqlalchemy', 'dns') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_every_name_of_the_public_api_exists_and_is_documented() -> None:
    for module in (gateway, gateway.mailauth, gateway.testing):
        assert sorted(set(module.__all__)) == sorted(module.__all__)
        for name in module.__all__:
            value = getattr(module, name)
            assert not callable(value) or value.__doc__, name
