"""Fixtures for plugin authors, and comparisons that show the trace, found by pytest through its entry point.

Nothing is imported until a fixture is used.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from gateway.testing.context import FakeContext
    from gateway.testing.dns import FakeResolver
    from gateway.testing.end_to_end import EndToEnd
    from gateway.testing.run import Result
    from gateway.testing.scanner import FakeScanner


@pytest.fixture
def fake_dns() -> Callable[..., FakeResolver]:
    """`fake_dns({"example.org": {"TXT": ["v=spf1 -all"]}})`: a resolver that answers from a table."""
    from gateway.testing.dns import FakeResolver

    return FakeResolver


@pytest.fixture
def plugin_context() -> FakeContext:
    """A context with a store in memory, a log and metrics that can be read, and a clock that can be set."""
    from gateway.testing.context import FakeContext

    return FakeContext()


@pytest.fixture
def run_plugin() -> Callable[..., Coroutine[Any, Any, Result]]:
    """Run one plugin on a message; see gateway.testing."""
    from gateway.testing.run import run_plugin

    return run_plugin


@pytest.fixture
def run_chain() -> Callable[..., Coroutine[Any, Any, Result]]:
    """Run several plugins in order on a message; see gateway.testing."""
    from gateway.testing.run import run_chain

    return run_chain


@pytest.fixture
def fake_scanner() -> type[FakeScanner]:
    """The class FakeScanner: a scanner at loopback that answers what it is told, hangs, drops, or talks rubbish."""
    from gateway.testing.scanner import FakeScanner

    return FakeScanner


@pytest.fixture
def end_to_end(tmp_path: Path) -> Callable[..., EndToEnd]:
    """The class EndToEnd, whose file names begin in this test's `tmp_path`: the whole gateway between a client and a next hop."""
    from gateway.testing.end_to_end import EndToEnd

    return partial(EndToEnd, base=tmp_path)


def pytest_runtest_setup() -> None:
    """What was run before belongs to another test."""
    if (asserting := sys.modules.get("gateway.testing.asserting")) is not None:
        asserting.LATEST.clear()


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Below a comparison of a verdict, findings or edits that failed: the trace of the run they are from."""
    asserting = sys.modules.get("gateway.testing.asserting")
    if asserting is None or (trace := asserting.explain(left, right)) is None:
        return None
    return [f"{left!r} {op} {right!r}", "", *trace]
