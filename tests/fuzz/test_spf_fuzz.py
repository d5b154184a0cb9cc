"""Hostile SPF: records over the grammar, bent ones and random octets, in domains that include each other. RFC 7208.

No exception leaves, DNS is asked no more often than RFC 7208 4.6.4 bounds, texts are clean, and no evaluation holds the loop: here no
answer makes it wait, so its whole CPU is one piece. `make fuzz FUZZ=1000` runs a thousand times as many: a million evaluations.
`make fuzz ARGS='-k spf'` prints the figures.
"""

# ruff: noqa: T201 - the long run prints its figures
from __future__ import annotations

import gc
import random
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway import Verdict
from gateway.plugins.iprev import Iprev
from gateway.plugins.iprev import Options as IprevOptions
from gateway.plugins.spf import Options, Spf
from gateway.plugins.spf.domains import MAX_EXPLANATION
from gateway.plugins.spf.evaluation import RESULTS, SpfResult, evaluate
from gateway.plugins.spf.received import render
from gateway.testing import TEMPFAIL, FakeContext, FakeResolver, a_session, a_transaction, run_plugin
from tests.fuzzing import TIMES

EVALUATIONS = 1_000 * TIMES
HOLD = 0.05
"""Seconds of CPU in one piece."""
MOST_QUESTIONS = 1 + 10 * 11 + 11 + 1
"""The record, ten terms with ten names each, the names of `%{p}`, the explanation."""
WHOLE_PLUGIN = 20
"""Every so many evaluations the plugins themselves run, with a verdict for everything."""
DOMAINS = ("a.example", "b.example", "c.example", "d.example", "gone.example", "e", "x..example", "_spf.a.example")
ODD = (*DOMAINS[4:], "-", "/24", "..", "é", "\0", "=", ":", "")
ADDRESSES = ("192.0.2.1", "198.51.100.77", "2001:db8::1", "::", "255.255.255.255", "::ffff:192.0.2.1", "ff02::1")
EVERYTHING: dict[str, Any] = dict.fromkeys(("fail", "softfail", "neutral", "none", "permerror"), "reject") | {
    "temperror": "defer"
}
_FIELD = re.compile(r"[A-Z][A-Za-z]+ \((?:[^()\\\r\n]|\\.)*\)(?:\r\n\t[a-z-]+=(?:[^\s\";]+|\"(?:[^\"\\\r\n]|\\.)*\");?)*")


