"""Fields behind those that a cut header section lists."""

from __future__ import annotations

import pytest

from gateway import remove_header
from gateway.content import Content
from gateway.fields import beyond, scan
from gateway.splice import apply


@pytest.mark.parametrize(
    ("octets", "found"),
    [
        (b"A: 1\r\nB: 2\r\nX: 3\r\nC: 4\r\nx :\r\n 5\r\n\r\nX: body\r\n", [b"X: 3\r\n", b"x :\r\n 5\r\n"]),
        (b"A: 1\r\nX: 2\r\nC: 3\r\n\r\n", []),
        (b"A: 1\r\nB: 2\r\nC: 3\r\n X: 4\r\nX: 5", [b"X: 5"]),
        (b"A: 1\nB: 2\nC: 3\nX: 4\n\nX: body\n", [b"X: 4\n"]),
        (b"A: 1\r\nB: 2\r\nXX: 3\r\nX-X: 4\r\nC: X: 5\r\n\r\n", []),
        (b"A: 1\r\nB: 2\r\nX\x00 : 3\r\n\r\nX: 4", [b"X\x00 : 3\r\n"]),
        (b"A: 1\r\nno field\r\nX: 4\r\nmore\r\nX: 5\r\n 6\r\n\r\nX: body", [b"X: 4\r\n", b"X: 5\r\n 6\r\n"]),
        (b"A: 1\r\nno field\r\nX: 4", [b"X: 4"]),
        (b"no field at all\r\nX: 4\r\n\r\n", []),
        (b"A: 1\r\n\r\nX: body\r\n\r\n", []),
        (b"X: 1\r\n\r\nX: body", []),
    ],
)
def test_found(octets: bytes, found: list[bytes]) -> None:
    content = Content(octets)
    section = scan(content, max_fields=2)
    assert [field.octets for field in beyond(content, section, "x")] == found
    left = b"".join(apply(content, [remove_header("x")], section=section).chunks())
    for one in [*found, *(field.octets for field in section.fields if field.name.lower() == "x")]:
        octets = octets.replace(one, b"", 1)
    assert left == octets


def test_a_cut_section_of_a_million_octets_is_read_at_once() -> None:
    octets = b"A:\n" * 300_000 + b"X: 1\n" + b"B: (" * 20_000 + b"\n\n"
    content = Content(octets)
    [field] = beyond(content, scan(content), "X")
    assert field.octets == b"X: 1\n"
