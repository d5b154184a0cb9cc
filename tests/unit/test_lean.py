"""What a running gateway does not import: companions of libraries that nobody here uses."""

from __future__ import annotations

import gc
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


def test_workers_have_no_orm_and_no_colours() -> None:
    code = (
        "from gateway.server.lean import without\n"
        "with without('rich'):\n    import gateway.server.supervisor, gateway.server.worker"
    )
    assert loaded(code, "sqlalchemy.orm", "sqlalchemy.ext.asyncio", "rich", "structlog", "sqlalchemy") == [
        "structlog",
        "sqlalchemy",
    ]


def test_the_collector_looks_no_more_at_what_has_settled() -> None:
    before = gc.get_freeze_count()
    settle()
    try:
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()
