"""Which reader looks into which file. A table: a new format is a module and a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from gateway.files import cab, documents, iso, mails, ole, onenote, pdf, rar, rtf, sevenzip, shortcuts, streams, tarred, tnef
from gateway.files.found import Budget, Found, Octets
from gateway.files.kinds import closer_type
from gateway.files.values import File

Reader: TypeAlias = Callable[[Octets, Budget], Iterator[Found]]

BY_TYPE: dict[str, tuple[str, Reader]] = {
    "application/zip": ("zip", documents.read),
    "application/java-archive": ("zip", documents.read),
    "application/vnd.openxmlformats-officedocument": ("zip", documents.read),
    "application/vnd.oasis.opendocument": ("zip", documents.read),
    "application/x-chrome-extension": ("zip", documents.read),
    "application/gzip": ("gzip", streams.gzip),
    "application/x-bzip2": ("bzip2", streams.bzip2),
    "application/x-xz": ("xz", streams.xz),
    "application/zstd": ("zstd", streams.zstandard),
    "application/x-tar": ("tar", tarred.read),
    "application/x-7z-compressed": ("7z", sevenzip.read),
    "application/vnd.rar": ("rar", rar.read),
    "application/vnd.ms-cab-compressed": ("cab", cab.read),
    "application/x-iso9660-image": ("iso", iso.read),
    "application/x-udf-image": ("iso", iso.read),
    "application/ms-tnef": ("tnef", tnef.read),
    "application/x-ole-storage": ("ole", ole.read),
    "application/onenote": ("onenote", onenote.read),
    "application/pdf": ("pdf", pdf.read),
    "application/rtf": ("rtf", rtf.read),
    "application/x-ms-shortcut": ("shortcut", shortcuts.link),
    "application/x-mswinurl": ("shortcut", shortcuts.text),
    "application/x-desktop": ("shortcut", shortcuts.text),
    "application/windows-library+xml": ("shortcut", shortcuts.text),
    "application/windows-search-connector+xml": ("shortcut", shortcuts.text),
    "application/windows-settings+xml": ("shortcut", shortcuts.text),
}
BY_ENDING: dict[str, tuple[str, Reader]] = {
    "eml": ("message", mails.read),
    "mht": ("message", mails.read),
    "mhtml": ("message", mails.read),
    "lzma": ("xz", streams.xz),
}
"""Where the octets alone do not tell."""


def holds_nothing(names: tuple[str, ...], content: Octets) -> bool:
    """There is no reader for it: it can be hashed and named on the spot."""
    return reader_for(File(name=names[0] if names else "", names=names, type=closer_type(content, names)), content) is None


def reader_for(file: File, content: Octets) -> tuple[str, Reader] | None:
    """The word of the container and its reader, or None for what holds nothing."""
    found = BY_TYPE.get(file.type)
    if found is not None or not content:
        return found
    if file.declared_type == "message/rfc822":
        return BY_ENDING["eml"]
    for name in file.names:
        found = BY_ENDING.get(name.rpartition(".")[2].lower())
        if found is not None:
            return found
    return _container_with_front(content)


def _container_with_front(content: Octets) -> tuple[str, Reader] | None:
    """A program or picture with an archive behind it opens as that archive too."""
    at = content.rfind(b"PK\x05\x06", max(0, len(content) - 65_600))
    return ("zip", documents.read) if at >= 0 and len(content) - at >= 22 else None
