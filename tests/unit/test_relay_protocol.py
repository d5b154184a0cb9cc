"""The engine towards the next hop: replies, groups of commands, EHLO, dot-stuffing."""

import pytest

from gateway.relay.protocol import MAX_REPLY_LINE, MAX_REPLY_LINES, Capabilities, DotStuffer, NextHopProtocol
from gateway.smtp.replies import Reply


def talking(*tokens: str) -> NextHopProtocol[str]:
    engine: NextHopProtocol[str] = NextHopProtocol()
    for token in tokens:
        engine.expect(token)
    return engine


def test_reply_keeps_its_octets() -> None:
    engine = talking("a")
    assert engine.receive(b"550 5.1.1  <x@y>: odd  \xc3\xa4 text \r\n") == [
        ("a", Reply(550, (b"5.1.1  <x@y>: odd  \xc3\xa4 text ",)))
    ]
    assert engine.broken is None
    assert engine.is_quiet


def test_replies_in_one_read_go_to_their_commands_in_order() -> None:
    engine = talking("a", "b", "c")
    answered = engine.receive(b"250 2.1.0 Ok\r\n250-one\r\n250 two\r\n450")
    assert answered == [("a", Reply(250, (b"2.1.0 Ok",))), ("b", Reply(250, (b"one", b"two")))]
    assert not engine.is_quiet
    assert engine.receive(b" later\r\n") == [("c", Reply(450, (b"later",)))]


def test_reply_without_text() -> None:
    """RFC 5321 4.2: a client must cope with a code alone."""
    engine = talking("a", "b", "c")
    assert engine.receive(b"250\r\n250 \r\n250-\r\n250\r\n") == [
        ("a", Reply(250, (b"",))),
        ("b", Reply(250, (b"",))),
        ("c", Reply(250, (b"", b""))),
    ]


def test_lone_lf_ends_a_reply_line() -> None:
    assert talking("a").receive(b"250 Ok\n") == [("a", Reply(250, (b"Ok",)))]


@pytest.mark.parametrize(
    "octets",
    [
        b"\r\n",
        b"\n",
        b"hello\r\n",
        b"25 Ok\r\n",
        b"2500 Ok\r\n",
        b"150 Ok\r\n",
        b"650 Ok\r\n",
        b"-25 Ok\r\n",
        b"250_Ok\r\n",
        b"\xb2\xb5\xb0 Ok\r\n",
        b"250-one\r\n251 two\r\n",
        b"250-one\r\nmore\r\n",
        b"250 " + b"x" * (MAX_REPLY_LINE + 1),
        b"250 " + b"x" * (MAX_REPLY_LINE + 1) + b"\r\n",
        b"250-x\r\n" * MAX_REPLY_LINES,
    ],
)
@pytest.mark.parametrize("step", [1, 10**6])
def test_garbage_breaks_the_link(octets: bytes, step: int) -> None:
    engine = talking("a")
    for start in range(0, len(octets), step):
        assert engine.receive(octets[start : start + step]) == []
    assert engine.broken is not None
    assert engine.receive(b"250 Ok\r\n") == []


def test_longest_reply_passes() -> None:
    engine = talking("a", "b")
    line = b"250 " + b"x" * (MAX_REPLY_LINE - 5)
    octets = line + b"\r\n" + b"250-x\r\n" * (MAX_REPLY_LINES - 1) + b"250 x\r\n"
    first, second = engine.receive(octets)
    assert first[1].lines == (line[4:],)
    assert len(second[1].lines) == MAX_REPLY_LINES
    assert engine.broken is None


def test_what_came_before_garbage_counts() -> None:
    engine = talking("a", "b")
    assert engine.receive(b"250 Ok\r\nwhat?\r\n250 Ok\r\n") == [("a", Reply(250, (b"Ok",)))]
    assert engine.broken is not None
    assert engine.broken.reply is None


