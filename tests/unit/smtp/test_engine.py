"""The engine of the server side, without a socket."""

import itertools

import pytest

from gateway.smtp.dotstream import DotStream, normalised
from gateway.smtp.grammar import parse_command, parse_mail, parse_rcpt
from gateway.smtp.protocol import Chunk, Command, Content, EndOfContent, Engine, Event, LineTooLong, Response


def read(stream: DotStream, octets: bytes, step: int) -> bytes:
    return b"".join(stream.feed(octets[at : at + step]) for at in range(0, len(octets), step))


@pytest.mark.parametrize("step", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize(
    ("wire", "content"),
    [
        (b".\r\n", b""),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"..a\r\n..\r\n...b\r\n.\r\n", b".a\r\n.\r\n..b\r\n"),
        (b"a\r\n\r\n\r\n.\r\n", b"a\r\n\r\n\r\n"),
        (b".a\r\n.\r\n", b"a\r\n"),
        (b"\x00\xff\r\n.\r\n", b"\x00\xff\r\n"),
    ],
)
def test_dots_are_taken_away_wherever_the_octets_are_cut(wire: bytes, content: bytes, step: int) -> None:
    stream = DotStream()
    assert read(stream, wire, step) == content
    assert stream.ended
    assert not stream.has_bare


@pytest.mark.parametrize("step", [1, 2, 4, 1000])
@pytest.mark.parametrize(
    "wire", [b"a\n.\nb", b"a\n.\r\nb", b"a\r\n.\nb", b"a\r.\rb", b"a\r\n.\rb", b"a\r.\r\nb", b"a\r\n\x00.\r\nb", b"a\n.\r\n"]
)
def test_nothing_else_ends_the_content(wire: bytes, step: int) -> None:
    stream = DotStream()
    read(stream, wire + b"\r\n", step)
    assert not stream.ended
    if wire.replace(b"\r\n", b"").strip(b"ab.\x00"):
        assert stream.has_bare


def test_what_stands_behind_the_mark_waits() -> None:
    stream = DotStream()
    assert stream.feed(b"a\r\n.\r\nQUIT\r\n") == b"a\r\n"
    assert stream.rest == b"QUIT\r\n"


@pytest.mark.parametrize("step", [1, 2, 3, 1000])
def test_a_client_that_types_lf_gets_lf_read_as_line_end(step: int) -> None:
    stream = DotStream(lines_end_in_lf=True)
    assert read(stream, b"Subject: x\n\n..dot\r\nend\n.\n", step) == b"Subject: x\r\n\r\n.dot\r\nend\r\n"
    assert stream.ended


def test_normalised_gives_crlf_only() -> None:
    assert normalised(b"a\rb\nc\r\nd\r\r\n") == b"a\r\nb\r\nc\r\nd\r\n\r\n"


def test_a_line_over_the_limit_is_found_in_any_pieces() -> None:
    for step in (1, 7, 100, 10_000):
        stream = DotStream(line_limit=50)
        read(stream, b"short\r\n" + b"x" * 51 + b"\r\n", step)
        assert stream.line_too_long
        stream = DotStream(line_limit=50)
        read(stream, (b"x" * 49 + b"\r\n") * 20, step)
        assert not stream.line_too_long


def events(engine: Engine) -> list[object]:
    found: list[object] = []
    while (event := engine.next_event()) is not None:
        found.append(event)
    return found


def test_pipelined_commands_come_in_order() -> None:
    engine = Engine()
    engine.feed(b"MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDA")
    assert events(engine) == [Command("MAIL", b"FROM:<a@b.c>"), Command("RCPT", b"TO:<d@e.f>")]
    engine.feed(b"TA\r\n")
    assert events(engine) == [Command("DATA", b"")]


