"""Which language a message is written in, as CLD3 guesses it. Shows a finding from the message's text."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from pydantic import Field

from gateway import Context, Fact, Message, Plugin, PluginOptions, hook, library

_LETTER = re.compile(r"[^\W\d_]")
LARGE = 65_536
"""Octets of a message from which on its text is read in a thread."""
MOST = 20_000
"""Characters of the text that are looked at."""


class Options(PluginOptions):
    """How much text a guess needs."""

    least: int = Field(default=40, ge=10, le=10_000)
    """Characters of text, spaces and links not counted, below which nothing is guessed."""
    probability: float = Field(default=0.7, ge=0, le=1)
    """How sure the guess has to be."""


class Language(Plugin[Options]):
    """Gives the fact `language`, and decides nothing."""

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        """OptionError without the library."""
        super().__init__(options, name=name, context=context)
        detector: Any = library("gcld3", extra="language").NNetLanguageIdentifier
        self._detector = detector(min_num_bytes=0, max_num_bytes=2_000)

    @hook
    async def check(self, message: Message) -> Fact | None:
        """`language`: `de`, `zh`; nothing where the text is too short or the guess too bold."""
        text = await asyncio.to_thread(_words, message) if message.size > LARGE else _words(message)
        if len(text) - text.count(" ") < self.options.least:
            return None
        found = self._detector.FindLanguage(text=text)
        if not found.is_reliable or found.probability < self.options.probability:
            return None
        return Fact(name="language", value=str(found.language)[:20])


def _words(message: Message) -> str:
    """What is seen of the text, without links and without what is no text."""
    words = (word for word in message.text[:MOST].split() if _LETTER.search(word) and "://" not in word and "@" not in word)
    return " ".join(words).encode("utf-8", "replace").decode()
