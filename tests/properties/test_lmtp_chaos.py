"""LMTP servers that fail at any reply, many messages at once: what is believed of each recipient is true, and no place is lost. RFC 2033 4.2."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable

import pytest

from gateway import metrics
from gateway.config.models import RelayConfig, RouteConfig
from gateway.content import Form
from gateway.errors import LinkError
from gateway.relay import lending
from gateway.relay.each import PartlyAnsweredError
from gateway.relay.identity import ClientFacts
from gateway.relay.pool import Relay
from gateway.testing.next_hop import DROP, KEYWORDS, SILENCE, Answer, ScriptedNextHop

MISHAPS = (
    DROP,
    SILENCE,
    "421 4.3.2 Bye",
    "452 4.2.2 Full",
    "552 5.2.2 Full",
    Answer(raw=b"garbage\r\n"),
    Answer(raw=b"250-half", drop=True),
)
PATHS = (b"<a@x>", b"<b@x>", b"<c@x>")
MESSAGES = 40


class Chaotic(ScriptedNextHop):
    """Each answer goes wrong now and then, those to the content more often."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(lmtp=True, keywords=(*KEYWORDS, "CHUNKING"))
        self.rng = rng

    def next_answer(self, when: str) -> Answer:
        usual = super().next_answer(when)
        if self.rng.random() >= (0.25 if when.startswith("CONTENT") else 0.03):
            return usual
        mishap = self.rng.choice(MISHAPS)
        return Answer(mishap) if isinstance(mishap, str) else mishap


async def one_message(relay: Relay, number: int, rng: random.Random) -> dict[bytes, str]:
    """What the gateway believes of each recipient: taken, refused, unknown; of those it does not name it knows that they have nothing."""
    handover = relay.handover("r", ClientFacts(address="192.0.2.1"))
    form = rng.choice((Form.LINES, Form.UNENDED))
    content = b"%d" % number + b"\r\n" * (form is Form.LINES)
    accepted: list[bytes] = []
    try:
        answers = await asyncio.gather(handover.mail(b"<a@b>", []), *(handover.rcpt(path, []) for path in PATHS))
        accepted = [path for path, answer in zip(PATHS, answers[1:], strict=True) if answer.is_positive]
        if not answers[0].is_positive or not accepted:
            return {}
        if rng.random() < 0.5:
            handover.rest()
            await asyncio.sleep(rng.random() * 0.06)
        replies = await handover.send([content], size=len(content), form=form)
    except PartlyAnsweredError as error:
        known = dict(zip(accepted, ("taken" if reply.is_positive else "refused" for reply in error.replies), strict=False))
        return known | {path: "unknown" for path in accepted if path not in known and error.unknown}
    except LinkError as error:
        return dict.fromkeys(accepted, "unknown") if error.unknown else {}
    finally:
        handover.abandon()
    if len(replies) == 1:
        replies *= len(accepted)
    return dict(zip(accepted, ("taken" if reply.is_positive else "refused" for reply in replies), strict=True))


@pytest.mark.parametrize("seed", range(4))
async def test_what_is_believed_of_each_recipient_is_true(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lending, "AFTER", 0.01)
    lent = metrics.LINKS_LENT._value.get()
    rng = random.Random(seed)
    believed: dict[int, dict[bytes, str]] = {}
    async with Chaotic(rng) as one, Chaotic(rng) as two:
        names = ("connect", "greeting", "hello", "reply", "data", "block", "final_reply")
        limits = {f"{name}_timeout": 0.2 for name in names} | {"max_links": 2, "wait_limit": 5.0, "rest": 0.01}
        route = RouteConfig(name="r", domains=("*",), servers=(one.address, two.address))
        relay = Relay([route], RelayConfig.model_validate(limits), server_name="gw.test")
        numbers = iter(range(MESSAGES))

        async def client() -> None:
            for number in numbers:
                async with asyncio.timeout(15):
                    believed[number] = await one_message(relay, number, rng)

        await asyncio.gather(*(client() for _ in range(8)))
        await asyncio.sleep(0.3)  # resets and leave-takings under way
        for pool in relay._routes["r"].pools:
            assert pool._slots.taken == len(pool.links) == len(pool._slots.idle) <= 2
        await relay.close()
        true: dict[int, dict[bytes, int]] = {number: {} for number in range(MESSAGES)}
        for taken in (*one.transactions, *two.transactions):
            number = int(taken.content)
            assert not true[number], "content is never sent twice"
            true[number] = dict(zip(taken.paths, [*taken.codes, 0, 0, 0], strict=False))
    seen: Counter[str] = Counter()
    # Codes of the next hop: None: it never came to the content; 0: it gave no reply, or half of one.
    may_be: dict[str, Callable[[int | None], bool]] = {
        "taken": lambda code: code == 250,
        "refused": lambda code: code not in {0, 250},
        "nothing": lambda code: code not in {0, 250},
        "unknown": lambda _: True,
    }
    for number, beliefs in believed.items():
        for path in PATHS:
            belief, code = beliefs.get(path, "nothing"), true[number].get(path)
            seen[belief] += 1
            assert may_be[belief](code), (number, path, beliefs, true[number])
    assert {"taken", "refused"} <= set(seen), seen
    assert seen["unknown"], "links must break between the replies"
    assert metrics.LINKS_LENT._value.get() > lent
