"""What all tests share: real servers that may be missing, free ports."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable

import pytest

_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of real processes share two cores with each other: one that fails gets a second try, which the report counts."""
    for item in items:
        if {"integration", "faults"} & set(item.path.parts) or item.get_closest_marker("slow") is not None:
            item.add_marker(pytest.mark.flaky(reruns=1))


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

    def find() -> int:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            return int(sock.getsockname()[1])

    return find
