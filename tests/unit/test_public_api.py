"""`from gateway import …`: light, and the same names whatever else was imported before."""

from __future__ import annotations

import subprocess
import sys

import pytest

import gateway


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30).stdout


def test_it_pulls_in_nothing_heavy() -> None:
    heavy = "{'aiosmtpd', 'aiosmtplib', 'sqlalchemy', 'dns', 'prometheus_client', 'starlette', 'uvicorn', 'structlog', 'typer'}"
    assert run(f"import sys, gateway; print(sorted({heavy} & set(sys.modules)))") == "[]\n"


def test_every_name_is_there() -> None:
    assert all(hasattr(gateway, name) for name in gateway.__all__)
    assert len(gateway.__all__) == len(set(gateway.__all__))


@pytest.mark.parametrize(
    "first", ["import gateway.quarantine", "from gateway.quarantine import Quarantine", "import gateway.server.worker"]
)
def test_quarantine_is_the_verdict_also_when_the_package_of_that_name_is_loaded(first: str) -> None:
    code = f"{first}\nimport sys; from gateway import quarantine; print(quarantine('why').reason, 'gateway.quarantine' in sys.modules)"
    assert run(code).split()[-1] == "True"
