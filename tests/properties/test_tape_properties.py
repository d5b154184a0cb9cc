"""A tape takes any octets in any pieces, and keeps no response of AUTH."""

from __future__ import annotations

import base64
import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway.testing.overheard import OverheardLink
from gateway.testing.recorded import Surroundings, dialogue_text, pytest_text
from gateway.testing.tape import Tape

AROUND = Surroundings(title='any "session" \\', config_file="config.toml", is_hung_up=True)
FRAGMENTS = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"\r\n", b"\n", b".\r\n", b"354 go\r\n", b"334 x\r\n", b"250 ok\r\n", b"250-ok\r\n", b"DATA\r\n", b"BDAT 3\r\n", b"QUIT\r\n", b"AUTH LOGIN\r\n"]),
)  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(["C", "S", "G", "N"]), FRAGMENTS), max_size=30))
def test_any_octets_make_a_file(said: list[tuple[str, bytes]]) -> None:
    tape = Tape()
    link = OverheardLink(lambda who, text: None)
    for who, octets in said:
        if who == "C":
            tape.client(octets)
        elif who == "S":
            tape.server(octets)
        else:
            tape.link(1, who, octets)
            link.hear(who, octets)
    text = dialogue_text(tape, AROUND)
    compile(pytest_text(tape, AROUND, name="any"), "recorded", "exec")
    assert "\r" not in text
    for line in text.partition("\n---\n")[2].splitlines():
        assert line[0] in "CSGN="


def cut(octets: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(octets) + 1) for place in places} | {0, len(octets)})
    return [octets[begin:end] for begin, end in itertools.pairwise(ends)]


@given(
    password=st.text("abcdefgh0123456789", min_size=12, max_size=30),
    mechanism=st.sampled_from(["PLAIN", "plain", "LOGIN", "XOAUTH2", "SCRAM-SHA-256", "NONE"]),
    initial=st.booleans(),
    space=st.sampled_from([" ", "  "]),
    before=st.sampled_from([b"", b"NOOP\r\n", b"EHLO x\r\nNOOP\r\n"]),
    places=st.lists(st.integers(0, 400), max_size=5),
    end=st.sampled_from([b"\r\n", b"\n"]),
)
def test_no_response_of_auth_is_kept(
    *, password: str, mechanism: str, initial: bool, space: str, before: bytes, places: list[int], end: bytes
) -> None:
    plain = f"\0joe\0{password}" if mechanism.upper() == "PLAIN" else password
    secret = base64.b64encode(plain.encode())
    name = base64.b64encode(b"joe")
    verb = f"auth{space}{mechanism}".encode()
    login = [verb, name, secret] if mechanism == "LOGIN" else [verb + b" " + secret] if initial else [verb, secret]
    octets = before + end.join(login) + end
    tape = Tape()
    for piece in cut(octets, places):  # all of it before a reply, in any pieces
        tape.client(piece)
    tape.link(1, "G", b"EHLO x\r\n")
    tape.link(1, "N", b"250 x\r\n")
    tape.link(1, "G", b"\r\n".join(login) + b"\r\n")
    text = dialogue_text(tape, AROUND)
    assert secret.decode() not in text
    assert password not in text
