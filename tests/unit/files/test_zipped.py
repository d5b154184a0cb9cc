"""Zip archives, good, odd and hostile: everything in them is found or flagged, and nothing of it takes long."""

from __future__ import annotations

import bz2
import io
import lzma
import struct
import zipfile
import zlib

import pytest

from gateway.files import FileBounds, Opened
from gateway.files.found import Given
from gateway.files.walking import open_all
from tests.archives import (
    EICAR,
    EICAR_SHA256,
    a_zip,
    central_header,
    deflated,
    end_of_directory,
    local_header,
    zip_of,
)


def opened(octets: bytes, name: str = "a.zip", bounds: FileBounds | None = None) -> Opened:
    return open_all([Given(names=(name,), content=octets, declared_type="application/zip", part=0)], bounds or FileBounds())


def paths(found: Opened) -> list[str]:
    return [one.path for one in found.files]


def hashes(found: Opened) -> set[str]:
    return {one.sha256 for one in found.files}


def test_a_member_is_found_with_its_path_and_hash() -> None:
    found = opened(a_zip({"2026/eicar.com": EICAR, "empty": b""}))
    assert paths(found) == ["a.zip", "a.zip/2026/eicar.com", "a.zip/empty"]
    eicar = found.files[1]
    assert (eicar.name, eicar.sha256, eicar.size, eicar.container, eicar.depth) == ("eicar.com", EICAR_SHA256, 68, "zip", 1)
    assert found.limits_hit == ()


def test_an_archive_within_an_archive() -> None:
    found = opened(a_zip({"b.zip": a_zip({"c.zip": a_zip({"eicar.com": EICAR})})}))
    assert paths(found)[-1] == "a.zip/b.zip/c.zip/eicar.com"
    assert EICAR_SHA256 in hashes(found)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_method_that_zipfile_writes(method: int) -> None:
    found = opened(a_zip({"eicar.com": EICAR, "long": EICAR * 5_000}, method=method))
    assert found.limits_hit == ()
    assert EICAR_SHA256 in hashes(found)
    assert found.files[2].size == 5_000 * len(EICAR)


def test_xz_as_a_method() -> None:
    packed = lzma.compress(EICAR)
    octets = zip_of([local_header(b"e", packed, 68, method=95)], [central_header(b"e", 0, len(packed), 68, method=95)])
    assert EICAR_SHA256 in hashes(opened(octets))


@pytest.mark.parametrize(("method", "word"), [(9, "deflate64"), (98, "98")])
def test_a_method_that_cannot_be_read_is_named(method: int, word: str) -> None:
    octets = zip_of([local_header(b"e", b"xx", 68, method=method)], [central_header(b"e", 0, 2, 68, method=method)])
    found = opened(octets)
    assert found.limits_hit == ("files-unsupported",)
    assert word in found.unopened[0].reason
    assert (found.files[1].path, found.files[1].size, found.files[1].sha256) == ("a.zip/e", 68, "")


@pytest.mark.parametrize(("flags", "method"), [(1, 8), (0x41, 8), (0x2001, 8), (0, 99)])
def test_an_encrypted_member_is_listed(flags: int, method: int) -> None:
    octets = zip_of(
        [local_header(b"eicar.com", b"x" * 80, 68, flags=flags, method=method)],
        [central_header(b"eicar.com", 0, 80, 68, flags=flags, method=method)],
    )
    found = opened(octets)
    assert [one.is_encrypted for one in found.files] == [True, True]
    assert (found.files[1].name, found.files[1].sha256) == ("eicar.com", "")


def test_every_reading_of_a_name() -> None:
    raw = "r\u00e9sum\u00e9.exe".encode()
    found = opened(zip_of([local_header(raw, EICAR, 68, method=0)], [central_header(raw, 0, 68, 68, method=0)]))
    assert found.files[1].names[:2] == ("r\u00e9sum\u00e9.exe", "r\u251c\u2310sum\u251c\u2310.exe")
    raw = b"r\x82sum\x82.exe"
    found = opened(zip_of([local_header(raw, EICAR, 68, method=0)], [central_header(raw, 0, 68, 68, method=0)]))
    assert found.files[1].name == "r\u00e9sum\u00e9.exe"


