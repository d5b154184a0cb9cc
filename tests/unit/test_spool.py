"""Spool files are written over by the next content, and nobody sees that: neither an older octet nor a newer one."""

from __future__ import annotations

import asyncio
import mmap
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from gateway.content import CHUNK, SPARE_SIZE, Content
from gateway.spool import SPARE, SpareFiles, end_here, spare

LONG, SHORT = b"a" * (CHUNK + 10), b"b" * CHUNK


@pytest.fixture(autouse=True)
def _nothing_is_spare() -> Iterator[None]:
    spare.close()
    yield
    spare.close()


def spooled(octets: bytes, directory: Path) -> Content:
    """As an intake does it."""
    file = spare.take(directory)
    os.write(file.fileno(), octets)
    end_here(file)
    return Content.from_file(file, keep=partial(spare.keep, directory))


async def test_a_file_is_written_over_and_is_as_long_as_its_content(tmp_path: Path) -> None:
    for octets in (LONG, SHORT, LONG, SHORT + LONG):
        content = spooled(octets, tmp_path)
        assert (content.size, content.octets[:], b"".join(content.chunks())) == (len(octets), octets, octets)
        content.close()
        content.close()
        assert len(spare.files) == 1
    number = spare.files[0].fileno()
    content = spooled(SHORT, tmp_path)
    assert content.fileno() == number
    assert os.fstat(number).st_size == len(SHORT)
    content.close()


async def test_what_others_may_have_is_not_written_over(tmp_path: Path) -> None:
    content = spooled(LONG, tmp_path)
    number = content.fileno()
    assert number is not None
    theirs = os.dup(number)
    content.close()
    assert not spare.files
    spooled(SHORT, tmp_path).close()
    assert os.pread(theirs, len(LONG), 0) == LONG
    os.close(theirs)


async def test_what_somebody_looks_at_is_not_written_over(tmp_path: Path) -> None:
    content = spooled(LONG, tmp_path)
    assert isinstance(content.octets, mmap.mmap)
    with memoryview(content.octets) as look:
        with pytest.raises(BufferError):
            content.close()
        assert not spare.files
        spooled(SHORT, tmp_path).close()
        assert look == LONG


async def test_few_files_are_kept_and_none_that_is_large(tmp_path: Path) -> None:
    contents = [spooled(SHORT, tmp_path) for _ in range(SPARE + 2)]
    for content in contents:
        content.close()
    assert len(spare.files) == SPARE
    spare.close()
    spooled(b"x" * (SPARE_SIZE + 1), tmp_path).close()
    assert not spare.files


async def test_each_directory_has_its_own(tmp_path: Path) -> None:
    spooled(LONG, tmp_path / "one").close()
    [old] = spare.files
    content = spooled(SHORT, tmp_path / "two")
    assert spare.files == [old]
    content.close()
    assert old.closed
    assert len(spare.files) == 1


def test_where_nothing_closes_them_later_they_are_closed_at_once(tmp_path: Path) -> None:
    spooled(LONG, tmp_path).close()
    assert not spare.files


async def test_what_nobody_needs_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.spool.SPARE_TIME", 0.02)
    files = SpareFiles()
    two = [files.take(tmp_path), files.take(tmp_path)]
    assert all(files.keep(tmp_path, file) for file in two)
    while not two[0].closed:
        again = files.take(tmp_path)
        assert again is two[1]
        assert files.keep(tmp_path, again)
        await asyncio.sleep(0)
    assert files.files == two[1:]
    while files.files:  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0.01)
    assert two[1].closed
