"""What a running gateway does not import: companions of libraries that nobody here uses."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from gateway.server.lean import settle, without


def loaded(code: str, *names: str) -> list[str]:
    show = f"import sys; print(*[name for name in {names!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{show}"], check=True, capture_output=True, text=True)
    return done.stdout.split()


def test_what_is_hidden_is_not_there_and_comes_back() -> None:
    with without("this", "sys"), pytest.raises(ImportError):
        __import__("this")
    assert "this" not in sys.modules
    assert sys.modules["sys"] is sys


def test_workers_have_nothing_that_nobody_in_them_uses() -> None:
    code = (
        "from gateway.config.models import Config\n"
        "from gateway.server.preload import preload\n"
        "preload(Config.model_validate({'route': [{'domains': ['a.test'], 'servers': ['127.0.0.1:25']}]}))"
    )
    assert loaded(code, "sqlalchemy", "rich", "greenlet", "structlog") == ["structlog"]


def test_a_process_that_supervises_has_nothing_else() -> None:
    code = "import os\nos.environ['MAILGATEWAY_HANDED_OVER'] = '3'\nimport gateway.cli.running, gateway.server.handing_over"
    heavy = [
        "asyncio",
        "dataclasses",
        "gateway.errors",
        "gateway.config",
        "logging",
        "prometheus_client",
        "pydantic",
        "structlog",
    ]
    assert loaded(code, *heavy, "hashlib", "tempfile", "typer", "gateway.server.supervisor") == ["gateway.server.supervisor"]


def test_what_it_forks_is_a_process_like_any_other() -> None:
    code = (
        "import os\nos.environ['MAILGATEWAY_HANDED_OVER'] = '3'\nimport gateway\nfrom gateway import light\n"
        "assert not hasattr(gateway, 'Message')\nlight.load_all()\nfrom gateway import *\n"
        "from gateway.quarantine import Quarantine as _\n"
        "import gateway as again\nassert again is gateway and callable(gateway.quarantine) and gateway.Message is Message\n"
        "assert 'MAILGATEWAY_HANDED_OVER' not in os.environ"
    )
    assert loaded(code, "gateway.message") == ["gateway.message"]


def test_the_collector_looks_no_more_at_what_has_settled() -> None:
    before = gc.get_freeze_count()
    settle()
    try:
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()


@pytest.mark.skipif(not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""), reason="of glibc")
def test_buffers_of_content_are_not_given_back_and_fetched_again() -> None:
    code = (
        "import resource\n"
        "from gateway.server.lean import keep_buffers\n"
        "def pages():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(50):\n"
        "        buffers = [bytes(256_000) + b'.' for _ in range(6)]\n"
        "        buffers.clear()\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "keep_buffers()\n"
        "pages()\n"
        "print(pages())"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 100  # of 19,000 that they have
