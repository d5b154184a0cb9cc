"""Our canonicalizers give what dkimpy's give, octet by octet, whatever pieces a body comes in."""

from __future__ import annotations

import hashlib
from itertools import pairwise

from dkim.canonicalization import Relaxed, Simple
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mailauth import (
    BodyHash,
    BodyHashWanted,
    PrefixWanted,
    arriving,
    body_hashes,
    canonical,
    canonical_body,
    find_prefixes,
    relaxed_field,
)

pieces = st.sampled_from([b" ", b"\t", b"\r\n", b"\r", b"\n", b"a", b"bc", b".", b"\x00", b"\xff", b"  ", b" \r\n", b"\r\n\r\n"])
bodies = st.lists(pieces, max_size=60).map(b"".join)


def relaxed_by_dkimpy(body: bytes) -> bytes:
    """RFC 6376 3.4.4: a CRLF that lacks is added; dkimpy keeps the white space in front of it, so it gets the CRLF first."""
    return Relaxed.canonicalize_body(body if body.endswith(b"\r\n") or not body else body + b"\r\n")


@settings(max_examples=2000)
@given(bodies)
def test_bodies(body: bytes) -> None:
    assert b"".join(canonical_body(body, is_relaxed=False)) == Simple.canonicalize_body(body)
    assert b"".join(canonical_body(body, is_relaxed=True)) == relaxed_by_dkimpy(body)


@settings(max_examples=500)
@given(bodies, st.integers(1, 9))
def test_bodies_cut_into_pieces(body: bytes, size: int) -> None:
    before = canonical._PIECE
    canonical._PIECE = size
    try:
        assert b"".join(canonical_body(body, is_relaxed=True)) == relaxed_by_dkimpy(body)
        assert b"".join(canonical_body(body, is_relaxed=False)) == Simple.canonicalize_body(body)
    finally:
        canonical._PIECE = before


def in_pieces(body: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    return [body[start:end] for start, end in pairwise(places)]


@settings(max_examples=250)
@given(
    st.lists(pieces, max_size=60).map(b"".join) | st.binary(max_size=200),
    st.lists(st.integers(0, 1000), max_size=12),
    st.lists(st.tuples(st.booleans(), st.none() | st.integers(0, 90)), min_size=1, max_size=5),
    st.sampled_from([1, 2, 7, arriving.PIECE]),
)
def test_a_body_that_arrives_in_pieces(body: bytes, cuts: list[int], each: list[tuple[bool, int | None]], piece: int) -> None:
    """Its hashes are those of the whole, where a border falls and whatever is gathered first."""
    wanted = [BodyHashWanted(*one) for one in each]
    before, arriving.PIECE = arriving.PIECE, piece
    try:
        coming = arriving.Arriving(wanted, 10)
        for octets in in_pieces(body, cuts):
            coming.take(octets)
        found = coming.hashes(len(body))
    finally:
        arriving.PIECE = before
    assert found == body_hashes(body, wanted)
    for one in wanted:
        whole = relaxed_by_dkimpy(body) if one.is_relaxed else Simple.canonicalize_body(body)
        assert found[one] == BodyHash(hashlib.sha256(whole[: one.length]).digest(), len(whole))


@given(bodies, st.integers(0, 70), st.booleans())
def test_hashes_of_a_beginning(body: bytes, length: int, is_relaxed: bool) -> None:
    wanted = [BodyHashWanted(is_relaxed, None), BodyHashWanted(is_relaxed, length)]
    found = body_hashes(body, wanted)
    whole = relaxed_by_dkimpy(body) if is_relaxed else Simple.canonicalize_body(body)
    assert [found[one].digest for one in wanted] == [hashlib.sha256(whole).digest(), hashlib.sha256(whole[:length]).digest()]
    assert found[wanted[0]].size == len(whole)


folds = st.lists(st.sampled_from([b" ", b"\t", b"\r\n ", b"\r\n\t", b"a", b"=", b";", b"\xe9"]), max_size=40).map(b"".join)


@given(folds, st.sampled_from([b"Subject", b"X-ODD", b"from"]))
def test_fields(body: bytes, name: bytes) -> None:
    [(lower, value)] = Relaxed.canonicalize_headers([(name, body + b"\r\n")])
    assert relaxed_field(name, body + b"\r\n") == lower + b":" + value


@given(bodies, st.booleans(), st.data())
def test_a_beginning_is_found(body: bytes, is_relaxed: bool, data: st.DataObject) -> None:
    """Whatever full line a text is cut behind, its canonical form is found as the beginning of the whole."""
    text = body + b"signed\r\n"
    whole = text + data.draw(bodies) + b"footer\r\n"
    signed = b"".join(canonical_body(text, is_relaxed=is_relaxed))
    wanted = PrefixWanted(is_relaxed, hashlib.sha256(signed).digest())
    assert find_prefixes(whole, [wanted, PrefixWanted(is_relaxed, b"")]) == {wanted: len(signed)}


def test_only_the_last_lines_are_tried() -> None:
    wanted = PrefixWanted(is_relaxed=False, digest=hashlib.sha256(b"x\r\n").digest())
    assert find_prefixes(b"x\r\n" + b"y\r\n" * (canonical.MAX_PREFIXES - 2), [wanted]) == {wanted: 3}
    assert find_prefixes(b"x\r\n" + b"y\r\n" * (canonical.MAX_PREFIXES + 2), [wanted]) == {}
