"""Replies: lengths of lines and how many of them, at the limit and one past it."""

from __future__ import annotations

import pytest

from gateway.smtp.replies import MAX_LINE, MAX_LINES, Reply, clean, passed_on, reply


@pytest.mark.parametrize("over", [0, 1, 5000])
@pytest.mark.parametrize("count", [1, 3])
def test_a_line_has_512_octets_with_code_and_crlf_at_most(over: int, count: int) -> None:
    text = b"x" * (MAX_LINE - 6)
    passed = passed_on(Reply(550, (text + b"y" * over,) * count))
    assert passed.lines == (text,) * count
    assert max(map(len, passed.render().splitlines(keepends=True))) == 512
    own = reply(550, "5.1.1", "x" * (MAX_LINE + over))
    assert len(own.render()) == 512


def test_lines_of_a_next_hop_are_kept_up_to_the_limit() -> None:
    lines = tuple(b"5.1.1 line %d" % n for n in range(MAX_LINES + 1))
    whole = Reply(550, lines[:MAX_LINES])
    assert passed_on(whole) == whole
    assert passed_on(Reply(550, lines)) == whole
    rendered = whole.render().splitlines()
    assert all(line.startswith(b"550-") for line in rendered[:-1])
    assert rendered[-1] == b"550 5.1.1 line 99"


def test_a_reply_of_no_line_becomes_one() -> None:
    assert passed_on(Reply(250, ())).render() == b"250 \r\n"


def test_utf8_is_cut_nowhere_else() -> None:
    assert clean("ü".encode() * 10, utf8=True) == "ü".encode() * 10
    assert clean("ü".encode() * 10) == b"?"
