"""DNS is dead, slow, or made expensive, and the real gateway process goes on: 451 or temperror, within the budget, nobody else is held up."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.testing.dns_lies import HELD, REFUSED, SERVFAIL, SILENT
from tests.integration import black_box
from tests.integration.black_box import BlackBox, Mail

pytestmark = pytest.mark.slow
CHAIN = ("spf", "dkim", "dmarc", "authres")
METHODS = ("spf", "dkim", "dmarc")
MESSAGES = 10
SIGNED = (
    b"DKIM-Signature: v=1; a=rsa-sha256; d=author.example; s=key; c=relaxed/relaxed; h=from; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=AAAA\r\n"
    b"From: Somebody <somebody@author.example>\r\nSubject: a case\r\n\r\n"
)
DEFERS = """
[plugin.spf_strict]
use = "spf"
temperror = "defer"
[plugin.dmarc_strict]
use = "dmarc"
temperror = "defer"
"""
WAITING = 500


def mails(prefix: str, count: int = MESSAGES, *, strict: bool = False) -> list[Mail]:
    """Each of another client and another domain."""
    return [
        Mail(
            client=f"10.{number // 250}.{number % 250}.1",
            helo=f"mx{number}.{prefix}.example",
            reverse_path=f"alice@{number}.{prefix}.example",
            content=SIGNED,
            strict=strict,
        )
        for number in range(count)
    ]


async def test_with_dead_dns_mail_is_deferred_or_goes_on_with_temperror(tmp_path: Path, free_port: Callable[[], int]) -> None:
    strict = ("spf_strict", "dkim", "dmarc_strict", "authres")
    dns = 'timeout = "400ms"\ncache_size = 0'
    async with BlackBox(tmp_path, free_port, chain=CHAIN, strict=strict, options=DEFERS, dns=dns) as box:
        for how in (SILENT, SERVFAIL, REFUSED):
            box.dns.misbehave = {"*": how}
            arrived = await asyncio.gather(*(box.send(mail) for mail in mails("open")))
            assert [one.reply[:3] for one in arrived] == ["250"] * MESSAGES, how
            for one in arrived:
                assert {clause.result for method in METHODS for clause in one.results(method)} == {"temperror"}, how
                assert len(one.results("spf")) == 2  # MAIL FROM and HELO
            deferred = await asyncio.gather(*(box.send(mail) for mail in mails("strict", strict=True)))
            assert [one.reply[:3] for one in deferred] == ["451"] * MESSAGES, how
            assert all(one.content is None for one in deferred)
            # alive again, and so is the mail
            box.dns.misbehave = {}
            alive = await box.send(mails("alive", 1, strict=True)[0])
            assert alive.reply.startswith("250"), how
            assert {clause.result for clause in alive.results("spf")} == {"none"}


async def test_plugins_that_wait_longer_than_they_may_do_what_on_error_says(tmp_path: Path, free_port: Callable[[], int]) -> None:
    options = """
