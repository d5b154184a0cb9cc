"""RAR 3 to 7, by rarfile (extra `archives`): every member is listed, those that are stored are read. Nothing here unpacks RAR."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gateway.files.found import PIECE, Budget, Found, LimitError, Member, Octets, Sign, Trouble

if TYPE_CHECKING:
    import rarfile

_STORED = 0x30


def read(octets: Octets, budget: Budget) -> Iterator[Found]:
    """A password on the headers hides the names too."""
    try:
        import rarfile
    except ImportError:
        raise LimitError("files-unsupported", "cannot look into rar: extra 'archives' is not installed") from None
    packed = 0
    with rarfile.RarFile(io.BytesIO(octets), part_only=True) as archive:
        if archive.needs_password():
            yield Sign(is_encrypted=True)
        budget.look()
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            names, size = (entry.filename,), entry.file_size or 0
            if entry.needs_password():
                yield Member(names=names, size=size, is_encrypted=True)
            elif entry.compress_type != _STORED or not entry.is_file() or getattr(entry, "file_redir", None) is not None:
                packed += 1
                yield Member(names=names, size=size)
            else:
                yield _stored(archive, entry, names, budget)
    if packed:
        yield Trouble("files-unsupported", f"rar: {packed} compressed members are listed and not read")


def _stored(archive: rarfile.RarFile, entry: rarfile.RarInfo, names: tuple[str, ...], budget: Budget) -> Member:
    import rarfile as library

    try:
        with archive.open(entry) as content:
            return Member(names=names, content=budget.collect(iter(lambda: content.read(PIECE), b""), max(1, entry.file_size)))
    except LimitError as error:
        if error.is_final:
            raise
        return Member(names=names, size=entry.file_size, trouble=error)
    except (library.Error, OSError, ValueError) as error:
        return Member(names=names, size=entry.file_size, trouble=LimitError("files-malformed", f"rar: {error}"))
