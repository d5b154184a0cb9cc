"""Learning: how likely a message is spam, by the words of those that people have decided about. Gives a score; decides nothing.

The classifier, and what it remembers, are `gateway.learning`; `mailgateway learn` and the quarantine's commands teach it.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from gateway import (
    ClientClass,
    Context,
    Fact,
    Finding,
    Message,
    Plugin,
    PluginOptions,
    Score,
    Transaction,
    hook,
)
from gateway.learning import Judgement, Lesson, Memory, judge, lesson_of, read_message

SHOWN = 8
"""Words in the evidence."""


class Options(PluginOptions):
    """Where it is remembered, and from when on it counts."""

    file: str = "var/learning.sqlite"
    """The database, SQLite; below the directory of the configuration. One for all workers, and for `mailgateway learn`."""
    least: int = Field(default=100, ge=1)
    """Messages of spam, and of ham, that must have been learnt before anything is said."""
    spam_from: float = Field(default=0.95, gt=0.5, le=1.0)
    """Probability from which on a message gets the score `LEARNED_SPAM`."""
    ham_to: float = Field(default=0.05, ge=0.0, lt=0.5)
    """Probability up to which it gets `LEARNED_HAM`."""
    spam_weight: float = 3.0
    """Of `LEARNED_SPAM`."""
    ham_weight: float = -1.0
    """Of `LEARNED_HAM`."""
    all_clients: bool = False
    """Also authenticated clients and trusted networks."""

    @model_validator(mode="after")
    def _names_a_file(self) -> Options:
        if not self.file:
            raise ValueError('found an empty file; allowed: a name such as "var/learning.sqlite"')
        return self


class Learning(Plugin[Options]):
    """Gives scores."""

    _memory: Memory

    @hook
    async def startup(self, context: Context) -> None:
        """Open the database, or make it."""
        self._memory = await Memory.open(Path(context.base_directory, self.options.file), clock=context.clock)

    @hook
    async def check(self, transaction: Transaction, message: Message) -> list[Finding]:
        """The probability, and a score where it is sure."""
        if transaction.session.client_class is not ClientClass.STRANGER and not self.options.all_clients:
            return []
        lesson = lesson_of(read_message(message))
        known = await self._memory.known(lesson.words)
        if min(known.ham, known.spam) < self.options.least:
            return []
        judged = judge(lesson.words, known)
        return self._findings(judged, lesson)

    @hook
    async def shutdown(self) -> None:
        """Close the database."""
        await self._memory.close()

    def _findings(self, judged: Judgement, lesson: Lesson) -> list[Finding]:
        own, probability = self.options, judged.probability
        found: list[Finding] = [Fact(name=f"{self.name}.spam", value=round(probability, 4))]
        result = "unsure"
        if probability >= own.spam_from:
            result = "spam"
            found.append(Score(symbol="LEARNED_SPAM", weight=own.spam_weight, evidence=_evidence(judged, lesson)))
        elif probability <= own.ham_to:
            result = "ham"
            found.append(Score(symbol="LEARNED_HAM", weight=own.ham_weight, evidence=_evidence(judged, lesson)))
        self.context.metrics.count("judged", result=result)
        return found


def _evidence(judged: Judgement, lesson: Lesson) -> str:
    """The most telling words, in printable ASCII: a sender wrote them."""
    words = [f"{ascii(lesson.words[clue.token])[1:-1][:40]} {clue.probability:.2f}" for clue in judged.clues[:SHOWN]]
    return f"{judged.probability:.4f} by {len(judged.clues)} words: {', '.join(words)}"
