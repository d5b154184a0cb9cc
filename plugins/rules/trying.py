"""Runs the tests beside rules: the whole group on each message, with a context of its own that reaches nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from gateway import (
    Accept,
    AddHeader,
    AuthResult,
    Context,
    Edit,
    Fact,
    InsertHeader,
    Label,
    Message,
    PluginError,
    Quarantine,
    Recipient,
    Redirect,
    RemoveHeader,
    ReplaceHeader,
    Score,
    TagSubject,
    Transaction,
    Trial,
    Verdict,
)
from gateway.plugins.rules.cases import HOLDS, NOTHING, Case, Expected
from gateway.plugins.rules.rule import Rule, reason_of

if TYPE_CHECKING:
    from gateway.plugins.rules import Rules
    from gateway.testing import Result

MAX_MESSAGE = 50_000_000
"""Octets of a file with a message."""
_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


async def run_cases(group: Rules, base: Path) -> list[Trial]:
    """Every test of every rule of a group."""
    trials: list[Trial] = []
    with TemporaryDirectory(prefix="mailgateway-") as state:
        for rule, key, file in group.places():
            directory = base if file is None else file.path.parent
            for number, case in enumerate(rule.test):
                name = f"rule {rule.name!r}, test {case.name or number + 1}"
                context = _a_context(base, Path(state), group.moment(case.time))
                problem, told = await _run(group, rule, case, directory, context)
                place = (*key, "test", number)
                trial = Trial(name=name, key=place, problem=problem, told=told)
                trials.append(trial if file is None else replace(trial, file=str(file.path), line=file.line(place)))
    return trials


async def _run(group: Rules, rule: Rule, case: Case, directory: Path, context: Context) -> tuple[str, str]:
    """What is wrong, or ``, and the trace."""
    from gateway.testing import run_plugin

    try:
        message = _message(case, directory)
        transaction = _transaction(case)
    except (OSError, ValueError) as error:
        return f"the test cannot be run: {error}", ""
    held: list[str] = []
    try:
        plugin = group.for_case(case, context, held)
        result = await run_plugin(plugin, message=message, transaction=transaction, context=context)
    except ValueError as error:
        return f"the test cannot be run: {error}", ""
    except PluginError as error:
        return error.what, ""
    wrong = list(_Comparison(case.expect, rule, result, held).differences())
    return "; ".join(wrong), result.explain() if wrong else ""


def _message(case: Case, directory: Path) -> Message:
    from gateway.testing import a_message

    mail = case.message
    if mail.file:
        with (directory / mail.file).open("rb") as opened:
            octets = opened.read(MAX_MESSAGE + 1)
        if len(octets) > MAX_MESSAGE:
            raise ValueError(f"{mail.file} has more than {MAX_MESSAGE} octets")
        return a_message(octets if b"\r\n" in octets else octets.replace(b"\n", b"\r\n"))
    if mail.source:
        return a_message(mail.source.replace("\r\n", "\n").replace("\n", "\r\n").encode())
    files = mail.attach.items() if isinstance(mail.attach, dict) else ((name, "octets of a file") for name in mail.attach)
    return a_message(
        subject=mail.subject,
        from_=mail.author,
        to=mail.to,
        body=mail.text,
        html=mail.html,
        attach=[(name, text.encode("latin-1", "replace")) for name, text in files],
        headers=list(mail.header.items()),
    )


def _transaction(case: Case) -> Transaction:
    from gateway.testing import a_session, a_transaction

    client = case.client
    session = a_session(
        client_address=client.address,
        client_port=client.port,
        client_name=client.name,
        helo=client.helo,
        identity=client.identity,
        client_class="authenticated" if client.identity else "trusted" if client.is_trusted else "stranger",
        listener=client.listener,
        tls=case.tls,
    )
    transaction = a_transaction(reverse_path=case.reverse_path, recipients=case.recipients, session=session)
    for method, text in case.auth.items():
        result, *properties = text.split() or [""]
        pairs = tuple((name, value) for name, _, value in (one.partition("=") for one in properties))
        transaction.findings.add("test", AuthResult(method=method, result=result, properties=pairs))
    for symbol, weight in case.scores.items():
        transaction.findings.add("test", Score(symbol=symbol, weight=weight))
    for label in case.labels:
        transaction.findings.add("test", Label(name=label))
    for name, value in case.facts.items():
        transaction.findings.add("test", Fact(name=name, value=value))
    return transaction


@dataclass(frozen=True, slots=True)
class _Comparison:
    """What was expected of a rule, and what came of it."""

    expected: Expected
    rule: Rule
    result: Result
    held: Sequence[str]
    """Names of the rules that held."""

    def differences(self) -> Iterator[str]:
        """In words."""
        wanted, result = self.expected.verdict, self.result
        if not isinstance(wanted, dict):
            yield from self._of_verdict(wanted, result.verdict, is_held=self.rule.name in self.held) if wanted else ()
        else:
            for mailbox, words in wanted.items():
                if mailbox not in result.decisions:
                    yield f"no recipient {mailbox}; there are {', '.join(result.decisions)}"
                    continue
                decision = result.decisions[mailbox]
                verdict = None if decision is None else decision.verdict
                is_held = verdict is not None and verdict.reason == self.rule.reason
                yield from self._of_verdict(words, verdict, is_held=is_held, whose=f" for {mailbox}")
        yield from self._of_the_rest()

    def _of_verdict(self, wanted: str, verdict: Verdict | None, *, is_held: bool, whose: str = "") -> Iterator[str]:
        got = show_verdict(verdict)
        if wanted in {NOTHING, HOLDS}:
            if is_held is not (wanted == HOLDS):
                yield f"the rule {'holds' if is_held else 'does not hold'}{whose}, and should{'' if wanted == HOLDS else ' not'}"
        elif wanted.startswith("would "):
            watched = [show_verdict(one) for one in self.result.would]
            if not any(_begins(one, wanted.removeprefix("would ")) for one in watched):
                yield f"expected {wanted}{whose}, got {_listed(watched)}"
        elif not _begins(got, wanted):
            yield f"expected {wanted}{whose}, got {got}" + ("" if is_held else ": the rule does not hold")
        elif verdict is not None and verdict.reason != reason_of(self.expected.rule or self.rule.name):
            yield f"expected {wanted} by the rule {self.expected.rule or self.rule.name!r}{whose}, got it by {verdict.reason}"

    def _of_the_rest(self) -> Iterator[str]:
        expected = self.expected
        given = [one for name, one in self.result.transaction.findings.attributed() if name != "test"]
        if expected.score is not None:
            total = sum(one.weight for one in given if isinstance(one, Score))
            if not math.isclose(total, expected.score, abs_tol=1e-9):
                yield f"expected a score of {expected.score:g}, got {total:g}"
        if expected.recipients is not None:
            told = sorted(_told_to_the_next_hop(one) for one in self.result.recipients if _goes_on(one))
            if told != sorted(expected.recipients):
                yield f"expected it to go on to {_listed(sorted(expected.recipients))}, got {_listed(told)}"
        if expected.labels is not None:
            labels = sorted(one.name for one in given if isinstance(one, Label))
            if labels != sorted(expected.labels):
                yield f"expected the labels {_listed(sorted(expected.labels))}, got {_listed(labels)}"
        if expected.edits is not None:
            edits = [show_edit(edit) for edit in self.result.edits]
            if edits != list(expected.edits):
                yield f"expected the edits {_listed(expected.edits)}, got {_listed(edits)}"


def _goes_on(recipient: Recipient) -> bool:
    return recipient.decision is None or isinstance(recipient.decision.verdict, Accept | Redirect)


def _told_to_the_next_hop(recipient: Recipient) -> str:
    return recipient.sent_path.decode("utf-8", "replace").strip("<>") or recipient.mailbox


def _begins(found: str, wanted: str) -> bool:
    words = wanted.split()
    return found.split()[: len(words)] == words


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(f'"{text}"' for text in texts) or "none"


def show_verdict(verdict: Verdict | None) -> str:
    """`reject 550 5.7.1 Go away`, `quarantine spam`, `nothing`."""
    if verdict is None:
        return NOTHING
    word = type(verdict).__name__.lower()
    if isinstance(verdict, Quarantine):
        return f"{word} {verdict.box}"
    told = [str(getattr(verdict, name)) for name in ("code", "enhanced", "text", "next_hop") if hasattr(verdict, name)]
    return " ".join([word, *told])


def show_edit(edit: Edit) -> str:
    """`add_header X-Bulk: yes`, `tag_subject [EXTERNAL]`."""
    word = _CAPITAL.sub("_", type(edit).__name__).lower()
    match edit:
        case AddHeader() | InsertHeader() | ReplaceHeader():
            return f"{word} {edit.name}: {edit.value}"
        case RemoveHeader():
            return f"{word} {edit.name}"
        case TagSubject():
            return f"{word} {edit.tag}"
        case _:
            texts = [value for one in fields(cast("Any", edit)) if isinstance(value := getattr(edit, one.name), str) and value]
            return " ".join([word, *texts])[:200]


def _a_context(base: Path, state: Path, now: float) -> Context:
    """What the group gets for a test: nothing beyond its own files."""
    from gateway.testing import FakeContext
    from gateway.testing.context import Clock

    return cast("Context", FakeContext(base_directory=str(base), state_directory=str(state), clock=Clock(now)))
