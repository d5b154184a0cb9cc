"""PRDR with a client that nobody here wrote: Exim, in front of a real Dovecot that answers differently for each recipient."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from tests.integration.dovecot import DOMAIN, RealDovecot
from tests.integration.exim import BINARY, RealExim
from tests.integration.gateway_process import Gateway

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture
def exim(require: Callable[[str], str], dovecot: RealDovecot) -> Iterator[RealExim]:
    """Needs root as Dovecot does, which is asked for first."""
    del dovecot
    require(str(BINARY))
    with RealExim() as exim:
        yield exim


@pytest.mark.parametrize("chunking", [True, False])
def test_exim_hears_of_each_recipient_at_once(
    chunking: bool, exim: RealExim, dovecot: RealDovecot, start: Callable[..., AbstractContextManager[Gateway]]
) -> None:
    marker = secrets.token_hex(6)
    content = f"Subject: x\nMessage-ID: <{marker}@client.test>\n\nhello\n".encode()
    with start(workers=1, domains=[DOMAIN], servers=[dovecot.socket_address]) as gateway:
        log = exim.send(
            gateway.smtp, [f"{name}@{DOMAIN}" for name in ("alice", "full", "nobody", "bob")], content, chunking=chunking
        )
        assert len(gateway.events("transaction", at_least=1)) == 1, "none of them is tried again"
    ends = {name: mark == "**" for mark, name in re.findall(rf" (=>|->|\*\*|==) (\w+)@{DOMAIN} ", log)}
    assert ends == {"alice": False, "bob": False, "full": True, "nobody": True}, log
    assert "==" not in log, "nobody is deferred"
    assert re.search(r"PRDR error after .*: 552 5\.2\.2 <full@", log), log
    assert re.search(rf"alice@{DOMAIN} .* PRDR ", log), log
    assert dovecot.count(marker) == {"alice": 1, "bob": 1}
