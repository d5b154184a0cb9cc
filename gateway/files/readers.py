"""Which reader looks into which file. A table: a new format is a module and a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from gateway.files import streams, zipped
from gateway.files.found import Budget, Found, Octets
from gateway.files.kinds import closer_type
from gateway.files.values import File

Reader: TypeAlias = Callable[[Octets, Budget], Iterator[Found]]

BY_TYPE: dict[str, tuple[str, Reader]] = {
    "application/zip": ("zip", zipped.read),
    "application/java-archive": ("zip", zipped.read),
    "application/gzip": ("gzip", streams.gzip),
    "application/x-bzip2": ("bzip2", streams.bzip2),
    "application/x-xz": ("xz", streams.xz),
    "application/zstd": ("zstd", streams.zstandard),
}


def holds_nothing(names: tuple[str, ...], content: Octets) -> bool:
    """There is no reader for it: it can be hashed and named on the spot."""
    return reader_for(File(name=names[0] if names else "", names=names, type=closer_type(content, names)), content) is None


def reader_for(file: File, content: Octets) -> tuple[str, Reader] | None:
    """The word of the container and its reader, or None for what holds nothing."""
    del content
    return BY_TYPE.get(file.type)