class Maker:
    """Everything hostile about one evaluation, from one generator of random numbers."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.wild = self.random.choice([0, 0, 0, 3, 10, 50])
        """Percent of what is not in the grammar: the rest must get deep into an evaluation."""

    def chance(self, percent: int) -> bool:
        return self.random.randrange(100) < percent

    def one_of(self, sound: Sequence[str], wild: Sequence[str]) -> str:
        return self.random.choice(wild if self.chance(self.wild) else sound)

    def macro(self) -> str:
        if self.chance(15):
            return self.one_of(["%%", "%_", "%-"], ["%", "%{", "%{}", "%d", "%{d", "%{%{d}}"])
        letter = self.one_of("slodiphvSLODIPHV", "crtCRTxyz")
        digits = self.one_of(["", "", "", "1", "2", "007", "127", "9" * 30, "9" * 450], ["0", "000"])
        reverse = self.one_of(["", "", "r", "R"], ["rr", "q"])
        return f"%{{{letter}{digits}{reverse}{self.one_of(['', '', '-', '.', '+-,/_='], [';', ' '])}}}"

    def spec(self) -> str:
        if self.chance(60):
            return self.one_of(DOMAINS[:4], DOMAINS)
        parts = [
            self.macro() if self.chance(50) else self.one_of(("x", "_s", "a/b"), ODD) for _ in range(self.random.randrange(1, 5))
        ]
        return ".".join([*parts, self.one_of(["a.example", "%{d}", "b.example."], ODD)])

    def term(self) -> str:
        sign = self.one_of(["", "+", "-", "~", "?"], ["*", "+-", "="])
        kind = self.random.randrange(12)
        if kind < 5:
            cidr = self.one_of(["", "", "/24", "//64", "/0//0"], ["/33", "/", "/024", "//129"])
            name = self.one_of(["a", "mx", "A", "Mx", "ptr"], ["ptr", "aa", ""])
            return f"{sign}{name}{':' + self.spec() if self.chance(60) else ''}{'' if name == 'ptr' else cidr}"
        if kind < 8:
            return f"{sign}{self.one_of(['include', 'exists', 'Include'], ['incl', 'exists:'])}:{self.spec()}"
        if kind == 8:
            number = self.one_of(
                ["4:192.0.2.9", "4:10.0.0.0/8", "6:2001:db8::9", "6:fe80::/10", "4:192.0.2.0/24"],
                ["4:::", "6:1::2::3", "4:1.2.3.4/033"],
            )
            return f"{sign}ip{number}"
        if kind == 9:
            return f"{self.one_of(['moo', 'v', 'MOO', 'a.b-c_d'], ['redirect', 'exp', '1x', ''])}={self.spec()}"
        if kind == 10 and self.chance(40):
            return f"{sign}{self.one_of(['all', 'ALL'], ['all:', 'al', 'all/0'])}"
        return self.one_of(
            ["", "x=" + "%{S9r-}" * 70, "exists:" + "%{L9r-}." * 60 + "b.c"], ["\t", "\r\n", "moo", ",", "a" * 600, "%{" * 100]
        )

    def record(self) -> bytes:
        if self.chance(4):
            return self.bomb()
        terms = [self.term() for _ in range(self.random.choice([0, 1, 2, 3, 4, 8, 14]))]
        terms += [f"redirect={self.spec()}"] * self.chance(25) + [f"exp={self.spec()}"] * self.chance(50)
        terms += [self.random.choice(["-all", "~all", "?all", "all"])] * self.chance(50)
        octets = " ".join([self.one_of(["v=spf1", "V=SPF1"], ["v=spf10", "v=spf1\t", " v=spf1"]), *terms]).encode("latin-1")
        if not self.chance(self.wild):
            return octets
        bent = bytearray(octets)
        for _ in range(self.random.randrange(1, 4)):
            bent[self.random.randrange(len(bent))] = self.random.randrange(256)
        return bytes(bent)

    def bomb(self) -> bytes:
        n = self.random.choice([10, 400, 4_000, 30_000])
        return self.random.choice(
            [
                b"v=spf1 a:x." + b"a" * n + b"!",
                b"v=spf1 " + b"%{" * n,
                b"v=spf1 exists:" + b"%{S}" * (n // 4) + b".a.example",
                b"v=spf1 " + b" ".join([b"exists:" + b"%{L9r+-,/_=}" * 40 + b".a.example"] * min(8, n)),
                b"v=spf1 " + b"a " * n,
                b"v=spf1 " + b" " * n + b"-all",
                b"v=spf1 " + b"ip4:192.0.2.9 " * n,
                b"v=spf1 " + b" ".join(b"m%d=" % i for i in range(min(n, 4_000))),
                b"v=spf1 " + b"include:%{d} " * 11,
                b"v=spf1 a:" + b"a." * (n // 2) + b"b",
                b"v=spf1 ip6:" + b":" * n,
                b"v=spf1 exp=" + b"%{p}." * min(90, n) + b"a.example -all",
                self.random.randbytes(n),
                b"v=spf1 " + self.random.randbytes(n),
            ]
        )

    def entry(self) -> dict[str, Any] | str:
        if self.chance(4):
            return TEMPFAIL
        count = self.random.randrange(4)
        return {
            "TXT": ([self.record() for _ in range(int(self.one_of("1", "02")))] if self.chance(80) else [])
            + [self.text() for _ in range(self.chance(60))],
            "A": self.random.sample([a for a in ADDRESSES if ":" not in a], min(count, 3)),
            "AAAA": self.random.sample([a for a in ADDRESSES if ":" in a], count),
            "MX": [
                [self.random.randrange(3), self.random.choice((*DOMAINS, "."))]
                for _ in range(self.random.choice([0, 1, 3, 10, 11]))
            ],
        }

    def text(self) -> bytes:
        """An explanation."""
        pieces = [self.macro(), "why", " ", "é", "\r\n250 ok", "\x1b[31m", "(", '"', "\\"]
        pieces = pieces if self.chance(self.wild) else ["%{c}", "%{r}", "%{S}", "%{P}", "%{d2}", "why", " ", "(", '"', "\\"]
        return "".join(self.random.choice(pieces) for _ in range(self.random.choice([0, 1, 5, 30, 300]))).encode()

    def local_part(self) -> str:
        odd = [
            '"a b"',
            '"\\"\\\\"',
            "",
            "a" * 256,
            "a-" * 128,
            "." * 200,
            "ü",
            '"',
            "a@b",
            "%{l}",
            "\udc80",
            "a" * 257,
            "+=,/_-." * 36,
            "\0\r\n",
        ]
        return self.random.choice(odd) if self.chance(50) else "alice"

    def helo(self) -> str:
        odd = [
            "",
            "[192.0.2.1]",
            "localhost",
            "x" * 300,
            "%%%%",
            "b.example.",
            "bücher.example",
            "\udcff.b",
            "a\r\nb.c",
            '()\\"',
            "." * 99,
        ]
        return self.random.choice(odd) if self.chance(50) else self.random.choice(DOMAINS)


@dataclass(slots=True)
class Evaluation:
    """One question with its world."""

    zones: dict[str, Any]
    address: str
    local_part: str
    domain: str
    helo: str

    async def run(self) -> tuple[SpfResult, FakeResolver, float]:
        resolver = FakeResolver(self.zones)
        began = time.thread_time()
        found = await evaluate(resolver, address=self.address, local_part=self.local_part, domain=self.domain, helo=self.helo)
        return found, resolver, time.thread_time() - began


def made(seed: int) -> Evaluation:
    maker = Maker(seed)
    zones: dict[str, Any] = {name: maker.entry() for name in DOMAINS if name != "gone.example"}
    address = maker.random.choice([one for one in ADDRESSES if not one.startswith("::ffff")])
    names = maker.random.sample([*DOMAINS, "\x07bad.example", "y" * 70, ""], maker.random.randrange(5))
    zones[address] = TEMPFAIL if maker.chance(5) else {"PTR": names * maker.random.choice([1, 1, 5])}
    domain = maker.one_of(DOMAINS[:4], (*DOMAINS, maker.helo()))
    return Evaluation(zones, address, maker.local_part(), domain, maker.helo())


def is_clean(text: str, most: int) -> bool:
    return len(text) <= most and all(" " <= c <= "~" for c in text)


def check(found: SpfResult, asked: Evaluation, resolver: FakeResolver) -> None:
    assert found.result in RESULTS
    assert is_clean(found.explanation, MAX_EXPLANATION)
    assert is_clean(found.problem, MAX_EXPLANATION)
    assert is_clean(found.evidence(asked.address), 12 * 600)
    assert found.look_ups <= 11
    assert not found.explanation or found.result == "fail"
    assert len(resolver.queries) <= MOST_QUESTIONS, resolver.queries
    assert bool(found.path) == (found.result in {"pass", "fail", "softfail", "neutral"})
    for identity, who in (("mailfrom", f"{asked.local_part}@{asked.domain}"), ("helo", asked.helo)):
        body = render(found, identity=identity, who=who, client=asked.address, helo=asked.helo, receiver="mx.example.net")
        assert _FIELD.fullmatch(body), body


async def verdicts(asked: Evaluation) -> list[Verdict]:
    """Of the plugins, with everything that can be refused refused."""
    reverse_path = f"{asked.local_part}@{asked.domain}" if asked.local_part.isascii() and asked.domain.isascii() else ""
    transaction = a_transaction(reverse_path=reverse_path, session=a_session(helo=asked.helo, client_address=asked.address))
    context = FakeContext(zones=asked.zones)
    spf, iprev = Spf(Options(**EVERYTHING, received_spf=True), name="spf"), Iprev(IprevOptions(require="reject"), name="iprev")
    results = [await run_plugin(plugin, transaction=transaction, context=context) for plugin in (spf, iprev)]
    return [one.verdict for one in results if one.verdict is not None]


async def test_hostile_records() -> None:
    results: Counter[str] = Counter()
    refused = 0
    longest, slowest = 0.0, 0
    gc.collect()
    gc.disable()
    try:
        for seed in range(EVALUATIONS):
            asked = made(seed)
            found, resolver, seconds = await asked.run()
            check(found, asked, resolver)
            results[found.result] += 1
            if seconds > HOLD:  # once more: the machine has other work too
                seconds = min(seconds, (await asked.run())[2])
            if seconds > longest:
                longest, slowest = seconds, seed
            if seed % WHOLE_PLUGIN == 0:
                refused += len(await verdicts(asked))
            if seed % 5_000 == 0:
                gc.collect()
    finally:
        gc.enable()
    print(f"{EVALUATIONS} evaluations: {dict(results)}; {refused} verdicts; longest {longest * 1e3:.1f} ms CPU (seed {slowest})")
    assert longest < HOLD, f"seed {slowest}"
    assert set(results) == RESULTS
    assert refused > EVALUATIONS // WHOLE_PLUGIN // 2
