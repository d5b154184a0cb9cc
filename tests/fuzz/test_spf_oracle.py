"""Our SPF against pyspf as it is: the same results for records that both read in the same way.

Left out, because RFC 7208 is on our side: `%{d0}` and other macros that are none, transformers on other delimiters, names that are too
long (7.1, 7.3), the count of void look-ups, redirects that are not followed (4.6.4), exchanges behind a match (5.4), includes of
oneself behind a match (5.2), unknown modifiers that come twice (6). `make fuzz FUZZ=50` runs 20,000 cases.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import spf

from gateway.plugins.spf.evaluation import evaluate
from gateway.testing import TEMPFAIL, FakeResolver
from tests.fuzzing import TIMES

CASES = 400 * TIMES
ADDRESSES = ("192.0.2.1", "192.0.2.130", "198.51.100.7", "2001:db8::1", "2001:db8:1::1")
NAMES = ("a.example", "b.example", "c.example")
HOSTS = ("h1.example", "h2.example")


def spec(source: random.Random, names: tuple[str, ...]) -> str:
    return source.choice(
        [*names, *names, "%{d}.x.example", "%{ir}.%{v}.x.example", "%{l}.x.example", "%{d2}", "%{h}.x.example", "%%.x.example"]
    )


def term(source: random.Random, below: tuple[str, ...]) -> str:
    sign = source.choice(["", "", "-", "~", "?", "+"])
    kinds = [
        "ip4:192.0.2.0/25",
        "ip4:192.0.2.130",
        "ip6:2001:db8::/48",
        "a:%s/25",
        "a:%s//48",
        "mx:%s",
        "exists:%s",
        f"x{source.randrange(10**6)}=%s",
    ]
    kind = source.choice(
        [*kinds, *(["include:%s"] if below else []), "moo", "ip4:192.0.2.256"][
            : len(kinds) + bool(below) + source.choice([0, 0, 0, 2])
        ]
    )
    name = source.choice(below) if kind.startswith("include") else spec(source, HOSTS)
    return (sign if "=" not in kind else "") + (kind % name if "%s" in kind else kind)


def record(source: random.Random, below: tuple[str, ...]) -> str:
    terms = [term(source, below) for _ in range(source.randrange(4))]
    end = source.choice(["-all", "~all", "?all", "all", "", *(f"redirect={name}" for name in below)])
    return " ".join(one for one in ("v=spf1", *terms, end) if one)


def world(source: random.Random) -> dict[str, Any]:
    """Records that include only later ones."""
    zones: dict[str, Any] = {name: {"TXT": [record(source, NAMES[number + 1 :])]} for number, name in enumerate(NAMES)}
    for host in HOSTS:
        zones[host] = {"A": source.sample(ADDRESSES[:3], 2), "AAAA": source.sample(ADDRESSES[3:], 1)}
        zones[host]["MX"] = [[10, source.choice(HOSTS)], [source.choice([5, 10, 20]), source.choice(HOSTS)]]
    if source.randrange(8) == 0:
        zones[source.choice(NAMES)] = TEMPFAIL
    return zones


async def by_pyspf(monkeypatch: pytest.MonkeyPatch, zones: dict[str, Any], address: str) -> str:
    def look_up(name: str, kind: str, _strict: object, _timeout: object) -> list[tuple[tuple[str, str], Any]]:
        entry = zones.get(name.lower(), {})
        if entry == TEMPFAIL:
            raise spf.TempError("temporary failure")
        found = entry.get(kind, [])
        return [((name, kind), [one.encode()] if kind == "TXT" else tuple(one) if kind == "MX" else one) for one in found]

    monkeypatch.setattr(spf, "DNSLookup", look_up)
    monkeypatch.setattr(spf, "MAX_VOID_LOOKUPS", 99)
    return str(spf.query(address, "alice@a.example", "mx.example", querytime=20).check()[0])


async def test_the_same_results(monkeypatch: pytest.MonkeyPatch) -> None:
    results: Counter[str] = Counter()
    for seed in range(CASES):
        source = random.Random(seed)
        zones = world(source)
        address = source.choice(ADDRESSES)
        expected = await by_pyspf(monkeypatch, zones, address)
        found = await evaluate(
            FakeResolver(zones), address=address, local_part="alice", domain="a.example", helo="mx.example", void_limit=99
        )
        assert found.result == expected, (seed, zones, address, found)
        results[expected] += 1
    assert set(results) == {"pass", "fail", "softfail", "neutral", "permerror", "temperror"}
