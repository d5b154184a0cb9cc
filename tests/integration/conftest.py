"""The real servers of the integration tests, one of each for all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from tests.integration.postfix import RealPostfix


@pytest.fixture(scope="session")
def real_postfix(require: Callable[[str], str]) -> Iterator[RealPostfix]:
    """One Postfix for all tests; use `postfix`."""
    require("postfix")
    if os.geteuid() != 0:
        reason = "a Postfix of the tests' own needs root"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with RealPostfix() as postfix:
        yield postfix


@pytest.fixture
def postfix(real_postfix: RealPostfix) -> Iterator[RealPostfix]:
    """A real Postfix as next hop, running and not paused, before the test and after it; its mailboxes are empty at the beginning."""
    real_postfix.clear()
    yield real_postfix
    real_postfix.resume()
    if not real_postfix.is_running:
        real_postfix.start()
