"""Sieve (RFC 5228): scripts of a site, and of its recipients, say what becomes of a message. The table is in docs/plugins/sieve.md."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import Field, field_validator

from gateway import (
    Accept,
    ClientClass,
    ConfigError,
    ConfigProblem,
    Context,
    Edit,
    Label,
    Message,
    Plugin,
    PluginOptions,
    Recipient,
    Redirect,
    Score,
    Transaction,
    Verdict,
    add_header,
    discard,
    hook,
    mailbox_key,
    quarantine,
    reject,
    remove_header,
)
from gateway.plugins.sieve.language import MAX_SIZE, Script, ScriptError, read_script
from gateway.plugins.sieve.running import About, Budget, Outcome, run

TEXT = "Message refused by the policy of this site"
_MAX_WAITING = 10_000
"""Transactions whose edits are remembered between `judge` and `rewrite`."""
_MAX_TEXT = 300


class Options(PluginOptions):
    """The scripts, and what their mailboxes are here."""

    script: str = ""
    """A file with the site's script, run for every message. Relative names start at the directory of the configuration."""
    recipients: dict[str, str] = Field(default={}, max_length=10_000)
    """Files with scripts of recipients, by mailbox (`bob@example.org`) or domain (`@example.org`): run after the site's, where that left the message alone."""
    boxes: dict[str, str] = Field(default={})
    """Boxes of the quarantine by the mailboxes of `fileinto`; of others the name itself, in lower case."""
    junk: tuple[str, ...] = ("Junk", "Spam")
    """Mailboxes of `fileinto` that are no boxes: the message goes on with `junk_field`."""
    junk_field: str = "X-Spam-Flag: YES"
    """`Name: value`. Copies of the field from others than trusted clients are removed, where a script has `fileinto`."""
    spam_score: float = Field(default=10.0, gt=0)
    """The sum of scores that is 10, or 100 percent, for `spamtest`."""

    @field_validator("boxes")
    @classmethod
    def _are_boxes(cls, value: dict[str, str]) -> dict[str, str]:
        for box in value.values():
            quarantine("sieve", box=box)
        return value

    @field_validator("junk_field")
    @classmethod
    def _is_field(cls, value: str) -> str:
        name, colon, body = value.partition(":")
        if not colon or not body.strip():
            raise ValueError('a field as "Name: value"')
        add_header(name, body.strip())
        return value


