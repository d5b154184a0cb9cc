"""LMTP towards the next hop: one reply for each recipient, and what is known when the link breaks between them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.content import Form
from gateway.errors import LinkError
from gateway.relay.each import PartlyAnsweredError
from gateway.relay.handover import Handover
from gateway.testing.next_hop import DROP, KEYWORDS, SILENCE, Answer, ScriptedNextHop
from tests.unit.test_relay_handover import CLIENT, CONTENT, codes, deliver, envelope, relaying

PATHS = (b"<a@d>", b"<b@d>", b"<c@d>")


async def test_each_recipient_has_its_reply_in_the_order_of_the_recipients() -> None:
    async with ScriptedNextHop(lmtp=True) as hop, relaying(hop) as relay:
        hop.script("RCPT TO:<no@", "550 5.1.1 No such user")
        hop.script("CONTENT <b@", "452-4.2.2 Mailbox\n452 4.2.2 full")
        hop.script("CONTENT <c@", "550 5.7.1 Not this one")
        handover = relay.handover("r", CLIENT)
        await envelope(handover, b"<a@d>", b"<no@d>", b"<b@d>", b"<c@d>")
        replies = await handover.send([CONTENT], size=len(CONTENT))
        assert [str(reply) for reply in replies] == [
            "250 2.0.0 Ok: queued as SCRIPTED",
            "452 4.2.2 Mailbox 4.2.2 full",
            "550 5.7.1 Not this one",
        ]
        handover.abandon()
        assert hop.commands[0] == b"LHLO gw.test"
        assert hop.transactions[0].delivered == [b"<a@d>"]
        assert codes(await deliver(relay, *PATHS)) == [250, 452, 550]
        assert codes(await deliver(relay)) == [550]
        assert hop.connections == 1, "all replies were read, so the link serves again"


async def test_over_a_unix_socket(tmp_path: Path) -> None:
    async with ScriptedNextHop(lmtp=True, unix_path=str(tmp_path / "lmtp")) as hop, relaying(hop) as relay:
        assert relay.handover("r", CLIENT).next_hop == f"lmtp+unix:{tmp_path}/lmtp"
        assert codes(await deliver(relay, *PATHS)) == [250, 250, 250]


async def test_the_same_recipient_twice_has_two_replies() -> None:
    """RFC 2033 4.2."""
    async with ScriptedNextHop(lmtp=True) as hop, relaying(hop) as relay:
        assert codes(await deliver(relay, b"<a@d>", b"<a@d>")) == [250, 250]


async def test_a_changed_envelope_is_answered_for_as_it_is_now() -> None:
    async with ScriptedNextHop(lmtp=True) as hop, relaying(hop) as relay:
        hop.script("CONTENT <c@", "452 4.2.2 Mailbox full")
        handover = relay.handover("r", CLIENT)
        await envelope(handover, *PATHS)
        await handover.prepare((b"<a@b>", [b"SIZE=10"]), [(b"<c@d>", []), (b"<a@d>", [])])
        assert codes(await handover.send([CONTENT], size=1)) == [452, 250]
        handover.abandon()


async def test_without_pipelining_and_with_replies_in_one_read() -> None:
    async with ScriptedNextHop(lmtp=True, keywords=KEYWORDS[1:]) as hop, relaying(hop) as relay:
        hop.script("CONTENT <a@", Answer(raw=b"250 2.0.0 a\r\n450 4.2.1 b\r\n250 2.0.0 c\r\n"))
        hop.script("CONTENT <b@", Answer())
        hop.script("CONTENT <c@", Answer())
        assert codes(await deliver(relay, *PATHS)) == [250, 450, 250]
        assert codes(await deliver(relay, *PATHS)) == [250, 450, 250]


async def test_a_server_of_smtp_is_no_server_of_lmtp() -> None:
    async with ScriptedNextHop() as hop:
        hop.lmtp = True
        address = hop.address
        hop.lmtp = False
        async with relaying(hop) as relay:
            handover = relay.handover(address, CLIENT)
            with pytest.raises(LinkError, match="LHLO answered with 502") as caught:
                await handover.mail(b"<a@b>", [])
            assert caught.value.enhanced == "4.3.5"
            assert hop.commands == [b"LHLO gw.test"], "no other greeting is tried (RFC 2033 4.1)"


@pytest.mark.parametrize("answered", [0, 1, 2])
@pytest.mark.parametrize("end", [DROP, Answer("250 Ok", drop=True), Answer(raw=b"garbage\r\n")])
async def test_a_link_lost_between_the_replies(answered: int, end: Answer) -> None:
    async with ScriptedNextHop(lmtp=True) as hop, relaying(hop) as relay:
        handover = relay.handover("r", CLIENT)
        await envelope(handover, *PATHS)
        hop.script(f"CONTENT {PATHS[answered].decode()}", end)
        known = answered + bool(end.reply)
        if known == len(PATHS):
            assert codes(await handover.send([CONTENT], size=1)) == [250, 250, 250]
        else:
            with pytest.raises(LinkError) as caught:
                await handover.send([CONTENT], size=1)
            assert caught.value.unknown
            assert len(caught.value.replies if isinstance(caught.value, PartlyAnsweredError) else ()) == known
        handover.abandon()
        hop.script("CONTENT", "250 2.0.0 Ok")
        hop.script(f"CONTENT {PATHS[answered].decode()}", "250 2.0.0 Ok")
        assert codes(await deliver(relay, *PATHS)) == [250, 250, 250]
        assert hop.connections == 2


async def test_silence_between_the_replies_ends_within_one_limit_for_all() -> None:
    async with ScriptedNextHop(lmtp=True) as hop, relaying(hop, final_reply_timeout=0.3) as relay:
        hop.script("CONTENT <a@", Answer("250 2.0.0 Ok", delay=0.2))
        hop.script("CONTENT <b@", Answer("250 2.0.0 Ok", delay=0.2))
        hop.script("CONTENT <c@", SILENCE)
        handover = relay.handover("r", CLIENT)
        await envelope(handover, *PATHS)
        with pytest.raises(PartlyAnsweredError) as caught:
            await handover.send([CONTENT], size=1)
        assert (codes(list(caught.value.replies)), caught.value.enhanced, caught.value.unknown) == ([250], "4.4.1", True)
        handover.abandon()


async def test_a_refusal_before_the_final_dot_is_for_the_first_recipient_and_nobody_has_the_message() -> None:
    async with ScriptedNextHop(lmtp=True) as hop, relaying(hop) as relay:
        handover = relay.handover("r", CLIENT)
        await envelope(handover, *PATHS)
        content = [b"x" * 70 + b"\r\n"] * 200_000  # more than the sockets between them hold
        sending = asyncio.get_running_loop().create_task(handover.send(content, size=1))
        while not hop.reads[-1].startswith(b"x"):  # noqa: ASYNC110 - the next hop tells nobody
            await asyncio.sleep(0)
        hop.reading.clear()
        await hop.say_all(b"552 5.3.4 Too much\r\n")
        with pytest.raises(PartlyAnsweredError) as caught:
            await sending
        assert (codes(list(caught.value.replies)), caught.value.unknown) == ([552], False)
        handover.abandon()


async def test_cancelled_between_the_replies_the_link_is_cut() -> None:
    async with ScriptedNextHop(lmtp=True) as hop, relaying(hop) as relay:
        hop.script("CONTENT <b@", SILENCE)
        handover: Handover = relay.handover("r", CLIENT)
        await envelope(handover, *PATHS)
        sending = asyncio.get_running_loop().create_task(handover.send([CONTENT], size=1))
        while not hop.transactions or not hop.transactions[0].codes:  # noqa: ASYNC110 - the next hop tells nobody
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.02)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        handover.abandon()
        await asyncio.sleep(0.05)
        assert codes(await deliver(relay)) == [250]
        assert hop.connections == 2


async def test_by_chunks_each_recipient_has_its_reply_too() -> None:
    """RFC 2033 4.3: to the last chunk."""
    async with ScriptedNextHop(lmtp=True, keywords=(*KEYWORDS, "CHUNKING", "BINARYMIME")) as hop, relaying(hop) as relay:
        hop.script("CONTENT <b@", "552 5.2.2 Mailbox full")
        handover = relay.handover("r", CLIENT)
        await envelope(handover, *PATHS)
        assert codes(await handover.send([b"a\nb"], size=3, form=Form.BINARY)) == [250, 552, 250]
        handover.abandon()
        assert (hop.transactions[0].content, hop.transactions[0].chunks) == (b"a\nb", [3])
        hop.script("CONTENT", "503 5.5.1 No BDAT", DROP)
        hop.script("CONTENT <b@", DROP)
        handover = relay.handover("r", CLIENT)
        await envelope(handover, *PATHS)
        with pytest.raises(LinkError, match="BDAT answered with 503") as caught:
            await handover.send([b"a\nb"], size=3, form=Form.BINARY)
        assert not isinstance(caught.value, PartlyAnsweredError), "it speaks of our command, not of a recipient"
        handover.abandon()
