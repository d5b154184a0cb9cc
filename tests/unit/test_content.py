"""Content in a spool file: its octets, and the memory it takes while they go on."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from gateway.content import CHUNK, LARGE, MAX_CLOSING, Content, _closing, close

SIZE = 20_000_000


def mapped() -> int:
    """Octets of files that this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[2]) * resource.getpagesize()


@pytest.fixture
def content(tmp_path: Path) -> Iterator[Content]:
    file = (tmp_path / "spool").open("w+b")
    file.write(b"".join(b"%07d\n" % number for number in range(SIZE // 8)))
    yield Content.from_file(file)
    _closing.thread().submit(int).result(30)  # it is closed in the thread: what the next test closes comes behind it


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


def test_a_spool_file_that_has_become_shorter_is_an_error_and_no_end(content: Content, tmp_path: Path) -> None:
    pieces = iter(content.chunks())
    assert len(next(pieces)) == CHUNK
    os.truncate(tmp_path / "spool", CHUNK + 5)
    with pytest.raises(OSError, match="shorter"):
        next(pieces)
    content.close()


def test_nothing_is_read_of_content_that_was_closed_meanwhile(content: Content) -> None:
    pieces = iter(content.chunks())
    assert len(next(pieces)) == CHUNK
    content.close()
    with pytest.raises(ValueError, match="closed"):
        next(pieces)


class SlowFile(BytesIO):
    """A spool file that takes its time to close."""

    def __init__(self, may_close: threading.Event) -> None:
        super().__init__()
        self.may_close = may_close
        self.closed_by = ""
        self.is_closed = threading.Event()

    def close(self) -> None:
        self.may_close.wait(10)
        self.closed_by = threading.current_thread().name
        super().close()
        self.is_closed.set()


def test_nobody_waits_while_large_files_are_closed_but_whoever_has_too_many_of_them() -> None:
    may_close = threading.Event()
    files = [SlowFile(may_close) for _ in range(MAX_CLOSING)]
    for file in files:
        close(file, size=LARGE + 1)
    assert not any(file.is_closed.is_set() for file in files)
    may_close.set()
    assert all(file.is_closed.wait(10) for file in files)
    assert {file.closed_by.partition("_")[0] for file in files} == {"spool"}

    small = SlowFile(may_close)
    close(small, size=LARGE)
    assert small.closed_by == threading.current_thread().name


def test_a_large_file_too_many_is_closed_at_once() -> None:
    may_close = threading.Event()
    files = [SlowFile(may_close) for _ in range(MAX_CLOSING)]
    for file in files:
        close(file, size=LARGE + 1)
    one_more = SlowFile(threading.Event())
    one_more.may_close.set()
    close(one_more, size=LARGE + 1)
    assert one_more.closed_by == threading.current_thread().name
    may_close.set()
    assert all(file.is_closed.wait(10) for file in files)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux lists the files of a process")
def test_a_large_file_and_its_map_are_gone(content: Content) -> None:
    file = content.fileno()
    content.close()
    content.close()
    assert content.fileno() is None
    assert content.octets == b""
    may_close = threading.Event()
    may_close.set()
    last = SlowFile(may_close)
    close(last, size=LARGE + 1)
    assert last.is_closed.wait(10)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file or -1)
