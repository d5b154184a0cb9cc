"""Dot-stuffing and replies: cut anywhere, the result is the same; taking the dots out gives the content back."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.relay.protocol import DotStuffer, NextHopProtocol, in_one_piece
from gateway.smtp.replies import Reply

CONTENT = st.lists(st.sampled_from([b".", b"\r\n", b"\r", b"\n", b"a", b"..", b"\0"]), max_size=40).map(b"".join)


def stuffed(chunks: list[bytes]) -> bytes:
    stuffer = DotStuffer()
    return b"".join([stuffer.feed(chunk) for chunk in chunks]) + stuffer.finish()


def cut(octets: bytes, places: list[int]) -> list[bytes]:
    ends = sorted(place % (len(octets) + 1) for place in places)
    return [octets[start:end] for start, end in zip([0, *ends], [*ends, len(octets)], strict=True)]


def received(wire: bytes) -> tuple[bytes, bytes]:
    """As a server reads it (RFC 5321 4.1.1.4, 4.5.2): the content, and what is left over after the end of data."""
    lines: list[bytes] = []
    while True:
        line, end, wire = wire.partition(b"\r\n")
        assert end, "the end of data is missing"
        if line == b".":
            return b"".join(lines), wire
        lines.append((line[1:] if line.startswith(b".") else line) + end)


@given(CONTENT, st.lists(st.integers(0, 100), max_size=6))
def test_cut_anywhere_gives_the_same(content: bytes, places: list[int]) -> None:
    assert stuffed(cut(content, places)) == stuffed([content])


@given(CONTENT)
def test_octet_by_octet_gives_the_same(content: bytes) -> None:
    assert stuffed([content[n : n + 1] for n in range(len(content))]) == stuffed([content])


@given(CONTENT)
def test_in_one_piece_is_the_same(content: bytes) -> None:
    assert in_one_piece(content) == stuffed([content])


@given(CONTENT)
def test_the_server_reads_the_content_and_nothing_is_left(content: bytes) -> None:
    ended = content if not content or content.endswith(b"\r\n") else content + b"\r\n"
    assert received(stuffed([content])) == (ended, b"")


TEXT = st.binary(max_size=20).filter(lambda text: b"\n" not in text and not text.endswith(b"\r"))
REPLIES = st.lists(st.builds(Reply, st.integers(200, 599), st.lists(TEXT, min_size=1, max_size=4).map(tuple)), max_size=5)


@given(REPLIES, st.lists(st.integers(0, 500), max_size=6))
def test_replies_are_read_as_they_were_rendered(replies: list[Reply], places: list[int]) -> None:
    engine: NextHopProtocol[int] = NextHopProtocol()
    for number in range(len(replies)):
        engine.expect(number)
    wire = b"".join(reply.render() for reply in replies)
    answered = [pair for chunk in cut(wire, places) for pair in engine.receive(chunk)]
    assert engine.broken is None
    assert answered == list(enumerate(replies))
    assert engine.is_quiet


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_anything_may_come_in(octets: bytes, places: list[int]) -> None:
    """Garbage, cut anywhere, gives the same answers and the same end, and never an exception."""
    results = []
    for chunks in ([octets], cut(octets, places)):
        engine: NextHopProtocol[int] = NextHopProtocol()
        for number in range(3):
            engine.expect(number)
        answered = [pair for chunk in chunks for pair in engine.receive(chunk)]
        results.append((answered, engine.broken))
    assert results[0] == results[1]
