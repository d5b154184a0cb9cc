"""DMARC records and the names of a tree walk (RFC 9989 4.7, 4.8, 4.10)."""

from __future__ import annotations

import pytest

from gateway.mailauth.dmarc import MAX_TEXTS, parse_record, record_tags, select_record, txt_answer, walk_names


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("v=DMARC1", {}),
        ("v = DMARC1 ; RUA = mailto:a@b.c ; x=1; rua=2", {"rua": "mailto:a@b.c", "x": "1"}),
        ("v=DMARC1;nonsense;;", {}),
        ("v=dmarc1", None),
        ("v=DMARC10", None),
        ("p=none; v=DMARC1", None),
        ("", None),
        ("v=DMARC1;" + "x" * 5_000, None),
        ("v=DMARC1; rua=mailto:\u00e9@b.c; fo=1", {"fo": "1"}),
    ],
)
def test_tags(text: str, tags: dict[str, str] | None) -> None:
    assert record_tags(text) == tags


def test_names_of_a_walk() -> None:
    assert walk_names("a.b.org") == ["a.b.org", "b.org", "org"]
    names = walk_names(".".join("abcdefghij"))
    assert names == ["a.b.c.d.e.f.g.h.i.j", *(".".join("defghij"[place:]) for place in range(7))]


def test_answers_of_a_resolver() -> None:
    assert txt_answer([(b"v=DM", b"ARC1"), (b"\xff",)]).texts == ("v=DMARC1", "\ufffd")
    assert len(txt_answer([(b"x",)] * (MAX_TEXTS + 1)).texts) == MAX_TEXTS
    assert not txt_answer([], exists=False).exists


def test_of_several_records_none_counts() -> None:
    assert select_record(["v=spf1", "v=DMARC1; p=reject"]) == parse_record("v=DMARC1; p=reject")
    assert select_record(["v=DMARC1; p=reject", "v=DMARC1; p=reject"]) is None
