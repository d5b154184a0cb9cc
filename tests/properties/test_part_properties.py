"""Properties of parts that are replaced: every octet outside stays, hostile MIME too; and what others then read is what was meant."""

from __future__ import annotations

import email
import re
from email.policy import compat32
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import Edit, Message, Part, ReplacePart, remove_part, replace_part
from gateway.content import Content
from gateway.mime import Bounds, _delimiters
from gateway.quarantine.copies import edits_from_json, edits_to_json
from gateway.splice import apply

UNTIMED = settings(deadline=None)
NEW = (("Content-Type", "text/plain; charset=utf-8"), ("X-New", "1"))
PIECES = st.sampled_from(
    [
        b"--b\r\n",
        b"--b--\r\n",
        b"--b",
        b"--b\n",
        b"--b--",
        b"--:i\r\n",
        b"--:i--\n",
        b"--x\r\n",
        b"Content-Type: x/y\r\n",
        b'Content-Type: multipart/mixed; boundary=":i"\r\n',
        b"Content-Type: multipart/signed; boundary=b\r\n",
        b"Content-Type: message/rfc822\r\n",
        b"Content-Disposition: attachment\r\n",
        b" folded\r\n",
        b"From x\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"text",
        b"text\r\n",
        b"\xff\x00\r\n",
    ]
)
HOSTILE = st.builds(
    lambda top, pieces: top + b"".join(pieces),
    st.sampled_from([b"Content-Type: multipart/mixed; boundary=b\r\n\r\n", b"Content-Type: multipart/mixed; boundary=b\n"]),
    st.lists(PIECES, max_size=16),
)
BODIES = st.lists(st.sampled_from([b"line\r\n", b"\r\n", b"-- \r\n", b"end", b"--other\r\n"]), max_size=4).map(b"".join)
BOUNDS = st.builds(Bounds, depth=st.integers(1, 4), parts=st.integers(1, 6))


def joined(octets: bytes, *edits: Edit) -> bytes:
    spliced = apply(Content(octets), edits)
    result = b"".join(spliced.chunks())
    assert len(result) == spliced.size
    assert result == b"".join(apply(Content(octets), edits_from_json(edits_to_json(edits))).chunks())
    return result


def edit_of(part: Part, body: bytes, *, removed: bool) -> ReplacePart | None:
    try:
        return remove_part(part) if removed else replace_part(part, body, headers=NEW)
    except ValueError:
        return None


@UNTIMED
@given(HOSTILE, BODIES, BOUNDS, st.booleans())
def test_octets_outside_of_the_part_stay(octets: bytes, body: bytes, bounds: Bounds, removed: bool) -> None:
    before = Message(Content(octets), bounds)
    for number, part in enumerate(before.parts):
        edit = edit_of(part, body, removed=removed)
        if edit is None:
            continue
        after = joined(octets, edit)
        assert after[: part.start] == octets[: part.start]
        rest = octets[part.delimiter :]
        assert after.endswith(rest), "the delimiter line and all behind it"
        between = octets[part.end : part.delimiter]
        assert between in {b"", b"\r\n", b"\n"}
        assert after.removesuffix(rest).endswith(between)
        now = Message(Content(after), bounds)
        assert len(now.parts) == len(before.parts)
        for index, (one, other) in enumerate(zip(now.parts, before.parts, strict=True)):
            if index != number:
                assert after[one.start : one.end] == octets[other.start : other.end]
        wanted = b"" if removed else body
        found = now.parts[number]
        assert after[found.body_start : found.end] in {wanted, wanted + b"\r\n"}
        if not between and found.end < len(after):
            assert after[found.body_start : found.end] == wanted
        assert found.content_type == "text/plain"


@UNTIMED
@given(HOSTILE, BODIES, BOUNDS)
def test_all_parts_at_once(octets: bytes, body: bytes, bounds: Bounds) -> None:
    before = Message(Content(octets), bounds)
    edits = {number: edit_of(part, body, removed=False) for number, part in enumerate(before.parts)}
    after = joined(octets, *(edit for edit in reversed(edits.values()) if edit is not None))
    now = Message(Content(after), bounds)
    assert len(now.parts) == len(before.parts)
    for (number, edit), one, other in zip(edits.items(), now.parts, before.parts, strict=True):
        if edit is None:
            nested = any(container is other for part in before.parts for container in part.within)
            assert nested or after[one.start : one.end] == octets[other.start : other.end], number
        else:
            assert one.content_type == "text/plain"


LEAVES = st.sampled_from([b"text", b"line\r\nline\r\n", b"", b"\x00\xff\r\n", b"--\r\n", b"--b2\r\n"])
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, min_size=1, max_size=3), max_leaves=6)
Tree = bytes | list["Tree"]


def written(tree: Tree, depth: int = 0) -> bytes:
    """A part with its header section."""
    if isinstance(tree, bytes):
        return b"Content-Type: application/x-leaf\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + tree
    boundary = b"=_%d" % depth
    lines = b"".join(b"--" + boundary + b"\r\n" + written(one, depth + 1) + b"\r\n" for one in tree)
    return b"Content-Type: multipart/mixed; boundary=" + b'"' + boundary + b'"\r\n\r\n' + lines + b"--" + boundary + b"--\r\n"


def read(octets: bytes) -> list[tuple[str, bytes]]:
    """The leaves as Python reads them."""
    parsed = email.message_from_bytes(octets, policy=compat32)
    return [
        (one.get_content_type(), cast("bytes", one.get_payload(decode=True))) for one in parsed.walk() if not one.is_multipart()
    ]


@UNTIMED
@given(st.lists(TREES, min_size=1, max_size=4), st.data(), BODIES)
def test_python_reads_what_was_meant(tree: list[Tree], data: st.DataObject, body: bytes) -> None:
    octets = b"Subject: x\r\n" + written(tree)
    parts = Message(Content(octets)).parts
    before = read(octets)
    assert len(before) == len(parts)
    number = data.draw(st.integers(0, len(parts) - 1))
    after = read(joined(octets, replace_part(parts[number], body, headers=NEW)))
    assert after[number] == ("text/plain", body)
    assert after[:number] + after[number + 1 :] == before[:number] + before[number + 1 :]


@UNTIMED
@given(st.lists(st.sampled_from([b"\n", b"\r", b"-", b"--", b"b", b"x" * 199]), max_size=20).map(b"".join), st.integers(0, 8))
def test_delimiter_lines_are_those_that_a_pattern_finds(octets: bytes, start: int) -> None:
    pattern = re.compile(rb"(?:\A|(?<=\n))--([^\r\n]{1,200})")
    assert [one.span(1) for one in _delimiters(octets, start)] == [one.span(1) for one in pattern.finditer(octets, start)]
