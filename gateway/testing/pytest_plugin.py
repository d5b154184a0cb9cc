"""Fixtures for plugin authors, found by pytest through its entry point. Nothing is imported until a fixture is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from gateway.testing.context import FakeContext
    from gateway.testing.dns import FakeResolver
    from gateway.testing.run import Result


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
