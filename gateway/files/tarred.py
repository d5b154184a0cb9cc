"""Tar archives (POSIX.1 pax, ustar, GNU), by tarfile: headers only, each content read in pieces and counted."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import IO

from gateway.files.found import PIECE, Budget, Found, LimitError, Member, Octets, Trouble


def read(octets: Octets, budget: Budget) -> Iterator[Found]:
    """Members in their order, those behind an end mark too. Links and devices are listed."""
    count = 0
    with tarfile.open(fileobj=io.BytesIO(octets), mode="r:", errors="replace", ignore_zeros=True) as archive:
        while True:
            budget.look()
            try:
                entry = archive.next()
            except (tarfile.TarError, OSError, ValueError, EOFError) as error:
                yield Trouble("files-malformed", f"tar: {error}")
                return
            archive.members.clear()  # type: ignore[attr-defined] # it keeps them all, and the stubs do not know it
            if entry is None:
                return
            count += 1
            if entry.isdir():
                if count > budget.bounds.count:
                    raise LimitError("files-count", f"tar: more than {budget.bounds.count} entries")
                continue
            yield _member(archive, entry, budget)


def _member(archive: tarfile.TarFile, entry: tarfile.TarInfo, budget: Budget) -> Member:
    names = (entry.name,)
    size = max(entry.size, 0)
    if not entry.isreg():
        return Member(names=names, size=size, signs=("link",) if entry.issym() or entry.islnk() else (), target=entry.linkname)
    try:
        content = archive.extractfile(entry)
        if content is None:
            return Member(names=names, size=size)
        with content:
            found = budget.collect(_pieces(content), max(1, size))
    except LimitError as error:
        if error.is_final:
            raise
        return Member(names=names, size=size, trouble=error)
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        return Member(names=names, size=size, trouble=LimitError("files-malformed", f"tar: {error}"))
    return Member(names=names, content=found)


def _pieces(content: IO[bytes]) -> Iterator[bytes]:
    while piece := content.read(PIECE):
        yield piece
