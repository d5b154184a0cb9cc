"""The plugin `learning`: what it says once enough was learnt, and that it decides nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway import Fact, Message, Score
from gateway.learning import Memory, lesson_of, read_message
from gateway.plugins.learning import Learning, Options
from gateway.testing import FakeContext, a_message, a_session, run_plugin

SPAM = ["cheap pills online now", "win money online now", "cheap money casino", "pills casino win"]
HAM = ["meeting agenda tomorrow", "project report agenda", "lunch tomorrow project", "meeting report lunch"]


def mail(text: str, number: int = 0) -> Message:
    return a_message(subject=text, body=f"{text} {'x' * number}")


async def taught(directory: Path, times: int = 5, **options: Any) -> tuple[Learning, FakeContext]:
    context = FakeContext(base_directory=str(directory))
    memory = await Memory.open(directory / "learnt.sqlite", clock=context.clock)
    for number in range(times):
        for kind, texts in (("spam", SPAM), ("ham", HAM)):
            for text in texts:
                await memory.learn(lesson_of(read_message(mail(text, number))), kind)  # type: ignore[arg-type]  # a literal of two
    await memory.close()
    return Learning(Options.model_validate({"file": "learnt.sqlite", "least": 20, **options}), name="learning"), context


async def findings(plugin: Learning, context: FakeContext, message: Message, **session: Any) -> tuple[Any, ...]:
    result = await run_plugin(plugin, message=message, session=a_session(**session), context=context)
    assert result.verdict is None
    return result.findings


async def test_spam_ham_and_what_is_neither(tmp_path: Path) -> None:
    plugin, context = await taught(tmp_path)
    fact, score = await findings(plugin, context, mail("cheap casino pills"))
    assert fact.name == "learning.spam"
    assert fact.value > 0.95
    assert (score.symbol, score.weight) == ("LEARNED_SPAM", 3.0)
    assert "'" not in score.evidence
    assert "casino 0.9" in score.evidence
    fact, score = await findings(plugin, context, mail("meeting lunch agenda"))
    assert fact.value < 0.05
    assert (score.symbol, score.weight) == ("LEARNED_HAM", -1.0)
    (fact,) = await findings(plugin, context, mail("cheap lunch"))
    assert 0.05 < fact.value < 0.95
    assert [labels["result"] for _, _, labels in context.metrics.values] == ["spam", "ham", "unsure"]


async def test_nothing_is_said_before_enough_was_learnt(tmp_path: Path) -> None:
    plugin, context = await taught(tmp_path, least=21)
    assert await findings(plugin, context, mail("cheap casino pills")) == ()


async def test_whose_mail(tmp_path: Path) -> None:
    plugin, context = await taught(tmp_path)
    assert await findings(plugin, context, mail("cheap casino pills"), identity="alice") == ()
    plugin, context = await taught(tmp_path, all_clients=True)
    assert len(await findings(plugin, context, mail("cheap casino pills"), identity="alice")) == 2


async def test_thresholds_and_weights(tmp_path: Path) -> None:
    plugin, context = await taught(tmp_path, spam_from=1.0, spam_weight=9, ham_to=0.49, ham_weight=-2)
    assert [type(one) for one in await findings(plugin, context, mail("cheap lunch win"))] in ([Fact], [Fact, Score])
    _, score = await findings(plugin, context, mail("meeting lunch agenda"))
    assert score.weight == -2


async def test_the_words_of_a_sender_are_shown_in_ascii(tmp_path: Path) -> None:
    plugin, context = await taught(tmp_path)
    memory = await Memory.open(tmp_path / "learnt.sqlite", clock=context.clock)
    evil = "\u202eevil\u0442\u0435\u0441\u0442 \u0442\u0435\u0441\u0442"
    for number in range(5):
        await memory.learn(lesson_of(read_message(mail(evil, number))), "spam")
    await memory.close()
    _, score = await findings(plugin, context, mail(f"{evil} cheap pills"))
    assert score.evidence.isascii()
    assert score.evidence.isprintable()


async def test_a_database_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "learnt.sqlite").mkdir()
    plugin = Learning(Options(file="learnt.sqlite"), name="learning")
    with pytest.raises(Exception, match=r"learnt\.sqlite"):
        await run_plugin(plugin, context=FakeContext(base_directory=str(tmp_path)))


@pytest.mark.parametrize("options", [{"file": ""}, {"least": 0}, {"spam_from": 0.5}, {"ham_to": 0.5}])
def test_options_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate(options)
