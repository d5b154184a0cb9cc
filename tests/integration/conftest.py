"""The real servers of the integration tests, one of each for all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.dovecot import RealDovecot
from tests.integration.gateway_process import Gateway, running
from tests.integration.opensmtpd import PROGRAM as OPENSMTPD
from tests.integration.opensmtpd import RealOpenSMTPD
from tests.integration.own_root import why_not
from tests.integration.postfix import RealPostfix
from tests.integration.sendmail import PROGRAM as SENDMAIL
from tests.integration.sendmail import RealSendmail


@pytest.fixture(scope="session")
def real_postfix(require: Callable[[str], str]) -> Iterator[RealPostfix]:
    """One Postfix for all tests; use `postfix`."""
    require("postfix")
    need_root("Postfix")
    with RealPostfix() as postfix:
        yield postfix


def need_root(server: str) -> None:
    """Skip without root, and fail where CI=true."""
    if os.geteuid() != 0:
        _cannot(f"a {server} of the tests' own needs root")


def _need_own_root(server: str) -> None:
    """For a server in a root directory of its own: `own_root`."""
    need_root(server)
    if reason := why_not():
        _cannot(f"a {server} of the tests' own needs mount, process and host name spaces: {reason}")


def _cannot(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def opensmtpd(require: Callable[[str], str]) -> Iterator[RealOpenSMTPD]:
    """One OpenSMTPD for all tests; each test has markers of its own in its messages."""
    require(str(OPENSMTPD))
    _need_own_root("OpenSMTPD")
    with RealOpenSMTPD() as opensmtpd:
        yield opensmtpd


@pytest.fixture(scope="session")
def sendmail(require: Callable[[str], str]) -> Iterator[RealSendmail]:
    """One Sendmail for all tests; each test has markers of its own in its messages."""
    require(str(SENDMAIL))
    _need_own_root("Sendmail")
    with RealSendmail() as sendmail:
        yield sendmail


@pytest.fixture(scope="session")
def dovecot(require: Callable[[str], str]) -> Iterator[RealDovecot]:
    """One Dovecot for all tests; each test has markers of its own in its messages."""
    require("/usr/lib/dovecot/lmtp")
    need_root("Dovecot")
    with RealDovecot() as dovecot:
        yield dovecot


@pytest.fixture
def postfix(real_postfix: RealPostfix) -> Iterator[RealPostfix]:
    """A real Postfix as next hop, running and not paused, before the test and after it; its mailboxes are empty at the beginning."""
    real_postfix.clear()
    yield real_postfix
    real_postfix.resume()
    if not real_postfix.is_running:
        real_postfix.start()


@pytest.fixture
def start(tmp_path: Path, free_port: Callable[[], int]) -> Callable[..., AbstractContextManager[Gateway]]:
    """`with start(workers=1, domains=[…], servers=[…], more="[limits]…") as gateway`: see `gateway_process.running`.

    Without `ready=False` it answers when /ready does, that is when every route has a next hop that answers.
    """
    number = 0

    def starting(*, smtp: int = 0, admin: int = 0, **settings: Any) -> AbstractContextManager[Gateway]:
        nonlocal number
        number += 1
        return running(tmp_path / str(number), smtp=smtp or free_port(), admin=admin or free_port(), **settings)

    return starting
