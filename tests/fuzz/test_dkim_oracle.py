"""Generated messages have the result that dkimpy gives them, save the differences that are meant: docs/plugins/dkim.md.

`make fuzz FUZZ=100` runs a hundred times as many: 100,000 messages. `make fuzz` prints the figures.
"""

# ruff: noqa: T201 - the long run prints its figures
from __future__ import annotations

import logging
import re
import time
from collections import Counter

import dkim

from gateway import Message
from gateway.content import Content
from gateway.mailauth import (
    Answers,
    KeyAnswer,
    body_hashes,
    canonical_body,
    decode_base64,
    find_prefixes,
    parse_tags,
    without_white,
)
from gateway.plugins.dkim import DkimFinding, DkimScheme, Limits
from tests.fuzz.dkim_messages import RECORDS, case
from tests.fuzzing import FIRST_SEED, TIMES

MESSAGES = 1_000 * TIMES
SILENT = logging.getLogger("dkimpy.silent")
SILENT.disabled = True
SCHEME = DkimScheme(Limits(signatures=10))


def ours(message: Message, now: float) -> list[DkimFinding]:
    """The scheme with DNS from RECORDS."""
    work = SCHEME.evaluate(message, now=now)
    body = message.octets[message.body_offset :]
    try:
        questions = next(work)
        while True:
            names = {name: KeyAnswer((RECORDS[name],) if name in RECORDS else ()) for name in questions.names}
            answers = Answers(names, body_hashes(body, questions.bodies), find_prefixes(body, questions.prefixes))
            questions = work.send(answers)
    except StopIteration as done:
        found: list[DkimFinding] = done.value
        return found


def theirs(content: bytes, number: int) -> str:
    """`pass`, `fail`, or the exception's name."""

    def look_up(name: bytes, timeout: float = 0) -> bytes | None:
        return RECORDS.get(name.decode("latin-1").lower().rstrip("."))

    try:
        return "pass" if dkim.DKIM(content, logger=SILENT).verify(number, look_up) else "fail"
    except Exception as error:
        return type(error).__name__


WHITE = rb"[ \t\r\n]"


def deliberate(message: Message, number: int) -> str:
    """The difference that is meant, and its reason; `` for none."""
    raw = message.fields_named("dkim-signature")[number].raw
    body = message.octets[message.body_offset :]
    if any(field.octets[: field.colon - field.start] != field.name.encode() for field in message.fields):
        return "RFC 5322 4.5: white space before a colon costs dkimpy every signature"
    if not message.header.has_blank_line and message.header.end < message.size:
        return "a line that is no field costs dkimpy every signature"
    try:
        tags = parse_tags(raw)
    except ValueError as error:
        return "3.2: control characters spoil a tag list" if "control" in str(error) else ""
    canon = tags.get(b"c", b"simple/simple").lower().partition(b"/")
    if canon[2] == b"relaxed" and body.endswith((b" ", b"\t")):
        return "3.4.4: white space at the end of a last line without CRLF is ignored"
    if canon[0] == b"simple" and re.search(rb"[ \t]\Z", raw):
        return "3.7: of the signature's own field only the CRLF at the end is left out"
    if len(re.findall(rb"(?:[;\s])b\s*=", raw)) != 1:
        return "3.7: b= is a tag, not letters within another one"
    if re.search(rb"[;\s]b" + WHITE + rb"*=[^;]*" + WHITE + rb"(?:;|\Z)", raw):
        return "3.7: white space around the value of b= is not hashed"
    try:
        decode_base64(tags.get(b"b", b"")), decode_base64(tags.get(b"bh", b""))
    except ValueError:
        return "2.10: dkimpy takes base64 with other characters in it"
    if any(len(without_white(tags.get(tag, b""))) % 4 for tag in (b"b", b"bh")):
        return "2.10: the padding of base64 may be missing"
    if number_of(tags, b"l") > 0 and number_of(tags, b"l") > sizes(message, canon[2] == b"relaxed"):
        return "3.5: l= is larger than the body"
    if 0 < number_of(tags, b"x") <= number_of(tags, b"t"):
        return "3.5: x= must be greater than t=, not the same"
    return ""


def number_of(tags: dict[bytes, bytes], tag: bytes) -> int:
    return int(tags[tag]) if tags.get(tag, b"").isdigit() else -1


def sizes(message: Message, is_relaxed: bool) -> int:
    return sum(map(len, canonical_body(message.octets[message.body_offset :], is_relaxed=is_relaxed)))


def test_the_results_are_those_of_dkimpy() -> None:
    first = FIRST_SEED
    tally: Counter[str] = Counter()
    differences: Counter[str] = Counter()
    for seed in range(first, first + MESSAGES):
        one = case(seed)
        message = Message(Content(one.content))
        found = ours(message, time.time())
        for number, finding in enumerate(found):
            if finding.result in {"none", "policy"}:
                continue
            other = theirs(one.content, number)
            tally[f"{finding.result} {'changed' if one.was_changed else 'as signed'}"] += 1
            if (finding.result == "pass") == (other == "pass"):
                continue
            reason = deliberate(message, number)
            assert reason, (
                f"seed {seed}, signature {number}: {finding.result} ({finding.reason}), dkimpy: {other}\n{one.content!r}"
            )
            differences[f"{reason}: {finding.result}, dkimpy {other}"] += 1
    print(f"{MESSAGES} messages, {sum(tally.values())} signatures")
    for name, count in [*sorted(tally.items()), *differences.most_common()]:
        print(f"  {count:8} {name}")
    assert tally["pass as signed"] > MESSAGES // 10
    assert tally["pass changed"] > MESSAGES // 20
    assert tally["fail changed"] > MESSAGES // 20
