"""Content rules: conditions in CEL over facts of envelope, client, message and findings, and what is done where they hold.

A group of rules is one use of this plugin: `[[rule]]` in the configuration is the group `rules`, others are made by
`exceptions = { use = "rules", … }` and stand anywhere in the chain. Rules are asked in order; the first that decides a
recipient ends the group for that recipient.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import datetime as dt
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias, cast

from pydantic import Field, field_validator

from gateway import (
    Accept,
    ClientClass,
    Context,
    Edit,
    Message,
    OptionError,
    OptionMistake,
    Plugin,
    PluginOptions,
    Recipient,
    Redirect,
    Transaction,
    Trial,
    add_header,
    hook,
)
from gateway.plugins.rules.cases import Case
from gateway.plugins.rules.doing import Answer, AtRcpt, Doing, asked_at_rcpt
from gateway.plugins.rules.expressions import TROUBLES, Expression, Together, Value
from gateway.plugins.rules.facts import Subject
from gateway.plugins.rules.files import MAX_LISTS, ListName, read_files
from gateway.plugins.rules.header import cleared, field_of
from gateway.plugins.rules.lists import ListOptions
from gateway.plugins.rules.naming import Place, check_names, lists_of
from gateway.plugins.rules.plain import Test
from gateway.plugins.rules.rates import MAX_RATES, count
from gateway.plugins.rules.rule import Rule
from gateway.plugins.rules.searching import Patterns
from gateway.plugins.rules.site import Direction, Site, domains_of
from gateway.plugins.rules.tree import ExpressionError
from gateway.plugins.rules.windows import parse_zone

_LARGE = 65_536
"""Octets of a message above which expressions that look through the content run in a thread."""
_SMALL = 4_096
"""The same where words are looked for in lists, or names compared."""
_MANY = 500
"""Rules of a group above which it is asked in a thread: each costs some microseconds."""
_OF_FILES = frozenset(["files", "message.files_limits_hit"])
"""Facts for which the files of a message are opened."""
_MAX_AT_ONCE = 50
"""Rules asked at once."""
MAX_RULES = 10_000
"""Of one group."""
_MAX_WAITING = 10_000
"""Transactions whose edits are remembered between `judge` and `rewrite`."""

_Turn: TypeAlias = tuple[Rule, Expression, Test | None, int | None]
"""A rule, the test of one that is the same for all recipients and needs no library, and its place among the answers of those asked at once."""
_Run: TypeAlias = tuple[tuple[_Turn, ...], Together | None]
"""Rules in their order, and those of them that are asked at once, if there are some."""

__all__ = ["Options", "Rule", "Rules"]


class Options(PluginOptions):
    """Options of a group."""

    rule: tuple[Rule, ...] = Field(default=(), max_length=MAX_RULES)
    """The rules, in order."""
    files: tuple[str, ...] = Field(default=(), max_length=100)
    """Files with more `[[rule]]` tables, or directories whose `*.toml` are read in the order of their names; asked after those of `rule`."""
    list: dict[ListName, ListOptions] = Field(default={}, max_length=MAX_LISTS)
    """Named lists, for `in_list()`: `[list.NAME]` at the top of the configuration, for all groups."""
    domains: tuple[str, ...] = ()
    """Ours, with all below them, for `direction` and `recipient.is_ours`."""
    directions: dict[str, Direction] = Field(default={})
    """Of listeners whose mail goes one way only: `{ submission = "outbound" }`."""
    time_zone: str = ""
    """For `within()`: `Europe/Berlin`; that of this host where there is none."""
    junk_field: str = "X-Spam-Flag: YES"
    """The field of the action `junk`. Where a rule of the group has it, copies of the field from others than trusted clients are removed."""

    @field_validator("time_zone")
    @classmethod
    def _is_zone(cls, value: str) -> str:
        parse_zone(value)
        return value

    @field_validator("junk_field")
    @classmethod
    def _is_field(cls, value: str) -> str:
        field_of(value)
        return value


class Rules(Plugin[Options]):
    """One group of rules."""

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        """Reads the files. ConfigError and OptionError for mistakes in them and in the rules together."""
        super().__init__(options, name=name, context=context)
        self._base = Path() if context is None else Path(context.base_directory)
        self._files = read_files(self.options.files, self._base)
        self.rules = (*self.options.rule, *self._files.rules)
        if len(self.rules) > MAX_RULES:
            raise OptionError(OptionMistake(key=("files",), found=f"{len(self.rules)} rules", allowed=f"at most {MAX_RULES}"))
        check_names(self.places(), lists := lists_of(self.options.list, self._files.files, self._base))
        self._site = Site(lists, domains_of(self.options.domains), self.options.directions, self.options.time_zone)
        patterns = Patterns()
        for rule in self.rules:
            rule.expression.join(patterns)
        patterns.prepare()
        if len(patterns.rates) > MAX_RATES:
            raise OptionError(OptionMistake(key=("rule",), found=f"{len(patterns.rates)} rates", allowed=f"at most {MAX_RATES}"))
        self._rates = tuple((rate, Value(rate.key)) for rate in patterns.rates)
        self._opens = any(_OF_FILES & one.facts for rule in self.rules for one in rule.expressions)
        self._at_rcpt = tuple(rule for rule in self.rules if rule.at == "rcpt")
        self._runs = tuple(_runs([rule for rule in self.rules if rule.at == "content"], patterns))
        self._marks_junk = any(rule.is_junk and rule.mode == "enforce" for rule in self.rules)
        is_slow = any(rule.expression.is_slow for rule in self.rules)
        self._large = _SMALL if is_slow else _LARGE if any(rule.is_heavy for rule in self.rules) else sys.maxsize
        self._edits: dict[str, tuple[tuple[Edit, ...], bool]] = {}
        """What the rules change, and whether they call it junk."""
        self._held: list[str] | None = None
        self._case: Case | None = None

    async def trials(self) -> Sequence[Trial]:
        """The tests of all rules."""
        from gateway.plugins.rules.trying import run_cases  # it brings the kit for tests along

        return await run_cases(self, self._base)

    def places(self) -> Iterator[Place]:
        """Each rule with its key in the options, or in the file it is from."""
        for number, rule in enumerate(self.options.rule):
            yield rule, ("rule", number), None
        for file in self._files.files:
            for number, rule in enumerate(file.value.rule):
                yield rule, ("rule", number), file

    def moment(self, time: dt.datetime) -> float:
        """A time of a test in seconds since the epoch; one without a zone is the group's."""
        return (time if time.tzinfo is not None else time.replace(tzinfo=parse_zone(self.options.time_zone))).timestamp()

    def for_case(self, case: Case, context: Context, held: list[str]) -> Rules:
        """The same group for a test: with a context that reaches nothing, and a list for the rules that hold. ValueError."""
        group = copy.copy(self)
        group.begin_case(case, context, held)
        return group

    def begin_case(self, case: Case, context: Context, held: list[str]) -> None:
        """Nothing of the group's own state is left."""
        self.context = context
        self._case = case
        self._held = held
        self._edits = {}
        self._site = replace(self._site, lists=self._site.lists.with_entries(case.lists))

    @hook
    async def startup(self, context: Context) -> None:
        """Read the lists. OSError or ValueError for a file that cannot be used; what is away does not stop the start."""
        await self._site.lists.start(context)

    @hook
    async def shutdown(self) -> None:
        """Leave the lists alone."""
        await self._site.lists.close()

    @property
    def files_read(self) -> Sequence[Path]:
        """Files of rules, and directories of them."""
        return self._files.watched

    @property
    def passes_over(self) -> Mapping[str, str]:
        """The plugins that rules skip, each with the first rule that does."""
        found: dict[str, str] = {}
        for rule in self.rules:
            for name in rule.skips:
                found.setdefault(name, f"rule {rule.name!r}")
        return found

    @property
    def redirects_to(self) -> Mapping[str, str]:
        """The routes that rules redirect to, each with the first rule that does."""
        found: dict[str, str] = {}
        for rule in self.rules:
            if rule.redirects_to:
                found.setdefault(rule.redirects_to, f"rule {rule.name!r}")
        return found

    @property
    def unused_hooks(self) -> frozenset[str]:
        """What no rule of the group needs."""
        edits = any(rule.changes for rule in self.rules)
        needs = {"rcpt": bool(self._at_rcpt), "judge": bool(self._runs), "rewrite": edits, "done": edits}
        return frozenset(name for name, is_needed in needs.items() if not is_needed)

    @hook(cheap=True)
    def rcpt(self, transaction: Transaction, recipient: Recipient) -> list[AtRcpt] | None:
        """Ask the rules that are about the envelope, in order."""
        nothing = cast("Message", None)  # there is none yet; none of their facts and functions reads it
        subject = Subject(transaction, nothing, recipient=recipient, site=self._site, now=self.context.clock())
        return asked_at_rcpt(self._at_rcpt, subject, recipient, self._held) or None

    @hook
    async def judge(self, transaction: Transaction, message: Message) -> list[Answer] | None:
        """Ask the rules in order."""
        subject = Subject(transaction, message, site=self._site, now=self.context.clock())
        if self._rates:
            await self._count(subject)
        if self._opens:
            subject.opened = await self.context.open_files(message)
        if message.size > self._large or len(self.rules) > _MANY:
            done = await asyncio.to_thread(self._ask, subject)
        else:
            done = self._ask(subject)
        if done.edits or done.is_junk:
            while len(self._edits) >= _MAX_WAITING:
                self._edits.pop(next(iter(self._edits)))
            self._edits[transaction.id] = (tuple(done.edits), done.is_junk)
        return done.answers or None

    @hook(cheap=True)
    def rewrite(self, transaction: Transaction, message: Message) -> list[Edit] | None:
        """What the rules that held change, and the mark of junk: ours where they say so, nobody else's."""
        edits, is_junk = self._edits.pop(transaction.id, ((), False))
        found = list(edits)
        if self._marks_junk and (is_junk or transaction.session.client_class is not ClientClass.TRUSTED):
            found += cleared(self.options.junk_field, message)
            if is_junk and _goes_on(transaction):
                found.append(add_header(*field_of(self.options.junk_field)))
        return found or None

    @hook(cheap=True)
    def done(self, transaction: Transaction) -> None:
        """Forget the edits of a message that went nowhere."""
        self._edits.pop(transaction.id, None)

    async def _count(self, subject: Subject) -> None:
        """The rates, before the rules are asked. StorageError."""
        if self._case is not None and self._case.rate:
            subject.rates = [self._case.rate] * len(self._rates)
            return
        keys = [value.of(subject) for _, value in self._rates]
        subject.rates = await count([rate for rate, _ in self._rates], keys, subject.now, self.context)

    def _ask(self, subject: Subject) -> Doing:
        doing = Doing(subject)
        for turns, together in self._runs:
            answers = None if together is None else together.hold(subject)
            for rule, expression, test, place in turns:
                if test is not None:
                    try:
                        if not test(subject):  # most rules hold for few messages
                            continue
                    except TROUBLES as error:
                        raise ValueError(f"rule {rule.name!r}: {error} in: {rule.when}") from error
                    matched = doing.left
                elif answers is not None and place is not None:
                    matched = doing.left if answers[place] else []
                else:
                    matched = _matched(rule, expression, subject, doing.left)
                if matched:
                    if self._held is not None:
                        self._held.append(rule.name)
                    doing.carry_out(rule, matched)
                    if not doing.left:
                        return doing
        return doing


