"""Packets of the milter protocol, octet for octet, and the order in which they may come."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gateway.milter import codec
from gateway.milter.codec import Actions, Agreement, State, Steps
from gateway.milter.codec.commands import MAX_MACROS

OCTETS = [
    (codec.Negotiate(6, Actions(0x1FF), Steps(0x1FFFFF)), b"\0\0\0\x0dO\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff"),
    (
        codec.Negotiate(6, Actions.ADDHDRS, Steps(0), ((codec.MacroStage.MAIL, (b"i", b"{auth_authen}")),)),
        b"\0\0\0\x21O\0\0\0\x06\0\0\0\x01\0\0\0\0\0\0\0\x02i {auth_authen}\0",
    ),
    (codec.Macros(b"C", ((b"j", b"mx.test"), (b"{daemon_name}", b""))), b"\0\0\0\x1bDCj\0mx.test\0{daemon_name}\0\0"),
    (codec.Connect(b"a.test", codec.INET, 25, b"192.0.2.1"), b"\0\0\0\x15Ca.test\0" + b"4\0\x19192.0.2.1\0"),
    (codec.Connect(b"a.test", codec.INET6, 25, b"IPv6:2001:db8::1"), b"\0\0\0\x1cCa.test\0" + b"6\0\x19IPv6:2001:db8::1\0"),
    (codec.Connect(b"localhost", codec.UNIX, 0, b"/run/x"), b"\0\0\0\x15Clocalhost\0L\0\0/run/x\0"),
    (codec.Connect(b"unknown"), b"\0\0\0\x0aCunknown\0U"),
    (codec.Helo(b"a.test"), b"\0\0\0\x08Ha.test\0"),
    (codec.Mail(b"<a@b.test>", (b"SIZE=10", b"RET=HDRS")), b"\0\0\0\x1dM<a@b.test>\0SIZE=10\0RET=HDRS\0"),
    (codec.Rcpt(b"<c@d.test>"), b"\0\0\0\x0cR<c@d.test>\0"),
    (codec.Data(), b"\0\0\0\x01T"),
    (codec.Header(b"Subject", b"two\n lines"), b"\0\0\0\x14LSubject\0two\n lines\0"),
    (codec.EndOfHeader(), b"\0\0\0\x01N"),
    (codec.Body(b"x\r\n\0"), b"\0\0\0\x05Bx\r\n\0"),
    (codec.EndOfBody(), b"\0\0\0\x01E"),
    (codec.Unknown(b"XYZZY"), b"\0\0\0\x07UXYZZY\0"),
    (codec.Abort(), b"\0\0\0\x01A"),
    (codec.Quit(), b"\0\0\0\x01Q"),
    (codec.QuitNewConnection(), b"\0\0\0\x01K"),
]
ANSWERS = [
    (codec.ReplyCode.of(550, "5.7.1", b"100% no"), b"\0\0\0\x14y550 5.7.1 100%% no\0"),
    (codec.ReplyCode.of(450, "4.7.1", b"a", b"b"), b"\0\0\0\x1ay450-4.7.1 a\r\n450 4.7.1 b\0"),
    (codec.AddHeader(b"X-A", b"1"), b"\0\0\0\x07hX-A\0" + b"1\0"),
    (codec.ChangeHeader(2, b"Subject", b""), b"\0\0\0\x0em\0\0\0\x02Subject\0\0"),
    (codec.InsertHeader(0, b"X-A", b"1"), b"\0\0\0\x0bi\0\0\0\0X-A\0" + b"1\0"),
    (codec.AddRecipient(b"<a@b.test>"), b"\0\0\0\x0c+<a@b.test>\0"),
    (codec.AddRecipientWithParameters(b"<a@b.test>", b"NOTIFY=NEVER"), b"\0\0\0\x19" + b"2<a@b.test>\0NOTIFY=NEVER\0"),
    (codec.DeleteRecipient(b"<a@b.test>"), b"\0\0\0\x0c-<a@b.test>\0"),
    (codec.ChangeFrom(b"<>"), b"\0\0\0\x04e<>\0"),
    (codec.ReplaceBody(b"new\r\n"), b"\0\0\0\x06bnew\r\n"),
    (codec.Quarantine(b"virus"), b"\0\0\0\x07qvirus\0"),
    (codec.SetMacros(codec.MacroStage.END_OF_BODY, (b"i", b"j")), b"\0\0\0\x09l\0\0\0\x05i j\0"),
    (codec.Continue(), b"\0\0\0\x01c"),
    (codec.Accept(), b"\0\0\0\x01a"),
    (codec.Reject(), b"\0\0\0\x01r"),
    (codec.Tempfail(), b"\0\0\0\x01t"),
    (codec.Discard(), b"\0\0\0\x01d"),
    (codec.Skip(), b"\0\0\0\x01s"),
    (codec.ConnectionFailed(), b"\0\0\0\x01f"),
    (codec.Shutdown(), b"\0\0\0\x01" + b"4"),
    (codec.Progress(), b"\0\0\0\x01p"),
]


@pytest.mark.parametrize(("packet", "octets"), OCTETS, ids=lambda one: type(one).__name__)
def test_commands_octet_for_octet(packet: codec.Command, octets: bytes) -> None:
    assert codec.write(packet) == octets
    assert codec.read_commands().feed(octets) == [packet]


@pytest.mark.parametrize(("packet", "octets"), ANSWERS, ids=lambda one: type(one).__name__)
def test_answers_octet_for_octet(packet: codec.Answer, octets: bytes) -> None:
    assert codec.write(packet) == octets
    assert codec.read_answers().feed(octets) == [packet]


BAD = {
    "no length": b"\0\0\0\0",
    "too long": b"\x7f\xff\xff\xff",
    "one too long": (codec.LONGEST + 1).to_bytes(4, "big"),
    "unknown letter": b"\0\0\0\x01?",
    "an answer": b"\0\0\0\x01c",
    "octets where there are none": b"\0\0\0\x02TT",
    "macros for nothing": b"\0\0\0\x01D",
    "a macro without a value": b"\0\0\0\x04DCj\0",
    "too many macros": codec.write(codec.Macros(b"C", ((b"i", b"1"),) * (MAX_MACROS + 1))),
    "no NUL": b"\0\0\0\x05Habcd",
    "two names": b"\0\0\0\x05Ha\0b\0",
    "no path": b"\0\0\0\x01M",
    "a field of one string": b"\0\0\0\x03La\0",
    "a family there is not": b"\0\0\0\x04Ca\0X",
    "no family": b"\0\0\0\x03Ca\0",
    "an address cut off": b"\0\0\0\x05Ca\0" + b"4\0",
    "an offer cut off": b"\0\0\0\x05O\0\0\0\x06",
    "a list for no stage": b"\0\0\0\x13O\0\0\0\x06\0\0\0\0\0\0\0\0\0\0\0\x63i\0",
    "a list without end": b"\0\0\0\x12O\0\0\0\x06\0\0\0\0\0\0\0\0\0\0\0\x01i",
}


@pytest.mark.parametrize("octets", BAD.values(), ids=BAD.keys())
def test_bad_packets(octets: bytes) -> None:
    with pytest.raises(codec.BadPacket):
        codec.read_commands().feed(octets)


BAD_ANSWERS = {
    "a field without a name": b"\0\0\0\x04h\0a\0",
    "an indexed field without a name": b"\0\0\0\x08i\0\0\0\0\0a\0",
    "a NUL within a reply": b"\0\0\0\x06y55\0" + b"0\0",
    "a NUL within a reason": b"\0\0\0\x05qa\0b\0",
    "three strings": b"\0\0\0\x07ea\0b\0c\0",
    "two lists": b"\0\0\0\x0dl\0\0\0\x01i\0\0\0\0\x02i\0",
}


@pytest.mark.parametrize("octets", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_bad_answers(octets: bytes) -> None:
    with pytest.raises(codec.BadPacket):
        codec.read_answers().feed(octets)


def test_a_bad_packet_takes_no_good_one_with_it() -> None:
    reader = codec.read_commands()
    assert reader.feed(codec.write(codec.Data()) + b"\0\0\0\0") == [codec.Data()]
    with pytest.raises(codec.BadPacket, match="0 octets"):
        reader.feed(b"")


def test_the_longest_packet_and_one_more() -> None:
    reader = codec.read_commands(longest=10)
    assert reader.feed(codec.write(codec.Body(b"123456789"))) == [codec.Body(b"123456789")]
    with pytest.raises(codec.BadPacket, match="11 octets; allowed are 1 to 10"):
        reader.feed(codec.write(codec.Body(b"1234567890"))[:4])


def test_what_some_send_otherwise_is_read() -> None:
    assert codec.read_commands().feed(b"\0\0\0\x07Cx\0U\0\0\0") == [codec.Connect(b"x")]
    assert codec.read_answers().feed(b"\0\0\0\x07y450 no") == [codec.ReplyCode(b"450 no")]
    assert codec.read_answers().feed(b"\0\0\0\x06qvirus") == [codec.Quarantine(b"virus")]
    listed = b"\0\0\0\x15O\0\0\0\x06\0\0\0\0\0\0\0\0\0\0\0\x01i,j\0"
    (found,) = codec.read_commands().feed(listed)
    assert isinstance(found, codec.Negotiate)
    assert found.symbols == ((codec.MacroStage.HELO, (b"i", b"j")),)


@pytest.mark.parametrize(
    "make",
    [
        lambda: codec.Helo(b"a\0b"),
        lambda: codec.Macros(b"CC"),
        lambda: codec.Macros(b"C", ((b"i", b"\0"),)),
        lambda: codec.Connect(b"a", codec.INET, 65536, b"192.0.2.1"),
        lambda: codec.Connect(b"a", b"X"),
        lambda: codec.Connect(b"a", codec.UNKNOWN_FAMILY, 25),
        lambda: codec.Negotiate(-1, Actions(0), Steps(0)),
        lambda: codec.SetMacros(codec.MacroStage.HELO, (b"a b",)),
        lambda: codec.AddHeader(b"", b"a"),
        lambda: codec.InsertHeader(0, b"", b"a"),
        lambda: codec.InsertHeader(2**32, b"a", b"a"),
        lambda: codec.ReplyCode.of(250, "2.0.0", b"fine"),
        lambda: codec.ReplyCode.of(550, "4.0.0", b"no"),
        lambda: codec.ReplyCode.of(550, "5.0.0", b"no\r\n250 yes"),
    ],
)
def test_what_cannot_be_said(make: object) -> None:
    assert callable(make)
    with pytest.raises(codec.BadValue):
        make()


def test_replies() -> None:
    reply = codec.ReplyCode(b"550-5.7.1 100%% sure %x\r\n550 5.7.1 no")
    assert reply.code == 550
    assert reply.lines() == [b"550-5.7.1 100% sure x", b"550 5.7.1 no"]
    assert codec.ReplyCode.of(550, "5.7.1", b"50 %% off").lines() == [b"550 5.7.1 50 %% off"]
    assert codec.ReplyCode(b"550").code == 550
    for text in (b"", b"250 fine", b"55", b"5500 x", b"abc"):
        with pytest.raises(codec.BadPacket):
            _ = codec.ReplyCode(text).code


def test_addresses() -> None:
    assert codec.Connect(b"a", codec.INET6, 1, b"IPv6:2001:DB8:0::1").ip_address == "2001:db8::1"
    assert codec.Connect(b"a", codec.INET, 1, b"192.0.2.1").ip_address == "192.0.2.1"
    assert codec.Connect(b"a", codec.INET, 1, b"unknown").ip_address == ""
    assert codec.Connect(b"a", codec.INET6, 1, b"fe80::1%eth0").ip_address == ""
    assert codec.Connect(b"a", codec.UNIX, 0, b"/x").ip_address == ""


ALL = Agreement(6, Actions(0xFF), Steps.SKIP)


def walk(commands: Sequence[type[codec.Command]], agreed: Agreement = ALL, state: State = State.NEW) -> State:
    for command in commands:
        state = codec.after_command(state, command, agreed)
    return state


MESSAGE = (codec.Mail, codec.Rcpt, codec.Rcpt, codec.Data, codec.Header, codec.EndOfHeader, codec.Body, codec.EndOfBody)
START = (codec.Negotiate, codec.Macros, codec.Connect, codec.Helo)


def test_a_whole_conversation() -> None:
    assert walk([*START, *MESSAGE, codec.Unknown, *MESSAGE, codec.QuitNewConnection]) is State.NEGOTIATED
    assert walk([*START, *MESSAGE, codec.Quit]) is State.CLOSED
    assert walk([*START, codec.Mail, codec.Abort, codec.Mail, codec.Rcpt, codec.Mail]) is State.MAIL, "without Abort"
    assert walk([*START, codec.Mail, codec.Helo]) is State.CONNECTED


@pytest.mark.parametrize(
    "commands",
    [
        [codec.Macros],
        [codec.Connect],
        [codec.Negotiate, codec.Negotiate],
        [codec.Negotiate, codec.Helo],
        [codec.Negotiate, codec.Mail],
        [*START, codec.Connect],
        [*START, codec.Rcpt],
        [*START, codec.Mail, codec.Data],
        [*START, codec.Mail, codec.Rcpt, codec.Body],
        [*START, codec.EndOfBody],
        [*START, codec.Mail, codec.Rcpt, codec.EndOfBody],
        [*START, codec.Quit, codec.Mail],
        [*START, codec.Quit, codec.Quit],
    ],
    ids=lambda commands: commands[-1].__name__,
)
def test_out_of_order(commands: list[type[codec.Command]]) -> None:
    walk(commands[:-1])
    with pytest.raises(codec.BadPacket):
        walk(commands)


def test_what_was_left_out_is_passed_over() -> None:
    bare = Agreement(6, Actions(0), Steps.NOCONNECT | Steps.NOHELO | Steps.NOMAIL | Steps.NORCPT | Steps.NOHDRS | Steps.NOEOH)
    assert walk([codec.Negotiate, codec.Data], bare) is State.DATA
    assert walk([codec.Negotiate, codec.Body, codec.EndOfBody], bare) is State.CONNECTED
    old = Agreement(2)
    assert walk([*START, codec.Mail, codec.Rcpt, codec.Header], old) is State.HEADER
    for command in (codec.Unknown, codec.QuitNewConnection):
        with pytest.raises(codec.BadPacket):
            walk([*START, command], old)


def reply(command: type[codec.Command], answer: codec.Answer, agreed: Agreement = ALL) -> State:
    places = [*START, *MESSAGE]
    before = places[: places.index(command) + 1] if command in places else [*START, command]
    return codec.after_answer(walk(before, agreed), command, answer, agreed)


@pytest.mark.parametrize(
    ("command", "answer", "state"),
    [
        (codec.Connect, codec.Continue(), State.CONNECTED),
        (codec.Connect, codec.Accept(), State.LEFT),
        (codec.Helo, codec.ReplyCode(b"550 no"), State.LEFT),
        (codec.Mail, codec.Reject(), State.CONNECTED),
        (codec.Rcpt, codec.Reject(), State.RCPT),
        (codec.Rcpt, codec.Tempfail(), State.RCPT),
        (codec.Rcpt, codec.Accept(), State.CONNECTED),
        (codec.Rcpt, codec.Discard(), State.CONNECTED),
        (codec.Header, codec.Reject(), State.CONNECTED),
        (codec.Body, codec.Skip(), State.SKIPPING),
        (codec.Body, codec.Progress(), State.BODY),
        (codec.EndOfBody, codec.AddHeader(b"a", b"b"), State.CONNECTED),
        (codec.EndOfBody, codec.Continue(), State.CONNECTED),
        (codec.EndOfBody, codec.Shutdown(), State.LEFT),
        (codec.Unknown, codec.Reject(), State.CONNECTED),
    ],
)
def test_answers(command: type[codec.Command], answer: codec.Answer, state: State) -> None:
    assert reply(command, answer) is state


@pytest.mark.parametrize(
    ("command", "answer", "agreed"),
    [
        (codec.Connect, codec.Discard(), ALL),
        (codec.Connect, codec.Negotiate(6, Actions(0), Steps(0)), ALL),
        (codec.Negotiate, codec.Continue(), ALL),
        (codec.Negotiate, codec.Progress(), ALL),
        (codec.Mail, codec.AddHeader(b"a", b"b"), ALL),
        (codec.Mail, codec.Skip(), ALL),
        (codec.Body, codec.Skip(), Agreement(6)),
        (codec.EndOfBody, codec.AddHeader(b"a", b"b"), Agreement(6)),
        (codec.EndOfBody, codec.SetMacros(codec.MacroStage.HELO), ALL),
        (codec.Macros, codec.Continue(), ALL),
        (codec.Abort, codec.Progress(), ALL),
        (codec.Header, codec.Continue(), Agreement(6, Actions(0), Steps.NR_HDR)),
    ],
)
def test_answers_that_may_not_be(command: type[codec.Command], answer: codec.Answer, agreed: Agreement) -> None:
    with pytest.raises(codec.BadPacket):
        reply(command, answer, agreed)


def test_negotiation() -> None:
    offered = codec.offer(Actions(0x1FF), Steps(0x301FFFFF), version=6)
    assert codec.offer(Actions(0x1FF), Steps(0x301FFFFF), version=2) == codec.Negotiate(2, Actions(0x3F), Steps(0x7F))
    wanted = ((codec.MacroStage.MAIL, (b"i",)),)
    taken = codec.take(offered, Actions.ADDHDRS, Steps.NR_HDR | Steps.MDS_1M | Steps.MDS_256K, wanted)
    agreed = codec.agree(offered, taken)
    assert agreed == Agreement(6, Actions.ADDHDRS | Actions.SETSYMLIST, Steps.NR_HDR | Steps.MDS_1M, wanted)
    assert agreed.chunk == 2**20 - 1
    assert not agreed.is_answered(codec.Header)
    assert agreed.is_answered(codec.EndOfBody)
    assert agreed.macros(codec.MacroStage.MAIL) == (b"i",)
    assert agreed.macros(codec.MacroStage.RCPT) == ()
    assert Agreement().macros(codec.MacroStage.RCPT) is None
    assert Agreement(steps=Steps.MDS_256K).chunk == 2**18 - 1
    old = codec.take(codec.offer(Actions(0x1FF), Steps(0x1FFFFF), version=2), Actions(0x1FF), Steps.NR_HDR, wanted)
    assert old == codec.Negotiate(2, Actions(0x3F), Steps(0))
    for bad in (
        codec.Negotiate(7, Actions(0), Steps(0)),
        codec.Negotiate(6, Actions(0x8000), Steps(0)),
        codec.Negotiate(1, Actions(0), Steps(0)),
    ):
        with pytest.raises(codec.BadPacket):
            codec.agree(offered, bad)
    unknown = codec.Negotiate(6, Actions(0), Steps(0x8000_0000))
    assert codec.agree(offered, unknown).steps == Steps(0), "unknown bits mean nothing"
    with pytest.raises(codec.BadPacket):
        codec.agree(codec.Negotiate(2, Actions(0), Steps(0x7F)), codec.Negotiate(2, Actions(0), Steps.NR_HDR))
    with pytest.raises(codec.BadPacket):
        codec.take(codec.Negotiate(1, Actions(0), Steps(0)), Actions(0), Steps(0))


def test_chunks() -> None:
    assert list(codec.chunks(b"abcde", 2)) == [b"ab", b"cd", b"e"]
    assert list(codec.chunks(b"", 2)) == []
