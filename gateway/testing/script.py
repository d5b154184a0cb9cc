r"""What a scripted next hop answers, as text: a small TOML file, or options of a command line (`mailgateway talk`, `mailgateway dev`).

    keywords = ["PIPELINING", "8BITMIME"]         # offered to EHLO; default: those of gateway.testing.next_hop

    [[answer]]
    when = "RCPT TO:<bob@example.test>"           # how a command line begins, GREETING, or CONTENT: the final dot
    reply = "550 5.1.1 No such user"

    [[answer]]
    when = "CONTENT"
    reply = ["451", "drop after 2s", "250"]       # one after the other, the last one stays

A reply is a code with or without text, `drop` (the connection is closed) or `hang` (no answer for an hour), each with `after 2s` behind
it for a delay. On a command line several replies stand in one option, with ` then ` between them: `451 then 250`.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.testing.next_hop import LONGEST_DELAY, Answer, ScriptedNextHop
from gateway.units import parse_duration

LARGEST = 1_000_000
"""Octets of a script file at most."""
_ANSWER = re.compile(r"(?P<what>drop|hang|[2-5]\d\d)(?P<text>(?: .*?)??)(?: after (?P<delay>\S+))?", re.DOTALL)
_WHEN = re.compile(
    r"(?:GREETING|EHLO|HELO|LHLO|MAIL|RCPT|DATA|BDAT|CONTENT|RSET|NOOP|AUTH|VRFY|EXPN|ETRN|XCLIENT|XFORWARD|QUIT)\b",
    re.IGNORECASE,
)
_OPTION = re.compile(r"(.*?)=((?:\d\d\d|drop|hang)\b.*)", re.DOTALL)
_WORDS = {
    ("RCPT", 5): "5.1.1 No such user",
    ("RCPT", 4): "4.2.1 Mailbox is busy",
    ("MAIL", 5): "5.7.1 Not from you",
    ("MAIL", 4): "4.3.2 Try again later",
    ("CONTENT", 5): "5.6.0 Not this message",
    ("CONTENT", 4): "4.3.0 Try again later",
    ("AUTH", 5): "5.7.8 Wrong user or password",
}
"""What a code says that came without words."""


class ScriptError(ValueError):
    """A script that cannot be understood; the text says what is wrong and what is allowed."""


@dataclass(frozen=True, slots=True)
class Scripted:
    """One line of a script."""

    when: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Script:
    """What a next hop does that is not usual."""

    lines: tuple[Scripted, ...] = ()
    keywords: tuple[str, ...] | None = None
    """None: the usual ones."""

    def apply(self, hop: ScriptedNextHop) -> None:
        """Tell a next hop."""
        for line in self.lines:
            hop.script(line.when, *line.answers)
        if self.keywords is not None:
            hop.keywords = self.keywords

    def __add__(self, other: Script) -> Script:
        """Both; what `other` says of the same place counts."""
        return Script((*self.lines, *other.lines), self.keywords if other.keywords is None else other.keywords)


def parse_answer(text: str, when: str) -> Answer:
    """One reply: `550 5.1.1 No such user`, `451 after 2s`, `drop`, `hang`. ScriptError."""
    found = _ANSWER.fullmatch(text.strip())
    if found is None or (found["text"].strip() and not found["what"].isdigit()):
        raise ScriptError(
            f"{text!r} is no answer: a reply such as `550` or `550 5.1.1 No such user`, `drop` or `hang`, then `after 2s`"
        )
    if any(ord(one) < 32 for one in found["text"]) or len(found["text"]) > 400:
        raise ScriptError(f"{text[:80]!r}: the text of a reply is one line of at most 400 characters")
    try:
        delay = parse_duration(found["delay"]) if found["delay"] else 0.0
    except ValueError as error:
        raise ScriptError(f"{found['delay']!r} is not {error}") from None
    if delay > LONGEST_DELAY:
        raise ScriptError(f"after {found['delay']}: at most an hour")
    if found["what"] == "drop":
        return Answer(delay=delay, drop=True)
    if found["what"] == "hang":
        return Answer(delay=LONGEST_DELAY)
    code = found["what"]
    verb = when.partition(" ")[0].upper()
    words = (
        found["text"].strip() or _WORDS.get((verb, int(code[0]))) or f"{code[0]}.0.0 {'Ok' if code[0] in '23' else 'As scripted'}"
    )
    return Answer(f"{code} {words}", delay=delay, drop=code == "421")


def _scripted(when: str, replies: list[str]) -> Scripted:
    if not _WHEN.match(when):
        raise ScriptError(
            f"{when!r} is no place to answer at: GREETING, CONTENT (the final dot), or how a command begins: `RCPT TO:<bob@`"
        )
    if not replies:
        raise ScriptError(f"{when}: no answer")
    return Scripted(when, tuple(parse_answer(one, when) for one in replies))


def parse_option(text: str, verb: str = "") -> Scripted:
    """`ANSWER` at a verb, `MAILBOX=ANSWER` at RCPT and CONTENT (`*` for everybody), `WHEN=ANSWER` without a verb. ScriptError."""
    found = _OPTION.fullmatch(text)
    place, equals, answer = (found[1], "=", found[2]) if found is not None else text.rpartition("=")
    if verb == "RCPT":
        if not equals:
            raise ScriptError(f"{text!r}: MAILBOX=ANSWER is wanted, such as bob@example.test=550, or *=451 for everybody")
        when = "RCPT" if place == "*" else f"RCPT TO:<{place.strip('<>')}>"
    elif verb == "CONTENT":
        when = f"CONTENT <{place.strip('<>')}>" if equals and place != "*" else "CONTENT"
    elif verb:
        when, answer = verb, text
    else:
        if not equals:
            raise ScriptError(f"{text!r}: WHEN=ANSWER is wanted, such as 'MAIL FROM:<>=550' or 'greeting=554'")
        when = place
    return _scripted(when, answer.split(" then "))


def read_script(file: Path) -> Script:
    """A script file. ScriptError with the file's name."""
    try:
        with file.open("rb") as opened:
            octets = opened.read(LARGEST + 1)
    except OSError as error:
        raise ScriptError(f"{file}: {error.strerror}") from error
    if len(octets) > LARGEST:
        raise ScriptError(f"{file}: larger than {LARGEST} octets")
    try:
        return _of_table(tomllib.loads(octets.decode()))
    except (ValueError, RecursionError) as error:
        raise ScriptError(f"{file}: {error}") from error


def _of_table(table: dict[str, Any]) -> Script:
    if unknown := sorted(set(table) - {"answer", "keywords"}):
        raise ScriptError(f"{unknown[0]!r} is not known; there are: answer, keywords")
    keywords, answers = table.get("keywords"), table.get("answer", [])
    if keywords is not None and not (isinstance(keywords, list) and all(isinstance(one, str) for one in keywords)):
        raise ScriptError("keywords: a list of texts")
    if not isinstance(answers, list):
        raise ScriptError("answer: [[answer]] tables")
    lines = []
    for number, one in enumerate(answers, 1):
        replies = one.get("reply") if isinstance(one, dict) else None
        replies = [replies] if isinstance(replies, str) else replies
        known = isinstance(one, dict) and set(one) == {"when", "reply"} and isinstance(one["when"], str)
        if not known or not isinstance(replies, list) or not all(isinstance(reply, str) for reply in replies):
            raise ScriptError(f"answer {number}: `when`, a text, and `reply`, a text or a list of texts")
        lines.append(_scripted(one["when"], replies))
    return Script(tuple(lines), None if keywords is None else tuple(keywords))
