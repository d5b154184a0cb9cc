"""What all tests share: real servers that may be missing, free ports, second tries, and what failed attempts leave."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import traceback
import warnings
from collections.abc import Callable, Generator

import pytest

from tests.free_ports import free_port as free_port_of_loopback

_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
_FAILURES = pytest.StashKey[list[BaseException]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of real processes share two cores with each other: they have more time, and one that fails gets a second try, which the
    report counts.
    """
    for item in items:
        if {"integration", "faults"} & set(item.path.parts) or item.get_closest_marker("slow") is not None:
            item.add_marker(pytest.mark.flaky(reruns=1))
            if item.get_closest_marker("timeout") is None and config.getoption("timeout") is None:
                item.add_marker(pytest.mark.timeout(180))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a failed attempt left open is closed when it is over: collected later, it would fail whichever test runs then."""
    report = yield
    failures = item.stash.setdefault(_FAILURES, [])
    if report.failed and call.excinfo is not None:
        failures.append(call.excinfo.value)
    if call.when == "teardown" and failures:
        _drop_what_they_hold(failures)
        failures.clear()
    return report


def _drop_what_they_hold(failures: list[BaseException]) -> None:
    """The variables of every frame that the failures passed, and what is reachable from those alone."""
    seen: list[BaseException] = []
    rest = list(failures)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the attempt failed and is told; what it had open is no further news
        while rest:
            error = rest.pop()
            if error in seen:
                continue
            seen.append(error)
            for frame, _ in traceback.walk_tb(error.__traceback__):
                with contextlib.suppress(RuntimeError):  # it still runs: one of pytest's own
                    frame.clear()
                    len(frame.f_locals)  # before Python 3.13 a copy, kept since the report was made; looking empties it too
            rest += [other for other in (error.__cause__, error.__context__) if other is not None]
            if isinstance(error, BaseExceptionGroup):
                rest += error.exceptions
        gc.collect()


@pytest.fixture(scope="session")
def require() -> Callable[[str], str]:
    """`require("postfix")`: the path of a real program; without it the test is skipped, and fails where CI=true."""

    def find(binary: str) -> str:
        found = shutil.which(binary, path=_PATH)
        if found is None:
            reason = f"{binary} is not installed: tests/install-servers installs it (root on Debian)"
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)
        return found

    return find


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """`free_port()`: a TCP port on 127.0.0.1 that nobody listens on now."""
    return free_port_of_loopback
