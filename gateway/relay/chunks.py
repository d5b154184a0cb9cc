"""Content as one chunk: BDAT with the number of its octets, and these in blocks. RFC 3030 2. No I/O.

The size is known before, so one chunk does, however large: blocks and the transport's flow control keep memory flat, and a next
hop that refuses it says so once. A wrong size would make commands of content, so it is counted along.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

BLOCK = 256 * 1024
"""Octets of content in one write at most; between blocks the loop is given up."""


def counted(chunks: Iterable[bytes], size: int) -> Iterator[tuple[bytes, bool]]:
    """The command and its octets in pieces of about BLOCK; the last one is marked. ValueError when there are not `size` octets."""
    held: list[bytes] = [b"BDAT %d LAST\r\n" % size]
    waiting = 0
    left = size
    for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            break
        for start in range(0, len(chunk), BLOCK):
            piece = chunk if len(chunk) <= BLOCK else chunk[start : start + BLOCK]
            if waiting and waiting + len(piece) > BLOCK:
                yield b"".join(held), False
                held, waiting = [], 0
            held.append(piece)
            waiting += len(piece)
    if left:
        msg = f"a chunk of {size} octets has {size - left}"
        raise ValueError(msg)
    yield b"".join(held), True