def test_nothing_behind_data_is_read_as_a_command() -> None:
    engine = Engine()
    engine.feed(b"DATA\r\nQUIT\r\n.\r\nRSET\r\n")
    assert engine.next_event() == Command("DATA", b"")
    engine.begin_content(lines_end_in_lf=False, line_limit=1000)
    assert events(engine) == [Content(b"QUIT\r\n"), EndOfContent(), Command("RSET", b"")]


def test_a_bare_lf_is_seen() -> None:
    engine = Engine()
    engine.feed(b"NOOP\nNOOP\r\n")
    assert events(engine) == [Command("NOOP", b"", bare_lf=True), Command("NOOP", b"")]


def test_a_long_line_is_dropped_while_it_arrives() -> None:
    engine = Engine(command_line=100)
    for _ in range(1000):
        engine.feed(b"x" * 1000)
        assert engine.next_event() is None
        assert engine.pending <= 100
    assert engine.dropped > 0
    engine.feed(b"\r\nNOOP\r\n")
    assert events(engine) == [LineTooLong(), Command("NOOP", b"")]
    assert engine.dropped == 0


def test_input_can_be_forgotten() -> None:
    engine = Engine()
    engine.feed(b"STARTTLS\r\nMAIL FROM:<injected@b.c>\r\n")
    assert engine.next_event() == Command("STARTTLS", b"")
    assert engine.has_input
    assert engine.forget() == len(b"MAIL FROM:<injected@b.c>\r\n")
    assert events(engine) == []


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_the_octets_of_a_chunk_are_content_wherever_they_are_cut(step: int) -> None:
    """RFC 3030 2: exact counts, no line end behind them, commands right after."""
    engine = Engine()
    wire = b"BDAT 12\r\n.\r\nQUIT\r\nab.NOOP\r\nbdat 0\r\nBDAT 2 last\r\n\r\nBDAT 1 LAST\r\nx"
    found: list[object] = []
    for at in range(0, len(wire), step):
        engine.feed(wire[at : at + step])
        for event in events(engine):
            if isinstance(event, Content) and isinstance(found[-1], Content):
                found[-1] = Content(found[-1].octets + event.octets)
            else:
                found.append(event)
    assert found == [
        Chunk(Command("BDAT", b"12"), 12),
        Content(b".\r\nQUIT\r\nab."),
        EndOfContent(),
        Command("NOOP", b""),
        Chunk(Command("BDAT", b"0"), 0),
        EndOfContent(),
        Chunk(Command("BDAT", b"2 last"), 2, is_last=True),
        Content(b"\r\n"),
        EndOfContent(),
        Chunk(Command("BDAT", b"1 LAST"), 1, is_last=True),
        Content(b"x"),
        EndOfContent(),
    ]
    assert not engine.has_input


@pytest.mark.parametrize(
    "argument", [b"", b"LAST", b"-1", b"+5", b"5 FIRST", b"5LAST", b"0x5", b"5,0", b"9" * 21, b"\xb2", b"5 LAST LAST"]
)
def test_a_chunk_of_unknown_length(argument: bytes) -> None:
    engine = Engine()
    engine.feed(b"BDAT " + argument + b"\r\n")
    assert events(engine) == [Chunk(Command("BDAT", argument), None)]


def test_a_huge_chunk_takes_no_memory() -> None:
    engine = Engine()
    engine.feed(b"BDAT 99999999999999999999 LAST\r\n")
    assert engine.next_event() == Chunk(Command("BDAT", b"9" * 20 + b" LAST"), 99999999999999999999, is_last=True)
    for _ in range(100):
        engine.feed(b"x" * 1000)
        assert engine.next_event() == Content(b"x" * 1000)
        assert engine.next_event() is None
        assert not engine.has_input


