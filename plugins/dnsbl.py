"""Lists in DNS about the client's address and the domains of the envelope: DNSBL, DNSWL, RHSBL. RFC 5782.

The look-ups begin at MAIL and are under way while recipients and content come. Nothing is refused unless a threshold says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from gateway import (
    AuthResult,
    ClientClass,
    Context,
    Defer,
    Duration,
    Finding,
    Message,
    Plugin,
    Quarantine,
    Reject,
    Session,
    Transaction,
    Verdict,
    defer,
    hook,
    reject,
)
from gateway.reputation import (
    PRIVATE,
    Answer,
    DnsList,
    Key,
    Kind,
    Listings,
    ListOptions,
    Step,
    Suffixes,
    Thresholds,
    address_key,
    ask_all,
    domain_key,
    evidence_of,
    findings_of,
    parse_address,
    plain_domain,
    step_of,
    suffix_library,
    verdict_of,
    watch,
    weigh,
)

MAX_LISTS = 50
MAX_AUTHORS = 4
"""Author domains that are asked about."""
MAX_WAITING = 10_000
"""Transactions whose look-ups are remembered."""

Identity = Literal["client", "helo", "reverse_path", "author"]


class AskedList(ListOptions):
    """One list, and what it is asked about."""

    of: tuple[Identity, ...] = Field(default=("client",), min_length=1)
    """`client`: its address; `helo`, `reverse_path`, `author`: their domains."""
    ipv6: bool = True
    """Whether it is asked about IPv6 addresses."""
    registrable: bool = False
    """Ask about the registrable domain instead of the whole one (extra `reputation`)."""


class Options(Thresholds):
    """Which lists, and what comes of their answers."""

    lists: tuple[AskedList, ...] = Field(default=(), max_length=MAX_LISTS)
    """The lists: `[[plugin.dnsbl.lists]]`."""
    at: Literal["content", "rcpt", "connect"] = "content"
    """When the thresholds count first: after the content; at each RCPT, without the author's domain; or before the greeting, by the client's
    address only: not where users log in, for who they are is not known then."""
    exempt: tuple[IPv4Network | IPv6Network, ...] = PRIVATE
    """Client networks whose mail is not checked."""
    unanswered: Literal["ignore", "fault"] = "ignore"
    """Lists that do not answer, where their answers could change what happens: `fault` is one for `on_error` to decide."""
    time_limit: Duration = Field(default=5.0, gt=0)
    """For all lists at once; never more than nine tenths of the plugin's `timeout`."""
    probe: Duration = Field(default=3_600.0, ge=0)
    """How often the test entries of each list are looked up, for the log; 0: never."""
    all_clients: bool = False
    """Also check authenticated clients and trusted networks."""

    @model_validator(mode="after")
    def _has_addresses(self) -> Options:
        if self.at == "connect" and not any("client" in one.of for one in self.lists):
            raise ValueError('found at = "connect" and no list of = ["client"]; allowed: one, for nothing else is known then')
        return self


