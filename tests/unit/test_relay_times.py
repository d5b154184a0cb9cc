"""The times of a handover: a limit for each command (RFC 5321 4.5.3.2), and the client's own patience over all of them."""

import asyncio

import pytest

from gateway.content import Form
from gateway.errors import LinkError
from gateway.relay.identity import ClientFacts
from gateway.relay.pool import Relay
from gateway.testing.next_hop import SILENCE, Answer, ScriptedNextHop
from tests.unit.test_relay_handover import CONTENT, codes, deliver, envelope, relaying

CLIENT = ClientFacts(address="192.0.2.1")
LONG = {"reply_timeout": 20.0, "greeting_timeout": 20.0, "data_timeout": 20.0, "block_timeout": 20.0, "final_reply_timeout": 20.0}


@pytest.mark.parametrize(
    ("verb", "limit"),
    [
        ("GREETING", "greeting_timeout"),
        ("EHLO", "hello_timeout"),
        ("MAIL", "mail_timeout"),
        ("RCPT", "rcpt_timeout"),
        ("DATA", "data_timeout"),
        ("CONTENT", "final_reply_timeout"),
    ],
)
async def test_each_command_has_a_limit_of_its_own(verb: str, limit: str) -> None:
    async with ScriptedNextHop() as hop, relaying(hop, **{**LONG, limit: 0.1}) as relay:
        hop.script(verb, SILENCE)
        with pytest.raises(LinkError) as caught:
            async with asyncio.timeout(5):
                await deliver(relay)
        assert caught.value.enhanced == "4.4.1"
        assert caught.value.unknown is (verb == "CONTENT")


async def sent(relay: Relay, *, seconds: float, form: Form = Form.LINES) -> LinkError:
    """What comes of content whose answer is due in so many seconds."""
    handover = relay.handover("r", CLIENT)
    await envelope(handover, b"<c@d>")
    handover.due = asyncio.get_running_loop().time() + seconds
    with pytest.raises(LinkError) as caught:
        async with asyncio.timeout(5):
            await handover.send([CONTENT], size=len(CONTENT), form=form)
    handover.abandon()
    return caught.value


@pytest.mark.parametrize("verb", ["DATA", "CONTENT"])
async def test_a_next_hop_gets_what_is_left_of_the_client_s_time(verb: str) -> None:
    async with ScriptedNextHop() as hop, relaying(hop, **LONG) as relay:
        hop.script(verb, SILENCE)
        error = await sent(relay, seconds=0.2)
        assert (error.enhanced, error.unknown) == ("4.4.1", verb == "CONTENT")
        assert hop.connections == 1, "there is no time for another try"


@pytest.mark.parametrize("form", [Form.LINES, Form.UNENDED])
async def test_nothing_is_sent_when_no_time_is_left_and_the_server_is_not_blamed(form: Form) -> None:
    keywords = ("PIPELINING", "SIZE", "CHUNKING")
    async with ScriptedNextHop(keywords=keywords) as hop, relaying(hop, **LONG) as relay:
        error = await sent(relay, seconds=0, form=form)
        assert (error.enhanced, error.unknown) == ("4.4.1", False)
        await asyncio.sleep(0.05)  # for the reply to RSET
        assert hop.commands[-1] == b"RSET"
        assert b"DATA" not in hop.commands
        assert codes(await deliver(relay)) == [250]
        assert hop.connections == 1, "the link came back clean"


async def test_a_replay_has_no_more_time_either() -> None:
    async with ScriptedNextHop() as hop, relaying(hop, **LONG) as relay:
        handover = relay.handover("r", CLIENT)
        await envelope(handover, b"<c@d>")
        await hop.drop_all()
        hop.script("GREETING", SILENCE)
        handover.due = asyncio.get_running_loop().time() + 0.2
        with pytest.raises(LinkError, match="no time is left") as caught:
            async with asyncio.timeout(5):
                await handover.send([CONTENT], size=len(CONTENT))
        assert not caught.value.unknown
        handover.abandon()


async def test_an_answer_in_time_is_the_client_s() -> None:
    async with ScriptedNextHop() as hop, relaying(hop, **LONG) as relay:
        hop.script("CONTENT", Answer("250 2.0.0 at last", delay=0.1))
        handover = relay.handover("r", CLIENT)
        await envelope(handover, b"<c@d>")
        handover.due = asyncio.get_running_loop().time() + 5
        assert [str(reply) for reply in await handover.send([CONTENT], size=len(CONTENT))] == ["250 2.0.0 at last"]
        handover.abandon()


@pytest.mark.parametrize("verb", ["GREETING", "MAIL", "RCPT"])
async def test_whoever_waits_is_told_when_the_client_waits_no_longer(verb: str) -> None:
    async with ScriptedNextHop() as hop, relaying(hop, **LONG) as relay:
        hop.script(verb, SILENCE)
        handover = relay.handover("r", CLIENT)
        asyncio.get_running_loop().call_later(0.1, handover.give_up)
        with pytest.raises(LinkError, match="while the client waits") as caught:
            async with asyncio.timeout(5):
                await envelope(handover, b"<c@d>")
        assert (caught.value.enhanced, caught.value.unknown) == ("4.4.1", False)
        with pytest.raises(LinkError, match="while the client waits"):
            await handover.rcpt(b"<e@f>", [])
        handover.give_up()
        handover.abandon()
