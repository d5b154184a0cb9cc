"""BDAT: however chunks and segments are cut, the same content comes out, and the same commands behind it. RFC 3030 2."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gateway.config.models import LimitsConfig
from gateway.relay.chunks import BLOCK, counted
from gateway.smtp.chunks import ChunkIntake
from gateway.smtp.protocol import Chunk, Command, Content, EndOfContent, Engine

CONTENT = st.lists(
    st.sampled_from([b"\r\n", b"\r", b"\n", b"a", b".", b"\0", b"\xff", b"\r\n.\r\n", b"QUIT\r\n", b"BDAT 3 LAST\r\n"]),
    max_size=30,
).map(b"".join)
CUTS = st.lists(st.integers(0, 300), max_size=8)
LIMITS = LimitsConfig()


def cut(octets: bytes, places: list[int]) -> list[bytes]:
    ends = sorted(place % (len(octets) + 1) for place in places)
    return [octets[start:end] for start, end in zip([0, *ends], [*ends, len(octets)], strict=True)]


def in_chunks(chunks: list[bytes], between: bytes = b"") -> bytes:
    commands = [b"BDAT %d%s\r\n%s" % (len(one), b" LAST" * (n == len(chunks)), one) for n, one in enumerate(chunks, 1)]
    return between.join(commands)


def received(segments: list[bytes], *, is_binary: bool) -> tuple[object, bytes, list[Command]]:
    """The fault, the content and the other commands."""
    engine = Engine()
    intake = ChunkIntake(LIMITS, directory=Path("unused"), lenient=False, is_binary=is_binary)
    commands: list[Command] = []
    size = ended = 0
    for segment in segments:
        engine.feed(segment)
        while (event := engine.next_event()) is not None:
            match event:
                case Chunk():
                    size += event.size or 0
                case Content():
                    size -= len(event.octets)
                    intake.take(event.octets)
                case EndOfContent():
                    assert size == 0, "exactly as many as the command said"
                    ended += 1
                case Command():
                    commands.append(event)
                case _:
                    raise AssertionError(event)
    intake.finish()
    return intake.fault, b"" if intake.fault else bytes(intake.content().octets), commands


@given(content=CONTENT, chunks=CUTS, segments=CUTS)
def test_binary_content_comes_out_as_it_went_in(content: bytes, chunks: list[int], segments: list[int]) -> None:
    wire = in_chunks(cut(content, chunks), b"NOOP\r\n") + b"QUIT\r\n"
    expected = [Command("NOOP", b"")] * len(chunks) + [Command("QUIT", b"")]
    assert received(cut(wire, segments), is_binary=True) == (None, content, expected)


@given(content=CONTENT, chunks=CUTS, segments=CUTS)
def test_cuts_make_no_difference_to_lines(content: bytes, chunks: list[int], segments: list[int]) -> None:
    whole = received([in_chunks([content])], is_binary=False)
    wire = in_chunks(cut(content, chunks))
    assert received(cut(wire, segments), is_binary=False) == whole
    assert received([wire[at : at + 1] for at in range(len(wire))], is_binary=False) == whole
    has_bare = b"\r" in content.replace(b"\r\n", b"") or b"\n" in content.replace(b"\r\n", b"")
    assert (whole[0] is not None) is has_bare
    assert has_bare or whole[1] == content


@given(content=CONTENT, chunks=CUTS)
def test_what_goes_on_is_one_chunk_that_reads_back_the_same(content: bytes, chunks: list[int]) -> None:
    blocks = list(counted(cut(content, chunks), len(content)))
    assert [is_last for _, is_last in blocks] == [False] * (len(blocks) - 1) + [True]
    assert max(len(block) for block, _ in blocks) <= BLOCK + 40
    assert received([block for block, _ in blocks], is_binary=True) == (None, content, [])
