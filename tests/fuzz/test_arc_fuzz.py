"""Hostile chains: no exception, a status always, few questions, and each step on the loop is short (CPU).

`make fuzz FUZZ=300` runs three hundred times as many: 300,000 evaluations. `make fuzz` prints the figures, the longest steps too.
"""

# ruff: noqa: T201 - the long run prints its figures
from __future__ import annotations

import gc
import random
import time
from collections import Counter
from functools import cache

from gateway import Message
from gateway.content import Content
from gateway.mailauth import Answers, KeyAnswer, SigningKey, body_hashes, load_private_key
from gateway.mailauth.arc import ArcScheme, ArcSealer, ChainResult
from tests.arc_chains import PLAIN, pem, record
from tests.fuzzing import TIMES

EVALUATIONS = 1_000 * TIMES
NOW = 1_795_000_100.0
UNSIGNED = b"X-Note: " + b"what nobody signed " * 300 + b"\r\n"
"""Changes here alone leave a chain valid."""
MOST_NAMES = 100
"""Two for each of fifty sets."""
_PIECES = (
    *(b";", b"=", b":", b"@", b"\r\n ", b"\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b"\xff", b"\xc3\xa9", b"(", b")", b'"', b"\\"),
    *(
        b"i=1;",
        b"i=2;",
        b"i = 3 ;",
        b"i=51;",
        b"i=0;",
        b"i=\r\n 1;",
        b"i=" + b"9" * 300,
        b"cv=fail",
        b"cv=none",
        b"cv=pass",
        b"cv=",
    ),
    *(
        b"a=rsa-sha256;",
        b"a=ed25519-sha256;",
        b"a=rsa-sha1;",
        b"c=simple;",
        b"c=/;",
        b"l=0;",
        b"l=5;",
        b"x=1;",
        b"t=9;",
        b"q=x;",
        b"h=;",
    ),
    *(
        b"h=arc-seal;",
        b"h=from:from:arc-message-signature;",
        b"d=;",
        b"s=*;",
        b"d=" + "\u6f22".encode() * 84 + b";",
        b"bh=A===;",
        b"b=",
    ),
    *(
        b"ARC-Seal: i=1; cv=none\r\n",
        b"ARC-Message-Signature: i=2\r\n",
        b"ARC-Authentication-Results: i=1; x\r\n",
        b"ARC-Seal:\r\n",
    ),
)


@cache
def sealed(number: int) -> bytes:
    """A message with a valid chain of so many sets, each of another domain."""
    content = PLAIN
    for place in range(1, number + 1):
        key = SigningKey(domain=f"hop{place}.example", selector="sel", key=load_private_key(pem()))
        results = f"mx.hop{place}.example; dmarc=pass header.from=author.example"
        sealer = ArcSealer(key=key, state="none" if place == 1 else "pass", results=results)
        message = Message(Content(content))
        bodies = body_hashes(content[message.body_offset :], sealer.wanted)
        for name, value in sealer.fields(message, bodies, now=1_795_000_000):
            content = f"{name}: {value}\r\n".encode() + content
    return content


class Evaluation:
    """One message through the scheme, as the plugin drives it, with what it asked and how long its longest step was."""

    def __init__(self, content: bytes, answer: KeyAnswer | None = None) -> None:
        message = Message(Content(content))
        good = KeyAnswer((record().encode(),))
        self.names: list[str] = []
        self.longest = 0.0
        work = ArcScheme().evaluate(message, now=NOW)
        answers: Answers | None = None
        while True:
            began = time.thread_time()
            try:
                questions = next(work) if answers is None else work.send(answers)
            except StopIteration as done:
                self.result: ChainResult = done.value
                return
            finally:
                self.longest = max(self.longest, time.thread_time() - began)
            self.names += questions.names
            bodies = body_hashes(content[message.body_offset :], questions.bodies) if questions.bodies else {}
            answers = Answers(dict.fromkeys(questions.names, good if answer is None else answer), bodies)


def mutated(rng: random.Random, octets: bytes) -> bytes:
    """Some cuts, copies, pieces of the grammar, fields that change places."""
    for _ in range(rng.choice([1, 1, 2, 4, 8])):
        at, to = sorted((rng.randint(0, len(octets)), rng.randint(0, len(octets))))
        match rng.randrange(6):
            case 0:
                octets = octets[:at] + octets[min(to, at + 60) :]
            case 1:
                octets = octets[:at] + octets[at:to][:800] * rng.choice([2, 3, 20]) + octets[to:]
            case 2:
                octets = octets[:at] + rng.randbytes(rng.randint(1, 6)) + octets[at:]
            case 3:
                octets = octets[:at] + rng.choice(_PIECES) * rng.choice([1, 1, 5, 100]) + octets[at:]
            case 4:
                lines = octets.split(b"\r\n")
                rng.shuffle(lines)
                octets = b"\r\n".join(lines)
            case _:
                octets = rng.choice(_PIECES) + octets
    return octets[:60_000]


def test_mutated_chains() -> None:
    """A chain passes only when all that its seals and its newest signature cover is as it was sealed."""
    rng = random.Random(8617)
    found: Counter[str] = Counter()
    longest = 0.0
    gc.collect()
    for _ in range(EVALUATIONS):
        number = rng.choice([1, 2, 3, 6])
        content = mutated(rng, UNSIGNED + sealed(number))
        answer = rng.choice([None, None, None, None, KeyAnswer(failed=True), KeyAnswer(), KeyAnswer((rng.choice(_PIECES),))])
        one = Evaluation(content, answer)
        assert one.result.status in {"none", "pass", "fail"}
        assert bool(one.result.reason)
        assert len(one.names) <= MOST_NAMES
        assert not one.result.is_temporary or one.result.status == "fail"
        if one.result.status == "pass":
            assert answer is None
            assert all(report.seal == "valid" for report in one.result.sets)
            assert one.result.sets[-1].message_signature == "valid"
        found[one.result.status] += 1
        longest = max(longest, one.longest)
    print(f"{EVALUATIONS} chains: {dict(found)}, the longest step {longest * 1000:.1f} ms")
    assert found["pass"] > 0
    assert found["fail"] > EVALUATIONS / 4


def test_fifty_sets_over_a_large_body() -> None:
    """Valid ones, the most that there can be: each is looked at, with one hash of the body."""
    content = sealed(50)
    head, _, body = content.partition(b"\r\n\r\n")
    one = Evaluation(content)
    assert (one.result.status, one.result.oldest_pass) == ("pass", 0)
    assert sorted(one.names) == sorted({f"sel._domainkey.hop{place}.example" for place in range(1, 51)})
    large = Evaluation(head + b"\r\n\r\n" + body + b"x\r\n" * 1_700_000)
    assert large.result.reason == "i=50: ARC-Message-Signature of hop50.example: body hash does not match"
    assert len(large.names) == 5
    print(f"50 sets: the longest step {one.longest * 1000:.1f} ms; over 5 MB {large.longest * 1000:.1f} ms")


def test_large_fields() -> None:
    """Fields that are as large as the header section may be: 1 MB."""
    results = b"ARC-Authentication-Results: i=1; mx; " + b"(" * 15_000 + b"\r\n"
    longest = 0.0
    for flood in (
        results * 60,
        results.replace(b"i=1", b"(" * 15_000 + b"i=1") * 50,
        b"ARC-Seal: i=1; cv=none; d=" + "\u6f22".encode() * 84 + b"; " + b"x" * 7_000 + b"=\r\n",
        b"".join(b"ARC-Seal: i=%d; " % place + b"x" * 16_000 + b"=\r\n" for place in range(1, 51)),
        b"ARC-Message-Signature: i=1; h=" + b"a:" * 4_000 + b"\r\n",
        b"ARC-Seal: " + b" \t" * 400_000 + b"\r\n",
    ):
        one = Evaluation(flood + sealed(1))
        assert one.result.status == "fail"
        assert not one.names
        longest = max(longest, one.longest)
    covered = sealed(50).replace(b"Subject: ", b"Subject: " + b" x" * 450_000)
    one = Evaluation(covered)
    assert one.result.status == "fail"
    longest = max(longest, one.longest)
    print(f"large fields: the longest step {longest * 1000:.1f} ms")
