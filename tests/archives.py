"""Archives for tests, good and hostile, made octet by octet where a library would refuse to."""

from __future__ import annotations

import gzip
import io
import itertools
import lzma
import struct
import tarfile
import zipfile
import zlib
from typing import Literal

from gateway.testing import a_message

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


def a_quoting_bomb(members: int, size: int) -> bytes:
    """D. Fifield's: each member quotes the header of the next one and goes on with its content."""
    kernel = deflated(bytes(size))
    headers = [bytearray(local_header(b"%d" % n, b"", 0)) for n in range(members)]
    places, at = [], 0
    for head in headers:
        places.append(at)
        at += len(head) + 5
    whole, packed, sizes = bytes(kernel), len(kernel), size
    central: list[bytes] = []
    for number in range(members - 1, -1, -1):
        head = headers[number]
        struct.pack_into("<2L", head, 18, packed, sizes)
        central.append(central_header(b"%d" % number, places[number], packed, sizes))
        whole = bytes(head) + whole
        if number:
            quote = len(head).to_bytes(2, "little") + (len(head) ^ 0xFFFF).to_bytes(2, "little")
            whole = b"\0" + quote + whole
            packed, sizes = packed + 5 + len(head), sizes + len(head)
    return zip_of([whole], central[::-1])


def a_recursive_bomb(levels: int, width: int, size: int) -> bytes:
    """As 42.zip: archives within archives, and a large file in each of the last."""
    octets = a_zip({"0.dll": bytes(size)})
    for level in range(levels):
        octets = a_zip({f"lib {level}{n}.zip": octets for n in range(width)})
    return octets


_FREE, _END, _FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD


