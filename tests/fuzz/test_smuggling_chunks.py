"""A second message hidden in content that came by BDAT and goes on by DATA: chunks have no mark, so any may stand in them. RFC 3030 2.

The strings, the message and the laxest reader are those of `test_smuggling`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.models import LimitsConfig
from gateway.relay.protocol import DotStuffer
from gateway.smtp.chunks import ChunkIntake
from gateway.smtp.intake import has_hidden_end
from gateway.smtp.protocol import Chunk, Content, EndOfContent, Engine
from tests.fuzz.test_smuggling import BEHIND, FRONT, lax_ends, strings


def passed_on(chunks: list[bytes], *, lenient: bool, directory: Path) -> bytes:
    """What would go on by DATA; nothing when it is refused."""
    engine = Engine()
    intake = ChunkIntake(LimitsConfig(), directory=directory, lenient=lenient, is_binary=False)
    for number, chunk in enumerate(chunks, 1):
        engine.feed(b"BDAT %d%s\r\n%s" % (len(chunk), b" LAST" * (number == len(chunks)), chunk))
    while (event := engine.next_event()) is not None:
        assert isinstance(event, Chunk | Content | EndOfContent), event
        if isinstance(event, Content):
            intake.take(event.octets)
    intake.finish()
    if intake.fault is not None:
        return b""
    octets = bytes(intake.content().octets)
    if intake.has_nul and has_hidden_end(octets):
        return b""
    stuffer = DotStuffer()
    return stuffer.feed(octets) + stuffer.finish()


@pytest.mark.parametrize("lenient", [False, True], ids=["stranger", "lenient network"])
def test_what_goes_on_has_one_end_for_the_laxest_reader(lenient: bool, tmp_path: Path) -> None:
    """Between the halves of the message, at the end of content without a line end, and cut in two in the middle."""
    sent = 0
    for between in strings(5):
        middle = len(between) // 2
        whole = FRONT + between + BEHIND
        found = passed_on([whole], lenient=lenient, directory=tmp_path)
        assert found == passed_on([FRONT + between[:middle], between[middle:] + BEHIND], lenient=lenient, directory=tmp_path)
        for passed in (found, passed_on([FRONT + between], lenient=lenient, directory=tmp_path)):
            if passed:
                sent += 1
                assert len(lax_ends(passed)) == 1, (between, passed)
                assert passed.endswith(b"\r\n.\r\n")
    assert sent > 1000
