"""The planner's table on the wire for clients with a reply for each recipient: one for one, whatever the others get."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config.models import Config
from gateway.outcome import Ability
from gateway.quarantine import Query
from gateway.smtp.each import Answers, answers, to_all
from gateway.smtp.replies import Reply, reply
from gateway.testing.in_process import InProcessGateway
from gateway.testing.next_hop import ScriptedNextHop
from gateway.testing.wire import Party, connect

PLUGINS = Path(__file__).parents[2] / "dialogues" / "plugins"
TOLD = {
    "ok": "250 2.0.0 Ok: queued as SCRIPTED",
    "full": "452 4.2.2 Mailbox is full",
    "bad": "554 5.7.0 Not for me",
    "reject": "550 5.7.1 Not wanted here (",
    "defer": "451 4.7.1 Not now (",
    "hold": "250 2.0.0 Ok (",
    "drop": "250 2.0.0 Ok (",
}
SETS = [*itertools.permutations(TOLD, 2), *((kind, kind) for kind in TOLD), tuple(TOLD), tuple(reversed(TOLD))]


@pytest.fixture
async def hop() -> AsyncIterator[ScriptedNextHop]:
    async with ScriptedNextHop(lmtp=True) as hop:
        hop.script("CONTENT <full-", TOLD["full"])
        hop.script("CONTENT <bad-", TOLD["bad"])
        yield hop


@pytest.fixture
async def gateway(hop: ScriptedNextHop, tmp_path: Path) -> AsyncIterator[InProcessGateway]:
    listener = {"bind": "127.0.0.1:0", "trusted_networks": []}
    config = {
        "plugins": ["by_name"],
        "plugin_path": [str(PLUGINS)],
        "listener": [{"name": "lmtp", "protocol": "lmtp", **listener}, {"name": "smtp", **listener}],
        "route": [{"domains": ["x.test"], "servers": [hop.address]}],
    }
    async with InProcessGateway(Config.model_validate(config), directory=tmp_path) as gateway:
        yield gateway


async def whole(client: Party) -> str:
    """A reply of one line, or the last line of more."""
    while (line := await client.line()) is not None and line[3:4] == "-":
        pass
    assert line is not None
    return line


async def deliver(client: Party, kinds: tuple[str, ...], number: int, parameter: str = "") -> list[str]:
    """One transaction; the replies to its content, PRDR's first and last ones included."""
    rcpts = "".join(f"RCPT TO:<{kind}-{number}-{place}@x.test>\r\n" for place, kind in enumerate(kinds))
    client.say(f"MAIL FROM:<a@client.test>{parameter}\r\n{rcpts}DATA\r\n".encode())
    told = [await whole(client) for _ in range(len(kinds) + 2)]
    assert [line[:3] for line in told] == ["250"] * (len(kinds) + 1) + ["354"]
    client.say(b"Subject: x\r\n\r\nhello\r\n.\r\n")
    return [await whole(client) for _ in range(len(kinds) + (2 if parameter else 0))]


async def placed(gateway: InProcessGateway, hop: ScriptedNextHop) -> tuple[list[str], list[str]]:
    """Who has a message: at the next hop, and held."""
    copies = await gateway.quarantine.search(Query(state="held", limit=500))
    held = [path for copy in copies for path, _, _ in copy.recipients]
    delivered = [path for one in hop.transactions for path in one.delivered]
    return sorted(map(_local, delivered)), sorted(map(_local, held))


def _local(path: bytes) -> str:
    return path.decode().strip("<>").partition("@")[0]


@pytest.mark.parametrize("how", ["lmtp", "prdr"])
async def test_each_recipient_hears_its_own_answer(how: str, gateway: InProcessGateway, hop: ScriptedNextHop) -> None:
    client = await connect(gateway.port("lmtp" if how == "lmtp" else "smtp"))
    await whole(client)
    client.say(b"LHLO client.test\r\n" if how == "lmtp" else b"EHLO client.test\r\n")
    await whole(client)
    for number, kinds in enumerate(SETS):
        told = await deliver(client, kinds, number, "" if how == "lmtp" else " PRDR")
        if how == "prdr":
            first, *told, last = told
            assert first.startswith("353 ")
            assert last[0] == ("2" if any(TOLD[kind][0] == "2" for kind in kinds) else last[0])
            assert last[0] != "2" or any(TOLD[kind][0] == "2" for kind in kinds)
        assert all(line.startswith(TOLD[kind]) for line, kind in zip(told, kinds, strict=True)), (kinds, told)
    client.close()
    names = [(kind, f"{kind}-{number}-{place}") for number, kinds in enumerate(SETS) for place, kind in enumerate(kinds)]
    wanted = [sorted(name for kind, name in names if kind == one) for one in ("ok", "hold")]
    assert list(await placed(gateway, hop)) == wanted, "each once, at its place, and nowhere else"
    assert len(gateway.records) == len(SETS)


async def test_a_held_one_is_not_held_when_the_next_hop_is_lost_for_another(
    gateway: InProcessGateway, hop: ScriptedNextHop
) -> None:
    """With a reply for each it need not be taken back: it was asked for, and is told so."""
    hop.script("CONTENT <ok-", "250 2.0.0 Ok: queued as SCRIPTED", "421 4.3.2 Going down", stay=False)
    client = await connect(gateway.port("lmtp"))
    await whole(client)
    client.say(b"LHLO client.test\r\n")
    await whole(client)
    told = await deliver(client, ("ok", "ok", "hold"), 0)
    assert [line[:9] for line in told] == ["250 2.0.0", "451 4.4.2", "250 2.0.0"]
    assert await placed(gateway, hop) == (["ok-0-0"], ["hold-0-2"])
    client.close()


def test_several_replies_are_one_value() -> None:
    one, other = reply(250, "2.0.0", "Ok"), Reply(552, (b"5.2.2 full,", b"5.2.2 really"))
    both = answers(one, (one, other), Ability.LMTP)
    assert (both.code, str(both)) == (250, "250 2.0.0 Ok")
    assert both.render() == b"250 2.0.0 Ok\r\n552-5.2.2 full,\r\n552 5.2.2 really\r\n"
    assert answers(one, (other, other), Ability.SMTP) is one
    told = answers(one, (other, one), Ability.PRDR).render().split(b"\r\n")
    assert [line[:4] for line in told] == [b"353 ", b"552-", b"552 ", b"250 ", b"250 ", b""]
    assert to_all(other, Ability.LMTP, 2).render() == other.render() * 2
    assert to_all(both, Ability.LMTP, 5) is both
    assert isinstance(both, Answers)