def test_unasked_reply_breaks_the_link() -> None:
    engine = talking()
    assert engine.receive(b"421 4.3.2 Shutting down\r\n") == []
    assert engine.broken is not None
    assert engine.broken.reply == Reply(421, (b"4.3.2 Shutting down",))


def test_without_pipelining_one_command_at_a_time() -> None:
    engine: NextHopProtocol[str] = NextHopProtocol()
    engine.command(b"MAIL FROM:<>", "m")
    engine.command(b"RCPT TO:<a@b>", "r")
    assert engine.octets_to_send() == b"MAIL FROM:<>\r\n"
    assert engine.octets_to_send() == b""
    engine.receive(b"250 Ok\r\n")
    assert engine.octets_to_send() == b"RCPT TO:<a@b>\r\n"


def test_pipelining_sends_groups() -> None:
    """RFC 2920 3.1: DATA ends a group."""
    engine: NextHopProtocol[str] = NextHopProtocol()
    engine.pipelining = True
    engine.command(b"MAIL FROM:<>", "m")
    engine.command(b"RCPT TO:<a@b>", "r")
    engine.command(b"DATA", "d", last=True)
    engine.command(b"RSET", "s")
    assert engine.octets_to_send() == b"MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n"
    assert engine.octets_to_send() == b""
    engine.receive(b"250 Ok\r\n250 Ok\r\n")
    assert engine.octets_to_send() == b""
    engine.receive(b"554 No\r\n")
    assert engine.octets_to_send() == b"RSET\r\n"
    assert engine.abandon() == ["s"]
    assert engine.is_quiet


def test_what_nothing_may_follow_goes_out_at_once() -> None:
    engine: NextHopProtocol[str] = NextHopProtocol()
    engine.pipelining = True
    engine.command(b"RCPT TO:<a@b>", "r")
    assert engine.at_once(b"DATA", "d", last=True) == b"RCPT TO:<a@b>\r\nDATA\r\n"
    assert engine.at_once(b"NOOP", "n", last=True) == b""
    assert engine.receive(b"250 Ok\r\n354 Go on\r\n") == [("r", Reply(250, (b"Ok",))), ("d", Reply(354, (b"Go on",)))]
    assert engine.octets_to_send() == b"NOOP\r\n"
    engine.receive(b"250 Ok\r\n")
    assert engine.at_once(b"QUIT", "q", last=True) == b"QUIT\r\n"
    engine.command(b"RSET", "s")
    assert engine.octets_to_send() == b""


def test_what_comes_alone_goes_out_at_once_and_the_next_may_follow() -> None:
    engine: NextHopProtocol[str] = NextHopProtocol()
    engine.pipelining = True
    assert engine.at_once(b"MAIL FROM:<>", "m", last=False) == b"MAIL FROM:<>\r\n"
    assert engine.at_once(b"RCPT TO:<a@b>", "r", last=False) == b"RCPT TO:<a@b>\r\n"
    engine.command(b"RCPT TO:<c@d>", "r")
    assert engine.octets_to_send() == b"RCPT TO:<c@d>\r\n"


@pytest.mark.parametrize("octets", [b"250 O", b"250-Ok\r\n", b"250 Ok\r\n25", b"junk\r\n"])
def test_what_belongs_to_no_reply_so_far_is_known(octets: bytes) -> None:
    engine = talking()
    engine.command(b"NOOP", "n", last=True)
    engine.octets_to_send()
    before = engine.is_ahead
    engine.receive(octets)
    assert (before, engine.is_ahead) == (False, True)
    assert not engine.is_quiet


def test_at_once_waits_for_a_reply_without_pipelining() -> None:
    engine: NextHopProtocol[str] = NextHopProtocol()
    assert engine.at_once(b"DATA", "d", last=True) == b"DATA\r\n"
    assert engine.at_once(b"QUIT", "q", last=True) == b""
    engine.receive(b"554 No\r\n")
    assert engine.octets_to_send() == b"QUIT\r\n"


