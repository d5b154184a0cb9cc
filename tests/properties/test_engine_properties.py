"""The engine gives the same, however the octets are cut; stuffing and unstuffing undo each other."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.relay.protocol import DotStuffer
from gateway.smtp.dotstream import DotStream
from gateway.smtp.protocol import Command, Content, Engine

pieces = st.lists(st.sampled_from([b".", b"\r\n", b"\r", b"\n", b"a", b"\x00", b"\xff", b"..", b"\r\n."]), max_size=40).map(
    b"".join
)


@given(octets=pieces, cuts=st.lists(st.integers(0, 90), max_size=8))
def test_cuts_make_no_difference_to_content(octets: bytes, cuts: list[int]) -> None:
    whole = DotStream()
    expected = whole.feed(octets + b"\r\n.\r\nNOOP\r\n")
    stream = DotStream()
    found = b""
    at = 0
    wire = octets + b"\r\n.\r\nNOOP\r\n"
    for cut in [*sorted({cut for cut in cuts if cut < len(wire)}), len(wire)]:
        if stream.ended:
            stream.rest += wire[at:cut]
        else:
            found += stream.feed(wire[at:cut])
        at = cut
    assert (found, stream.ended, stream.rest, stream.has_bare) == (expected, whole.ended, whole.rest, whole.has_bare)


@given(content=pieces)
def test_stuffed_content_arrives_as_it_was(content: bytes) -> None:
    stuffer = DotStuffer()
    wire = stuffer.feed(content) + stuffer.finish()
    stream = DotStream()
    arrived = stream.feed(wire)
    assert stream.ended
    assert arrived == (content if content.endswith(b"\r\n") or not content else content + b"\r\n")
    assert stream.rest == b""


def is_no_chunk(line: bytes) -> bool:
    """What follows BDAT is content, whatever it looks like."""
    return not line.lstrip().upper().startswith(b"BDAT")


@given(lines=st.lists(st.binary(max_size=30).filter(is_no_chunk), max_size=10), step=st.integers(1, 40))
def test_cuts_make_no_difference_to_commands(lines: list[bytes], step: int) -> None:
    octets = b"".join(line.replace(b"\n", b"") + b"\r\n" for line in lines)

    def run(step: int) -> list[object]:
        engine = Engine()
        found: list[object] = []
        for at in range(0, len(octets), step):
            engine.feed(octets[at : at + step])
            while (event := engine.next_event()) is not None:
                found.append(event)
        return found

    found = run(step)
    assert found == run(max(1, len(octets)))
    assert all(isinstance(event, Command) and not isinstance(event, Content) for event in found)
    assert len(found) == len(lines)