def _goes_on(transaction: Transaction) -> bool:
    """Whether somebody gets it now. What is only held has no mark: who releases it wants it in the inbox."""
    decisions = [one.decision for one in transaction.recipients]
    return any(one is None or isinstance(one.verdict, Accept | Redirect) for one in decisions)


def _runs(rules: Sequence[Rule], patterns: Patterns) -> Iterator[_Run]:
    """The rules in order, those together that the library can be asked for at once; None: there is nothing to be asked at once.

    At once means before the first of them has done anything. So a rule that looks at scores begins a run, for those above give some, and one that
    looks through the content does too, for those above may decide without it. Rules that need no library are asked when it is their turn.
    """
    waiting: list[Rule] = []

    def run() -> _Run:
        found = list(waiting)
        waiting.clear()
        asked = [rule.expression for rule in found if rule.expression.plain is None]
        if len(asked) > 1:
            with contextlib.suppress(ExpressionError):  # too much at once for the library, though each is right by itself
                together = Together(asked, patterns)
                places = {id(expression): place for place, expression in enumerate(asked)}
                return tuple(_turn(rule, places.get(id(rule.expression))) for rule in found), together
        return tuple(_turn(rule, None) for rule in found), None

    for rule in rules:
        expression = rule.expression
        is_first_heavy = expression.is_heavy and not any(one.expression.is_heavy for one in waiting)
        begins = (
            is_first_heavy or expression.is_about_recipient or "score.total" in expression.facts or "labels" in expression.facts
        )
        if waiting and (begins or len(waiting) >= _MAX_AT_ONCE):
            yield run()
        waiting.append(rule)
        if expression.is_about_recipient:
            yield run()
    if waiting:
        yield run()


def _turn(rule: Rule, place: int | None) -> _Turn:
    expression = rule.expression
    return rule, expression, None if expression.is_about_recipient else expression.plain, place


def _matched(rule: Rule, expression: Expression, subject: Subject, left: list[Recipient]) -> list[Recipient]:
    """The recipients for which a rule holds: all or none, unless it asks about `recipient`."""
    try:
        if not expression.is_about_recipient:
            return left if expression.holds(subject) else []
        matched = []
        for recipient in left:
            subject.recipient = recipient
            if expression.holds(subject):
                matched.append(recipient)
    except ValueError as error:
        raise ValueError(f"rule {rule.name!r}: {error}") from error
    return matched