def test_lines_of_auth_may_be_long() -> None:
    """RFC 4954 4: 12,288 octets, for AUTH and for what answers a challenge, and for nothing else."""
    engine = Engine(command_line=100, auth_line=1000)
    engine.feed(b"auth PLAIN " + b"A" * 900 + b"\r\nNOOP " + b"A" * 900 + b"\r\nAUTH " + b"A" * 1100 + b"\r\n")
    assert engine.next_event() == Command("AUTH", b"PLAIN " + b"A" * 900)
    assert engine.next_event() == LineTooLong()
    assert engine.next_event() == LineTooLong()
    engine.expect_response()
    engine.feed(b"B" * 900)
    assert engine.next_event() is None
    engine.feed(b"\r\nNOOP\r\n")
    assert engine.next_event() == Response(b"B" * 900)
    assert engine.next_event() == Command("NOOP", b"")


def test_a_response_without_end_is_dropped_while_it_arrives() -> None:
    engine = Engine(command_line=100, auth_line=1000)
    engine.expect_response()
    for _ in range(5):
        engine.feed(b"B" * 900)
        assert engine.next_event() is None
    assert engine.pending <= 1000
    assert engine.dropped >= 3500
    engine.feed(b"\r\nNOOP\n")
    assert engine.next_event() == LineTooLong()
    assert engine.next_event() == Command("NOOP", b"", bare_lf=True)
    engine.expect_response()
    engine.feed(b"am9l\n")
    assert engine.next_event() == Response(b"am9l\n")


@pytest.mark.parametrize(
    "line",
    [
        b"MAIL FROM:<a@b.c>",
        b"RCPT To:<a.b+c@d-e.example> NOTIFY=NEVER ORCPT=rfc822;x@y",
        b"MAIL From:<a@b.c> SIZE=100 BODY=8BITMIME",
        b"MAIL FROM:<a@b.c> SIZE=1 SIZE=2",
        b"MAIL FROM:<a@b.c>  SIZE=1 ",
        b"MAIL FROM:<a@b.c> A B C D E",
        b"MAIL FROM:<a@b.c> SIZE =1",
        b"MAIL TO:<a@b.c>",
        b"RCPT FROM:<a@b.c>",
        b"RCPT TO: <a@b.c>",
        b"RCPT TO:<a@b.c>x",
        b"RCPT TO:<\xc3\xa4@b.c>",
        b"MAIL FROM:<>",
        b"MAIL FROM:<" + b"a" * 245 + b"@b.c>",
        b"mail FROM:<a@b.c>",
        b"DATA",
        b"DATA ",
        b"RSET",
        b"QUIT",
        b"NOOP x",
        b"EHLO a",
        b"HELO client.example",
        b"EHLO [IPv6:::1]",
        b"EHLO  a",
        b"EHLO a ",
        b"HELO a b",
        b"EHLO",
        b"EHLO \xc3\xa4",
        b"EHLO " + b"a" * 300,
        b"ehlo a",
        b"LHLO a",
        b"",
    ],
)
def test_a_command_is_the_same_alone_in_a_group_and_in_pieces(line: bytes) -> None:
    """It may be read in one step where it is as nearly all are; that step takes nothing else and reads nothing else into it."""
    wire = line + b"\r\n"
    pieces = Engine()
    for at in range(len(wire)):
        assert pieces.next_event() is None
        assert pieces.usual_command(wire[at : at + 1]) is None
        pieces.feed(wire[at : at + 1])
    group = Engine()
    group.feed(wire + b"NOOP\r\n")
    alone = Engine()
    command: Event | None = alone.usual_command(wire)
    assert not alone.has_input
    if command is None:
        alone.feed(wire)
        command = alone.next_event()
    verb, argument = parse_command(line)
    assert command == group.next_event() == pieces.next_event() == Command(verb, argument)
    assert events(group) == [Command("NOOP", b"")]
    if isinstance(command, Command) and command.path is not None:
        address = (parse_mail if verb == "MAIL" else parse_rcpt)(argument, utf8=False)
        assert (command.path, command.parameters) == (address.path, address.parameters)


