"""Hostile signatures, key records and messages: no exception, and each step on the loop is short.

`make fuzz FUZZ=300` runs three hundred times as many: 300,000 evaluations. `make fuzz` prints the figures, the longest steps too.
"""

# ruff: noqa: T201 - the long run prints its figures
from __future__ import annotations

import gc
import random
import time
from collections import Counter

from gateway import Message
from gateway.content import Content
from gateway.mailauth import Answers, BodyHashWanted, KeyAnswer, PrefixWanted, body_hashes, find_prefixes
from gateway.mailauth.asking import SEARCHED
from gateway.plugins.dkim import DkimFinding, DkimScheme, Limits
from tests.dkim_signer import sign
from tests.fuzz.dkim_messages import KEYS, RECORDS, case
from tests.fuzzing import FIRST_SEED, TIMES

EVALUATIONS = 1_000 * TIMES
SCHEME = DkimScheme(Limits())
RESULTS = {"pass", "fail", "policy", "permerror", "temperror", "none"}
_PIECES = [
    *[
        b";",
        b"=",
        b":",
        b"|",
        b"@",
        b"/",
        b"\r\n ",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b"\0",
        b"\x7f",
        b"\xff",
        b"\xc3\xa9",
        b"%",
        b"(",
        b")",
    ],
    *[
        b"v=1",
        b"a=rsa-sha256",
        b"a=ed25519-sha256",
        b"a=rsa-sha1",
        b"c=relaxed/relaxed",
        b"c=simple",
        b"q=dns/txt",
        b"t=s:y",
        b"k=rsa",
    ],
    *[
        b"d=example.org",
        b"s=r1",
        b"h=from",
        b"h=from:from:to",
        b"i=@example.org",
        b"l=0",
        b"l=9",
        b"x=1",
        b"t=1",
        b"z=From:=20x|To:y",
    ],
    *[
        b"bh=",
        b"b=",
        b"p=",
        b"k=ed25519",
        b"v=DKIM1",
        b"AAAA",
        b"A===",
        b"9" * 80,
        b"a" * 300,
        b"." * 70,
        b"=3D",
        b"=ZZ",
        b"xn--",
        b"*",
    ],
]


def mutated(rng: random.Random, octets: bytes) -> bytes:
    """A few cuts, copies, insertions of pieces of the grammar, and random octets."""
    for _ in range(rng.choice([1, 1, 2, 4, 8])):
        at, to = sorted((rng.randint(0, len(octets)), rng.randint(0, len(octets))))
        match rng.randrange(7):
            case 0:
                octets = octets[:at] + octets[min(to, at + 40) :]
            case 1:
                octets = octets[:at] + octets[at:to][:400] * rng.choice([2, 3, 20]) + octets[to:]
            case 2:
                octets = octets[:at] + rng.randbytes(rng.randint(1, 6)) + octets[at:]
            case 3:
                octets = octets[:at] + rng.choice(_PIECES) * rng.choice([1, 1, 5, 100]) + octets[at:]
            case 4:
                octets = rng.choice(_PIECES) + octets
            case 5:
                specs = octets.split(b";")
                rng.shuffle(specs)
                octets = b";".join(specs)
            case _:
                octets = octets[:at] + rng.choice(_PIECES) + b";" + octets[at:]
    return octets[:20_000]


def hostile_field(rng: random.Random, content: bytes) -> bytes:
    """The signature on top is fuzzed and stays one field where it can."""
    field, end, rest = content.partition(b"\r\nFrom:")
    name, colon, body = field.partition(b":")
    return name + colon + mutated(rng, body) + end + rest


def hostile_record(rng: random.Random) -> bytes:
    record = rng.choice([key.record.encode() for key in KEYS.values()])
    return record if rng.random() < 0.4 else mutated(rng, record)


