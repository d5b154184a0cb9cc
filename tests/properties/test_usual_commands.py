"""What is read in one step is read piece by piece to the same, and nothing is taken in one step that the grammar refuses."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.smtp.grammar import parse_command, parse_mail, parse_rcpt, parse_usual

PIECES = st.sampled_from(["a", "b1", "-", ".", "_", "+", "@", "mail", "example", "com", "%", "=", "<", ">", " ", '"', "["])
PARAMETER = st.sampled_from([" SIZE=100", " BODY=8BITMIME", " NOTIFY=NEVER", " X", " SIZE=", "  X", " ="])


@given(
    st.sampled_from(["MAIL FROM:<", "RCPT TO:<", "mail from:<", "RCPT to:<", "MAIL From:<"]),
    st.lists(PIECES, max_size=5).map("".join),
    st.sampled_from(["@", "@", "@", ""]),
    st.lists(PIECES, max_size=6).map("".join),
    st.lists(PARAMETER, max_size=3).map("".join),
)
def test_one_step_and_many_read_the_same(front: str, local: str, at: str, domain: str, parameters: str) -> None:
    line = f"{front}{local}{at}{domain}>{parameters}\r\n".encode()
    usual = parse_usual(line)
    if usual is None:
        return
    verb, argument = parse_command(line[:-2])
    address = (parse_mail if verb == "MAIL" else parse_rcpt)(argument, utf8=False)
    assert (usual.verb, usual.path, usual.parameters) == (verb, address.path, address.parameters)


@given(st.lists(st.sampled_from(["a", "b-1", "x_y", "c", "d9"]), min_size=1, max_size=4).map(".".join))
def test_usual_lines_are_read_in_one_step(domain: str) -> None:
    usual = parse_usual(f"RCPT TO:<first.last+tag@{domain}> NOTIFY=NEVER\r\n".encode())
    assert usual is not None
    assert usual.path is not None
    assert (usual.path.local_part, usual.path.domain) == ("first.last+tag", domain)
