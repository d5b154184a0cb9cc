"""Authors who look like somebody else: names of people you know, look-alikes of your domains, senders never seen before.

DMARC says whether a domain may be believed; it says nothing about domains and names that only look like yours. Scores by default.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from gateway import (
    AuthResult,
    ClientClass,
    Context,
    Duration,
    Fact,
    Finding,
    HeaderAddress,
    Label,
    Message,
    Outcome,
    Plugin,
    PluginOptions,
    Transaction,
    Verdict,
    hook,
    mailbox_key,
)
from gateway.reputation import (
    Cost,
    KnownDomains,
    Person,
    Seen,
    Sign,
    Signs,
    Suffixes,
    Thresholds,
    addresses_within,
    bears_name,
    decide_signs,
    evidence_of,
    findings_of_signs,
    person,
    plain_domain,
    plain_domains,
    suffix_library,
    verdict_of,
)

MAX_AUTHORS = 4
"""Authors, and addresses of Reply-To, that are looked at."""
MAX_SCOPES = 20
"""Recipients, or their domains, that are looked at."""
MAX_WAITING = 10_000
"""Transactions whose authors are remembered."""


class Vip(PluginOptions):
    """Somebody whose name others may use."""

    names: tuple[str, ...] = Field(min_length=1, max_length=20)
    """As people write it: `Ada Lovelace`; the order does not matter."""
    addresses: tuple[str, ...] = Field(default=(), max_length=50)
    """Whence that person really writes; `@example.org` for all of a domain."""

    @field_validator("names")
    @classmethod
    def _are_names(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            person(value)
        return values

    @field_validator("addresses")
    @classmethod
    def _are_addresses(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if not plain_domain(value.rpartition("@")[2]) or "@" not in value:
                raise ValueError(f"found {value[:100]!r}; allowed: ada@example.org or @example.org")
        return tuple(_mailbox(value) for value in values)


class Options(Thresholds):
    """Whom others may try to look like, and what each sign costs: a weight, 0, or `"defer"`, `"quarantine"`, `"reject"`."""

    domains: tuple[str, ...] = Field(default=(), max_length=200)
    """Yours, and those of partners; what lies below them is theirs too."""
    vips: tuple[Vip, ...] = Field(default=(), max_length=500)
    """People: `[[plugin.impersonation.vips]]`."""
    trusted: tuple[str, ...] = Field(default=(), max_length=1_000)
    """Author domains that may use any name, where DMARC passes: mailing lists and services that write for others."""
    vip_name: Cost = 4.0
    """The display name is a VIP's, and the address is not."""
    lookalike: Cost = 4.0
    """The domain of author or Reply-To looks like one of `domains`, bears it within, or is nearly spelt like it."""
    similar: Cost = 1.0
    """It is one of `domains` with another ending or with words added."""
    own_address_in_name: Cost = 4.0
    """The display name has an address of `domains` in it, and the author's is elsewhere."""
    address_in_name: Cost = 1.5
    """The display name has an address of another domain than the author's in it."""
    reply_to: Cost = 0.5
    """Answers go to another domain than the author's; mailing lists left out."""
    first_time: Cost = 0.5
    """None of the recipients has had mail of the author before."""
    first_time_by: Literal["mailbox", "domain", "off"] = "domain"
    """Whether each mailbox here has its own memory, or each domain."""
    remember: Duration = Field(default=180 * 86_400.0, ge=60)
    """For how long after the last message an author is known."""
    all_clients: bool = False
    """Also check authenticated clients and trusted networks."""

    @field_validator("domains", "trusted")
    @classmethod
    def _are_domains(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return plain_domains(values)


class Impersonation(Plugin[Options]):
    """Gives scores, and the label `first-time-sender`."""

    needs: ClassVar[tuple[str, ...]] = ("auth.dmarc",)

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        """OptionError without the library."""
        super().__init__(options, name=name, context=context)
        self._suffix_library = suffix_library()
        self._people: tuple[tuple[Person, frozenset[str]], ...] = tuple(
            (person(one), frozenset(vip.addresses)) for vip in self.options.vips for one in vip.names
        )
        self._authors: dict[str, tuple[tuple[str, str], ...]] = {}

    @hook
    async def startup(self, context: Context) -> None:
        """Get the suffixes."""
        self._suffixes = await asyncio.to_thread(Suffixes, self._suffix_library)
        self._domains = KnownDomains(self.options.domains, self._suffixes.registrable)
        self._seen = Seen(context, self.options.remember)

    @hook
    async def check(self, transaction: Transaction, message: Message) -> list[Finding] | None:
        """A score for each sign, and who writes for the first time."""
        is_stranger = transaction.session.client_class is ClientClass.STRANGER
        if not is_stranger and not self.options.all_clients:
            return None
        authors = message.authors[:MAX_AUTHORS]
        is_vouched = _passes_dmarc(transaction)
        signs = [*self._of_names(authors, is_vouched=is_vouched), *self._of_domains(message, authors)]
        found: list[Finding] = []
        if is_stranger and self.options.first_time_by != "off" and self.options.first_time != 0:
            news, failed = await self._news(transaction, authors, "pass" if is_vouched else "none")
            found += [Label(name="first-time-sender", evidence=_plain(one)) for one in news]
            if failed:
                found.append(Fact(name=f"{self.name}.unanswered", value="the store failed"))
            elif news and len(news) == len(self._scopes(transaction)):
                signs.append(_sign("first_time", self.options.first_time, "you have not written here before", news[0]))
        return [*findings_of_signs(signs), *found]

    @hook(cheap=True)
    def judge(self, transaction: Transaction) -> Verdict | None:
        """By the signs' own verdicts and the thresholds."""
        for found in transaction.findings.by(self.name, Signs):
            return self._verdict(found, evidence_of(transaction.findings, self.name))
        return None

    @hook
    async def done(self, transaction: Transaction, outcome: Outcome) -> None:
        """Remember authors whose mail somebody here got, and whom ours wrote to."""
        pairs = self._authors.pop(transaction.id, ())
        if not any(fate == "delivered" for _, fate in outcome.fates):
            return
        if transaction.session.client_class is not ClientClass.STRANGER:
            own = self._scope(mailbox_key(transaction.reverse_path).address)
            for recipient in transaction.recipients[:MAX_SCOPES]:
                await self._seen.note(own, mailbox_key(recipient.forward_path).address, "written to")
            return
        for scope in self._scopes(transaction):
            for author, mark in pairs:
                await self._seen.note(scope, author, mark)

    def _verdict(self, found: Signs, evidence: str) -> Verdict | None:
        step = decide_signs(found, self.options)
        return verdict_of(step, found.text, reason="impersonation-signs", box=self.options.box, evidence=evidence)

    def _of_names(self, authors: Sequence[HeaderAddress], *, is_vouched: bool) -> Iterator[Sign]:
        options = self.options
        for author in authors:
            mailbox = _mailbox(author.address)
            domain = mailbox.rpartition("@")[2]
            if not author.name or (is_vouched and _is_within(domain, options.trusted)):
                continue
            impersonated = self._impersonated(author.name, mailbox, domain)
            if impersonated and options.vip_name != 0:
                evidence = f"{author.name!a} is the name of {impersonated}, and {mailbox or author.address} is not theirs"
                yield _sign("vip_name", options.vip_name, "the author's name belongs to somebody else", evidence)
            yield from self._of_inner(author, domain)

    def _impersonated(self, name: str, mailbox: str, domain: str) -> str:
        people = [one for one, addresses in self._people if mailbox not in addresses and f"@{domain}" not in addresses]
        return bears_name(name, people)

    def _of_inner(self, author: HeaderAddress, domain: str) -> Iterator[Sign]:
        """An address within the display name: the strangest one counts."""
        options, own = self.options, self._registrable(domain)
        inner = [name for one in addresses_within(author.name) if (name := plain_domain(one.rpartition("@")[2]))]
        others = [name for name in inner if self._registrable(name) != own]
        text = "the author's name has an address in it that is another one's"
        evidence = f"{author.name!a} has an address of {', '.join(others)} in it, and is that of {author.address}"
        if any(self._domains.is_known(name) for name in others) and options.own_address_in_name != 0:
            yield _sign("own_address_in_name", options.own_address_in_name, text, evidence)
        elif others and options.address_in_name != 0:
            yield _sign("address_in_name", options.address_in_name, text, evidence)

    def _of_domains(self, message: Message, authors: Sequence[HeaderAddress]) -> Iterator[Sign]:
        options = self.options
        of_authors = [plain_domain(one.domain) for one in authors]
        of_answers = [plain_domain(one.domain) for one in message.reply_to[:MAX_AUTHORS]]
        costs = {"lookalike": options.lookalike, "similar": options.similar}
        for domain in dict.fromkeys([*of_authors, *of_answers]):
            found = self._domains.compare(domain)
            if found is not None and costs[found[0]] != 0:
                yield _sign(found[0], costs[found[0]], "the sender's domain looks like another one", found[1])
        is_list = any(message.field(name) is not None for name in ("list-id", "list-post"))
        mine = {self._registrable(domain) for domain in of_authors}
        away = [domain for domain in of_answers if domain and self._registrable(domain) not in mine]
        if away and any(of_authors) and not is_list and options.reply_to != 0:
            evidence = f"answers go to {', '.join(away)}, not to {', '.join(filter(None, of_authors))}"
            yield _sign("reply_to", options.reply_to, "answers go to another domain than the author's", evidence)

    async def _news(self, transaction: Transaction, authors: Sequence[HeaderAddress], mark: str) -> tuple[list[str], bool]:
        """`bob@example.org has not heard of alice@client.example`; True where the store failed."""
        mailboxes = [mailbox for one in authors if (mailbox := _mailbox(one.address))]
        while len(self._authors) >= MAX_WAITING:
            del self._authors[next(iter(self._authors))]
        self._authors[transaction.id] = tuple((mailbox, mark) for mailbox in mailboxes)
        news = []
        for scope in self._scopes(transaction):
            for mailbox in mailboxes:
                known = [await self._seen.has(scope, mailbox, one) for one in (mark, "written to")]
                if None in known:
                    return [], True
                if True not in known:
                    news.append(f"{scope} has had no mail of {mailbox} before")
                    break
        return news, False

    def _scopes(self, transaction: Transaction) -> list[str]:
        scopes = (self._scope(mailbox_key(one.forward_path).address) for one in transaction.recipients)
        return list(dict.fromkeys(scopes))[:MAX_SCOPES]

    def _scope(self, mailbox: str) -> str:
        return mailbox if self.options.first_time_by == "mailbox" else mailbox.rpartition("@")[2]

    def _registrable(self, domain: str) -> str:
        return self._suffixes.registrable(domain) if domain else ""


def _sign(name: str, cost: Cost, text: str, evidence: str) -> Sign:
    symbols = {"reply_to": "REPLY_TO_ELSEWHERE", "lookalike": "LOOKALIKE_DOMAIN", "similar": "SIMILAR_DOMAIN"}
    return Sign(symbols.get(name, name.upper()), cost, text, evidence)


def _mailbox(address: str) -> str:
    """In lower case, with A-labels; `` where its domain is none."""
    local_part, _, domain = address.rpartition("@")
    name = plain_domain(domain)
    return f"{local_part.lower()}@{name}" if name else ""


def _is_within(domain: str, domains: Sequence[str]) -> bool:
    return any(domain == one or domain.endswith(f".{one}") for one in domains)


def _passes_dmarc(transaction: Transaction) -> bool:
    return any(one.result == "pass" for one in transaction.findings.of(AuthResult, method="dmarc"))


def _plain(text: str) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in text)[:200]
