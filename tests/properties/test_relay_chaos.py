"""Next hops that fail at any point, links lent, many transactions at once: a reply is true, an error without `unknown` too, no place is lost."""

import asyncio
import random

import pytest

from gateway import metrics
from gateway.config.models import RelayConfig, RouteConfig
from gateway.content import Form
from gateway.errors import LinkError
from gateway.relay import lending
from gateway.relay.handover import Handover
from gateway.relay.identity import ClientFacts
from gateway.relay.pool import Relay
from gateway.testing.next_hop import DROP, KEYWORDS, SILENCE, Answer, ScriptedNextHop

USUAL = {
    "GREETING": "220 x",
    "MAIL": "250 Ok",
    "RCPT": "250 Ok",
    "DATA": "354 Go on",
    "CONTENT": "250 Ok",
    "RSET": "250 Ok",
}
MISHAPS = (
    DROP,
    SILENCE,
    "421 4.3.2 Bye",
    "450 4.2.0 Later",
    "550 5.7.1 No",
    "503 5.5.1 What?",
    Answer(raw=b"garbage\r\n"),
    Answer(raw=b"250-half"),
)
MESSAGES = 60


class Chaotic(ScriptedNextHop):
    """Each answer goes wrong now and then."""

    def __init__(self, rng: random.Random, keywords: tuple[str, ...]) -> None:
        super().__init__(keywords=keywords)
        self.rng = rng

    def next_answer(self, when: str) -> Answer:
        for key, usual in USUAL.items():
            if when.upper().startswith(key):
                answer = self.rng.choice(MISHAPS) if self.rng.random() < 0.12 else usual
                return Answer(answer) if isinstance(answer, str) else answer
        return super().next_answer(when)


async def see(handover: Handover, rng: random.Random) -> None:
    """The time until there is a verdict, in which the link may be lent."""
    if rng.random() < 0.5:
        handover.rest()
        await asyncio.sleep(rng.random() * 0.06)


@pytest.fixture(autouse=True)
def _lent_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lending, "AFTER", 0.01)


async def one_message(relay: Relay, number: int, rng: random.Random) -> str:
    """What the gateway believes became of the message: taken, refused, failed, unknown, gone."""
    handover = relay.handover("r", ClientFacts(address="192.0.2.1"))
    form = rng.choice((Form.LINES, Form.UNENDED))  # by DATA, and where the next hop takes chunks by BDAT
    content = b"%d" % number + b"\r\n" * (form is Form.LINES)
    try:
        answers = [handover.mail(b"<a@b>", []), handover.rcpt(b"<c@d>", []), handover.rcpt(b"<e@f>", [])]
        if rng.random() < 0.1:
            return "gone"
        replies = await asyncio.gather(*answers)
        if not replies[0].is_positive or not any(reply.is_positive for reply in replies[1:]):
            return "refused"
        await see(handover, rng)
        if rng.random() < 0.2:
            await handover.prepare((b"<changed@b>", []), [(b"<c@d>", [])])
        if rng.random() < 0.1:
            return "gone"
        (reply,) = await handover.send([content], size=len(content), form=form)
    except LinkError as error:
        return "unknown" if error.unknown else "failed"
    else:
        return "taken" if reply.is_positive else "refused"
    finally:
        handover.abandon()


@pytest.mark.parametrize(
    "keywords", [KEYWORDS, KEYWORDS[1:], (*KEYWORDS, "CHUNKING")], ids=["pipelining", "one at a time", "chunks"]
)
@pytest.mark.parametrize("seed", range(6))
async def test_chaos(seed: int, keywords: tuple[str, ...]) -> None:
    rng = random.Random(seed)
    seen: set[str] = set()
    lent = metrics.LINKS_LENT._value.get()
    for _ in range(5):  # on a busy machine a round may see time-outs only
        seen |= await one_round(rng, keywords)
        if {"taken", "refused", "failed"} <= seen and metrics.LINKS_LENT._value.get() > lent:
            return
    raise AssertionError(f"the mishaps must happen, and there were only {seen}")


async def one_round(rng: random.Random, keywords: tuple[str, ...]) -> set[str]:
    """What the gateway believed of its messages, after that was compared with what the next hops know."""
    believed: dict[int, str] = {}
    async with Chaotic(rng, keywords) as one, Chaotic(rng, keywords) as two:
        settings = RelayConfig.model_validate(
            {
                "max_links": 4,
                "wait_limit": 5.0,
                **{f"{name}_timeout": 0.05 for name in ("connect", "greeting", "hello", "reply", "data", "block", "final_reply")},
                "rest": 0.01,
            }
        )
        route = RouteConfig(name="r", domains=("*",), servers=(one.address, two.address))
        relay = Relay([route], settings, server_name="gw.test")
        numbers = iter(range(MESSAGES))

        async def client() -> None:
            for number in numbers:
                async with asyncio.timeout(10):
                    believed[number] = await one_message(relay, number, rng)

        await asyncio.gather(*(client() for _ in range(10)))
        await asyncio.sleep(0.2)  # resets and leave-takings under way
        for pool in relay._routes["r"].pools:
            assert pool._slots.taken == len(pool.links) == len(pool._slots.idle) <= 4
            assert not pool._slots.waiting
        await relay.close()
        true: dict[int, list[int]] = {number: [] for number in range(MESSAGES)}
        for taken in (*one.transactions, *two.transactions):
            true[int(taken.content)].append(taken.code)
    assert set(believed) == set(range(MESSAGES))
    for number, belief in believed.items():
        assert len(true[number]) <= 1, "content is never sent twice"
        if belief == "taken":
            assert true[number] == [250]
        elif belief != "unknown":
            # 0: the content was read to its end, and the reply did not get through
            assert true[number] not in ([250], [0]), f"{number} may have been taken, and is believed {belief}"
    return set(believed.values())
