"""Tests that stand beside rules: `[[rule.test]]`, a message with its envelope and what the rule is to do. How they are run: `trying`.

The keys are called as the facts of expressions are, so that a test reads like the condition it tries.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, TypeAlias

from pydantic import Field, field_validator, model_validator

from gateway import PluginOptions

NOTHING = "nothing"
"""Expected of a rule that does not hold."""
HOLDS = "holds"
"""Expected of a rule that holds, whatever it does."""
WORDS = (NOTHING, HOLDS, "accept", "reject", "defer", "quarantine", "discard", "redirect")
"""What `expect` may begin with; `would` in front of a verdict for rules that only watch."""
Scalar: TypeAlias = str | int | float | bool


class Mail(PluginOptions):
    """The message of a test: a file, a text, or made from parts."""

    file: str = ""
    """A file with it. Relative names start at the directory of the file that the rule stands in."""
    source: str = ""
    """All of it, as text: header fields, a blank line, the rest."""
    subject: str = "Hello"
    author: str = "Ann <ann@client.example>"
    """The From field."""
    to: str = "bob@example.org"
    text: str = "Hello Bob,\n\nhow are you?\n"
    html: str = ""
    attach: tuple[str, ...] | dict[str, str] = ()
    """File names, or file names with what is in the files."""
    header: dict[str, str] = Field(default={})
    """Further fields by name."""

    @model_validator(mode="after")
    def _is_one_thing(self) -> Mail:
        given = self.model_fields_set
        for whole in ("file", "source"):
            if whole in given and len(given) > 1:
                raise ValueError(f"{whole} and nothing beside it, or a message made from parts")
        return self


class Client(PluginOptions):
    """Who sends it."""

    address: str = "192.0.2.1"
    port: int = 0
    name: str = ""
    helo: str = "client.example"
    identity: str = ""
    is_trusted: bool = False
    listener: str = "default"


class Expected(PluginOptions):
    """What a test expects, in full."""

    verdict: str | dict[str, str] = ""
    """As in `expect`; of each recipient by mailbox, where they differ."""
    rule: str = ""
    """Name of the rule that decides, where it is another one of the group."""
    score: float | None = None
    """Sum of the scores that the group gives."""
    labels: tuple[str, ...] | None = None
    """Names of all labels that the group gives."""
    recipients: tuple[str, ...] | None = None
    """Whom it goes on to, as the next hop is told."""
    edits: tuple[str, ...] | None = None
    """All edits, in order: `tag_subject [EXTERNAL]`, `add_header X-Bulk: yes`."""

    @field_validator("verdict")
    @classmethod
    def _can_be(cls, value: str | dict[str, str]) -> str | dict[str, str]:
        for one in value.values() if isinstance(value, dict) else [value] if value else []:
            check_words(one)
        return value


class Case(PluginOptions):
    """One test."""

    name: str = ""
    """For people, where the rule has several."""
    message: Mail = Mail()
    reverse_path: str = "ann@client.example"
    recipients: tuple[str, ...] = Field(default=("bob@example.org",), min_length=1, max_length=100)
    client: Client = Client()
    tls: bool = False
    auth: dict[str, str] = Field(default={})
    """Results by method, with properties behind them: `{ dkim = "pass header.d=example.org" }`."""
    scores: dict[str, float] = Field(default={})
    """Given by checks before the group."""
    labels: tuple[str, ...] = ()
    """The same of labels."""
    facts: dict[str, Scalar] = Field(default={})
    """Findings of plugins, for `fact()`."""
    lists: dict[str, tuple[str, ...]] = Field(default={})
    """Other entries for named lists, by name; one that is read from a database or web service has none else."""
    rate: int = Field(default=0, ge=0)
    """What `rate()` gives; 0: what is counted, 1 for the first message."""
    time: dt.datetime = dt.datetime(2026, 11, 25, 12, 0, tzinfo=dt.UTC)
    """When it comes. Without a zone it is the group's."""
    expect: Expected
    """`nothing` (the rule does not hold), `holds`, or a verdict: `quarantine`, `reject 554`, `would discard`."""

    @field_validator("expect", mode="before")
    @classmethod
    def _in_full(cls, value: Any) -> Any:
        if isinstance(value, str):
            check_words(value)
            return {"verdict": value}
        return value


def check_words(text: str) -> None:
    """ValueError for an expectation that nothing can meet."""
    words = text.split()
    if words[:1] == ["would"]:
        words = words[1:]
    if not words or words[0] not in WORDS:
        raise ValueError(f"one of {', '.join(WORDS)}, with `would` in front for a rule that watches")
