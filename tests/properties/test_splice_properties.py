"""Properties of splices: nothing without edits, only what an edit names with them, and sizes known beforehand."""

from hypothesis import given
from hypothesis import strategies as st

from gateway import AddHeader, Edit, InsertHeader, Message, RemoveHeader, ReplaceBody, ReplaceHeader, TagSubject
from gateway.content import Content
from gateway.mailauth import BodyHashWanted, arriving, body_hashes
from gateway.splice import apply, rendered
from gateway.spliced_content import SplicedContent

NAMES = st.sampled_from(["A", "Subject", "X-Long-Name", "a", "From"])
PIECES = st.sampled_from(
    [
        b"A: 1\r\n",
        b"a:2\r\n",
        b"Subject: s\r\n",
        b"Subject: =?utf-8?q?x?=\r\n",
        b" folded\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"text\r\n",
        b"From x\r\n",
        b"From: a@b\r\n",
        b"X-Long-Name:\r\n",
        b"\xe9\xff\x00",
        b":",
        b" ",
        b"B: no end",
    ]
)
MAIL = st.one_of(st.lists(PIECES, max_size=12).map(b"".join), st.binary(max_size=200))
VALUES = st.text(
    alphabet=st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_characters="\x7f"), min_size=1, max_size=60
)
EDITS = st.lists(
    st.one_of(
        st.builds(AddHeader, name=NAMES, value=VALUES),
        st.builds(ReplaceHeader, name=NAMES, value=VALUES, occurrence=st.integers(0, 3)),
        st.builds(RemoveHeader, name=NAMES, occurrence=st.none() | st.integers(0, 3)),
        st.builds(TagSubject, tag=VALUES),
    ),
    max_size=5,
)


def joined(octets: bytes, edits: list[Edit], on_top: bytes = b"") -> bytes:
    spliced = apply(Content(octets), edits, on_top=on_top)
    result = b"".join(spliced.chunks())
    assert len(result) == spliced.size
    return result


@given(MAIL, EDITS, st.none() | st.sampled_from([b"", b"text\r\n", b"A: 1\r\n\r\n"]), st.none() | st.integers(1, 5))
def test_hashes_made_while_it_arrived_are_those_of_the_body_as_it_goes_on(
    octets: bytes, edits: list[Edit], body: bytes | None, below: int | None
) -> None:
    wanted = BodyHashWanted(is_relaxed=False)
    content = Content(b"DKIM-Signature: a=rsa-sha256\r\n" + octets)
    content.arriving = coming = arriving.arriving([content.octets[:]], {"dkim-signature"})
    edits += [ReplaceBody(octets=body)] if body is not None else []
    edits += [InsertHeader(name="A", value="inserted", below=below)] if below is not None else []
    final = SplicedContent(apply(content, edits, on_top=b"Received: x\r\n"), is_binary=False)
    assert final.arriving in {coming, None}
    offset = Message(final).body_offset
    if coming is not None and final.arriving is not None:
        found = coming.hashes(final.size - offset)
        assert found in ({}, body_hashes(final.octets[offset:], [wanted]))
    if coming is not None and not edits:
        assert coming.hashes(final.size - offset)


@given(MAIL)
def test_no_edits_no_change(octets: bytes) -> None:
    assert joined(octets, []) == octets


@given(MAIL, EDITS)
def test_body_and_untouched_fields_keep_their_octets(octets: bytes, edits: list[Edit]) -> None:
    before = Message(Content(octets))
    after = joined(octets, edits)
    if before.header.has_blank_line or not any(isinstance(edit, RemoveHeader) for edit in edits):
        assert after.endswith(octets[before.header.end :])  # else fields behind a malformed line may go, too
    touched = {"subject" if isinstance(edit, TagSubject) else getattr(edit, "name", "").lower() for edit in edits}
    kept = [field.octets for field in before.fields if field.name.lower() not in touched]
    now = [field.octets for field in Message(Content(after)).fields if field.name.lower() not in touched]
    assert now == kept


@given(MAIL, st.booleans(), st.sampled_from([b"", b"a line\r\n", b"\r\n", b"no end"]))
def test_a_new_body_is_the_body(octets: bytes, has_more: bool, body: bytes) -> None:
    more: list[Edit] = [AddHeader(name="X", value="x"), InsertHeader(name="X", value="x", below=2), RemoveHeader(name="Subject")]
    after = joined(octets, [*(more if has_more else []), ReplaceBody(octets=body)])
    assert after.endswith(body)
    if Message(Content(octets)).fields:
        front = after.removesuffix(body)
        assert front.endswith((b"\r\n\r\n", b"\n\n", b"\n\r\n")) or front in {b"\r\n", b"\n"}, "a blank line"


@given(MAIL, st.lists(st.builds(AddHeader, name=NAMES, value=VALUES), min_size=1, max_size=4))
def test_added_fields_are_on_top_and_the_body_stays_body(octets: bytes, edits: list[AddHeader]) -> None:
    before = Message(Content(octets))
    after = Message(Content(joined(octets, list(edits))))
    assert [field.name for field in after.fields[: len(edits)]] == [edit.name for edit in reversed(edits)]
    assert after.octets[after.body_offset :] == octets[before.body_offset :]


@given(MAIL, VALUES)
def test_tagging_twice_is_tagging_once(octets: bytes, tag: str) -> None:
    once = joined(octets, [TagSubject(tag=tag)])
    assert joined(once, [TagSubject(tag=tag)]) == once
    assert joined(octets, [TagSubject(tag=tag), TagSubject(tag=tag)]) == once


@given(st.binary(max_size=400))
def test_nothing_raises(octets: bytes) -> None:
    message = Message(Content(octets))
    for field in message.fields:
        assert isinstance(field.value, str)
    _ = (message.text, message.urls, message.limits_hit, message.author_domains, message.date)
    assert all(part.end >= part.body_start for part in message.parts)


@given(st.binary(max_size=400), st.booleans())
def test_any_octets_stay_below_what_goes_on_top(octets: bytes, utf8: bool) -> None:
    """Binary content too (RFC 3030 3): nothing is taken for a line that must be ended."""
    top = b"Received: x\r\n\ty\r\n"
    joined = b"".join(apply(Content(octets), (), on_top=top, utf8=utf8).chunks())
    front, _, rest = joined.partition(top)
    assert front == b"" or front.startswith(b"From "), "an mbox line"
    assert octets in {front + rest, front + rest.removeprefix(b"\r\n")}


SIGNATURES = st.lists(st.builds(AddHeader, name=NAMES, value=VALUES), min_size=1, max_size=3)


@given(octets=MAIL, edits=EDITS, fields=SIGNATURES)
def test_fields_of_the_sign_stage_stand_on_top_of_what_was_signed(
    octets: bytes, edits: list[Edit], fields: list[AddHeader]
) -> None:
    trace = b"Received: from a\r\n"
    signed = SplicedContent(apply(Content(octets), edits, on_top=trace), is_binary=False)
    assert signed.size == len(signed.octets)
    on_top = rendered(fields, utf8=False) + trace
    assert joined(octets, edits, on_top) == b"".join(apply(signed, fields).chunks())
