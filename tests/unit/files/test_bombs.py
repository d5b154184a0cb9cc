"""Files made to exhaust who opens them: each ends with a finding. What they cost is measured by hand (docs/files.md)."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator

import pytest

from gateway.files import FileBounds, Opened, readers
from gateway.files.found import Budget, Found, Given, LimitError, Member, Octets, Trouble
from gateway.files.walking import open_all
from tests.archives import (
    EICAR,
    a_quoting_bomb,
    a_recursive_bomb,
    a_zip,
    central_header,
    deflated,
    end_of_directory,
    local_header,
)

SMALL = FileBounds(size=2_000_000, total=10_000_000, count=500, ratio=20)


def opened(octets: bytes, name: str = "a", bounds: FileBounds = SMALL) -> Opened:
    return open_all([Given(names=(name,), content=octets, declared_type="", part=0)], bounds)


def test_archives_within_archives() -> None:
    found = opened(a_recursive_bomb(4, 10, 3_000_000))
    assert {"files-size", "files-total"} == set(found.limits_hit)
    assert len(found.files) < 500


def test_archives_deeper_than_may_be() -> None:
    found = opened(a_recursive_bomb(12, 1, 100))
    assert (found.limits_hit, len(found.files)) == (("files-depth",), 9)


def test_as_many_archives_as_may_be() -> None:
    found = opened(a_recursive_bomb(3, 10, 10))
    assert (found.limits_hit, len(found.files)) == (("files-count",), 500)


def test_members_that_quote_each_other() -> None:
    octets = a_quoting_bomb(200, 500_000)
    found = opened(octets)
    assert "files-overlap" in found.limits_hit
    assert len(found.files) >= 201
    assert sum(one.size for one in found.files if one.sha256) < 2 * SMALL.size


def test_a_file_that_holds_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def itself(octets: Octets, budget: Budget) -> Iterator[Found]:
        budget.look()
        yield Member(names=("again",), content=octets)

    monkeypatch.setitem(readers.BY_TYPE, "application/zip", ("zip", itself))
    found = opened(a_zip({"x": b"x"}))
    assert (found.limits_hit, [one.path for one in found.files]) == (("files-recursion",), ["a", "a/again"])


ZEROS = bytes(30_000_000)


@pytest.mark.parametrize(
    "octets",
    [gzip.compress(ZEROS), bz2.compress(ZEROS), lzma.compress(ZEROS, preset=0), a_zip({"x": ZEROS})],
    ids=["gzip", "bzip2", "xz", "zip"],
)
def test_a_high_ratio(octets: bytes) -> None:
    found = opened(octets, bounds=FileBounds(ratio=100))
    assert found.limits_hit == ("files-ratio",)
    found = opened(octets)
    assert found.limits_hit == ("files-size",)


def test_a_hundred_thousand_members() -> None:
    locals_, central, at = [], [], 0
    for number in range(100_000):
        name = b"%d" % number
        locals_.append(local_header(name, b"", 0, method=0))
        central.append(central_header(name, at, 0, 0, method=0))
        at += len(locals_[-1])
    directory = b"".join(central)
    octets = b"".join(locals_) + directory + end_of_directory(100_000, len(directory), at)
    found = opened(octets, bounds=FileBounds())
    assert (found.limits_hit, len(found.files)) == (("files-count",), FileBounds().count)


def test_more_entries_of_a_tar_than_may_be() -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for number in range(3_000):
            entry = tarfile.TarInfo(f"{number}")
            entry.type = tarfile.DIRTYPE if number % 2 else tarfile.REGTYPE
            archive.addfile(entry)
    found = opened(file.getvalue())
    assert found.limits_hit == ("files-count",)
    assert len(found.files) <= 500


def test_a_sparse_file_of_a_tar_is_as_large_as_it_says() -> None:
    entry = tarfile.TarInfo("sparse")
    entry.type, entry.size = tarfile.GNUTYPE_SPARSE, 0
    head = bytearray(entry.tobuf(tarfile.GNU_FORMAT))
    head[386:398], head[398:410] = b"00000000000\0", b"00000000000\0"
    head[483:495] = b"77777777777\0"
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    found = opened(bytes(head) + bytes(1024))
    assert found.limits_hit == ("files-size",)


def test_many_streams_behind_one_another() -> None:
    found = opened(gzip.compress(b"") * 5_000)
    assert found.limits_hit == ("files-count",)


def test_a_cabinet_a_pdf_and_a_7z_are_bounded_too() -> None:
    packed = zlib.compress(ZEROS)
    pdf = b"%PDF-1.7\n1 0 obj << /Type /EmbeddedFile /Filter /FlateDecode >> stream\n" + packed + b"\nendstream"
    assert opened(pdf).limits_hit == ("files-size",)
    block = b"CK" + deflated(bytes(32_768))
    blocks = (b"\0\0\0\0" + len(block).to_bytes(2, "little") + b"\0\x80" + block) * 100
    name = b"zeros\0"
    head = b"MSCF" + bytes(12) + (44).to_bytes(4, "little") + bytes(4) + b"\3\1" + b"\1\0" + b"\1\0" + bytes(6)
    folder = (44 + 16 + len(name)).to_bytes(4, "little") + (100).to_bytes(2, "little") + b"\1\0"
    file = (3_276_800).to_bytes(4, "little") + bytes(12) + name
    found = opened(head + folder + file + blocks)
    assert found.limits_hit == ("files-size",)
    assert found.files[1].size == 3_276_800


def test_what_a_reader_raises_is_a_finding_and_the_other_files_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(octets: Octets, budget: Budget) -> Iterator[Found]:
        del octets, budget
        yield Trouble("files-mismatch", "first")
        raise RecursionError("too deep")

    def grows(octets: Octets, budget: Budget) -> Iterator[Found]:
        del octets, budget
        yield from ()
        raise MemoryError

    monkeypatch.setitem(readers.BY_TYPE, "application/gzip", ("gzip", breaks))
    monkeypatch.setitem(readers.BY_TYPE, "application/x-bzip2", ("bzip2", grows))
    found = opened(a_zip({"a.gz": gzip.compress(b"x"), "b.bz2": bz2.compress(b"x"), "eicar.com": EICAR}))
    assert found.limits_hit == ("files-malformed", "files-memory", "files-mismatch")
    assert [one.path for one in found.unopened] == ["a/a.gz", "a/a.gz", "a/b.bz2"]
    assert found.files[-1].name == "eicar.com"


def test_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(self: Budget) -> None:
        raise LimitError("files-time", "too long", is_final=True)

    monkeypatch.setattr(Budget, "look", look)
    found = opened(a_zip({"a": b"x", "b": b"x"}))
    assert found.limits_hit == ("files-time",)
    assert len(found.unopened) == 1


def test_what_looks_like_members_and_is_none() -> None:
    octets = local_header(b"a", b"", 0, method=0)[:20] * 100_000
    assert opened(octets).limits_hit == ("files-malformed",)
