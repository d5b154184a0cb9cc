"""What rspamd answers to /checkv2, read into values: action, scores, symbols, and what it wants done to the message. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.scanning import shown
from gateway.services import BadAnswerError

MAX_SYMBOLS = 500
MAX_EVIDENCE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbol:
    """Something it found in a message."""

    name: str
    score: float
    options: str = ""
    """What it saw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """All of it, as far as it is used."""

    action: str
    """`reject`, `soft reject`, `greylist`, `add header`, `rewrite subject`, `no action`, or one of the site's own."""
    score: float
    required: float | None = None
    """From which score on it rejects."""
    is_skipped: bool = False
    symbols: tuple[Symbol, ...] = ()
    text: str = ""
    """For the reply."""
    subject: str = ""
    """For `rewrite subject`."""
    milter: Mapping[str, Any]
    """Edits, and other wishes: `edits` reads them."""
    signatures: tuple[str, ...] = ()
    """Bodies of DKIM-Signature fields."""

    def evidence(self, server: str) -> str:
        """Score and the symbols that weigh most, for the decision record."""
        most = sorted(self.symbols, key=lambda symbol: -abs(symbol.score))[:8]
        told = ", ".join(f"{symbol.name}({symbol.score:g})" for symbol in most if symbol.score)
        limit = f"/{self.required:g}" if self.required is not None else ""
        return f"{self.action}, {self.score:g}{limit} by {server}" + (f": {told}" if told else "")


def parse(octets: bytes) -> Answer:
    """BadAnswerError for what is no answer: without an action or a score nothing is known of the message."""
    try:
        found = json.loads(octets)
    except (ValueError, RecursionError):
        raise BadAnswerError(f"no JSON: {shown(octets, 80)!r}") from None
    if not isinstance(found, dict):
        raise BadAnswerError(f"no object: {shown(octets, 80)!r}")
    if "error" in found:
        raise BadAnswerError(f"an error: {shown(str(found['error']))!r}")
    action, score = found.get("action"), _number(found.get("score"))
    if not isinstance(action, str) or not action or score is None:
        raise BadAnswerError(f"no action and score: {shown(octets, 80)!r}")
    messages, milter = found.get("messages"), found.get("milter")
    return Answer(
        action=shown(action, 60).lower(),
        score=score,
        required=_number(found.get("required_score")),
        is_skipped=found.get("is_skipped") is True,
        symbols=_symbols(found.get("symbols")),
        text=_text(messages.get("smtp_message") if isinstance(messages, dict) else None),
        subject=_text(found.get("subject")),
        milter=milter if isinstance(milter, dict) else {},
        signatures=tuple(one for one in as_list(found.get("dkim-signature")) if isinstance(one, str))[:10],
    )


def as_list(value: object) -> list[Any]:
    """One or several, as its JSON has both."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _symbols(found: object) -> tuple[Symbol, ...]:
    if not isinstance(found, dict):
        return ()
    read = []
    for name, symbol in list(found.items())[:MAX_SYMBOLS]:
        score = _number(symbol.get("score")) if isinstance(symbol, dict) else None
        if score is None:
            raise BadAnswerError(f"no score of the symbol {shown(name, 60)}")
        options = symbol.get("options")
        told = ", ".join(str(one)[:MAX_EVIDENCE] for one in (options if isinstance(options, list) else [])[:20])
        read.append(Symbol(name=shown(name, 100), score=score, options=shown(told, MAX_EVIDENCE)))
    return tuple(read)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _text(value: object) -> str:
    return value[:1000] if isinstance(value, str) else ""
