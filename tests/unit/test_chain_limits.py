"""What was too much or malformed in a message is a finding and a step of the record, where somebody has looked; nobody looks for it."""

from __future__ import annotations

import pytest

from gateway import AddHeader, Fact, Finding, Label, Message, Plugin, Transaction, Verdict, add_header, hook
from gateway.testing import a_message, a_transaction, run_chain

PARTS = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 1_001
CUT = b"Subject: x\r\nno field\r\n\r\nx"


class Looks(Plugin):
    """At the parts, in a check."""

    @hook
    async def check(self, message: Message) -> Finding:
        return Label(name=str(len(message.parts)))


class Asks(Plugin):
    """What the finding says, when judged."""

    said: tuple[object, ...] = ()

    @hook
    async def judge(self, transaction: Transaction) -> Verdict | None:
        self.said = tuple(found.value for found in transaction.findings.of(Fact) if found.name == "message.limits")
        return None


class Reads(Plugin):
    """The text, when judged."""

    @hook
    async def judge(self, message: Message) -> Verdict | None:
        assert message.text
        return None


class Writes(Plugin):
    """Reads the subject, when it rewrites."""

    @hook
    async def rewrite(self, message: Message) -> AddHeader:
        return add_header("X-Subject", message.subject or "none")


class Nothing(Plugin):
    """Looks at nothing."""

    @hook
    async def judge(self) -> Verdict | None:
        return None


async def steps(plugins: list[Plugin], octets: bytes) -> list[str]:
    transaction = a_transaction()
    result = await run_chain(plugins, message=a_message(octets), transaction=transaction)
    facts = [found.value for found in transaction.findings.of(Fact) if found.name == "message.limits"]
    told = [found["value"] for step in result.trace if step["stage"] == "content" for found in step["findings"]]
    assert facts == told
    return told


async def test_a_limit_that_a_check_hits_is_told_to_judges() -> None:
    asks = Asks()
    assert await steps([Looks(), asks], PARTS) == ["mime-parts"]
    assert asks.said == ("mime-parts",)


async def test_what_shows_later_is_told_too_and_nothing_twice() -> None:
    octets = PARTS.replace(b"\r\nx\r\n", b"\r\n" + b"y" * 1_000_001 + b"\r\n", 1)
    assert await steps([Looks(), Reads()], octets) == ["mime-parts", "mime-parts, text"]


@pytest.mark.parametrize("plugin", [Reads(), Writes()])
async def test_a_malformed_header_section(plugin: Plugin) -> None:
    assert await steps([plugin], CUT) == ["header-malformed"]


async def test_nobody_looks_nothing_is_told() -> None:
    message = a_message(PARTS)
    transaction = a_transaction()
    await run_chain([Nothing()], message=message, transaction=transaction)
    assert "_structure" not in vars(message)
    assert message.limits_known == ()
    assert list(transaction.findings) == []


async def test_a_message_within_all_limits() -> None:
    assert await steps([Looks(), Reads(), Writes()], b"Subject: x\r\n\r\nx") == []
