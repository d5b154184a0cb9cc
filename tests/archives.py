"""Archives for tests, good and hostile, made octet by octet where a library would refuse to."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from typing import Literal

EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
"""What every scanner agrees to find (eicar.org)."""
EICAR_SHA256 = "275a021bbfb6489e54d471899f7db9d1663fc695ec2fe2a2c4538aabf651fd0f"


def a_zip(members: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """As zipfile writes it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, octets in members.items():
            archive.writestr(name, octets)
    return file.getvalue()


def a_tar(members: dict[str, bytes], mode: Literal["w:", "w:gz", "w:bz2", "w:xz"] = "w:") -> bytes:
    """Compressed, as the mode says."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, octets in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(octets)
            archive.addfile(entry, io.BytesIO(octets))
    return file.getvalue()


def deflated(octets: bytes) -> bytes:
    """Without a header."""
    compress = zlib.compressobj(9, zlib.DEFLATED, -15)
    return compress.compress(octets) + compress.flush()


def local_header(name: bytes, packed: bytes, size: int, *, flags: int = 0, method: int = 8, extra: bytes = b"") -> bytes:
    """APPNOTE 4.3.7, and the content."""
    head = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, flags, method, 0, 0, 0, len(packed), size, len(name), len(extra))
    return head + name + extra + packed


def central_header(name: bytes, at: int, packed: int, size: int, *, flags: int = 0, method: int = 8, extra: bytes = b"") -> bytes:
    """APPNOTE 4.3.12."""
    sizes = (packed, size, len(name), len(extra), 0, 0, 0, 0, at)
    return struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, flags, method, 0, 0, 0, *sizes) + name + extra


def end_of_directory(count: int, size: int, at: int, comment: bytes = b"") -> bytes:
    """APPNOTE 4.3.16."""
    return struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count & 0xFFFF, count & 0xFFFF, size, at, len(comment)) + comment


def zip_of(locals_: list[bytes], central: list[bytes], *, count: int | None = None) -> bytes:
    """An archive of these headers, whatever they say."""
    front, directory = b"".join(locals_), b"".join(central)
    return front + directory + end_of_directory(len(central) if count is None else count, len(directory), len(front))
