"""One transaction to a scripted next hop: whose a reply is, replay, changed envelopes, the end of a link at every point."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.config.models import RelayConfig, RouteConfig
from gateway.content import Form
from gateway.errors import LinkError
from gateway.relay.envelope import EnvelopeError
from gateway.relay.handover import Handover
from gateway.relay.identity import ClientFacts
from gateway.relay.pool import Relay
from gateway.smtp.replies import Reply
from gateway.testing.next_hop import DROP, KEYWORDS, SILENCE, Answer, ScriptedNextHop

CLIENT = ClientFacts(address="192.0.2.1")
CONTENT = b"Subject: x\r\n\r\n.\r\nx\r\n"


@contextlib.asynccontextmanager
async def relaying(*hops: ScriptedNextHop, **settings: float) -> AsyncIterator[Relay]:
    route = RouteConfig(name="r", domains=("*",), servers=tuple(hop.address for hop in hops))
    limits = {
        "connect_timeout": 0.5,
        "greeting_timeout": 0.5,
        "hello_timeout": 0.5,
        "reply_timeout": 5.0,
        "final_reply_timeout": 5.0,
        **settings,
    }
    relay = Relay([route], RelayConfig.model_validate(limits), server_name="gw.test")
    try:
        yield relay
    finally:
        await relay.close()


async def envelope(handover: Handover, *paths: bytes) -> list[Reply]:
    answers = [handover.mail(b"<a@b>", [b"SIZE=10"]), *(handover.rcpt(path, []) for path in paths)]
    return list(await asyncio.gather(*answers))


async def deliver(relay: Relay, *paths: bytes) -> list[Reply]:
    handover = relay.handover("r", CLIENT)
    try:
        await envelope(handover, *(paths or (b"<c@d>",)))
        return await handover.send([CONTENT], size=len(CONTENT))
    finally:
        handover.abandon()


def codes(replies: list[Reply]) -> list[int]:
    return [reply.code for reply in replies]


async def test_a_message_goes_through_as_it_is() -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        handover = relay.handover("r", CLIENT)
        assert handover.next_hop == hop.address
        replies = await asyncio.gather(
            handover.mail(b"<A@B>", [b"RET=HDRS", b"ENVID=x+2By"]),
            handover.rcpt(b'<"c d"@E>', [b"NOTIFY=SUCCESS,failure", b"ORCPT=rfc822;c@e"]),
        )
        assert [reply.text for reply in replies] == ["2.1.0 Ok", "2.1.5 Ok"]
        assert codes(await handover.send([CONTENT[:10], CONTENT[10:]], size=len(CONTENT))) == [250]
        handover.abandon()
        (taken,) = hop.transactions
        assert (taken.reverse_path, taken.parameters) == (b"<A@B>", (b"RET=HDRS", b"ENVID=x+2By"))
        assert taken.recipients == [(b'<"c d"@E>', (b"NOTIFY=SUCCESS,failure", b"ORCPT=rfc822;c@e"))]
        assert taken.content == CONTENT
        assert b"RSET" not in hop.commands


async def test_mail_and_rcpt_of_one_turn_go_out_in_one_write() -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        await deliver(relay)
        hop.reads.clear()
        await deliver(relay, b"<c@d>", b"<e@f>")
        assert hop.reads[0] == b"MAIL FROM:<a@b> SIZE=10\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\n"
        assert len(hop.reads) == 3
        assert hop.connections == 1


async def test_without_pipelining() -> None:
    async with ScriptedNextHop(keywords=KEYWORDS[1:]) as hop, relaying(hop) as relay:
        assert codes(await deliver(relay, b"<c@d>", b"<e@f>")) == [250]
        assert hop.transactions[0].paths == [b"<c@d>", b"<e@f>"]


@pytest.mark.parametrize(
    "answer", ["550 5.1.1 No such user", "450 4.2.1 Later", "454 4.7.1 No", "555 5.5.4 What?", "250-2.1.5 Two\n250 2.1.5 lines"]
)
async def test_replies_to_recipients_are_the_client_s(answer: str) -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        hop.script("RCPT TO:<no@", answer)
        handover = relay.handover("r", CLIENT)
        replies = await envelope(handover, b"<c@d>", b"<no@d>", b"<e@f>")
        assert replies[2].render() == answer.replace("\n", "\r\n").encode() + b"\r\n"
        assert codes([replies[1], replies[3]]) == [250, 250]
        assert codes(await handover.send([CONTENT], size=1)) == [250]
        handover.abandon()


async def test_mail_refused_is_the_reply_to_pipelined_recipients_too() -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        hop.script("MAIL", "550 5.7.1 Not from you", stay=False)
        handover = relay.handover("r", CLIENT)
        replies = await envelope(handover, b"<c@d>")
        assert codes(replies) == [550, 550]
        assert codes([await handover.rcpt(b"<e@f>", [])]) == [550]
        with pytest.raises(RuntimeError):
            await handover.send([CONTENT], size=1)
        handover.abandon()
        await asyncio.sleep(0.05)
        assert hop.commands[-1] == b"RSET"
        assert codes(await deliver(relay)) == [250]
        assert hop.connections == 1


@pytest.mark.parametrize("when", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("answer", ["503 5.5.1 Bad sequence", "530 5.7.0 Authenticate", "300 What?"])
async def test_replies_about_the_link_are_not_the_client_s(when: str, answer: str) -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        hop.script(when, answer, stay=False)
        with pytest.raises(LinkError) as caught:
            await deliver(relay)
        assert caught.value.enhanced == "4.3.5"
        assert not caught.value.unknown
        assert answer[:3] in caught.value.what
        assert codes(await deliver(relay)) == [250]
        assert hop.connections == 2, "the link was retired"


@pytest.mark.parametrize("when", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(
    "answer", [DROP, Answer("421 4.3.2 Going down", drop=True), Answer("421 4.3.2 Going down"), Answer(raw=b"what?\r\n")]
)
@pytest.mark.parametrize("is_reused", [False, True])
async def test_a_link_that_fails_before_the_content_is_replaced(when: str, answer: Answer, is_reused: bool) -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        if is_reused:
            await deliver(relay)
        hop.script(when, answer, stay=False)
        assert codes(await deliver(relay, b"<c@d>", b"<e@f>")) == [250]
        assert hop.transactions[-1].paths == [b"<c@d>", b"<e@f>"]
        assert hop.connections == 2


@pytest.mark.parametrize("when", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("answer", [DROP, "421 4.3.2 Going down"])
async def test_a_next_hop_that_always_fails_ends_with_an_error(when: str, answer: str | Answer) -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        hop.script(when, answer)
        with pytest.raises(LinkError) as caught:
            await deliver(relay)
        assert caught.value.enhanced.startswith("4.4.")
        assert not caught.value.unknown
        assert hop.connections <= 4


async def test_silence_is_tried_once_more() -> None:
    async with ScriptedNextHop() as hop, relaying(hop, reply_timeout=0.1) as relay:
        hop.script("MAIL", SILENCE)
        with pytest.raises(LinkError) as caught:
            await deliver(relay)
        assert caught.value.enhanced == "4.4.1"
        assert hop.connections == 2


async def test_silence_goes_to_the_other_server() -> None:
    async with ScriptedNextHop() as one, ScriptedNextHop() as two, relaying(one, two, reply_timeout=0.1) as relay:
        one.script("RCPT", SILENCE)
        assert codes(await deliver(relay)) == [250]
        assert (len(one.transactions), len(two.transactions)) == (0, 1)


async def test_idle_link_closed_between_transactions_is_not_noticed() -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        await deliver(relay)
        await hop.drop_all()
        assert codes(await deliver(relay)) == [250]
        assert hop.connections == 2


async def test_link_lost_while_the_client_uploads() -> None:
    """Postfix hangs up after 300 s, under stress 10 s: the envelope is said again."""
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        hop.script("RCPT TO:<no@", "550 5.1.1 No such user")
        handover = relay.handover("r", CLIENT)
        assert codes(await envelope(handover, b"<c@d>", b"<no@d>", b"<e@f>")) == [250, 250, 550, 250]
        await hop.drop_all()
        hop.commands.clear()
        assert codes(await handover.send([CONTENT], size=1)) == [250]
        assert hop.commands[1:] == [b"MAIL FROM:<a@b> SIZE=10", b"RCPT TO:<c@d>", b"RCPT TO:<e@f>", b"DATA"]
        handover.abandon()


async def test_link_lost_between_recipients() -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        handover = relay.handover("r", CLIENT)
        await envelope(handover, b"<c@d>")
        await hop.drop_all()
        assert codes([await handover.rcpt(b"<e@f>", [])]) == [250]
        assert codes(await handover.send([CONTENT], size=1)) == [250]
        assert hop.transactions[0].paths == [b"<c@d>", b"<e@f>"]
        handover.abandon()


@pytest.mark.parametrize("when", ["MAIL", "RCPT TO:<c@"])
async def test_replay_that_is_not_accepted_again(when: str) -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        handover = relay.handover("r", CLIENT)
        await envelope(handover, b"<c@d>", b"<e@f>")
        await hop.drop_all()
        hop.script(when, "450 4.2.0 Greylisted")
        with pytest.raises(LinkError, match="accepted before") as caught:
            await handover.send([CONTENT], size=1)
        assert (caught.value.enhanced, caught.value.unknown) == ("4.4.2", False)
        with pytest.raises(LinkError):
            await handover.rcpt(b"<g@h>", [])
        handover.abandon()
        assert not hop.transactions


async def test_replay_on_another_server() -> None:
    async with ScriptedNextHop() as one, ScriptedNextHop() as two, relaying(one, two) as relay:
        handover = relay.handover("r", CLIENT)
        await envelope(handover, b"<c@d>")
        assert handover.next_hop == one.address
        await one.stop()
        assert codes(await handover.send([CONTENT], size=1)) == [250]
        assert handover.next_hop == two.address
        assert two.transactions[0].content == CONTENT
        handover.abandon()


@pytest.mark.parametrize("answer", ["550 5.7.1 No", "451 4.3.0 Later", "552 5.3.4 Too big"])
@pytest.mark.parametrize("when", ["DATA", "CONTENT"])
async def test_refusals_of_the_content_are_the_client_s(when: str, answer: str) -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        hop.script(when, answer, stay=False)
        assert [str(reply) for reply in await deliver(relay)] == [answer]
        await asyncio.sleep(0.05)
        assert codes(await deliver(relay)) == [250]
        assert hop.connections == 1


@pytest.mark.parametrize(
    ("answer", "unknown"), [(DROP, True), (Answer(raw=b"what?\r\n"), True), ("354 What?", True), ("421 4.3.2 Going down", False)]
)
async def test_no_reply_to_the_content(answer: str | Answer, unknown: bool) -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        hop.script("CONTENT", answer, stay=False)
        with pytest.raises(LinkError) as caught:
            await deliver(relay)
        assert caught.value.unknown is unknown
        assert len(hop.transactions) == 1, "content is never sent twice"
        assert codes(await deliver(relay)) == [250]
        assert hop.connections == 2


async def test_content_goes_out_once_even_if_lost_in_the_middle() -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        hop.drop_in_content_after = 1000
        handover = relay.handover("r", CLIENT)
        await envelope(handover, b"<c@d>")
        with pytest.raises(LinkError) as caught:
            await handover.send((b"x" * 100_000 for _ in range(100)), size=10_000_000)
        assert caught.value.unknown
        handover.abandon()
        assert hop.connections == 1


async def test_cancelled_while_sending() -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        for when in ("DATA", "CONTENT"):
            hop.script(when, SILENCE, stay=False)
            handover = relay.handover("r", CLIENT)
            await envelope(handover, b"<c@d>")
            task = asyncio.get_running_loop().create_task(handover.send([CONTENT], size=1))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            handover.abandon()
        assert codes(await deliver(relay)) == [250]
        assert hop.connections == 3


async def test_prepare_says_nothing_when_the_envelope_is_the_same() -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        hop.script("RCPT TO:<no@", "550 5.1.1 No such user")
        handover = relay.handover("r", CLIENT)
        await envelope(handover, b"<c@d>", b"<no@d>", b"<e@f>")
        said = len(hop.commands)
        await handover.prepare((b"<a@b>", [b"SIZE=10"]), [(b"<c@d>", []), (b"<e@f>", [])])
        assert len(hop.commands) == said
        handover.abandon()


@pytest.mark.parametrize("keywords", [KEYWORDS, KEYWORDS[1:]])
async def test_prepare_changes_the_envelope(keywords: tuple[str, ...]) -> None:
    async with ScriptedNextHop(keywords=keywords) as hop, relaying(hop) as relay:
        handover = relay.handover("r", CLIENT)
        await envelope(handover, b"<c@d>", b"<e@f>")
        await handover.prepare((b"<new@b>", []), [(b"<e@f>", [b"NOTIFY=NEVER"]), (b"<g@h>", [])])
        assert codes(await handover.send([CONTENT], size=1)) == [250]
        (taken,) = hop.transactions
        assert taken.reverse_path == b"<new@b>"
        assert taken.recipients == [(b"<e@f>", (b"NOTIFY=NEVER",)), (b"<g@h>", ())]
        assert hop.connections == 1
        handover.abandon()


async def test_prepare_makes_an_envelope_of_its_own() -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        for _ in range(2):
            handover = relay.handover("r", CLIENT)
            await handover.prepare((b"<a@b>", []), [(b"<c@d>", [])])
            assert codes(await handover.send([CONTENT], size=1)) == [250]
            handover.abandon()
        assert len(hop.transactions) == 2
        assert b"RSET" not in hop.commands


async def test_prepare_refused() -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        hop.script("RCPT TO:<g@h>", "550 5.1.1 No such user")
        handover = relay.handover("r", CLIENT)
        await envelope(handover, b"<c@d>")
        with pytest.raises(EnvelopeError) as caught:
            await handover.prepare((b"<a@b>", []), [(b"<g@h>", [])])
        assert (caught.value.line, caught.value.reply.code, caught.value.enhanced) == (b"RCPT TO:<g@h>", 550, "4.3.5")
        handover.abandon()
        await asyncio.sleep(0.05)
        assert codes(await deliver(relay)) == [250]
        assert hop.connections == 1


@pytest.mark.parametrize("answer", [DROP, "500 5.5.1 What?"])
async def test_prepare_on_a_link_that_fails(answer: str | Answer) -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        handover = relay.handover("r", CLIENT)
        await envelope(handover, b"<c@d>")
        hop.script("RSET", answer, stay=False)
        await handover.prepare((b"<a@b>", []), [(b"<g@h>", [])])
        assert codes(await handover.send([CONTENT], size=1)) == [250]
        assert hop.transactions[0].paths == [b"<g@h>"]
        handover.abandon()


async def test_prepare_after_the_link_was_lost() -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        handover = relay.handover("r", CLIENT)
        await envelope(handover, b"<c@d>")
        await hop.drop_all()
        await handover.prepare((b"<a@b>", []), [(b"<g@h>", [])])
        assert codes(await handover.send([CONTENT], size=1)) == [250]
        assert hop.transactions[0].paths == [b"<g@h>"]
        handover.abandon()


async def test_abandon_at_any_time() -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        nothing = relay.handover("r", CLIENT)
        nothing.abandon()
        opening = relay.handover("r", CLIENT)
        answer = opening.mail(b"<a@b>", [])
        opening.abandon()
        with pytest.raises(LinkError, match="given up"):
            await answer
        waiting = relay.handover("r", CLIENT)
        await waiting.mail(b"<a@b>", [])
        answer = waiting.rcpt(b"<c@d>", [])
        waiting.abandon()
        waiting.abandon()
        with pytest.raises(LinkError, match="given up"):
            await answer
        with pytest.raises(LinkError):
            await waiting.send([CONTENT], size=1)
        await asyncio.sleep(0.05)
        assert hop.commands[-1] == b"RSET"
        connections = hop.connections
        assert codes(await deliver(relay)) == [250]
        assert hop.connections == connections, "the reset link was used again"


async def test_abandoned_link_that_refuses_to_reset_is_retired() -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        hop.script("RSET", "500 5.5.1 What?")
        handover = relay.handover("r", CLIENT)
        await envelope(handover, b"<c@d>")
        handover.abandon()
        assert codes(await deliver(relay)) == [250]
        assert hop.connections == 2


async def test_misuse_is_named() -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        handover = relay.handover("r", CLIENT)
        with pytest.raises(RuntimeError, match="before mail"):
            handover.rcpt(b"<c@d>", [])
        await handover.mail(b"<a@b>", [])
        with pytest.raises(RuntimeError, match="one transaction"):
            handover.mail(b"<a@b>", [])
        with pytest.raises(RuntimeError, match="without an accepted envelope"):
            await handover.send([CONTENT], size=1)
        handover.abandon()


async def test_a_lesser_server_behind_a_fail_over_is_not_asked_for_what_it_lacks() -> None:
    """Its 555 to BODY= would be a permanent refusal of what the first server takes; the session was told 8BITMIME."""
    lesser = tuple(keyword for keyword in KEYWORDS if keyword not in {"8BITMIME", "DSN"})
    async with ScriptedNextHop() as first, ScriptedNextHop(keywords=lesser) as second, relaying(first, second) as relay:
        assert (await relay.learn("r")).offers("8BITMIME")
        await first.stop()
        handover = relay.handover("r", CLIENT)
        with pytest.raises(LinkError, match="does not offer 8BITMIME") as caught:
            await handover.mail(b"<a@b>", [b"BODY=8BITMIME"], needs={"8BITMIME"})
        assert caught.value.enhanced == "4.3.5"
        handover.abandon()
        assert not any(command.startswith(b"MAIL") for command in second.commands)
        known = relay.capabilities("r")
        assert known is not None
        assert not known.offers("8BITMIME")  # the next session is told so
        handover = relay.handover("r", CLIENT)
        assert (await handover.mail(b"<a@b>", [])).is_positive
        with pytest.raises(LinkError, match="does not offer DSN"):
            await handover.rcpt(b"<c@d>", [b"NOTIFY=NEVER"], needs={"DSN"})
        handover.abandon()


CHUNKING = (*KEYWORDS, "CHUNKING", "BINARYMIME")


async def send_as(relay: Relay, content: bytes, form: Form) -> tuple[list[Reply], bool]:
    handover = relay.handover("r", CLIENT)
    try:
        await envelope(handover, b"<c@d>")
        return await handover.send([content[:3], content[3:]], size=len(content), form=form), handover.added_crlf
    finally:
        handover.abandon()


async def test_nothing_is_added_to_content_that_was_refused() -> None:
    async with ScriptedNextHop() as hop, relaying(hop) as relay:
        hop.script("DATA", "452 4.3.1 Full")
        replies, added = await send_as(relay, b"no end of line", Form.UNENDED)
        assert (codes(replies), added) == ([452], False)


@pytest.mark.parametrize(
    ("keywords", "form", "verb", "added"),
    [
        (CHUNKING, Form.LINES, b"DATA", False),
        (CHUNKING, Form.UNENDED, b"BDAT", False),
        (CHUNKING, Form.BINARY, b"BDAT", False),
        (KEYWORDS, Form.UNENDED, b"DATA", True),
        (KEYWORDS, Form.LINES, b"DATA", False),
    ],
)
async def test_content_goes_by_bdat_where_data_would_change_it(
    keywords: tuple[str, ...], form: Form, verb: bytes, added: bool
) -> None:
    content = CONTENT if form is Form.LINES else b"Subject: x\r\n\r\n.\r\nx\0\n\ry"
    async with ScriptedNextHop(keywords=keywords) as hop, relaying(hop) as relay:
        for _ in range(2):  # the link is as good as before
            replies, was_added = await send_as(relay, content, form)
            assert (codes(replies), was_added) == ([250], added)
        assert hop.connections == 1
        assert [command[:4] for command in hop.commands if command[:4] in {b"DATA", b"BDAT"}] == [verb, verb]
        assert {taken.content for taken in hop.transactions} == {content + b"\r\n" * added}
        assert hop.transactions[0].chunks == ([len(content)] if verb == b"BDAT" else [])


@pytest.mark.parametrize("without", ["CHUNKING", "BINARYMIME"])
async def test_binary_content_never_goes_by_data(without: str) -> None:
    keywords = tuple(keyword for keyword in CHUNKING if keyword != without)
    async with ScriptedNextHop(keywords=keywords) as hop, relaying(hop) as relay:
        with pytest.raises(LinkError, match=f"does not offer {without}") as caught:
            await send_as(relay, b"x\0y", Form.BINARY)
        assert (caught.value.enhanced, caught.value.unknown) == ("4.3.5", False)
        assert not hop.transactions
        assert not any(command[:4] in {b"DATA", b"BDAT"} for command in hop.commands)


@pytest.mark.parametrize(
    ("answer", "is_ours", "connections"),
    [
        ("554 5.6.0 Not this", False, 1),
        ("452 4.3.1 Later", False, 1),
        ("421 4.3.2 Bye", True, 2),
        ("502 5.5.1 What?", True, 2),
        ("503 5.5.1 What?", True, 2),
        ("530 5.7.0 TLS", True, 2),
        (DROP, True, 2),
    ],
)
async def test_replies_to_a_chunk(answer: str | Answer, is_ours: bool, connections: int) -> None:
    async with ScriptedNextHop(keywords=CHUNKING) as hop, relaying(hop) as relay:
        hop.script("CONTENT", answer, stay=False)
        if is_ours:
            with pytest.raises(LinkError) as caught:
                await send_as(relay, b"x\r\n\r\ny", Form.UNENDED)
            assert caught.value.unknown is (answer is DROP)
        else:
            replies, _ = await send_as(relay, b"x\r\n\r\ny", Form.UNENDED)
            assert str(replies[0]) == answer
        replies, _ = await send_as(relay, b"x\r\n\r\nz", Form.UNENDED)
        assert codes(replies) == [250]
        assert hop.connections == connections


async def test_a_wrong_size_cuts_the_link() -> None:
    async with ScriptedNextHop(keywords=CHUNKING) as hop, relaying(hop) as relay:
        handover = relay.handover("r", CLIENT)
        await envelope(handover, b"<c@d>")
        with pytest.raises(ValueError, match="octets"):
            await handover.send([b"Subject: x\r\n\r\ny"], size=10, form=Form.BINARY)
        handover.abandon()
        await asyncio.sleep(0.05)
        assert not hop.transactions
        assert hop.open_connections == 0


async def test_a_large_chunk_waits_for_a_slow_next_hop() -> None:
    piece = b"x" * 250_000
    async with ScriptedNextHop(keywords=CHUNKING) as hop, relaying(hop) as relay:
        handover = relay.handover("r", CLIENT)
        await envelope(handover, b"<c@d>")
        hop.reading.clear()
        read = 0

        def chunks() -> Iterator[bytes]:
            nonlocal read
            for _ in range(200):
                read += 1
                yield piece

        task = asyncio.get_running_loop().create_task(handover.send(chunks(), size=200 * len(piece), form=Form.BINARY))
        await asyncio.sleep(0.3)
        assert read < 150
        hop.reading.set()
        assert codes(await task) == [250]
        assert hop.transactions[0].content == piece * 200
        handover.abandon()


@pytest.mark.parametrize(("limit", "connections"), [("MAILMAX=1", 2), ("MAILMAX=2", 1), ("RCPTMAX=1", 1)])
async def test_a_changed_envelope_keeps_to_the_next_hop_s_limit_of_transactions(limit: str, connections: int) -> None:
    """RFC 9422 4.2: each MAIL counts, taken back or not."""
    async with ScriptedNextHop(keywords=(*KEYWORDS, f"LIMITS {limit}")) as hop, relaying(hop) as relay:
        handover = relay.handover("r", CLIENT)
        await envelope(handover, b"<c@d>")
        await handover.prepare((b"<a@b>", []), [(b"<g@h>", [])])
        assert codes(await handover.send([CONTENT], size=1)) == [250]
        assert hop.connections == connections
        handover.abandon()
