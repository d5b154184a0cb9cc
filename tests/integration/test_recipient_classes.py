"""Recipients of several routes and policy classes in one message of a real Postfix: its queue delivers all of it, each once."""

from __future__ import annotations

import json
import re
import smtplib
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.peers import NextHopInThread
from tests.integration.postfix import DOMAIN, RealPostfix

pytestmark = [pytest.mark.real, pytest.mark.slow]
Start = Callable[..., Any]

PLUGIN = '''
"""What stands behind the dash is the recipient's class."""

from collections.abc import Hashable

from gateway import Plugin, Recipient, hook


class Colours(Plugin):
    @hook
    async def policy_class(self, recipient: Recipient) -> Hashable | None:
        return recipient.forward_path.local_part.partition("-")[2]
'''
SENT_ALONE = "452 4.5.3 Send to this recipient in a transaction of its own"
FIRST = ("a-red@first.test", "b-red@first.test", "c-green@first.test", "d-blue@first.test")
SECOND = ("a-red@second.test", "b-green@second.test")
QUEUE = {"minimal_backoff_time": "2s", "maximal_backoff_time": "2s", "queue_run_delay": "1s"}
"""With less its queue manager may find the message "still being delivered", and then leaves it alone until it is started anew."""
GROUPS = {
    4: [FIRST[:2], FIRST[2:3], FIRST[3:], SECOND[:1], SECOND[1:]],
    2: [(*FIRST[:2], FIRST[3]), FIRST[2:3], SECOND[:1], SECOND[1:]],
}
"""Transactions in their order: of at most so many classes each gets its own, those beyond join the first; another route never does."""


@pytest.fixture
def hops() -> Iterator[tuple[NextHopInThread, NextHopInThread]]:
    """The next hops of the two routes."""
    with NextHopInThread() as first, NextHopInThread() as second:
        yield first, second


@pytest.mark.parametrize("max_classes", GROUPS)
def test_each_class_in_a_transaction_of_its_own_and_each_recipient_once(
    max_classes: int, start: Start, hops: tuple[NextHopInThread, NextHopInThread], postfix: RealPostfix, tmp_path: Path
) -> None:
    first, second = hops
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "colours.py").write_text(PLUGIN)
    chain = f'plugins = ["colours"]\nplugin_path = ["{tmp_path}/site"]'
    more = (
        f'[[route]]\nname = "second"\ndomains = ["second.test"]\nservers = ["{second.scripted.address}"]\n'
        f"[limits]\nmax_classes = {max_classes}\n"
    )
    names, groups = (*FIRST, *SECOND), GROUPS[max_classes]
    with start(workers=2, chain=chain, domains=["first.test"], servers=[first.scripted.address], more=more) as gateway:
        settings = {"default_transport": "smtp", "relayhost": f"[127.0.0.1]:{gateway.smtp}", **QUEUE}
        with postfix.with_settings(**settings):
            before = len(postfix.log())
            with smtplib.SMTP(postfix.host, postfix.port, timeout=20) as client:
                client.sendmail(f"alice@{DOMAIN}", names, "Subject: classes\r\n\r\nhello\r\n")
            try:
                gateway.until(lambda: ends(postfix, before, "sent").total() >= len(names), 40)
                gateway.until(lambda: waiting(postfix) == [])
            finally:
                tool(postfix, "postsuper", "-d", "ALL")
        log = postfix.log()[before:]
    assert ends(postfix, before, "sent") == Counter(names), log
    assert ends(postfix, before, "bounced") == Counter()
    assert log.count("status=deferred") == len(re.findall(rf"status=deferred \(.* said: {SENT_ALONE} ", log)), log
    turned_away = Counter(name for place, group in enumerate(groups) for name in group for _ in range(place))
    assert ends(postfix, before, "deferred") == turned_away, "once in each transaction before its own"
    for hop, domain in ((first, "first.test"), (second, "second.test")):
        taken = [sorted(path.decode()[1:-1] for path, _ in one.recipients) for one in hop.scripted.transactions]
        assert taken == [sorted(group) for group in groups if group[0].endswith(domain)]
    assert postfix.messages("alice") == [], "nobody is told of a failure"


def ends(postfix: RealPostfix, before: int, status: str) -> Counter[str]:
    """How often each recipient had it, in the log behind this place."""
    return Counter(re.findall(rf" to=<([\w-]+@(?:first|second)\.test)>, .* status={status} ", postfix.log()[before:]))


def waiting(postfix: RealPostfix) -> list[dict[str, Any]]:
    """What `postqueue` shows of the queue."""
    return [json.loads(line) for line in tool(postfix, "postqueue", "-j").splitlines()]


def tool(postfix: RealPostfix, name: str, *words: str) -> str:
    """What one of Postfix's commands prints."""
    command = [f"/usr/sbin/{name}", "-c", str(postfix.config), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
