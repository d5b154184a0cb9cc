"""One content rule: `name`, `when`, `then`, `mode`; checked when it is made."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from gateway import Edit, PluginOptions, Verdict
from gateway.plugins.rules.actions import (
    Accept,
    Action,
    Defer,
    Discard,
    GiveScore,
    Quarantine,
    Reject,
    Skip,
    edits_of,
)
from gateway.plugins.rules.expressions import Expression, explain
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
        if sum(isinstance(action, Accept | Reject | Defer | Quarantine | Discard) for action in value) > 1:
            raise ValueError("at most one of accept, reject, defer, quarantine, discard")
        return value

    @model_validator(mode="after")
    def _compile(self) -> Rule:
        self._expression = Expression(self.when)
        if self._expression.is_about_recipient and self.skips:
            raise ValueError("skip is for the whole message: use recipients.exists(…) or recipients.all(…) instead of recipient")
        return self

    @property
    def expression(self) -> Expression:
        """The compiled condition."""
        return self._expression

    @cached_property
    def reason(self) -> str:
        """`rule-NAME` as one word."""
        return "rule-" + (re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")[:50].strip("-") or "unnamed")

    @cached_property
    def evidence(self) -> str:
        """The rule and its condition."""
        return f"rule {self.name!r}: {' '.join(self.when.split())[:500]}"

    @cached_property
    def verdict(self) -> Verdict | None:
        """What it decides; None when it decides nothing."""
        for action in self.then:
            if isinstance(action, Accept | Reject | Defer | Quarantine | Discard):
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
    def edits(self) -> tuple[Edit, ...]:
        """Header edits."""
        return edits_of(self.then)
