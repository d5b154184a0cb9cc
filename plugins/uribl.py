"""Lists in DNS about what a message links to: domains and addresses of its URLs, and hashes of mailboxes. RFC 5782 for the questions."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar
from urllib.parse import unquote

from pydantic import Field, field_validator, model_validator

from gateway import (
    ClientClass,
    Context,
    Duration,
    Fact,
    Finding,
    Message,
    Plugin,
    Transaction,
    Verdict,
    hook,
)
from gateway.reputation import (
    Address,
    Answer,
    DnsList,
    Key,
    Kind,
    Listings,
    ListOptions,
    Suffixes,
    Thresholds,
    address_key,
    ask_all,
    domain_key,
    evidence_of,
    findings_of,
    parse_address,
    plain_domain,
    plain_domains,
    step_of,
    suffix_library,
    verdict_of,
    watch,
)

MAX_LISTS = 20

_MAILTO = re.compile(r"\s*mailto:([^?]{1,1000})", re.IGNORECASE)
"""RFC 6068 2: addresses with commas between them."""
T = TypeVar("T")
What = Literal["domain", "address", "mailbox"]


class UrlList(ListOptions):
    """One list, and what it is asked about."""

    of: tuple[What, ...] = Field(default=("domain",), min_length=1)
    """`domain`: of the URLs; `address`: of URLs without a name; `mailbox`: hashes of From, Reply-To and `mailto:`."""
    level: Literal["registrable", "whole"] = "registrable"
    """Which domain it is asked about."""
    hash: Literal["md5", "sha1", "sha256"] = "sha1"
    """Of a mailbox in lower case."""

    @model_validator(mode="after")
    def _allows_nothing(self) -> UrlList:
        if "allow" in (self.weight, *self.weights.values()):
            raise ValueError('found "allow"; allowed: a number, for anybody can write a good URL into a bad message')
        return self


class Options(Thresholds):
    """Which lists, and what comes of their answers."""

    lists: tuple[UrlList, ...] = Field(default=(), max_length=MAX_LISTS)
    """The lists: `[[plugin.uribl.lists]]`."""
    exempt: tuple[str, ...] = Field(default=("w3.org", "openxmlformats.org", "schemas.microsoft.com"), max_length=10_000)
    """Domains that are not asked about, nor those below them."""
    max_names: int = Field(default=30, ge=1, le=200)
    """Domains, addresses and mailboxes of one message that are asked about, of each kind: the first half of them and the last."""
    unanswered: Literal["ignore", "fault"] = "ignore"
    """Lists that do not answer, where their answers could change what happens: `fault` is one for `on_error` to decide."""
    time_limit: Duration = Field(default=5.0, gt=0)
    """For all lists at once; never more than nine tenths of the plugin's `timeout`."""
    probe: Duration = Field(default=3_600.0, ge=0)
    """How often the test entries of each list are looked up, for the log; 0: never."""
    all_clients: bool = False
    """Also check authenticated clients and trusted networks."""

    @field_validator("exempt")
    @classmethod
    def _are_domains(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return plain_domains(values)


@dataclass(frozen=True, slots=True)
class Names:
    """What a message links to, each once, in order."""

    domains: tuple[str, ...]
    """Whole."""
    registrable: tuple[str, ...]
    addresses: tuple[Address, ...]
    mailboxes: tuple[str, ...]


class Uribl(Plugin[Options]):
    """Gives scores."""

    def __init__(self, options: Options | None = None, *, name: str = "", context: Context | None = None) -> None:
        """OptionError without the library, where a list asks about registrable domains."""
        super().__init__(options, name=name, context=context)
        wants = [place for place, one in enumerate(self.options.lists) if "domain" in one.of and one.level == "registrable"]
        self._suffix_library = suffix_library() if wants else None
        self._suffixes: Suffixes | None = None
        self._lists: tuple[tuple[UrlList, DnsList], ...] = ()
        self._exempt = frozenset(self.options.exempt)

    @hook
    async def startup(self, context: Context) -> None:
        """Get the suffixes, and begin to look at the lists' test entries."""
        if self._suffix_library is not None:
            self._suffixes = await asyncio.to_thread(Suffixes, self._suffix_library)
        self._lists = tuple((one, DnsList(one, prefix="URIBL", clock=context.clock)) for one in self.options.lists)
        if self.options.probe and self._lists:
            kinds = [(one, kind) for options, one in self._lists for kind in _kinds(options)]
            context.spawn(watch(kinds, context, self.options.probe), name="look at the lists' test entries")

    @hook
    async def check(self, transaction: Transaction, message: Message) -> list[Finding] | None:
        """A score for each listing, and what all lists say together."""
        is_own = transaction.session.client_class is not ClientClass.STRANGER
        if not self._lists or (is_own and not self.options.all_clients):
            return None
        names = await asyncio.to_thread(self._read, message)  # 4 KB can hold links that take 50 ms
        limit = min(self.options.time_limit, 0.9 * self.hook_limit)
        questions, left = self._questions(names)
        found = findings_of(_heaviest(await ask_all(questions, self.context.resolver, limit)), self.name)
        return [*found, Fact(name=f"{self.name}.not_asked", value=left)] if left else found

    @hook(cheap=True)
    def judge(self, transaction: Transaction) -> Verdict | None:
        """By the thresholds. LookupFailedError where lists that do not answer could change it and are a fault."""
        for found in transaction.findings.by(self.name, Listings):
            return self._verdict(found, evidence_of(transaction.findings, self.name))
        return None

    def _verdict(self, whole: Listings, evidence: str) -> Verdict | None:
        step = step_of(whole, self.options, unanswered=self.options.unanswered)
        return verdict_of(step, whole.what, reason="uribl-listed", box=self.options.box, evidence=evidence)

    def _read(self, message: Message) -> Names:
        domains: dict[str, None] = {}
        addresses: dict[Address, None] = {}
        mailboxes = dict.fromkeys(_mailbox(one) for one in _writers(message))
        for link in message.links:
            if found := _MAILTO.match(link.url):
                mailboxes.update(dict.fromkeys(_mailbox(unquote(one, errors="replace")) for one in found[1].split(",")[:10]))
                continue
            for host in dict.fromkeys((link.host, link.target_host)):
                address = parse_address(host.strip("[]"))
                if address is None:
                    domain = plain_domain(host)
                    if domain and not self._is_exempt(domain):
                        domains[domain] = None
                elif not (address.is_loopback or address.is_unspecified):
                    addresses[address] = None
        mailboxes.pop("", None)
        registrable = dict.fromkeys(domains if self._suffixes is None else map(self._suffixes.registrable, domains))
        return Names(tuple(domains), tuple(registrable), tuple(addresses), tuple(mailboxes))

    def _is_exempt(self, domain: str) -> bool:
        labels = domain.split(".")
        return any(".".join(labels[place:]) in self._exempt for place in range(len(labels) - 1))

    def _questions(self, names: Names) -> tuple[list[tuple[DnsList, Key]], int]:
        """What is asked, and how many names are not."""
        found: list[tuple[DnsList, Key]] = []
        left: dict[str, int] = {}
        for options, one in self._lists:
            keys: dict[str, list[Key]] = {}
            if "domain" in options.of:
                whole = options.level == "whole"
                keys[options.level] = [domain_key(domain) for domain in (names.domains if whole else names.registrable)]
            if "address" in options.of:
                keys["address"] = [address_key(address) for address in names.addresses]
            if "mailbox" in options.of:
                keys["mailbox"] = [_hashed(mailbox, options.hash) for mailbox in names.mailboxes]
            for what, all_keys in keys.items():
                asked = _ends(all_keys, self.options.max_names)
                found += [(one, key) for key in asked]
                left[what] = len(all_keys) - len(asked)
        return found, sum(left.values())


def _kinds(options: UrlList) -> Iterator[Kind]:
    if "domain" in options.of:
        yield "domain"
    if "address" in options.of:
        yield "ipv4"


def _writers(message: Message) -> Iterator[str]:
    """From and Reply-To: where an answer goes."""
    yield from message.author_addresses[:10]
    yield from (one.address for one in message.reply_to[:10])


def _mailbox(address: str) -> str:
    """In lower case, with A-labels; `` for what cannot be one."""
    local_part, _, domain = address.rpartition("@")
    name = plain_domain(domain)
    return f"{local_part.lower()}@{name}" if local_part and name and len(address) <= 500 else ""


def _hashed(mailbox: str, how: str) -> Key:
    digest = hashlib.new(how, mailbox.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()
    return Key(mailbox[-100:], digest, "hash")


def _ends(values: Sequence[T], most: int) -> tuple[T, ...]:
    """The first half and the last, where they are too many: padding stands at one end."""
    if len(values) <= most:
        return tuple(values)
    last = most // 2
    return (*values[: most - last], *values[len(values) - last :])


def _heaviest(answers: Sequence[Answer]) -> list[Answer]:
    """Each list weighs once, by the listing that weighs most: ten links to one bad shop are one."""
    most: dict[str, Answer] = {}
    for one in answers:
        if (one.codes and one.weight > most.get(one.zone, one).weight) or (one.zone not in most and one.codes):
            most[one.zone] = one
    return [one if not one.codes or most[one.zone] is one else replace(one, weight=0.0) for one in answers]
