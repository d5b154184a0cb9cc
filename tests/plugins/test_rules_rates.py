"""`rate()`: messages with the same key in the time before, over all workers; and whose files are opened when."""

from __future__ import annotations

from typing import cast

import pytest

from gateway import Context, Message, OptionError, Score
from gateway.plugins.rules import Options, Rules
from gateway.plugins.rules import rates as module
from gateway.testing import FakeContext, a_message, a_session, a_transaction, run_plugin


def a_group(*conditions: str) -> Rules:
    tables = [
        {"name": f"r{number}", "when": when, "then": {"score": 1.0, "symbol": f"r{number}"}}
        for number, when in enumerate(conditions)
    ]
    return Rules(Options.model_validate({"rule": tables}), name="rules")


async def asked(group: Rules, context: FakeContext, address: str = "192.0.2.1", message: Message | None = None) -> list[str]:
    result = await run_plugin(
        group,
        transaction=a_transaction(session=a_session(client_address=address)),
        message=message,
        context=cast("Context", context),
    )
    return [found.symbol for found in result.findings if isinstance(found, Score)]


async def test_messages_are_counted_by_key_over_workers_and_forgotten() -> None:
    context = FakeContext()
    context.clock.now = 1_795_003_200.0  # the beginning of an hour
    one, other = (a_group('rate(client.address, "1h") > 3', 'rate(client.address, "1h") >= 1') for _ in range(2))
    for group in (one, other, one):
        assert await asked(group, context) == ["r1"]
    assert await asked(other, context) == ["r0", "r1"], "the fourth within the hour"
    assert await asked(one, context, "192.0.2.2") == ["r1"], "another key"
    context.clock.move(3_600 + 900)  # three quarters of the hour before still count
    assert await asked(one, context) == ["r0", "r1"]
    context.clock.move(2_400)  # less than a tenth
    assert await asked(one, context) == ["r1"]
    context.clock.move(7_200)
    assert await asked(one, context) == ["r1"]


async def test_a_rate_is_counted_once_for_all_rules_and_whatever_stands_beside_it() -> None:
    context = FakeContext()
    group = a_group('rate(client.address, "1h") == 1', 'false && rate(client.address,"1h") > 5', 'rate(client.helo, "1h") == 1')
    assert await asked(group, context) == ["r0", "r2"]
    assert len(group._rates) == 2
    assert len(context.store._values) == 2


async def test_the_store_holds_a_bounded_number_of_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEYS", 8)
    context = FakeContext()
    context.clock.now = 1_795_003_200.0
    group = a_group('rate(client.address, "1h") > 0')
    for number in range(60):
        await asked(group, context, f"192.0.2.{number}")
    assert 4 < len(context.store._values) <= 8


def test_too_many_rates() -> None:
    with pytest.raises(OptionError, match="found 51 rates; allowed: at most 50"):
        a_group(*(f'rate(client.address, "{number}m") > 1' for number in range(1, 52)))


class _Counting(FakeContext):
    opened = 0

    async def open_files(self, message: Message) -> object:  # type: ignore[override] # what it gives is handed on
        self.opened += 1
        return await super().open_files(message)


@pytest.mark.parametrize(
    ("when", "opened"),
    [("files.exists(f, f.size > 3)", 1), ("size(message.files_limits_hit) == 0", 1), ("attachments.exists(a, a.size > 3)", 0)],
)
async def test_files_are_opened_where_a_rule_asks_for_them(when: str, opened: int) -> None:
    context = _Counting()
    assert await asked(a_group(when), context, message=a_message(attach="a.exe")) == ["r0"]
    assert context.opened == opened