def test_the_unicode_path_comes_first() -> None:
    value = b"\x01" + zlib.crc32(b"a.txt").to_bytes(4, "little") + "\u00fc.exe".encode()
    extra = struct.pack("<2H", 0x7075, len(value)) + value
    octets = zip_of([local_header(b"a.txt", EICAR, 68, method=0)], [central_header(b"a.txt", 0, 68, 68, method=0, extra=extra)])
    assert opened(octets).files[1].names == ("\u00fc.exe", "a.txt")


def test_a_name_with_a_nul_and_one_with_backslashes() -> None:
    raw = b"dir\\invoice.pdf\0.exe"
    found = opened(zip_of([local_header(raw, EICAR, 68, method=0)], [central_header(raw, 0, 68, 68, method=0)]))
    assert found.files[1].names == ("invoice.pdf", "invoice.pdf\ufffd.exe")


def test_headers_that_differ_are_told() -> None:
    octets = zip_of([local_header(b"a.exe", EICAR, 68, method=0)], [central_header(b"a.txt", 0, 68, 68, method=0)])
    found = opened(octets)
    assert found.files[1].names == ("a.txt", "a.exe")
    assert (found.files[1].signs, found.limits_hit) == (("differing-headers",), ("files-mismatch",))


def test_a_member_that_the_directory_does_not_list_is_found() -> None:
    hidden = local_header(b"eicar.com", EICAR, 68, method=0)
    shown = local_header(b"a.txt", b"hello", 5, method=0)
    octets = zip_of([hidden, shown], [central_header(b"a.txt", len(hidden), 5, 5, method=0)])
    found = opened(octets)
    assert paths(found) == ["a.zip", "a.zip/a.txt", "a.zip/eicar.com"]
    assert (found.files[0].signs, found.files[2].signs, found.files[2].sha256) == (
        ("unlisted-member",),
        ("unlisted",),
        EICAR_SHA256,
    )


def test_two_archives_behind_one_another() -> None:
    found = opened(a_zip({"eicar.com": EICAR}) + a_zip({"a.txt": b"hello"}))
    assert sorted(paths(found)) == ["a.zip", "a.zip/a.txt", "a.zip/eicar.com"]
    assert EICAR_SHA256 in hashes(found)


@pytest.mark.parametrize("cut", [30, 22, 60])
def test_an_archive_without_its_end_is_read_by_its_local_headers(cut: int) -> None:
    whole = a_zip({"eicar.com": EICAR, "a.txt": b"hello"})
    found = opened(whole[:-cut])
    assert EICAR_SHA256 in hashes(found)
    assert "files-malformed" in found.limits_hit


def test_a_member_written_as_a_stream_without_its_directory() -> None:
    class Stream(io.RawIOBase):
        """Cannot seek: zipfile then writes sizes behind the content."""

        def __init__(self) -> None:
            self.octets = b""

        def writable(self) -> bool:
            return True

        def write(self, octets: object) -> int:
            self.octets += bytes(octets)  # type: ignore[call-overload] # a buffer
            return len(bytes(octets))  # type: ignore[call-overload] # a buffer

    stream = Stream()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("eicar.com", EICAR)
    assert opened(stream.octets).files[1].sha256 == EICAR_SHA256
    assert EICAR_SHA256 in hashes(opened(stream.octets[: stream.octets.index(b"PK\x01\x02")]))


def test_octets_in_front_and_a_comment_behind() -> None:
    whole = b"MZ" + b"x" * 500 + a_zip({"eicar.com": EICAR})
    found = opened(b"PK\x03\x04" + whole)
    assert EICAR_SHA256 in hashes(found)