@pytest.mark.parametrize(
    "wire", [b"RSET\r\nRSET\r\n", b"RSET\n", b"RSET\r\nM", b"RSET\r", b"MAIL FROM:<a@b.c>\r\n\r\n", b"RCPT TO:<a@b.c>\n"]
)
def test_nothing_but_one_whole_command_is_read_in_one_step(wire: bytes) -> None:
    assert Engine().usual_command(wire) is None


def test_no_command_is_read_in_one_step_where_something_else_is_under_way() -> None:
    engine = Engine(command_line=12)
    assert engine.usual_command(b"RCPT TO:<a@b.c>\r\n") is None
    engine.feed(b"x" * 20)
    assert engine.next_event() is None
    assert engine.usual_command(b"RSET\r\n") is None
    engine.feed(b"\r\n")
    assert events(engine) == [LineTooLong()]
    engine.expect_response()
    assert engine.usual_command(b"RSET\r\n") is None
    engine.feed(b"RSET\r\n")
    assert events(engine) == [Response(b"RSET")]
    engine.put_back(Command("NOOP", b""))
    assert engine.usual_command(b"RSET\r\n") is None
    assert events(engine) == [Command("NOOP", b"")]
    engine.begin_content(lines_end_in_lf=False, line_limit=100)
    assert engine.usual_command(b"RSET\r\n") is None


@pytest.mark.parametrize("step", [1, 4, 9, 1000])
def test_content_is_taken_in_one_step_until_its_end(step: int) -> None:
    engine = Engine()
    engine.begin_content(lines_end_in_lf=False, line_limit=100)
    wire = b"a\r\n..b\r\n.\r\nQUIT\r\n"
    content = b""
    for at in range(0, len(wire), step):
        octets = engine.feed_content(wire[at : at + step])
        if octets is None:
            engine.feed(wire[at : at + step])
        else:
            content += octets
    assert content == b"a\r\n.b\r\n"
    assert engine.stream is None
    assert events(engine) == [Command("QUIT", b"")]


@pytest.mark.parametrize(
    ("content", "has_bare"),
    [(b"a\r\nb\r\n", False), (b"a\nb\r\n", True), (b"\na\r\n", True), (b"a\rb\r\n", True), (b"\r\r\n", True)],
)
def test_a_bare_line_end_is_seen_in_a_content_that_comes_whole(content: bytes, *, has_bare: bool) -> None:
    stream = DotStream()
    assert stream.feed(content + b".\r\n") == content
    assert stream.ended
    assert stream.has_bare is has_bare


@pytest.mark.parametrize("lines", [0, 500], ids=["small", "large"])
def test_all_bare_line_ends_are_seen_in_a_content_that_comes_whole(lines: int) -> None:
    front = b"%s\r\n" % (b"x" * 40) * lines
    for length in range(6):
        for octets in itertools.product((b"a", b"\r", b"\n"), repeat=length):
            content = front + b"".join(octets) + b"\r\n"
            others = content.replace(b"\r\n", b"")
            stream = DotStream()
            assert stream.feed(content + b".\r\n") == content
            assert stream.has_bare is (b"\r" in others or b"\n" in others), octets


@pytest.mark.parametrize("put", [b"", b"a", b"\r", b"\n", b"\r\n", b"\n\r"])
@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_bare_line_end_is_seen_among_lines_of_one_length(put: bytes, taken: int) -> None:
    lines = (b"x" * 38 + b"\r\n") * 4
    for at in range(len(lines)):
        content = lines[:at] + put + lines[at + taken :]
        wire = content + (b".\r\n" if content.endswith(b"\r\n") else b"\r\n.\r\n")
        others = content.replace(b"\r\n", b"")
        has_bare = b"\r" in others or b"\n" in others
        for cut in (0, 20, 39, 40, 41, 120):
            stream = DotStream()
            found = stream.feed(wire[:cut]) + stream.feed(wire[cut:] + b"NOOP\r\n")
            assert (stream.has_bare, found[: len(content)]) == (has_bare, content), (at, cut)
