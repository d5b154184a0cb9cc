"""Reverse-paths for comparing: what changes with each message is taken out, and no more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import sender_key
from gateway.testing import a_recipient, a_transaction

LOCAL_PARTS = st.from_regex(r"[a-z]{1,12}(?:[.-][a-z]{1,7})?", fullmatch=True)
MARKS = st.from_regex(r"[0-9][a-f][0-9][a-f][0-9][a-f]", fullmatch=True)


def key(mailbox: str, recipient: str = "bob@example.org") -> str:
    path = a_transaction(reverse_path=mailbox).reverse_path
    return sender_key(path, recipient=a_recipient(recipient).forward_path).address


@pytest.mark.parametrize(
    ("mailbox", "expected"),
    [
        ("", ""),
        ("Alice@Client.Example", "alice@client.example"),
        ('"alice"@client.example.', "alice@client.example"),
        ("alice@b\u00fccher.example", "alice@xn--bcher-kva.example"),
        ("alice+lists@client.example", "alice@client.example"),
        ("+alice@client.example", "+alice@client.example"),
        ("prvs=4713a8c3d1=alice@client.example", "alice@client.example"),
        ("prvs=alice/4713a8c3d1@client.example", "alice@client.example"),
        ("msprvs1=17945EXd5Fq9i=bounces@client.example", "bounces@client.example"),
        ("btv1==3456ABC==alice@client.example", "alice@client.example"),
        ("SRS0=x7Qa=JP=client.example=alice@fwd.example", "alice=client.example@fwd.example"),
        ("SRS0+x7Qa=JP=client.example=alice@fwd.example", "alice=client.example@fwd.example"),
        ("SRS1=AbCd=one.example==x7Qa=JP=client.example=alice@two.example", "alice=client.example=one.example@two.example"),
        ("prvs=4713a8c3d1=SRS0=x7Qa=JP=client.example=alice@fwd.example", "alice=client.example@fwd.example"),
        ("bounces+SRS=x7Qa=JP@client.example", "bounces@client.example"),
        ("list-bounces-8127-bob=example.org@list.example", "list-bounces-#-#@list.example"),
        ("list-bounces-8127-carol=example.org@list.example", "list-bounces-#-carol=example.org@list.example"),
        ("0100018c5b7c9d3a-4f5b2c6d-1111-4a2b-8c3d-9f8e7d6c5b4a-000000@mail.example", "#-#-#@mail.example"),
        ("b-a8f3b2c1d-2026@shop.example", "b-#-#@shop.example"),
        ("john.smith1985@client.example", "john.smith1985@client.example"),
        ("123456@client.example", "123456@client.example"),
        ("a1b2c3d4@client.example", "a1b2c3d4@client.example"),
        ("web2@client.example", "web2@client.example"),
        ("prvs==@client.example", "prvs==@client.example"),
        ("srs0=a=b=c@client.example", "srs0=a=b=c@client.example"),
    ],
)
def test_what_stays(mailbox: str, expected: str) -> None:
    assert key(mailbox) == expected


def test_an_exact_key_keeps_numbers() -> None:
    path = a_transaction(reverse_path="prvs=4713a8c3d1=user-1+x@client.example").reverse_path
    assert sender_key(path, exact=True).address == "user-1@client.example"


@given(LOCAL_PARTS, st.integers(0, 9_999), st.integers(0, 9_999), MARKS, MARKS)
def test_tags_of_today_and_of_tomorrow(local: str, day: int, other: int, one: str, two: str) -> None:
    def tagged(number: int, mark: str) -> list[str]:
        return [
            f"prvs={number:04}{mark}={local}@client.example",
            f"SRS0={mark[:4]}={mark[4:]}=client.example={local}@fwd.example",
            f"{local}-{number}@client.example",
            f"{local}-{number:04}{mark}@client.example",
            f"{local}+{mark}@client.example",
        ]

    assert list(map(key, tagged(day, one))) == list(map(key, tagged(other, two)))


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='"\\'), min_size=1, max_size=200))
def test_no_local_part_is_too_odd_and_case_does_not_matter(local: str) -> None:
    found = key(f'"{local}"@client.example')
    assert found.endswith("@client.example")
    assert len(found) > len("@client.example")
    assert key(f'"{local.upper()}"@client.example') == found
