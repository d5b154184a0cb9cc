"""Images of discs: ISO 9660 (ECMA-119) with Joliet and Rock Ridge names. Windows opens them with a double click. UDF alone is only named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gateway.files.found import PIECE, Budget, Found, LimitError, Member, Octets, Sign, Trouble

_SECTOR = 2_048
_MOST_RECORDS = 20_000
_JOLIET = (b"%/@", b"%/C", b"%/E")


@dataclass(slots=True)
class _Entry:
    names: dict[str, None] = field(default_factory=dict)
    size: int = 0


def read(octets: Octets, budget: Budget) -> Iterator[Found]:
    """Files by where they lie: the names of both trees are names of one file."""
    files: dict[tuple[int, int], _Entry] = {}
    trees = sorted(_trees(octets), key=lambda tree: not tree[3])  # Joliet first: these are the names that are shown
    for block, extent, size, is_joliet in trees:
        for place, name in _walk(octets, block, extent, size, budget, is_joliet=is_joliet):
            entry = files.setdefault(place, _Entry(size=place[1]))
            entry.names[name] = None
    if not files and octets.find(b"BEA01", 0, 20 * _SECTOR) >= 0:
        yield Trouble("files-unsupported", "iso: UDF without ISO 9660")
    for (start, size), entry in files.items():
        names = tuple(entry.names)
        signs = ("autorun",) if names[0].lower().rpartition("/")[2] == "autorun.inf" else ()
        if signs:
            yield Sign(word="autorun")
        if start + size > len(octets):
            yield Member(names=names, size=size, trouble=LimitError("files-malformed", "iso: it ends before this file does"))
            continue
        try:
            content = budget.collect(_pieces(octets, start, start + size), max(1, size))
        except LimitError as error:
            if error.is_final:
                raise
            yield Member(names=names, size=size, trouble=error)
            continue
        yield Member(names=names, content=content, signs=signs)


def _pieces(octets: Octets, start: int, end: int) -> Iterator[Octets]:
    for at in range(start, end, PIECE):
        yield octets[at : min(at + PIECE, end)]


def _trees(octets: Octets) -> Iterator[tuple[int, int, int, bool]]:
    """The root directories (ECMA-119 8.4, 8.5): size of a block, extent, size, and whether the names are Joliet's."""
    for sector in range(16, 48):
        head = bytes(octets[sector * _SECTOR : (sector + 1) * _SECTOR])
        if len(head) < _SECTOR or head[1:6] != b"CD001" or head[0] == 255:
            return
        if head[0] in {1, 2}:
            block = int.from_bytes(head[128:130], "little") or _SECTOR
            root = head[156:190]
            yield block, int.from_bytes(root[2:6], "little"), int.from_bytes(root[10:14], "little"), head[88:91] in _JOLIET


def _walk(
    octets: Octets, block: int, extent: int, size: int, budget: Budget, *, is_joliet: bool
) -> Iterator[tuple[tuple[int, int], str]]:
    """Files of one tree: (offset, size), name with its directories. Each directory once, whatever leads to it."""
    waiting = [(extent, size, "")]
    seen: set[int] = set()
    count = 0
    while waiting:
        extent, size, front = waiting.pop()
        if extent in seen:
            continue
        seen.add(extent)
        for record in _records(octets, extent * block, min(size, len(octets))):
            count += 1
            if count > _MOST_RECORDS:
                return
            if count % 256 == 0:
                budget.look()
            name = _name(record, is_joliet=is_joliet)
            if not name:
                continue
            place, length = int.from_bytes(record[2:6], "little"), int.from_bytes(record[10:14], "little")
            if record[25] & 0x02:
                waiting.append((place, length, f"{front}{name}/"[:1_000]))
            else:
                yield (place * block, length), front + name


def _records(octets: Octets, at: int, size: int) -> Iterator[bytes]:
    """ECMA-119 9.1; none crosses the end of a sector."""
    end = min(at + size, len(octets))
    while at < end:
        length = octets[at]
        if length < 34:
            at = (at // _SECTOR + 1) * _SECTOR
            continue
        yield bytes(octets[at : at + length])
        at += length


def _name(record: bytes, *, is_joliet: bool) -> str:
    """`` for the directory itself and its parent."""
    size = record[32]
    raw = record[33 : 33 + size]
    if raw in (b"\0", b"\1"):
        return ""
    if is_joliet:
        name = raw.decode("utf-16-be", "replace")
    else:
        name = _rock_ridge(record[33 + size + (1 - size % 2) :]) or raw.decode("latin-1")
    return name.split(";")[0].rstrip(".") or name


def _rock_ridge(fields: bytes) -> str:
    """The name as POSIX has it (IEEE P1282, NM)."""
    at = 0
    found = b""
    while at + 4 <= len(fields):
        size = fields[at + 2]
        if size < 4:
            break
        if fields[at : at + 2] == b"NM":
            found += fields[at + 5 : at + size]
        at += size
    return found.decode("utf-8", "replace")
