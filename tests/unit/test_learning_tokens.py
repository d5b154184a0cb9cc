"""Tokens of a message: which there are, that they are bounded, and that a message is the same lesson by whatever way it came."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.content import Content
from gateway.learning import lesson_of, read_message
from gateway.learning.tokens import MAX_TOKENS
from gateway.message import Message
from gateway.testing import a_message


def words(message: Message) -> set[str]:
    return set(lesson_of(read_message(message)).words.values())


def test_words_of_text_subject_author_and_links() -> None:
    found = words(
        a_message(
            subject="Caf\u00e9 offer",
            from_="Shop <News@mail.shop.example>",
            body="It costs $99 today; don't wait! https://win.shop.example/now ab",
            attach="invoice.EXE",
        )
    )
    assert {"subject:caf\u00e9", "subject:offer", "costs", "$", "today", "don't", "!"} <= found
    assert {"from:news@mail.shop.example", "from:mail.shop.example", "from:shop.example"} <= found
    assert {"link:win.shop.example", "link:shop.example", "file:exe", "form:application/octet-stream"} <= found
    assert not {"ab", "99", "00", "link:example"} & found


def test_html_is_read_as_people_see_it() -> None:
    found = words(a_message(html="<p>Ch<b>ea</b>p <!-- filler -->meds</p>"))
    assert {"cheap", "meds", "form:text/html"} <= found
    assert "filler" not in found


def test_numbers_are_alike_and_long_words_are_marks() -> None:
    assert words(a_message(body="order4711")) & {"order0000"}
    assert words(a_message(body="x" * 45)) & {"long:x:4"}


def test_writing_without_spaces_is_pairs() -> None:
    assert {"\u514d\u8d39", "\u8d39\u9001"} <= words(a_message(body="\u514d\u8d39\u9001"))


def test_tokens_are_bounded() -> None:
    assert (
        len(
            words(
                a_message(
                    body=" ".join(f"word{chr(97 + n % 26)}{chr(97 + n // 26 % 26)}{chr(97 + n // 676)}" for n in range(9_000))
                )
            )
        )
        == MAX_TOKENS
    )


def test_the_same_message_is_the_same_lesson_by_another_way() -> None:
    octets = bytes(a_message(subject="Hi").octets)
    again = Message(Content(b"Received: from a.example\r\n\tby b.example\r\n" + octets))
    assert lesson_of(read_message(again)) == lesson_of(read_message(Message(Content(octets))))
    assert lesson_of(read_message(a_message(subject="Ho"))).digest != lesson_of(read_message(a_message(subject="Hi"))).digest


@given(st.binary(max_size=2_000))
def test_whatever_comes_is_read(octets: bytes) -> None:
    lesson = lesson_of(read_message(Message(Content(octets))))
    assert len(lesson.words) <= MAX_TOKENS
    assert all(-(2**63) <= number < 2**63 for number in lesson.words)
