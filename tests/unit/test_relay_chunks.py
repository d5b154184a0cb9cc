"""Content as one chunk: blocks, and a size that is wrong."""

import pytest

from gateway.relay.chunks import BLOCK, counted


def test_large_content_goes_in_blocks_with_the_command_in_front() -> None:
    chunks = [b"a" * (2 * BLOCK + 1), b"b" * 10, b"c" * BLOCK]
    blocks = list(counted(iter(chunks), 3 * BLOCK + 11))
    assert [is_last for _, is_last in blocks] == [False, False, False, True]
    front = b"BDAT %d LAST\r\n" % (3 * BLOCK + 11)
    assert b"".join(block for block, _ in blocks) == front + b"".join(chunks)
    assert max(len(block) for block, _ in blocks) <= BLOCK + len(front)


def test_small_content_is_one_write() -> None:
    assert list(counted([b"x", b"", b"y"], 2)) == [(b"BDAT 2 LAST\r\nxy", True)]
    assert list(counted([], 0)) == [(b"BDAT 0 LAST\r\n", True)]


@pytest.mark.parametrize("size", [0, 2, 4, 100])
def test_a_wrong_size_never_makes_commands_of_content(size: int) -> None:
    written = b""
    blocks = counted([b"x", b"yz"], size)

    def write() -> None:
        nonlocal written
        for block, _ in blocks:
            written += block

    with pytest.raises(ValueError, match="octets"):
        write()
    assert len(written.partition(b"\r\n")[2]) <= size
