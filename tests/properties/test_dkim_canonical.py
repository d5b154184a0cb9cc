"""Our canonicalizers give what dkimpy's give, octet by octet."""

from __future__ import annotations

import hashlib

from dkim.canonicalization import Relaxed, Simple
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.mailauth import BodyHashWanted, body_hashes, canonical, canonical_body, relaxed_field

pieces = st.sampled_from([b" ", b"\t", b"\r\n", b"\r", b"\n", b"a", b"bc", b".", b"\x00", b"\xff", b"  ", b" \r\n", b"\r\n\r\n"])
bodies = st.lists(pieces, max_size=60).map(b"".join)


@settings(max_examples=2000)
@given(bodies)
def test_bodies(body: bytes) -> None:
    assert b"".join(canonical_body(body, is_relaxed=False)) == Simple.canonicalize_body(body)
    assert b"".join(canonical_body(body, is_relaxed=True)) == Relaxed.canonicalize_body(body)


@settings(max_examples=500)
@given(bodies, st.integers(1, 9))
def test_bodies_cut_into_pieces(body: bytes, size: int) -> None:
    before = canonical._PIECE
    canonical._PIECE = size
    try:
        assert b"".join(canonical_body(body, is_relaxed=True)) == Relaxed.canonicalize_body(body)
        assert b"".join(canonical_body(body, is_relaxed=False)) == Simple.canonicalize_body(body)
    finally:
        canonical._PIECE = before


@given(bodies, st.integers(0, 70), st.booleans())
def test_hashes_of_a_beginning(body: bytes, length: int, is_relaxed: bool) -> None:
    wanted = [BodyHashWanted(is_relaxed, None), BodyHashWanted(is_relaxed, length)]
    found = body_hashes(body, wanted)
    whole = (Relaxed if is_relaxed else Simple).canonicalize_body(body)
    assert [found[one].digest for one in wanted] == [hashlib.sha256(whole).digest(), hashlib.sha256(whole[:length]).digest()]
    assert found[wanted[0]].size == len(whole)


folds = st.lists(st.sampled_from([b" ", b"\t", b"\r\n ", b"\r\n\t", b"a", b"=", b";", b"\xe9"]), max_size=40).map(b"".join)


@given(folds, st.sampled_from([b"Subject", b"X-ODD", b"from"]))
def test_fields(body: bytes, name: bytes) -> None:
    [(lower, value)] = Relaxed.canonicalize_headers([(name, body + b"\r\n")])
    assert relaxed_field(name, body + b"\r\n") == lower + b":" + value
