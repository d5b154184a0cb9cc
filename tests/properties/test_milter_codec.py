"""The milter codec: what is written reads back the same, however it is cut; nothing else than its own error comes of any octets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.milter import codec
from gateway.milter.codec.answers import ANSWERS
from gateway.milter.codec.commands import COMMANDS

STRING = st.binary(max_size=12).map(lambda octets: octets.replace(b"\0", b"-"))
NAME = STRING.filter(bool)
INDEX = st.integers(0, 2**32 - 1)
NUMBER = st.integers(0, 2**32 - 1)
MACRO = st.sampled_from([b"i", b"j", b"{auth_authen}", b"{client_ptr}"])
LISTS = st.lists(st.tuples(st.sampled_from(list(codec.MacroStage)), st.lists(MACRO, max_size=3).map(tuple)), max_size=3).map(
    tuple
)
NEGOTIATE = st.builds(codec.Negotiate, NUMBER, NUMBER.map(codec.Actions), NUMBER.map(codec.Steps), LISTS)
PATH = st.tuples(STRING, st.lists(STRING, max_size=3).map(tuple))
COMMAND = st.one_of(
    NEGOTIATE,
    st.builds(codec.Macros, st.sampled_from([b"C", b"M", b"E"]), st.lists(st.tuples(MACRO, STRING), max_size=4).map(tuple)),
    st.builds(codec.Connect, STRING),
    st.builds(codec.Connect, STRING, st.sampled_from([codec.INET, codec.INET6, codec.UNIX]), st.integers(0, 65535), STRING),
    st.builds(codec.Helo, STRING),
    PATH.map(lambda parts: codec.Mail(*parts)),
    PATH.map(lambda parts: codec.Rcpt(*parts)),
    st.builds(codec.Unknown, STRING),
    st.builds(codec.Header, STRING, STRING),
    st.builds(codec.Body, st.binary(max_size=40)),
    st.builds(codec.EndOfBody, st.binary(max_size=40)),
    st.sampled_from([codec.Data(), codec.EndOfHeader(), codec.Abort(), codec.Quit(), codec.QuitNewConnection()]),
)
TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20).map(str.encode)
ANSWER = st.one_of(
    NEGOTIATE,
    st.builds(lambda code, lines: codec.ReplyCode.of(code, "", *lines), st.integers(400, 599), st.lists(TEXT, max_size=3)),
    st.builds(codec.AddHeader, NAME, STRING),
    st.builds(codec.ChangeHeader, INDEX, NAME, STRING),
    st.builds(codec.InsertHeader, INDEX, NAME, STRING),
    st.builds(codec.AddRecipient, STRING),
    st.builds(codec.AddRecipientWithParameters, STRING, STRING),
    st.builds(codec.DeleteRecipient, STRING),
    st.builds(codec.ChangeFrom, STRING, STRING),
    st.builds(codec.ReplaceBody, st.binary(max_size=40)),
    st.builds(codec.Quarantine, STRING),
    st.builds(codec.SetMacros, st.sampled_from(list(codec.MacroStage)), st.lists(MACRO, max_size=3).map(tuple)),
    st.sampled_from(
        [
            *(codec.Continue(), codec.Accept(), codec.Reject(), codec.Tempfail(), codec.Discard()),
            *(codec.Skip(), codec.ConnectionFailed(), codec.Shutdown(), codec.Progress()),
        ]
    ),
)
SIDES: list[tuple[Callable[..., codec.Reader[codec.Packet]], st.SearchStrategy[list[codec.Packet]]]] = [
    (codec.read_commands, st.lists(COMMAND, max_size=6)),  # type: ignore[list-item] # a reader of some packets is a reader of packets
    (codec.read_answers, st.lists(ANSWER, max_size=6)),  # type: ignore[list-item] # the same
]


def fed(reader: codec.Reader[codec.Packet], parts: list[bytes]) -> list[codec.Packet]:
    return [packet for part in parts for packet in reader.feed(part)]


@pytest.mark.parametrize(("make", "packets"), SIDES, ids=["commands", "answers"])
@given(data=st.data())
def test_what_is_written_reads_back(
    make: Callable[..., codec.Reader[codec.Packet]], packets: st.SearchStrategy[list[codec.Packet]], data: st.DataObject
) -> None:
    sent = data.draw(packets)
    octets = codec.write(*sent)
    for parts in ([octets], [octets[at : at + 1] for at in range(len(octets))], _cut(octets, data.draw(st.integers(0, 400)))):
        reader = make()
        assert fed(reader, parts) == sent
        assert reader.waiting == 0


def _cut(octets: bytes, place: int) -> list[bytes]:
    at = place % (len(octets) + 1)
    return [octets[:at], octets[at:]]


@given(
    letter=st.one_of(st.sampled_from([*COMMANDS, *ANSWERS]), st.binary(min_size=1, max_size=1)), payload=st.binary(max_size=40)
)
def test_any_payload_is_a_packet_or_the_error(letter: bytes, payload: bytes) -> None:
    octets = (len(payload) + 1).to_bytes(4, "big") + letter + payload
    for reader, kinds in ((codec.read_commands(), COMMANDS), (codec.read_answers(), ANSWERS)):
        try:
            found = reader.feed(octets)
        except codec.BadPacket:
            continue
        assert len(found) == 1
        assert letter in kinds
        again = type(found[0]).decode(found[0].payload())
        assert again == found[0]


@given(parts=st.lists(st.one_of(st.binary(max_size=30), st.builds(codec.write, COMMAND)), max_size=10))
def test_garbage_raises_nothing_else_and_stays_bounded(parts: list[bytes]) -> None:
    reader = codec.read_commands(longest=100)
    total = 0
    for part in parts:
        total += len(part)
        try:
            reader.feed(part)
        except codec.BadPacket:
            with pytest.raises(codec.BadPacket):
                reader.feed(b"")
            return
        assert reader.waiting <= 104


PACKETS = st.lists(COMMAND, max_size=12)


@given(commands=PACKETS, steps=NUMBER.map(codec.Steps), version=st.integers(2, 6))
def test_any_order_is_a_state_or_the_error(commands: list[codec.Command], steps: codec.Steps, version: int) -> None:
    state, agreed = codec.State.NEW, codec.Agreement(version, codec.Actions(0x1FF), steps)
    for command in commands:
        try:
            after = codec.after_command(state, type(command), agreed)
        except codec.BadPacket:
            continue
        assert isinstance(after, codec.State)
        state = after


@given(version=st.integers(0, 9), actions=NUMBER, steps=NUMBER, wanted=st.tuples(NUMBER, NUMBER), symbols=LISTS)
def test_both_sides_agree_on_the_same(version: int, actions: int, steps: int, wanted: tuple[int, int], symbols: object) -> None:
    offered = codec.Negotiate(version, codec.Actions(actions), codec.Steps(steps))
    try:
        taken = codec.take(offered, codec.Actions(wanted[0]), codec.Steps(wanted[1]), symbols)  # type: ignore[arg-type] # drawn as object
    except codec.BadPacket:
        assert version < codec.OLDEST
        return
    (read,) = codec.read_answers().feed(codec.write(taken))
    assert isinstance(read, codec.Negotiate)
    agreed = codec.agree(offered, read)
    assert agreed == codec.agree(offered, taken)
    assert agreed.actions | offered.actions == offered.actions
    assert agreed.steps | offered.steps == offered.steps
    assert agreed.version <= version
    assert agreed.chunk in {65535, 256 * 1024 - 1, 1024 * 1024 - 1}