class Sieve(Plugin[Options]):
    """Runs the scripts at `judge`."""

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        """Reads the scripts. ConfigError for every mistake in them, with file and line."""
        super().__init__(options, name=name, context=context)
        base = Path() if context is None else Path(context.base_directory)
        names = dict.fromkeys([*filter(None, [self.options.script]), *self.options.recipients.values()])
        scripts: dict[str, Script] = {}
        problems: list[ConfigProblem] = []
        for file in names:
            try:
                scripts[file] = _read(base / file)
            except ScriptError as error:
                problems.append(
                    ConfigProblem(
                        file=str(base / file), line=error.line, key="script", found=error.found, allowed="Sieve (RFC 5228)"
                    )
                )
        if problems:
            raise ConfigError(problems)
        self._files = tuple(base / file for file in names)
        self._site = scripts.get(self.options.script)
        self._of = {key.lower(): scripts[file] for key, file in self.options.recipients.items()}
        every = scripts.values()
        self._edits_some = any(script.edits for script in every)
        self._marks_junk = any(node.name == "fileinto" for script in every for node in script.walk())
        field, _, value = self.options.junk_field.partition(":")
        self._junk_field = (field, value.strip())
        self._edits: dict[str, tuple[Edit, ...]] = {}

    @property
    def files_read(self) -> Sequence[Path]:
        """The scripts."""
        return self._files

    @property
    def unused_hooks(self) -> frozenset[str]:
        """What these scripts do not need."""
        needs = {"policy_class": bool(self._of), "rewrite": self._edits_some, "done": self._edits_some}
        return frozenset(name for name, is_needed in needs.items() if not is_needed)

    @hook(cheap=True)
    def policy_class(self, recipient: Recipient) -> str | None:
        """Recipients with scripts of their own come in transactions of their own."""
        script = self._script_of(recipient)
        return script.name if script is not None else None

    @hook
    def judge(self, transaction: Transaction, message: Message) -> list[Verdict | Label] | None:
        """Run the scripts for everybody who is undecided."""
        outcomes = self._outcomes(transaction, message)
        labels = {one.error: Label(name="sieve-error", evidence=one.error[:1_000]) for one in outcomes.values() if one.error}
        edits = {self._edits_of(one) for one in outcomes.values() if one.action in {"keep", "fileinto"}}
        answers: list[Verdict | Label] = list(labels.values())
        if len(edits) == 1:
            self._remember(transaction.id, edits.pop())
        elif edits:
            answers.append(
                Label(name="sieve-edits-differ", evidence="recipients of one message want different changes: none is made")
            )
        by_outcome: dict[Outcome, list[str]] = {}
        for mailbox, one in outcomes.items():
            by_outcome.setdefault(replace(one, edits=(), error=""), []).append(mailbox)
        for outcome, mailboxes in by_outcome.items():
            verdict = self._verdict(outcome)
            if verdict is not None:
                answers.append(verdict if len(mailboxes) == len(outcomes) else verdict.only(*mailboxes))
        return answers or None

    @hook(cheap=True)
    def rewrite(self, transaction: Transaction, message: Message) -> list[Edit] | None:
        """What the scripts change; of the mark of junk only ours stays."""
        edits = self._edits.pop(transaction.id, ())
        name, value = self._junk_field
        mark = add_header(name, value)
        is_junk = mark in edits
        found = [one for one in edits if one != mark]
        if self._marks_junk and (is_junk or transaction.session.client_class is not ClientClass.TRUSTED):
            found += [remove_header(name)] if message.field(name) or message.header.is_cut else []
            decisions = [one.decision for one in transaction.recipients]
            if is_junk and any(one is None or isinstance(one.verdict, Accept | Redirect) for one in decisions):
                found.append(mark)
        return found or None

    @hook(cheap=True)
    def done(self, transaction: Transaction) -> None:
        """Forget the edits of a message that went nowhere."""
        self._edits.pop(transaction.id, None)

    def _outcomes(self, transaction: Transaction, message: Message) -> dict[str, Outcome]:
        """By mailbox."""
        budget = Budget()
        scores = transaction.findings.of(Score)
        spam = min(1.0, max(0.0, sum(one.weight for one in scores) / self.options.spam_score)) if scores else None
        sender = transaction.reverse_path.mailbox
        shared: Outcome | None = None
        outcomes: dict[str, Outcome] = {}
        for recipient in transaction.undecided:
            about = About(message, sender, recipient.mailbox, spam)
            found = Outcome("keep")
            if self._site is not None:
                if shared is None or self._site.is_about_recipient:
                    shared = run(self._site, about, budget)
                found = shared
            own = self._script_of(recipient)
            if own is not None and found.is_implicit and not found.error:
                theirs = run(own, about, budget)
                found = replace(theirs, edits=(*found.edits, *theirs.edits))
            outcomes[recipient.mailbox] = replace(found, text=found.text[:1_000])
        return outcomes

    def _script_of(self, recipient: Recipient) -> Script | None:
        key = mailbox_key(recipient.forward_path)
        return self._of.get(key.address) or self._of.get(f"@{key.domain}")

    def _is_junk(self, outcome: Outcome) -> bool:
        return outcome.action == "fileinto" and outcome.text.lower() in {one.lower() for one in self.options.junk}

    def _edits_of(self, outcome: Outcome) -> tuple[Edit, ...]:
        return (*outcome.edits, add_header(*self._junk_field)) if self._is_junk(outcome) else outcome.edits

    def _verdict(self, outcome: Outcome) -> Verdict | None:
        told = f"{outcome.script} line {outcome.line}: {outcome.action} {outcome.text!r}"[:1_000]
        match outcome.action:
            case "reject":
                return reject(_as_reply(outcome.text), reason="sieve-reject", evidence=told)
            case "discard":
                return discard("sieve-discard", evidence=told)
            case "fileinto" if not self._is_junk(outcome):
                return quarantine("sieve-fileinto", box=self._box(outcome.text), evidence=told)
            case _:
                return None

    def _box(self, mailbox: str) -> str:
        named: Mapping[str, str] = {name.lower(): box for name, box in self.options.boxes.items()}
        slug = re.sub(r"[^a-z0-9_-]+", "-", mailbox.lower()).strip("-_")[:32].strip("-_")
        return named.get(mailbox.lower()) or slug or "default"

    def _remember(self, transaction: str, edits: tuple[Edit, ...]) -> None:
        if not edits:
            return
        while len(self._edits) >= _MAX_WAITING:
            self._edits.pop(next(iter(self._edits)))
        self._edits[transaction] = edits


def _read(file: Path) -> Script:
    """ScriptError."""
    try:
        octets = file.read_bytes()[: MAX_SIZE + 1]
    except OSError as error:
        raise ScriptError(1, str(error.strerror or error)) from error
    try:
        text = octets.decode()
    except UnicodeDecodeError as error:
        raise ScriptError(octets.count(b"\n", 0, error.start) + 1, "octets that are not UTF-8") from error
    return read_script(text, file.name)


def _as_reply(text: str) -> str:
    """On one line, in printable ASCII (RFC 5321 4.2)."""
    plain = unicodedata.normalize("NFKD", " ".join(text.split())).encode("ascii", "ignore").decode()
    return "".join(c for c in plain if " " <= c <= "~").strip()[:_MAX_TEXT].strip() or TEXT