def test_abandon_names_what_is_out_and_what_waits() -> None:
    engine: NextHopProtocol[str] = NextHopProtocol()
    engine.command(b"A", "a")
    engine.command(b"B", "b")
    engine.octets_to_send()
    assert engine.abandon() == ["a", "b"]


@pytest.mark.parametrize("line", [b"RCPT TO:<a>\r\nDATA", b"RCPT TO:<a\n>", b"RCPT TO:<\0>"])
def test_commands_cannot_be_smuggled(line: bytes) -> None:
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        talking().command(line, "x")
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        NextHopProtocol[str]().at_once(line, "x", last=True)


def test_nothing_goes_out_inside_content() -> None:
    engine = talking()
    engine.begin_content("end")
    engine.command(b"QUIT", "q")
    assert engine.octets_to_send() == b""
    engine.end_content()
    assert engine.receive(b"250 queued\r\n") == [("end", Reply(250, (b"queued",)))]
    assert engine.octets_to_send() == b"QUIT\r\n"


def test_a_refusal_inside_content_is_its_reply_and_ends_the_link() -> None:
    engine = talking()
    engine.begin_content("end")
    assert engine.receive(b"552 5.3.4 Too big\r\n") == [("end", Reply(552, (b"5.3.4 Too big",)))]
    assert engine.broken is not None


def test_an_acceptance_inside_content_is_nonsense() -> None:
    engine = talking()
    engine.begin_content("end")
    assert engine.receive(b"250 queued\r\n") == []
    assert engine.broken is not None
    assert engine.abandon() == ["end"]


def test_capabilities_from_ehlo() -> None:
    found = Capabilities.from_reply(
        Reply(
            250,
            (
                b"mx.example.org greets you",
                b"PIPELINING",
                b"size 1000",
                b"AUTH PLAIN LOGIN",
                b"AUTH=PLAIN",
                b"8BitMime",
                b"",
                b"\xff",
            ),
        )
    )
    assert set(found.keywords) == {"PIPELINING", "SIZE", "AUTH", "8BITMIME"}
    assert found.offers("pipelining")
    assert not found.offers("mx.example.org")
    assert found.parameters("Auth") == ("PLAIN", "LOGIN")
    assert found.parameters("DSN") == ()
    assert found.size == 1000


@pytest.mark.parametrize(
    ("line", "size"), [(b"SIZE", 0), (b"SIZE 0", 0), (b"SIZE x", 0), (b"SIZE -5", 0), (b"SIZE " + b"9" * 30, 0), (b"DSN", None)]
)
def test_size(line: bytes, size: int | None) -> None:
    assert Capabilities.from_reply(Reply(250, (b"x", line))).size == size


def test_common_capabilities() -> None:
    one = Capabilities({"SIZE": ("2000",), "DSN": (), "AUTH": ("PLAIN", "LOGIN"), "CHUNKING": ()})
    two = Capabilities({"SIZE": ("1000",), "DSN": (), "AUTH": ("LOGIN", "CRAM-MD5"), "SMTPUTF8": ()})
    assert one.common(two).keywords == {"SIZE": ("1000",), "DSN": (), "AUTH": ("LOGIN",)}
    assert Capabilities({"SIZE": ()}).common(one).size == 2000
    assert Capabilities({"SIZE": ("0",)}).common(Capabilities({"SIZE": ()})).size == 0


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b"", b".\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"a\r", b"a\r\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b".\r\n.\r\n..\r\n", b"..\r\n..\r\n...\r\n.\r\n"),
        (b"a.b\n.c\r.d\r\n.e\r\n", b"a.b\n.c\r.d\r\n..e\r\n.\r\n"),
    ],
)
def test_stuffing(content: bytes, wire: bytes) -> None:
    """RFC 5321 4.5.2."""
    stuffer = DotStuffer()
    assert stuffer.feed(content) + stuffer.finish() == wire
