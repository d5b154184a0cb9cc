"""What a chain says, and whether it may be believed: RFC 8617 7.2, RFC 8601 7.1. A valid chain alone proves nothing.

What a set says of the message as it arrived there is believed when its sealer and every later one are trusted: each of them
might have changed the message, or written down what it did not see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway import Message, a_labels
from gateway.mailauth.arc import ChainResult, SetReport
from gateway.mailauth.results import Names, Reading, Resinfo

MAX_CLAIMS = 20
"""Results of one set that are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What of a chain is believed."""

    oldest: int = 0
    """The oldest set that may be believed; 0: none."""
    claims: tuple[tuple[str, str], ...] = ()
    """What that set says: (`spf`, `pass`), …"""
    sealer: str = ""
    """Who says that DMARC passed for the author's domain; `` when nobody does who may be believed."""
    doubt: str = ""
    """Why a valid chain of trusted sealers is not believed all the same, or changes nothing."""


Claims = Mapping[int, Reading]
"""What each set says, by instance."""


def assess(result: ChainResult, claims: Claims, message: Message, trusted: Names) -> Trust:
    """Whom to believe, and what they say."""
    if result.status != "pass":
        return Trust()
    run = _trusted_run(result.sets, trusted)
    if not run:
        return Trust()
    if doubt := _doubt(result, message):
        return Trust(doubt=doubt)
    oldest = run[-1].instance
    sealer = next((one.sealer for one in reversed(run) if _passed_dmarc(claims[one.instance], message)), "")
    doubt = "" if sealer else "no trusted sealer of it tells dmarc=pass for the author's domain"
    return Trust(oldest=oldest, claims=told(claims[oldest]), sealer=sealer, doubt=doubt)


def told(reading: Reading) -> tuple[tuple[str, str], ...]:
    """Methods and results that a set tells."""
    return tuple((one.method[:32], one.result[:32]) for one in reading.results[:MAX_CLAIMS])


def _trusted_run(sets: Sequence[SetReport], trusted: Names) -> list[SetReport]:
    """The trusted sealers from the newest on, up to the first stranger."""
    run: list[SetReport] = []
    for one in reversed(sets):
        if one.sealer not in trusted:
            break
        run.append(one)
    return run


def _doubt(result: ChainResult, message: Message) -> str:
    """Seals say nothing of the message; the newest message signature must cover what a reader sees."""
    newest = result.newest
    assert newest is not None  # the chain is valid
    if newest.headers.count(b"from") < len(message.fields_named("from")):
        return "the newest message signature does not cover From"
    if newest.ways[0].body.length is not None:
        return "the newest message signature leaves the end of the body open (l=)"
    return ""


def _passed_dmarc(reading: Reading, message: Message) -> bool:
    """It says dmarc=pass, and not for another domain than the author's now."""
    return any(one.method == "dmarc" and one.result == "pass" and _is_for(one, message) for one in reading.results)


def _is_for(claim: Resinfo, message: Message) -> bool:
    domain = claim.property("header.from")
    if not domain:
        return True
    wanted = (a_labels(domain.rpartition("@")[2]) or "").rstrip(".")
    return [wanted] == [a_labels(one) for one in message.author_domains]
