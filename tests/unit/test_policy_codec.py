"""Postfix's policy delegation protocol as octets: requests, answers, actions, and what may come instead."""

from __future__ import annotations

import pytest

from gateway.policy.codec import (
    MAX_ATTRIBUTES,
    MAX_OCTETS,
    MAX_VALUE,
    Action,
    PolicyFault,
    Reader,
    clean,
    parse_action,
    render,
    shown,
)

REQUEST = b"request=smtpd_access_policy\nprotocol_state=RCPT\nsender=\nrecipient=a=b@example.org\n\n"


def test_a_request_is_read_whole_and_octet_by_octet() -> None:
    wanted = [{"request": "smtpd_access_policy", "protocol_state": "RCPT", "sender": "", "recipient": "a=b@example.org"}]
    assert Reader().feed(REQUEST) == wanted
    reader = Reader()
    assert [one for octet in REQUEST for one in reader.feed(bytes([octet]))] == wanted
    assert reader.is_clean


def test_several_at_once_and_a_rest() -> None:
    reader = Reader()
    assert [one["action"] for one in reader.feed(b"action=OK\n\naction=DUNNO\r\n\r\naction=")] == ["OK", "DUNNO"]
    assert not reader.is_clean
    assert reader.feed(b"HOLD x\n\n") == [{"action": "HOLD x"}]


@pytest.mark.parametrize(
    ("octets", "problem"),
    [
        (b"\n", "an empty line"),
        (b"no attribute\n\n", "no attribute"),
        (b"=value\n\n", "no attribute"),
        (b"na me=value\n\n", "no attribute"),
        (b"\xff=value\n\n", "no attribute"),
        (b"a" * 65 + b"=value\n\n", "no attribute"),
        (b"a=1\na=2\n\n", "comes twice"),
        (b"a=1\x00\n\n", "NUL or CR"),
        (b"a=1\rb\n\n", "NUL or CR"),
        (b"a=" + b"x" * MAX_OCTETS, "more than"),
        (b"a=" + b"x" * MAX_OCTETS + b"\n", "more than"),
        (b"".join(b"a%d=\n" % n for n in range(MAX_ATTRIBUTES + 1)), "more than"),
    ],
)
def test_what_is_none(octets: bytes, problem: str) -> None:
    with pytest.raises(PolicyFault, match=problem):
        Reader().feed(octets)


def test_just_within_the_bounds() -> None:
    lines = b"".join(b"a%d=\n" % n for n in range(MAX_ATTRIBUTES))
    assert len(Reader().feed(lines + b"\n")[0]) == MAX_ATTRIBUTES
    value = b"x" * (MAX_OCTETS - 4)
    assert Reader().feed(b"a=" + value + b"\n\n") == [{"a": value.decode()}]


def test_no_value_ends_its_line() -> None:
    octets = render({"sender": "a\nrecipient=b\r\0\x85\u2028\ud800@example.org", "size": "1"})
    assert octets == b"sender=a?recipient=b?????@example.org\nsize=1\n\n"
    assert len(clean("x" * (MAX_VALUE + 1))) == MAX_VALUE
    with pytest.raises(ValueError, match="not the name"):
        render({"a b": ""})


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("DUNNO", Action(word="DUNNO")),
        ("dunno", Action(word="DUNNO")),
        ("OK", Action(word="OK")),
        ("200", Action(word="OK")),
        ("permit", Action(word="PERMIT")),
        ("REJECT", Action(word="REJECT", code=554)),
        ("REJECT 5.7.23 no", Action(word="REJECT", code=554, enhanced="5.7.23", text="no")),
        ("REJECT 4.7.1 no", Action(word="REJECT", code=554, enhanced="5.7.1", text="no")),
        ("550 5.1.1 unknown", Action(word="CODE", code=550, enhanced="5.1.1", text="unknown")),
        ("450 later", Action(word="CODE", code=450, text="later")),
        ("421", Action(word="CODE", code=421)),
        ("defer_if_permit 4.2.0 Greylisted", Action(word="DEFER_IF_PERMIT", code=450, enhanced="4.2.0", text="Greylisted")),
        ("DEFER", Action(word="DEFER", code=450)),
        ("PREPEND X-A: b", Action(word="PREPEND", text="X-A: b")),
        ("REJECT 5.7.1.2 no", Action(word="REJECT", code=554, text="5.7.1.2 no")),
        ("  HOLD   spam  ", Action(word="HOLD", text="spam")),
    ],
)
def test_actions(text: str, action: Action) -> None:
    assert parse_action(text) == action


def test_an_empty_action_is_none() -> None:
    with pytest.raises(PolicyFault, match="empty"):
        parse_action(" ")


def test_text_for_logs() -> None:
    assert shown("a\x1b[31m\u202eb") == "a?[31m?b"
    assert shown("x" * 300) == "x" * 197 + "..."