def an_ole(streams: dict[str, bytes]) -> bytes:
    """A compound file ([MS-CFB]) with these streams; `/` parts storages."""
    entries: list[tuple[str, int, bytes]] = [("Root Entry", 5, b"")]
    children: dict[int, list[int]] = {0: []}
    known = {"": 0}
    for path, octets in streams.items():
        parent = 0
        front = ""
        for name in path.split("/")[:-1]:
            front += name + "/"
            if front not in known:
                entries.append((name, 1, b""))
                known[front] = len(entries) - 1
                children[parent].append(len(entries) - 1)
                children[len(entries) - 1] = []
            parent = known[front]
        entries.append((path.split("/")[-1], 2, octets))
        children[parent].append(len(entries) - 1)
    following = {a: b for kids in children.values() for a, b in itertools.pairwise(kids)}
    mini, minifat, large, starts = _placed(entries)
    sectors, fat = list[bytes](), list[int]()

    def place(octets: bytes) -> int:
        if not octets:
            return _END
        first = len(sectors)
        pieces = [octets[n : n + 512].ljust(512, b"\0") for n in range(0, len(octets), 512)]
        sectors.extend(pieces)
        fat.extend([*range(first + 1, first + len(pieces)), _END])
        return first

    for number, octets in large.items():
        starts[number] = place(octets)
    starts[0] = place(mini)
    minifat_start = place(struct.pack(f"<{len(minifat)}L", *minifat)) if minifat else _END
    directory = b""
    for number, (name, kind, octets) in enumerate(entries):
        raw = name.encode("utf-16-le") + b"\0\0"
        kids = children.get(number, [])
        size = len(mini) if number == 0 else len(octets)
        tree = (_FREE, following.get(number, _FREE), kids[0] if kids else _FREE)
        directory += raw.ljust(64, b"\0") + struct.pack("<HBB3L", len(raw), kind, 1, *tree) + bytes(36)
        directory += struct.pack("<LQ", starts.get(number, 0), size)
    directory_start = place(directory)
    fat_start = len(sectors)
    count = (len(fat) + 128) // 127 + 1
    fat.extend([_FAT] * count)
    table = struct.pack(f"<{len(fat)}L", *fat).ljust(count * 512, b"\xff")
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<5H6x", 0x3E, 3, 0xFFFE, 9, 6)
    head += struct.pack("<9L", 0, count, directory_start, 0, 4096, minifat_start, (len(minifat) + 127) // 128, _END, 0)
    head += struct.pack("<109L", *range(fat_start, fat_start + count), *[_FREE] * (109 - count))
    return head + b"".join(sectors) + table


def _placed(
    entries: list[tuple[str, int, bytes]],
) -> tuple[bytes, list[int], dict[int, bytes], dict[int, int]]:
    """Small streams behind one another; large ones apart; where the small ones begin."""
    mini, minifat, large, starts = b"", list[int](), dict[int, bytes](), dict[int, int]()
    for number, (_, kind, octets) in enumerate(entries):
        if kind != 2 or not octets:
            continue
        if len(octets) >= 4096:
            large[number] = octets
            continue
        first = len(mini) // 64
        pieces = (len(octets) + 63) // 64
        mini += octets.ljust(64 * pieces, b"\0")
        minifat.extend([*range(first + 1, first + pieces), _END])
        starts[number] = first
    return mini, minifat, large, starts


def a_package(name: str, octets: bytes) -> bytes:
    """What the packager of Windows writes into the stream `\\x01Ole10Native`."""
    path = b"C:\\Temp\\" + name.encode() + b"\0"
    body = b"\2\0" + name.encode() + b"\0" + path + b"\0\0\3\0" + len(path).to_bytes(4, "little") + path
    body += len(octets).to_bytes(4, "little") + octets
    return len(body).to_bytes(4, "little") + body


def an_embedded_object(kind: str, octets: bytes) -> bytes:
    """[MS-OLEDS] 2.2.5."""
    name = kind.encode() + b"\0"
    front = struct.pack("<2L", 0x501, 2) + len(name).to_bytes(4, "little") + name + bytes(8)
    return front + len(octets).to_bytes(4, "little") + octets


def a_tnef(*attachments: tuple[str, bytes]) -> bytes:
    """winmail.dat: titles and data as attributes, and the long name as a MAPI property."""
    found = struct.pack("<LH", 0x223E9F78, 1)
    for name, octets in attachments:
        raw = name.encode("utf-16-le") + b"\0\0"
        long_name = struct.pack("<L2H2L", 1, 0x1F, 0x3707, 1, len(raw)) + raw.ljust((len(raw) + 3) // 4 * 4, b"\0")
        for kind, data in ((0x9002, bytes(14)), (0x8010, name[:8].encode() + b"\0"), (0x800F, octets), (0x9005, long_name)):
            found += struct.pack("<B2HL", 2, kind, 6, len(data)) + data + (sum(data) & 0xFFFF).to_bytes(2, "little")
    return found


def a_rar(name: str, octets: bytes, *, method: int = 0, flags: int = 0) -> bytes:
    """RAR 5 with one member."""

    def block(body: bytes) -> bytes:
        sized = bytes([len(body)]) + body
        return zlib.crc32(sized).to_bytes(4, "little") + sized

    def number(value: int) -> bytes:
        found = b""
        while value > 0x7F:
            found += bytes([value & 0x7F | 0x80])
            value >>= 7
        return found + bytes([value])

    raw = name.encode()
    crc = zlib.crc32(octets).to_bytes(4, "little")
    fields = number(4) + number(len(octets)) + number(0o644) + crc + number(method << 7) + number(1) + number(len(raw)) + raw
    extra = b""
    if flags & 1:  # encrypted: an extra record of the type 1
        record = bytes([1, 0, 0, 15]) + bytes(16 + 16)
        extra = number(len(record)) + record
    head = number(2) + number(2 | (1 if extra else 0)) + (number(len(extra)) if extra else b"") + number(len(octets))
    return b"Rar!\x1a\x07\x01\x00" + block(b"\1\0\0") + block(head + fields + extra) + octets + block(b"\5\0\0")


def a_shortcut(path: str, arguments: str) -> bytes:
    """A .lnk file ([MS-SHLLINK])."""
    head = b"L\0\0\0" + bytes.fromhex("0114020000000000c000000000000046") + struct.pack("<L", 0x80 | 8 | 0x20) + bytes(52)
    texts = (path, arguments)
    return head + b"".join(len(one).to_bytes(2, "little") + one.encode("utf-16-le") for one in texts)


def a_onenote(octets: bytes) -> bytes:
    """A section with one embedded file."""
    front = bytes.fromhex("e4525c7b8cd8a74daeb15378d02996d3") + bytes(500)
    return front + bytes.fromhex("e716e3bd65261145a4c48d4d0b7a9eac") + struct.pack("<QLQ", len(octets), 0, 0) + octets + bytes(40)


def a_pdf(*, embedded: bytes = b"", trailer: bytes = b"", catalog: bytes = b"") -> bytes:
    """With one file in it."""
    packed = zlib.compress(embedded)
    file = (
        b"2 0 obj\n<< /Type /EmbeddedFile /Filter /FlateDecode /Length %d >>\nstream\n" % len(packed)
        + packed
        + b"\nendstream\nendobj\n"
    )
    name = b"3 0 obj\n<< /Type /Filespec /F (eicar.com) /EF << /F 2 0 R >> >>\nendobj\n"
    inside = file + name if embedded else b""
    return (
        b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog "
        + catalog
        + b" >>\nendobj\n"
        + inside
        + b"trailer\n<< /Root 1 0 R "
        + trailer
        + b">>\n%%EOF\n"
    )


RTF = b"{\\rtf1{\\object\\objemb{\\*\\objclass Package}{\\*\\objdata "
WITH_EICAR = {
    "tar": (a_tar({"dir/eicar.com": EICAR}), "a/dir/eicar.com"),
    "tar.gz": (a_tar({"eicar.com": EICAR}, "w:gz"), "a.tar.gz/a.tar/eicar.com"),
    "tar.bz2": (a_tar({"eicar.com": EICAR}, "w:bz2"), "a.tar.bz2/a.tar/eicar.com"),
    "tgz": (a_tar({"eicar.com": EICAR}, "w:gz"), "a.tgz/a.tar/eicar.com"),
    "tar.xz": (a_tar({"eicar.com": EICAR}, "w:xz"), "a.tar.xz/a.tar/eicar.com"),
    "lzma": (lzma.compress(EICAR, lzma.FORMAT_ALONE), "a.lzma/a"),
    "com.gz": (gzip.compress(EICAR), "a.com.gz/a.com"),
    "dat": (a_tnef(("a long name.txt", b"hello"), ("eicar program.com", EICAR)), "a.dat/eicar program.com"),
    "one": (a_onenote(EICAR), "a.one/embedded-1"),
    "pdf": (a_pdf(embedded=EICAR), "a.pdf/eicar.com"),
    "doc": (
        an_ole({"WordDocument": bytes(600), "ObjectPool/_1/\x01Ole10Native": a_package("eicar.com", EICAR)}),
        "a.doc/eicar.com",
    ),
    "msg": (
        an_ole(
            {
                "__properties_version1.0": bytes(40),
                "__attach_version1.0_#00000000/__substg1.0_37010102": EICAR,
                "__attach_version1.0_#00000000/__substg1.0_3707001F": "eicar.com".encode("utf-16-le"),
            }
        ),
        "a.msg/eicar.com",
    ),
    "rtf": (RTF + an_embedded_object("Package", a_package("eicar.com", EICAR)[4:]).hex().encode() + b"}}}", "a.rtf/eicar.com"),
    "rar": (a_rar("dir/eicar.com", EICAR), "a.rar/dir/eicar.com"),
    "eml": (bytes(a_message(attach=("eicar.com", EICAR)).octets), "a.eml/eicar.com"),
    "docx": (
        a_zip({"[Content_Types].xml": b"<Types/>", "word/document.xml": b"<w:document/>", "word/embeddings/eicar.com": EICAR}),
        "a.docx/word/embeddings/eicar.com",
    ),
    "exe": (b"MZ" + bytes(500) + a_zip({"eicar.com": EICAR}), "a.exe/eicar.com"),
}
"""By the ending of its name: a file with EICAR in it, and the path that it then has."""
