"""One content rule: `name`, `when`, `then`, `mode`; checked when it is made."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from typing import Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from gateway import AddRecipient, Edit, Message, PluginOptions, Recipient, Transaction, UseForwardPath, Verdict
from gateway.plugins.rules.actions import (
    Action,
    Changing,
    Deciding,
    Editing,
    GiveScore,
    PutLabel,
    RedirectTo,
    Skip,
    name_of,
)
from gateway.plugins.rules.attachments import StripAttachments
from gateway.plugins.rules.cases import Case
from gateway.plugins.rules.envelope import AddTheRecipient, RemoveTheRecipient, UseTheRecipient, objection
from gateway.plugins.rules.expressions import Expression, explain
from gateway.plugins.rules.header import Junk
from gateway.plugins.rules.tree import ExpressionError


class Rule(PluginOptions):
    """A condition and what is done where it holds."""

    name: str = Field(min_length=1, max_length=100)
    """For people; logs, metrics and `explain` have it as `rule-NAME`."""
    when: str
    """An expression that is true or false."""
    then: tuple[Action, ...]
    """A word, a table, or a list of them."""
    mode: Literal["enforce", "monitor"] = "enforce"
    """`monitor` writes down what the rule would have done."""
    at: Literal["content", "rcpt"] = "content"
    """When it is asked: once the content is there, or at each RCPT."""
    test: tuple[Case, ...] = Field(default=(), max_length=1_000)
    """`[[rule.test]]`: messages, and what the rule is to do with them; run by `mailgateway config check --test`."""

    _expression: Expression = PrivateAttr()

    @field_validator("when")
    @classmethod
    def _check_expression(cls, value: str) -> str:
        try:
            Expression(value)
        except ExpressionError as error:
            raise ValueError(f"an expression of known facts and functions: {explain(error, value)}") from error
        return value

    @field_validator("then", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        if isinstance(value, list | tuple) and not value:
            raise ValueError("at least one action")
        return value if isinstance(value, list | tuple) else (value,)

    @field_validator("then")
    @classmethod
    def _decides_once(cls, value: tuple[Action, ...]) -> tuple[Action, ...]:
        if sum(isinstance(action, Deciding) for action in value) > 1:
            raise ValueError("at most one of accept, reject, defer, quarantine, discard, redirect")
        return value

    @model_validator(mode="after")
    def _compile(self) -> Rule:
        self._expression = Expression(self.when)
        if self._expression.is_about_recipient and self.skips:
            raise ValueError("skip is for the whole message: use recipients.exists(…) or recipients.all(…) instead of recipient")
        names = [name_of(action) for action in self.then]
        if self.at == "content" and self._expression.is_about_recipient and "redirect" in names:
            raise ValueError('redirect is for all recipients at once: at = "rcpt", or recipients.all(…) instead of recipient')
        why = objection(self.at, names, self._expression.facts, self._expression.needs.functions)
        if why:
            raise ValueError(why)
        return self

    @property
    def expression(self) -> Expression:
        """The compiled condition."""
        return self._expression

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """Its condition, and those of its actions."""
        return (self._expression, *(action.expression for action in self.then if isinstance(action, StripAttachments)))

    @cached_property
    def reason(self) -> str:
        """`rule-NAME` as one word."""
        return reason_of(self.name)

    @cached_property
    def evidence(self) -> str:
        """The rule and its condition."""
        return f"rule {self.name!r}: {' '.join(self.when.split())[:500]}"

    @cached_property
    def verdict(self) -> Verdict | None:
        """What it decides; None when it decides nothing."""
        for action in self.then:
            if isinstance(action, Deciding):
                return action.verdict(self.reason, self.evidence)
        return None

    @cached_property
    def skips(self) -> tuple[str, ...]:
        """Plugins that do not judge the message."""
        return tuple(name for action in self.then if isinstance(action, Skip) for name in action.skip)

    @cached_property
    def scores(self) -> tuple[tuple[str, float], ...]:
        """Symbol and weight of each score."""
        return tuple((action.symbol or self.reason, action.score) for action in self.then if isinstance(action, GiveScore))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Words that it puts on the message."""
        return tuple(action.label for action in self.then if isinstance(action, PutLabel))

    @cached_property
    def redirects_to(self) -> str:
        """The route that it redirects to, or ``."""
        return next((action.redirect for action in self.then if isinstance(action, RedirectTo)), "")

    @cached_property
    def is_junk(self) -> bool:
        """True when it marks messages as junk."""
        return any(isinstance(action, Junk) for action in self.then)

    @cached_property
    def changes(self) -> bool:
        """True when it may change the message."""
        return self.is_junk or any(isinstance(action, Editing | Changing) for action in self.then)

    @cached_property
    def is_heavy(self) -> bool:
        """True when it looks through the content."""
        return self._expression.is_heavy or any(isinstance(action, Changing) for action in self.then)

    @cached_property
    def changing(self) -> tuple[Changing, ...]:
        """What it does to the body."""
        return tuple(action for action in self.then if isinstance(action, Changing))

    def edits(self, message: Message) -> list[Edit]:
        """Header edits."""
        return [edit for action in self.then if isinstance(action, Editing) for edit in action.edits(message)]

    def paths(self, transaction: Transaction, recipient: Recipient) -> list[AddRecipient | UseForwardPath]:
        """Recipients that it adds, or changes."""
        found = [action for action in self.then if isinstance(action, AddTheRecipient | UseTheRecipient)]
        return [path for action in found for path in action.paths(transaction, recipient)]

    def removed(self, recipients: Iterable[Recipient]) -> list[str]:
        """Mailboxes of those that it leaves out."""
        return [one for action in self.then if isinstance(action, RemoveTheRecipient) for one in action.among(recipients)]


def reason_of(name: str) -> str:
    """`rule-NAME` as one word."""
    return "rule-" + (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:50].strip("-") or "unnamed")
