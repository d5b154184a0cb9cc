"""What ARC is made of, without a plugin: sets found in any order, questions in rounds, the hash of each seal."""

from __future__ import annotations

import hashlib
import re

import pytest

from gateway import Message
from gateway.content import Content
from gateway.mailauth import Answers, KeyAnswer, SigningKey, body_hashes, load_private_key
from gateway.mailauth.arc import ArcScheme, ArcSealer, NotSealedError, collect
from gateway.mailauth.arc.verify import seal_digests
from tests.arc_chains import PLAIN, chain, pem, record

HOPS = [f"hop{number}.example" for number in range(1, 8)]
KEY = SigningKey(domain="us.example", selector="sel", key=load_private_key(pem()))


def message(content: bytes) -> Message:
    return Message(Content(content))


def test_sets_are_found_in_any_order_of_fields() -> None:
    content = chain(*HOPS[:3])
    found = collect(message(content))
    assert [(one.instance, one.cv) for one in found.sets] == [(1, "none"), (2, "pass"), (3, "pass")]
    one = message(content)
    turned = b"".join(field.octets for field in reversed(one.fields)) + one.octets[one.header.end :]
    again = collect(message(turned))
    assert [(one.instance, one.claims) for one in again.sets] == [(one.instance, one.claims) for one in found.sets]
    assert seal_digests(again.sets) == seal_digests(found.sets)


def test_the_hash_of_the_first_seal_by_other_means() -> None:
    [only] = collect(message(chain(HOPS[0]))).sets
    lines = []
    for field in (only.results, only.signature, only.seal):
        name, _, body = field.octets.decode().partition(":")
        value = re.sub(r"[ \t]+", " ", body.replace("\r\n", "")).strip()
        lines.append(f"{name.lower()}:{value}")
    lines[2] = re.sub("; b=.*", "; b=", lines[2])
    assert seal_digests([only]) == {1: hashlib.sha256("\r\n".join(lines).encode()).digest()}


def test_the_newest_sets_are_asked_about_first() -> None:
    content = chain(*HOPS)
    work = ArcScheme().evaluate(message(content), now=0.0)
    rounds: list[set[str]] = []
    answers: Answers | None = None
    status = ""
    while not status:
        try:
            questions = next(work) if answers is None else work.send(answers)
        except StopIteration as done:
            status = done.value.status
            continue
        if questions.names:
            rounds.append({name.removeprefix("sel._domainkey.") for name in questions.names})
        bodies = body_hashes(content[message(content).body_offset :], questions.bodies)
        answers = Answers(dict.fromkeys(questions.names, KeyAnswer((record().encode(),))), bodies)
    assert status == "pass"
    assert rounds == [set(HOPS[2:]), set(HOPS[:2])]


@pytest.mark.parametrize(
    ("content", "state", "why"),
    [
        (PLAIN, "pass", "added or removed"),
        (chain(HOPS[0]), "none", "added or removed"),
        (chain(HOPS[0]).replace(b"cv=none", b"cv=pass"), "pass", "the chain was changed"),
        (chain(HOPS[0]).replace(b"cv=none", b"cv=fail"), "fail", "sealed as a failed chain"),
        (chain(HOPS[0]).replace(b"i=1", b"i=50"), "fail", "50 sets or more"),
    ],
)
def test_what_is_not_sealed(content: bytes, state: str, why: str) -> None:
    sealer = ArcSealer(key=KEY, state=state, results="mx.us.example; none")
    bodies = body_hashes(b"", sealer.wanted)
    with pytest.raises(NotSealedError, match=why):
        sealer.fields(message(content), bodies, now=1)
