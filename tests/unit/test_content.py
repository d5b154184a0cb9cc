"""Content in a spool file: its octets, and the memory it takes while they go on."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from gateway.content import CHUNK, Content

SIZE = 20_000_000


def mapped() -> int:
    """Octets of files that this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[2]) * resource.getpagesize()


@pytest.fixture
def content(tmp_path: Path) -> Content:
    file = (tmp_path / "spool").open("w+b")
    file.write(b"".join(b"%07d\n" % number for number in range(SIZE // 8)))
    return Content.from_file(file)


@pytest.mark.parametrize(("start", "end"), [(0, None), (1, None), (4095, 5_000_001), (CHUNK, CHUNK), (0, SIZE)])
def test_pieces_are_the_octets_asked_for(content: Content, start: int, end: int | None) -> None:
    pieces = list(content.chunks(start, end))
    assert b"".join(pieces) == content.octets[start:end]
    assert all(0 < len(piece) <= CHUNK for piece in pieces)
    content.close()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux tells what a process has mapped")
def test_what_has_gone_on_takes_no_memory(content: Content) -> None:
    before = mapped()
    assert content.octets.find(b"nowhere") == -1
    assert mapped() - before > SIZE // 2
    for piece in content.chunks(3):
        assert piece
    assert mapped() - before < SIZE // 4
    assert content.octets[8:16] == b"0000001\n"
    content.close()
