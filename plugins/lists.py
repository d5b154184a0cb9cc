"""Allow and deny lists of each user, by sender. Shows a policy class, and verdicts for some recipients of a message only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gateway import (
    AuthResult,
    Context,
    Message,
    Plugin,
    PluginOptions,
    Recipient,
    Transaction,
    Verdict,
    WatchedFile,
    a_labels,
    accept,
    discard,
    hook,
    mailbox_key,
    quarantine,
    reject,
)

MAX_FILE = 64 * 1024 * 1024
MAX_LINE = 1_000
MAX_ENTRIES = 5_000
"""Of one user."""


class Options(PluginOptions):
    """Where the lists are, and what they do."""

    file: str
    """One entry a line, `bob@example.org deny *.shop.example`: whose list, `allow` or `deny`, and a mailbox, a domain, or `*.domain` for
    all below it. `@example.org` in front: the list of everybody there. `#` begins a comment. Read again when it changes."""
    subaddress: str = "+"
    """Characters that begin a subaddress of a user."""
    then: Literal["reject", "discard", "quarantine"] = "reject"
    """What becomes of mail from senders that a user denies."""
    unauthenticated: bool = False
    """Whether `allow` counts for senders that neither DMARC nor SPF vouches for: anybody may write them into a message."""


@dataclass(slots=True)
class Entries:
    """One user's lists."""

    allow: set[str] = field(default_factory=set)
    deny: set[str] = field(default_factory=set)

    @property
    def digest(self) -> str:
        """Users with equal lists are one policy class."""
        text = "\n".join([*sorted(self.allow), "", *sorted(self.deny)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class User:
    """What the hooks need of one user's lists."""

    allow: frozenset[str]
    deny: frozenset[str]
    digest: str


class Lists(Plugin[Options]):
    """Decides for each recipient by its own lists."""

    @hook
    async def startup(self, context: Context) -> None:
        """Read the lists. ValueError with the line that is none."""
        self._file = WatchedFile(self.options.file, read=read_lists, context=context)
        await self._file.load()

    @hook(cheap=True)
    def policy_class(self, recipient: Recipient) -> str | None:
        """Users with different lists may fare differently with one message: each class comes in a transaction of its own."""
        users = self._users(recipient)
        return " ".join(user.digest for user in users) or None

    @hook(cheap=True)
    def judge(self, transaction: Transaction, message: Message) -> list[Verdict]:
        """What each recipient's lists say of the sender."""
        senders = _senders(transaction, message)
        vouched = senders if self.options.unauthenticated else _vouched(transaction, message)
        verdicts: list[Verdict] = []
        for recipient in transaction.undecided:
            users = self._users(recipient)
            if found := _first(vouched, [user.allow for user in users]):
                verdicts.append(accept("listed-allow", evidence=f"{found} is allowed").only(recipient.mailbox))
            elif found := _first(senders, [user.deny for user in users]):
                verdicts.append(self._denied(f"{found} is denied").only(recipient.mailbox))
        return verdicts

    def _users(self, recipient: Recipient) -> list[User]:
        """The recipient's own list, and that of its whole domain."""
        key = mailbox_key(recipient.forward_path, subaddress=self.options.subaddress)
        lists = self._file.value
        return [lists[name] for name in (key.address, f"@{key.domain}") if name in lists]

    def _denied(self, evidence: str) -> Verdict:
        match self.options.then:
            case "reject":
                return reject(
                    "The recipient takes no mail from this sender",
                    code=550,
                    enhanced="5.7.1",
                    reason="listed-deny",
                    evidence=evidence,
                )
            case "discard":
                return discard("listed-deny", evidence=evidence)
            case "quarantine":
                return quarantine("listed-deny", evidence=evidence)


def _senders(transaction: Transaction, message: Message) -> list[str]:
    """The mailbox of the reverse-path, and those of From."""
    return [
        one for one in (mailbox_key(transaction.reverse_path).address, *(_lower(one) for one in message.author_addresses)) if one
    ]


def _vouched(transaction: Transaction, message: Message) -> list[str]:
    """Those that somebody vouches for: authors by DMARC, where there is one domain of them only; the reverse-path by SPF."""
    results = transaction.findings.of(AuthResult)
    found: list[str] = []
    if len(message.author_domains) == 1 and any(one.method == "dmarc" and one.result == "pass" for one in results):
        found += [_lower(one) for one in message.author_addresses]
    path = mailbox_key(transaction.reverse_path)
    by_spf = [one.property("smtp.mailfrom") for one in results if one.method == "spf" and one.result == "pass"]
    if path.domain and any((value or "").rpartition("@")[2].lower().rstrip(".") == path.domain for value in by_spf):
        found.append(path.address)
    return found


def _lower(address: str) -> str:
    local_part, _, domain = address.rpartition("@")
    return f"{local_part.casefold()}@{(a_labels(domain) or domain.lower()).removesuffix('.')}"


def _first(senders: Iterable[str], lists: list[frozenset[str]]) -> str:
    """The first entry that fits a sender: its mailbox, its domain, or `*.` and a domain above it."""
    for sender in senders:
        domain = sender.rpartition("@")[2]
        labels = domain.split(".")[:20]
        names = [sender, domain, *("*." + ".".join(labels[count:]) for count in range(1, len(labels)))]
        for name in names:
            if any(name in entries for entries in lists):
                return name
    return ""


def read_lists(path: Path) -> dict[str, User]:
    """The file. ValueError names the line that is none."""
    with path.open("rb") as file:
        octets = file.read(MAX_FILE + 1)
    if len(octets) > MAX_FILE:
        raise ValueError(f"{path}: more than {MAX_FILE} octets")
    users: dict[str, Entries] = {}
    for number, line in enumerate(octets.splitlines(), 1):
        if len(line) > MAX_LINE:
            raise ValueError(f"{path}:{number}: more than {MAX_LINE} octets")
        try:
            words = line.decode("utf-8").partition("#")[0].split()
        except UnicodeDecodeError:
            raise ValueError(f"{path}:{number}: not UTF-8") from None
        if not words:
            continue
        if len(words) != 3 or words[1] not in {"allow", "deny"} or "@" not in words[0] or not words[2].rpartition("@")[2]:
            found = " ".join(words)[:80]
            raise ValueError(f"{path}:{number}: found {found!r}; allowed: bob@example.org deny *.shop.example")
        entries = users.setdefault(_lower(words[0]), Entries())
        (entries.allow if words[1] == "allow" else entries.deny).add(_entry(words[2]))
        if len(entries.allow) + len(entries.deny) > MAX_ENTRIES:
            raise ValueError(f"{path}:{number}: more than {MAX_ENTRIES} entries of {words[0]}")
    return {name: User(frozenset(one.allow), frozenset(one.deny), one.digest) for name, one in users.items()}


def _entry(text: str) -> str:
    return _lower(text) if "@" in text.lstrip("@") else _lower(f"@{text.lstrip('@')}")[1:]
