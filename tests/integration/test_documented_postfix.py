"""The lines for master.cf in docs/getting-started.md, in a real Postfix behind the gateway."""

from __future__ import annotations

import re
import smtplib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.integration.gateway_process import Gateway
from tests.integration.postfix import DOMAIN, RealPostfix

pytestmark = [pytest.mark.real, pytest.mark.slow]
PAGE = Path(__file__).parents[2] / "docs" / "getting-started.md"


def documented() -> dict[str, str]:
    """The `-o name=value` lines."""
    found = dict(re.findall(r"^  -o (\w+)=(.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert found
    return found


def test_postfix_relays_nothing_for_the_gateway_and_takes_its_own(
    postfix: RealPostfix, start: Callable[..., AbstractContextManager[Gateway]]
) -> None:
    with postfix.with_settings(**documented()):
        with smtplib.SMTP(postfix.host, postfix.port, timeout=10) as client:
            client.ehlo("gateway.test")
            client.mail("a@client.test")
            assert client.rcpt("x@elsewhere.test")[0] == 554
            assert client.rcpt(f"bob@{DOMAIN}")[0] == 250
        trusting = 'trusted_networks = ["127.0.0.0/8"]'
        with start(workers=1, domains=[DOMAIN], servers=[postfix.address], listener=trusting) as gateway:
            with smtplib.SMTP("127.0.0.1", gateway.smtp, timeout=10) as client:
                client.ehlo("client.test")
                client.mail("a@client.test")
                code, text = client.rcpt("x@elsewhere.test")
                assert (code, b"Relay access denied" in text) == (554, True)  # even what the gateway would let through
                assert client.rcpt(f"bob@{DOMAIN}")[0] == 250
                assert client.data(b"Subject: documented\r\n\r\nHello\r\n")[0] == 250
            assert postfix.wait_for("bob", b"Subject: documented")