class Dnsbl(Plugin[Options]):
    """Gives scores, and `auth.dnswl` where a list speaks for the client."""

    gives: ClassVar[tuple[str, ...]] = ("auth.dnswl",)

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        """OptionError without the library, where a list asks about registrable domains."""
        super().__init__(options, name=name, context=context)
        self._suffix_library = suffix_library() if any(one.registrable for one in self.options.lists) else None
        self._suffixes: Suffixes | None = None
        self._lists: tuple[tuple[AskedList, DnsList], ...] = ()
        self._begun: dict[str, asyncio.Task[tuple[Answer, ...]]] = {}

    @hook
    async def startup(self, context: Context) -> None:
        """Get the suffixes, and begin to look at the lists' test entries."""
        if self._suffix_library is not None:
            self._suffixes = await asyncio.to_thread(Suffixes, self._suffix_library)
        self._lists = tuple((one, DnsList(one, prefix="DNSBL", clock=context.clock)) for one in self.options.lists)
        if self.options.probe and self._lists:
            kinds = [(one, kind) for options, one in self._lists for kind in _kinds(options)]
            context.spawn(watch(kinds, context, self.options.probe), name="look at the lists' test entries")

    @hook
    async def connect(self, session: Session) -> Reject | Defer | None:
        """By the client's address, where `at` says so."""
        if self.options.at != "connect" or not self._is_concerned(session):
            return None
        answers = await self._ask(self._of_client(session))
        match self._decide(whole := weigh(answers)):
            case "reject":
                return reject(f"Refused: {whole.what}", code=554, reason="dnsbl-listed", evidence=_evidence(answers))
            case "defer" | "quarantine":
                return defer(f"Not now: {whole.what}", code=421, reason="dnsbl-listed", evidence=_evidence(answers))
            case _:
                return None

    @hook(cheap=True)
    def mail(self, transaction: Transaction) -> None:
        """Begin with what the envelope tells."""
        if self._lists and self._is_concerned(transaction.session):
            self._begin(transaction)

    @hook
    async def rcpt(self, transaction: Transaction) -> Reject | Defer | None:
        """By the envelope, where `at` says so."""
        if self.options.at != "rcpt" or not self._is_concerned(transaction.session):
            return None
        answers = await self._of_envelope(transaction)
        verdict = self._verdict(weigh(answers), _evidence(answers))
        return verdict if isinstance(verdict, Reject | Defer) else None

    @hook
    async def check(self, transaction: Transaction, message: Message) -> list[Finding] | None:
        """A score for each listing, and what all lists say together."""
        if not self._lists or not self._is_concerned(transaction.session):
            return None
        authors, answers = await asyncio.gather(self._ask(self._of_authors(message)), self._of_envelope(transaction))
        return [*findings_of([*answers, *authors], self.name), *map(_dnswl, filter(_speaks_for, answers))]

    @hook(cheap=True)
    def judge(self, transaction: Transaction) -> Verdict | None:
        """By the thresholds. LookupFailedError where lists that do not answer could change it and are a fault."""
        for found in transaction.findings.by(self.name, Listings):
            return self._verdict(found, evidence_of(transaction.findings, self.name))
        return None

    @hook(cheap=True)
    def done(self, transaction: Transaction) -> None:
        """Forget the look-ups."""
        task = self._begun.pop(transaction.id, None)
        if task is not None:
            task.cancel()

    @hook(cheap=True)
    def shutdown(self) -> None:
        """End them."""
        while self._begun:
            self._begun.popitem()[1].cancel()

    def _is_concerned(self, session: Session) -> bool:
        if session.client_class is not ClientClass.STRANGER and not self.options.all_clients:
            return False
        address = parse_address(session.client_address)
        return address is None or not any(address in network for network in self.options.exempt)

    def _begin(self, transaction: Transaction) -> asyncio.Task[tuple[Answer, ...]]:
        while len(self._begun) >= MAX_WAITING:
            del self._begun[next(iter(self._begun))]  # not cancelled: somebody may be waiting for it
        questions = [*self._of_client(transaction.session), *self._of_domains(transaction)]
        task = asyncio.get_running_loop().create_task(self._ask(questions), name=f"{self.name} {transaction.id}")
        self._begun[transaction.id] = task
        return task

    async def _of_envelope(self, transaction: Transaction) -> tuple[Answer, ...]:
        """What was begun at MAIL; whoever waits for it does not take it from the others."""
        task = self._begun.get(transaction.id)
        if task is None or task.cancelled():
            task = self._begin(transaction)
        return await asyncio.shield(task)

    async def _ask(self, questions: Iterable[tuple[DnsList, Key]]) -> tuple[Answer, ...]:
        limit = min(self.options.time_limit, 0.9 * self.hook_limit)
        return await ask_all(questions, self.context.resolver, limit)

    def _of_client(self, session: Session) -> Iterator[tuple[DnsList, Key]]:
        address = parse_address(session.client_address)
        if address is None:
            return
        key = address_key(address)
        for options, one in self._lists:
            if "client" in options.of and (key.kind == "ipv4" or options.ipv6):
                yield one, key

    def _of_domains(self, transaction: Transaction) -> Iterator[tuple[DnsList, Key]]:
        yield from self._of_names("helo", [transaction.session.helo])
        yield from self._of_names("reverse_path", [transaction.reverse_path.domain])

    def _of_authors(self, message: Message) -> Iterator[tuple[DnsList, Key]]:
        if any("author" in options.of for options, _ in self._lists):
            yield from self._of_names("author", message.author_domains[:MAX_AUTHORS])

    def _of_names(self, identity: Identity, names: Sequence[str]) -> Iterator[tuple[DnsList, Key]]:
        domains = [domain for name in names if (domain := plain_domain(name))]
        for options, one in self._lists:
            if identity not in options.of:
                continue
            for domain in domains:
                is_cut = options.registrable and self._suffixes is not None
                yield one, domain_key(self._suffixes.registrable(domain) if is_cut and self._suffixes is not None else domain)

    def _decide(self, whole: Listings) -> Step:
        return step_of(whole, self.options, unanswered=self.options.unanswered)

    def _verdict(self, whole: Listings, evidence: str) -> Reject | Quarantine | Defer | None:
        return verdict_of(self._decide(whole), whole.what, reason="dnsbl-listed", box=self.options.box, evidence=evidence)


def _kinds(options: AskedList) -> Iterator[Kind]:
    if "client" in options.of:
        yield "ipv4"
    if set(options.of) - {"client"}:
        yield "domain"


def _speaks_for(answer: Answer) -> bool:
    return bool(answer.codes) and answer.kind in {"ipv4", "ipv6"} and (answer.is_allowed or answer.weight < 0)


def _dnswl(answer: Answer) -> AuthResult:
    # RFC 8904 3.2: the properties of the method dnswl
    properties = [("dns.zone", answer.zone), ("policy.ip", answer.codes[0])]
    if answer.text:
        properties.append(("policy.txt", answer.text))
    return AuthResult(method="dnswl", result="pass", properties=tuple(properties))


def _evidence(answers: Sequence[Answer]) -> str:
    return "; ".join(one.evidence for one in answers if one.codes)[:1_000]
