"""Tag lists: RFC 6376 3.2, and its base64 (2.10)."""

from __future__ import annotations

import pytest

from gateway.mailauth import TagListError, decode_base64, parse_tags, parts, without_value


@pytest.mark.parametrize(
    ("octets", "tags"),
    [
        (b"a=1", {b"a": b"1"}),
        (b" a = 1 ;\r\n\tb2_=x=y; ", {b"a": b"1", b"b2_": b"x=y"}),
        (b"a=;b=", {b"a": b"", b"b": b""}),
        (b"a=1;A=2", {b"a": b"1", b"A": b"2"}),
        (b"n=na\xc3\xafve words\r\n here", {b"n": b"na\xc3\xafve words\r\n here"}),
        (b"", {}),
        (b" \r\n ", {}),
        (b";", None),
        (b"a=1;;b=2", None),
        (b"a=1;b", None),
        (b"=1", None),
        (b"1=a", None),
        (b"_a=1", None),
        (b"a b=1", None),
        (b"a=1;a=1", None),
        (b"a=1\x00", None),
        (b"a=1;\x0bb=2", None),
    ],
)
def test_tag_lists(octets: bytes, tags: dict[bytes, bytes] | None) -> None:
    if tags is None:
        with pytest.raises(TagListError):
            parse_tags(octets)
    else:
        assert parse_tags(octets) == tags


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        (b"AAAA", b"\0\0\0"),
        (b"A A\r\n\tA=", b"\0\0"),
        (b"AAA", b"\0\0"),
        (b"AA", b"\0"),
        (b"AA = =", b"\0"),
        (b"", b""),
        (b"A", None),
        (b"A===", None),
        (b"AA=", None),
        (b"AAAA=", None),
        (b"AA==AA==", None),
        (b"AA-_", None),
        (b"AAA\xff", None),
    ],
)
def test_base64(text: bytes, octets: bytes | None) -> None:
    if octets is None:
        with pytest.raises(TagListError):
            decode_base64(text)
    else:
        assert decode_base64(text) == octets


@pytest.mark.parametrize(
    ("octets", "bare"),
    [
        (b" v=1; b=AA==; d=x", b" v=1; b=; d=x"),
        (b" v=1; b = \r\n\tAA= \r\n = ; d=x", b" v=1; b =; d=x"),
        (b" bh=BB==; b=AA\r\n A", b" bh=BB==; b="),
        (b"b=A", b"b="),
        (b" h=b; bb=1", b" h=b; bb=1"),
        (b" b=1; b=2", b" b=; b=2"),
    ],
)
def test_the_value_of_b_is_deleted_with_the_white_space_around_it(octets: bytes, bare: bytes) -> None:
    assert without_value(octets) == bare


def test_parts() -> None:
    assert parts(b"From : to:\r\n\tSubject") == [b"From", b"to", b"Subject"]
    assert parts(b"") == [b""]