class Watch:
    """Runs the scheme and remembers the longest step."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.what = b""
        self.steps: list[float] = []

    def run(self, content: bytes, records: dict[str, KeyAnswer], rng: random.Random) -> list[DkimFinding]:
        """What a driver does, without a loop; body hashes are small here and part of the step that follows."""
        message = Message(Content(content))
        self.steps = []
        work = SCHEME.evaluate(message, now=1.7e9)
        answers: Answers | None = None
        while True:
            started = time.process_time()
            try:
                questions = next(work) if answers is None else work.send(answers)
                body = message.octets[message.body_offset :] if questions.bodies or questions.prefixes else b""
                bodies, prefixes = body_hashes(body, questions.bodies), find_prefixes(body, questions.prefixes)
            except StopIteration as done:
                found: list[DkimFinding] = done.value
                return found
            finally:
                self.note(time.process_time() - started, content)
            answers = Answers({name: records.get(name) or self.answer(rng) for name in questions.names}, bodies, prefixes)

    def note(self, seconds: float, content: bytes) -> None:
        self.steps.append(seconds)
        if seconds > self.longest:
            self.longest, self.what = seconds, content

    @staticmethod
    def answer(rng: random.Random) -> KeyAnswer:
        if rng.random() < 0.02:
            return KeyAnswer(failed=True)
        return KeyAnswer(tuple(hostile_record(rng) for _ in range(rng.choice([0, 1, 1, 1, 1, 3]))))


def test_hostile_signatures_and_records() -> None:
    first = FIRST_SEED
    watch, tally = Watch(), Counter[str]()
    reasons: set[str] = set()
    gc.disable()  # its passes over a whole test run's objects would be the longest steps
    for seed in range(first, first + EVALUATIONS):
        if seed % 1_000 == 0:
            gc.collect()
        rng = random.Random(seed)
        content = case(rng.randrange(200)).content
        match rng.randrange(4):
            case 0:
                content = hostile_field(rng, content)
            case 1:
                content = mutated(rng, content)
            case 2:
                content = (
                    rng.randbytes(rng.randint(0, 300)) + content
                    if rng.random() < 0.5
                    else b"DKIM-Signature:" + mutated(rng, content)
                )
            case _:
                pass
        for finding in watch.run(content, {}, rng):
            assert finding.result in RESULTS, seed
            assert finding.reason, seed
            assert len(finding.reason) < 1_000, seed
            assert all(len(value) <= 255 for _, value in finding.properties), seed
            tally[finding.result] += 1
            reasons.add(finding.reason)
    gc.enable()
    print(f"{EVALUATIONS} evaluations: {dict(tally.most_common())}, {len(reasons)} reasons")
    print(f"longest step {watch.longest * 1000:.1f} ms, content of {len(watch.what)} octets")
    assert {"pass", "fail", "permerror"} <= set(tally)


def many_fields(rng: random.Random) -> bytes:
    """As much as the gateway lets in: 2,000 fields, h= names all it can, eight signatures that were valid before Subject got a tag."""
    filler = b"Subject: hello " + b" \t" * rng.choice([10, 230]) + b"y\r\n"
    content = b"From: a@example.org\r\n" + filler * 1_900 + b"\r\nbody\r\n"
    for selector, algorithm in [(b"r1", b"rsa-sha256"), (b"ed", b"ed25519-sha256")] * 4:
        names = b":".join(rng.choice([b"x", b"subject", b"to", b"list-id", b"from"]) for _ in range(1_000))
        canon = rng.choice([b"relaxed", b"simple"])
        template = b" v=1; a=%s; c=%s; d=example.org; s=%s; h=from:%s; z=%s; bh={bh}; b={b}"
        content = sign(content, KEYS[selector], template % (algorithm, canon, selector, names, b"x:y|" * 100))
    return content.replace(b"\nSubject: hello", b"\nSubject: [list] hello")


def test_the_largest_headers() -> None:
    """The clock does not decide here: that others on the loop go first between two signatures is told by the number of steps."""
    watch = Watch()
    rng = random.Random(1)
    good = {name: KeyAnswer((record,)) for name, record in RECORDS.items()}
    for _ in range(3):
        found = watch.run(many_fields(rng), good, rng)
        assert {finding.result for finding in found} == {"fail"}
        assert {finding.bits for finding in found} == {256, 1024}
        assert len(watch.steps) > 8
    print(f"longest step over the largest headers {watch.longest * 1000:.1f} ms")


BODIES = [
    b" " * 996 + b"\r\n",
    b"\r\n",
    b" \t" * 498 + b"x\r\n",
    b"\r\n \r\n",
    b" ",
    b"\t",
    b"\r",
    b"\n",
    b"a ",
    b"words of  text \r\n",
    b"\0",
]


def test_the_worst_bodies() -> None:
    """Every canonicalization and eight lengths at once, and the search for a footer: it takes one process one pass."""
    size = 50_000_000 if EVALUATIONS > 100_000 else 1_000_000
    wanted = [BodyHashWanted(is_relaxed, length) for is_relaxed in (True, False) for length in (None, *range(0, size, size // 7))]
    searches = [PrefixWanted(is_relaxed, b"no such hash") for is_relaxed in (True, False)]
    longest = (0.0, b"")
    for line in BODIES:
        body = line * (size // len(line))
        started = time.process_time()
        found = body_hashes(body, wanted)
        assert find_prefixes(body[:SEARCHED], searches) == {}
        longest = max(longest, (time.process_time() - started, line))
        assert len(found) == len(wanted)
    print(f"{size:,} octets of {longest[1][:10]!r}: all hashes and searches {longest[0]:.2f} s")
