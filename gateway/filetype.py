"""Type of a file by its first octets: a table of what is dangerous or common in mail, then puremagic's for the rest."""

from __future__ import annotations

SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    # offset, octets, type
    (0, b"MZ", "application/x-dosexec"),
    (0, b"\x7fELF", "application/x-executable"),
    (0, b"\xfe\xed\xfa\xce", "application/x-mach-binary"),
    (0, b"\xfe\xed\xfa\xcf", "application/x-mach-binary"),
    (0, b"\xce\xfa\xed\xfe", "application/x-mach-binary"),
    (0, b"\xcf\xfa\xed\xfe", "application/x-mach-binary"),
    (0, b"\xca\xfe\xba\xbe", "application/java-vm"),
    (0, b"\x00asm", "application/wasm"),
    (0, b"L\x00\x00\x00\x01\x14\x02\x00", "application/x-ms-shortcut"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (0, b"{\\rt", "application/rtf"),
    (0, b"ITSF", "application/vnd.ms-htmlhelp"),
    (0, b"MSCF", "application/vnd.ms-cab-compressed"),
    (0, b"Rar!\x1a\x07", "application/vnd.rar"),
    (0, b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (0, b"\x1f\x8b", "application/gzip"),
    (0, b"BZh", "application/x-bzip2"),
    (0, b"\xfd7zXZ\x00", "application/x-xz"),
    (0, b"\x28\xb5\x2f\xfd", "application/zstd"),
    (257, b"ustar", "application/x-tar"),
    (0, b"#!", "text/x-script"),
    (0, b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d", "application/onenote"),
    (0, b"conectix", "application/x-vhd"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (0, b"wOFF", "font/woff"),
    (0, b"\x78\x9f\x3e\x22", "application/ms-tnef"),
    (0, b"vhdxfile", "application/x-vhdx"),
    (0, b"MSWIM\0\0\0", "application/x-ms-wim"),
    (0, b"!<arch>\ndebian", "application/vnd.debian.binary-package"),
    (0, b"\xed\xab\xee\xdb", "application/x-rpm"),
    (0, b"dex\n0", "application/vnd.android.dex"),
    (0, b"Cr24", "application/x-chrome-extension"),
    (0, b"xar!", "application/x-xar"),
    (0, b"\x60\xea", "application/x-arj"),
    (7, b"**ACE**", "application/x-ace-compressed"),
    (2, b"-lh", "application/x-lzh-compressed"),
    (0, b"-----BEGIN PGP MESSAGE-----", "application/pgp-encrypted"),
    (0, b"BEGIN:VCALENDAR", "text/calendar"),
    (0, b"BEGIN:VCARD", "text/vcard"),
    (0, b"REGEDIT4", "text/x-ms-regedit"),
    (0, b"Windows Registry Editor", "text/x-ms-regedit"),
    (0, b"[InternetShortcut]", "application/x-mswinurl"),
    (0, b"ID;P", "application/x-sylk"),
    (32769, b"CD001", "application/x-iso9660-image"),
    (32769, b"BEA01", "application/x-udf-image"),
)
DEEP = 32_774
"""Octets that the deepest signature needs."""
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_BLANK = b"\x00\t\n\x0b\x0c\r \xef\xbb\xbf"
_MARKUP: tuple[tuple[bytes, str], ...] = (
    (b"<?xml", "text/xml"),
    (b"<svg", "image/svg+xml"),
    (b"<!doctype html", "text/html"),
    (b"<html", "text/html"),
    (b"<script", "text/html"),
    (b"<hta:", "application/hta"),
)


def detect(head: bytes) -> str:
    """The type, or `` for what is not in the table. `head`: the first octets of the file, 1,024 are enough."""
    if head.startswith(_ZIP):
        return _zip(head)
    for offset, octets, name in SIGNATURES:
        if head.startswith(octets, offset):
            return name
    if b"%PDF-" in head[:1024]:  # readers take a PDF that begins later
        return "application/pdf"
    start = head[:1024].lstrip(_BLANK).lower()
    for octets, name in _MARKUP:
        if start.startswith(octets):
            return name
    return ""


def _zip(head: bytes) -> str:
    """An archive, or a document or program that is one, by the name of its first files."""
    if b"[Content_Types].xml" in head[:512] or b"_rels/.rels" in head[:512]:
        return "application/vnd.openxmlformats-officedocument"
    if b"META-INF/MANIFEST.MF" in head[:512]:
        return "application/java-archive"
    if head[30:38] == b"mimetype" and b"opendocument" in head[:128]:
        return "application/vnd.oasis.opendocument"
    return "application/zip"


def type_of(head: bytes) -> str:
    """As `detect`; of what is not in our table, what puremagic takes it for."""
    found = detect(head)
    if found or not head:
        return found
    from gateway.library_types import type_of as by_library  # late: it reads tables of 1,400 signatures

    return by_library(head)