def test_zip64() -> None:
    extra = struct.pack("<2H3Q", 1, 24, 68, 68, 0)
    central = central_header(b"e", 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, method=0, extra=extra)
    local = local_header(b"e", EICAR, 68, method=0)
    wide = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, len(central), len(local))
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(local) + len(central), 1)
    octets = local + central + wide + locator + end_of_directory(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    found = opened(octets)
    assert found.files[1].sha256 == EICAR_SHA256
    assert found.limits_hit == ()


def test_members_that_overlap_are_listed_and_one_of_them_is_read() -> None:
    packed = deflated(EICAR * 100)
    local = local_header(b"a", packed, 6_800)
    octets = zip_of([local], [central_header(b"%d" % n, 0, len(packed), 6_800) for n in range(50)])
    found = opened(octets)
    assert "files-overlap" in found.limits_hit
    assert sum(bool(one.sha256) for one in found.files) == 2
    assert len(found.files) == 51


@pytest.mark.parametrize("announced", [10, 0, 4_000_000_000])
def test_sizes_that_lie(announced: int) -> None:
    packed = deflated(EICAR * 100)
    octets = zip_of([local_header(b"a", packed, announced)], [central_header(b"a", 0, len(packed), announced)])
    found = opened(octets)
    assert found.limits_hit == ("files-mismatch",)
    assert found.files[1].size == 6_800


def test_more_members_than_may_be() -> None:
    members = {f"{n}": b"" for n in range(300)}
    found = opened(a_zip(members), bounds=FileBounds(count=100))
    assert (len(found.files), found.limits_hit) == (100, ("files-count",))


def test_as_many_members_as_may_be() -> None:
    found = opened(a_zip({f"{n}": b"" for n in range(99)}), bounds=FileBounds(count=100))
    assert (len(found.files), found.limits_hit) == (100, ())


def test_more_depth_than_may_be() -> None:
    octets = EICAR
    for n in range(5):
        octets = a_zip({f"{n}.zip": octets})
    assert EICAR_SHA256 in hashes(opened(octets, bounds=FileBounds(depth=5)))
    found = opened(octets, bounds=FileBounds(depth=4))
    assert found.limits_hit == ("files-depth",)
    assert found.unopened[0].path == "a.zip/4.zip/3.zip/2.zip/1.zip"


def test_a_ratio_is_a_finding_and_the_rest_is_read() -> None:
    found = opened(a_zip({"zeros": bytes(20_000_000), "eicar.com": EICAR}))
    assert found.limits_hit == ("files-ratio",)
    assert [(one.name, one.size, bool(one.sha256)) for one in found.files[1:]] == [
        ("zeros", 20_000_000, False), ("eicar.com", 68, True)
    ]  # fmt: skip
    assert found.unopened[0].path == "a.zip/zeros"


def test_one_file_too_large_and_all_together_too_large() -> None:
    bounds = FileBounds(size=1_000, total=3_000)
    found = opened(a_zip({"large": b"x" * 1_001, "eicar.com": EICAR}), bounds=bounds)
    assert (found.limits_hit, found.files[2].sha256) == (("files-size",), EICAR_SHA256)
    found = opened(a_zip({f"{n}": b"x" * 999 for n in range(10)}), bounds=bounds)
    assert found.limits_hit == ("files-total",)


def test_broken_content_is_told_and_the_rest_is_read() -> None:
    packed = bytearray(deflated(EICAR * 20))
    packed[0] = 0xFF
    first = local_header(b"a", bytes(packed), 1_360)
    octets = zip_of(
        [first, local_header(b"b", EICAR, 68, method=0)],
        [central_header(b"a", 0, len(packed), 1_360), central_header(b"b", len(first), 68, 68, method=0)],
    )
    found = opened(octets)
    assert found.limits_hit == ("files-malformed",)
    assert EICAR_SHA256 in hashes(found)


@pytest.mark.parametrize("packed", [b"", b"\x09\x14\x05\x00", b"\x09\x14\x05\x00\xff\xff\xff\xff\xff", bz2.compress(b"x")])
def test_broken_lzma(packed: bytes) -> None:
    octets = zip_of([local_header(b"a", packed, 9, method=14)], [central_header(b"a", 0, len(packed), 9, method=14)])
    assert opened(octets).limits_hit == ("files-malformed",)
