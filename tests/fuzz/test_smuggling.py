"""A second message hidden in the content of a first one, for next hops that read ends of data laxly. RFC 5321 4.1.1.4, 4.5.2.

Every string of CR, LF, dot, an octet and NUL up to a length, between two halves of a message: whatever the gateway takes must
have its only end of data at its very end, also for a reader that takes bare CR or LF as a line's end and drops NUL.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from gateway.config.models import LimitsConfig
from gateway.relay.protocol import DotStuffer
from gateway.smtp.intake import Intake, has_hidden_end
from gateway.smtp.protocol import Command, Content, EndOfContent, Engine

FRONT = b"Subject: x\r\n\r\nbody"
BEHIND = b"MAIL FROM:<smuggled@x.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nevil\r\n.\r\n"
LENGTH = 6
_LAX_END = re.compile(rb"(?:\r|\n)\.(?:\r|\n)")


def strings(length: int) -> list[bytes]:
    """All strings of the five octets that matter, up to this length."""
    return [bytes(one) for size in range(length + 1) for one in itertools.product(b"\r\n.a\0", repeat=size)]


def lax_ends(wire: bytes) -> list[int]:
    """Ends of data as the laxest reader sees them: places where a line of one dot ends, NUL dropped, any CR or LF a line's end."""
    return [found.end() for found in _LAX_END.finditer(b"\n" + wire.replace(b"\0", b""))]


def cut(octets: bytes, step: int) -> list[bytes]:
    """In pieces of so many octets."""
    return [octets[at : at + step] for at in range(0, len(octets), step)]


def taken(pieces: Iterable[bytes], *, lenient: bool, directory: Path, lf: bool = False) -> tuple[bytes, list[Command]]:
    """Octets behind a 354 through engine, intake and dot-stuffer: what would go on (nothing: refused), commands behind it."""
    engine = Engine()
    stream = engine.begin_content(lines_end_in_lf=lf, line_limit=100_000)
    intake = Intake(stream, LimitsConfig(), directory=directory, lenient=lenient)
    commands: list[Command] = []
    onward: list[bytes] = []
    for piece in pieces:
        engine.feed(piece)
        while (event := engine.next_event()) is not None:
            match event:
                case Content():
                    intake.take(event.octets)
                case EndOfContent():
                    if intake.fault is not None:
                        continue
                    content = intake.content()
                    octets = bytes(content.octets)
                    content.close()
                    if not (intake.has_nul and has_hidden_end(octets)):
                        stuffer = DotStuffer()
                        onward = [stuffer.feed(octets), stuffer.finish()]
                case Command():
                    commands.append(event)
                case _:
                    raise AssertionError(event)
    intake.discard()
    return b"".join(onward), commands


@pytest.mark.parametrize("lenient", [False, True], ids=["stranger", "lenient network"])
def test_what_goes_on_has_one_end_for_the_laxest_reader(lenient: bool, tmp_path: Path) -> None:
    sent = refused = ended = 0
    for between in strings(LENGTH):
        wire = FRONT + between + BEHIND
        passed, commands = taken([wire], lenient=lenient, directory=tmp_path)
        is_end = b"\r\n.\r\n" in between  # two messages of one client, as it says itself
        assert bool(commands) is is_end, between
        ended += is_end
        if not passed:
            refused += 1
            continue
        sent += 1
        ends = lax_ends(passed)
        assert len(ends) == 1, (between, passed)
        assert passed.endswith(b"\r\n.\r\n")
    assert sent + refused == len(strings(LENGTH)) == 19_531
    assert sent > 1000
    assert ended > 0
    assert (refused > 10_000) is not lenient, "a lenient network's line ends are made CRLF"


@pytest.mark.parametrize(
    "how", [(False, False), (True, False), (True, True)], ids=["stranger", "lenient network", "typed by hand"]
)
def test_cut_anywhere_the_same_goes_on(how: tuple[bool, bool], tmp_path: Path) -> None:
    """The commands behind it too: what a person pipes in with LF is not half of it CRLF."""
    lenient, lf = how
    for between in strings(4):
        wire = FRONT + between + BEHIND
        whole = taken([wire], lenient=lenient, lf=lf, directory=tmp_path)
        for step in (1, 2, 3):
            assert taken(cut(wire, step), lenient=lenient, lf=lf, directory=tmp_path) == whole, (between, step)
        for at in range(len(FRONT) - 2, len(FRONT) + len(between) + 3):
            assert taken([wire[:at], wire[at:]], lenient=lenient, lf=lf, directory=tmp_path) == whole, (between, at)
        assert not whole[0] or len(lax_ends(whole[0])) == 1


@pytest.mark.parametrize("boundary", [1 << 16, 1 << 18, LimitsConfig().spool_memory], ids=["64 KB", "256 KB", "spool"])
def test_dots_at_the_boundaries_of_buffers(boundary: int, tmp_path: Path) -> None:
    """What is read at once ends somewhere in a dot, a line's end or the mark; what goes on is the same, and ends once."""
    lines = FRONT + b"\r\n" + (b"x" * 62 + b"\r\n") * (boundary // 64 + 2)
    for hidden in (b"\r\n..\r\n", b"\r\n....\r\n", b"\r\n..", b"..\r\n.. .\r\n..\r\n", b"\r\n.x\r\n"):
        for offset in range(-len(hidden) - 1, 3):
            at = boundary + offset
            wire = lines[:at] + hidden + lines[at:] + b"\r\n.\r\n"
            whole = taken([wire], lenient=False, directory=tmp_path)
            assert whole == taken(cut(wire, boundary), lenient=False, directory=tmp_path), (hidden, offset)
            assert whole == (wire.replace(b"\r\n.x", b"\r\nx"), [])
            assert len(lax_ends(whole[0])) == 1
        at = boundary - len(hidden) // 2
        wire = lines[:at] + hidden.replace(b"..\r\n", b".\r\n") + b"QUIT\r\n"  # the mark itself across the boundary
        passed, commands = taken(cut(wire, boundary), lenient=False, directory=tmp_path)
        assert [command.verb for command in commands] == (["QUIT"] if b"\r\n.\r\n" in wire else [])
        assert not passed or passed.endswith(b"\r\n.\r\n")