[plugin.spf]
timeout = "300ms"
on_error = "ignore"
[plugin.spf_strict]
use = "spf"
timeout = "300ms"
temperror = "defer"
on_error = "defer"
"""
    async with BlackBox(tmp_path, free_port, chain=("spf", "authres"), strict=("spf_strict", "authres"), options=options) as box:
        box.dns.misbehave = {"*": SILENT}
        ignored = await asyncio.gather(*(box.send(mail) for mail in mails("ignored")))
        assert [one.reply[:3] for one in ignored] == ["250"] * MESSAGES
        deferred = await asyncio.gather(*(box.send(mail) for mail in mails("deferred", strict=True)))
        assert [one.reply[:3] for one in deferred] == ["451"] * MESSAGES  # by its own result, or by its time-out


async def test_a_message_gets_no_more_time_than_its_budget(tmp_path: Path, free_port: Callable[[], int]) -> None:
    """Look-ups may take 30 s each, and plugins too: what ends the wait is the budget, and the next look-up fails at once."""
    options = (
        '[plugin.spf]\ntimeout = "30s"\ntime_limit = "25s"\n[plugin.dkim]\ntimeout = "30s"\n[plugin.dmarc]\ntimeout = "30s"\n'
    )
    dns = 'timeout = "30s"\ntransaction_time = "300ms"'
    async with BlackBox(tmp_path, free_port, chain=CHAIN, options=options, dns=dns) as box:
        box.dns.misbehave = {"*": SILENT}
        arrived = await asyncio.gather(*(box.send(mail) for mail in mails("patient")))
        for one in arrived:
            assert one.reply.startswith("250")
            assert {clause.result for method in METHODS for clause in one.results(method)} == {"temperror"}
        assert not [name for name, _, _ in box.dns.queries if name.startswith("_dmarc")]  # by then everything was spent


async def test_a_message_gets_no_more_look_ups_than_its_budget(tmp_path: Path, free_port: Callable[[], int]) -> None:
    dear = " ".join(f"include:{number}.dear.example" for number in range(9))
    zones = {"0.costs.example": {"TXT": [f"v=spf1 {dear} -all"]}}
    zones |= {f"{number}.dear.example": {"TXT": ["v=spf1 ip4:192.0.2.99 -all"]} for number in range(9)}
    async with BlackBox(tmp_path, free_port, chain=("spf", "authres"), dns="transaction_look_ups = 5\ncache_size = 0") as box:
        box.serve(zones)
        [mail] = mails("costs", 1)
        arrived = await box.send(mail)
        assert arrived.reply.startswith("250")
        assert arrived.results("spf", "smtp.mailfrom")[0].result == "temperror"
        assert len(box.dns.queries) == 5
        again = await box.send(mails("cheap", 1)[0])  # the next message has its own
        assert {clause.result for clause in again.results("spf")} == {"none"}


@pytest.fixture
def many_files() -> Iterator[None]:
    """The gateway inherits how many files it may open: two sockets for each waiting session, and one for its look-up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 20_000)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("many_files")
async def test_many_that_wait_do_not_hold_up_the_others(
    tmp_path: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(black_box, "LIMIT", 100.0)
    options = """
[dns.zones]
"static.example" = { TXT = ["v=spf1 ip4:10.0.0.0/8 -all"] }
"_dmarc.author.test" = { TXT = ["v=DMARC1; p=none"] }
"mx.example" = { TXT = ["v=spf1 -all"] }
[plugin.spf]
timeout = "90s"
time_limit = "80s"
[limits]
check_budget = "90s"
"""
    dns = 'timeout = "90s"\ntransaction_time = "90s"\nmin_ttl = "5m"\nmin_negative_ttl = "5m"'
    async with BlackBox(tmp_path, free_port, chain=("spf", "dmarc", "authres"), options=options, dns=dns) as box:
        box._seats = asyncio.Semaphore(WAITING + MESSAGES)
        box.serve({"known.example": {"TXT": ["v=spf1 ip4:10.0.0.0/8 -all"]}})
        box.dns.misbehave = {"*.slow.example": HELD}

        def mail(domain: str) -> Mail:
            return Mail(client="10.9.9.9", helo="mx.example", reverse_path=f"alice@{domain}")

        first = await box.send(mail("known.example"))
        assert first.results("spf", "smtp.mailfrom")[0].result == "pass"
        loop = asyncio.get_running_loop()
        slow = [
            loop.create_task(box.send(replace(one, helo="mx.example", content=black_box.CONTENT)))
            for one in mails("slow", WAITING)
        ]
        await box.dns.holds(WAITING)  # all of them have sent their content and wait for DNS
        asked = len(box.dns.queries)
        for domain in ["static.example", "known.example"] * MESSAGES:
            arrived = await box.send(mail(domain))
            assert arrived.results("spf", "smtp.mailfrom")[0].result == "pass"
        new = await box.send(mail("new.example"))
        assert new.results("spf", "smtp.mailfrom")[0].result == "none"
        assert [name for name, _, _ in box.dns.queries[asked:] if "slow" not in name] == ["new.example"]
        assert not any(task.done() for task in slow)
        box.dns.release()
        results = [one.results("spf", "smtp.mailfrom")[0].result for one in await asyncio.gather(*slow)]
        assert results == ["none"] * WAITING
