"""The channel of isolated plugins: values come back as they were, and whatever else comes is garbage and nothing worse."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edits import ReplaceBody, ReplacePart, insert_header
from gateway.findings import AuthResult, Fact, Label, Score
from gateway.isolation.codec import GarbageError, dumps, loads, pack, unpack
from gateway.isolation.facts import pack_fact, share, unpack_fact
from gateway.isolation.frames import Frames
from gateway.message import Message
from gateway.mime import Bounds
from gateway.testing import a_message, a_session, a_transaction
from gateway.verdict import accept, reject

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20) | st.binary(max_size=20)
VALUES = st.recursive(
    PLAIN
    | st.builds(Label, name=st.text(max_size=5))
    | st.builds(Fact, name=st.text(max_size=5), value=st.integers() | st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["$", "v", "name", "base", "fields", "place", "kind"]) | st.text(max_size=4), inner, max_size=4
        )
        | st.fixed_dictionaries(
            {"$": st.sampled_from(["b", "s", "d", "finding", "Path", "Reject", "Label", "Reply"]), "v": inner}
        )
    ),
    max_leaves=12,
)


@given(VALUES)
def test_values_come_back(value: Any) -> None:
    assert unpack(loads(dumps({"v": pack(value)}))["v"]) == value


@given(st.binary(max_size=20).filter(lambda octets: b"\r" not in octets and b"\n" not in octets), st.integers(1, 1 << 40))
def test_edits_of_the_body_come_back(octets: bytes, start: int) -> None:
    for edit in (
        ReplaceBody(octets=octets),
        ReplacePart(start=start, end=start + 5, octets=octets, note="x"),
        insert_header("X", "y", start),
    ):
        assert unpack(loads(dumps({"v": pack(edit)}))["v"]) == edit


@given(JSON)
def test_what_cannot_be_read_is_garbage_and_nothing_worse(value: Any) -> None:
    try:
        unpack(value)
    except GarbageError:
        return


@given(st.binary(max_size=60))
def test_octets_that_are_no_frames(octets: bytes) -> None:
    here, there = socket.socketpair()
    frames = Frames(there)
    try:
        here.sendall(octets or b"x")
        frames.receive()
    except GarbageError:
        return
    finally:
        here.close()
        frames.close()


def test_a_file_that_comes_from_a_plugin_is_garbage() -> None:
    here, there = socket.socketpair()
    frames = Frames(there)
    with Path(os.devnull).open("rb") as file:
        socket.send_fds(here, [b"\0\0\0\2{}"], [file.fileno()])
    with pytest.raises(GarbageError):
        frames.receive()
    here.close()
    frames.close()


def test_facts_come_back() -> None:
    session = a_session(client_address="192.0.2.7", identity="alice")
    transaction = a_transaction(session=session, recipients=["a@example.org"])
    transaction.findings.add("spf", AuthResult(method="spf", result="pass", properties=(("smtp.mailfrom", "a"),)))
    transaction.findings.add("x", Score(symbol="X", weight=1.5))
    message = a_message(body="h\u00e9llo\r\n" * 3)
    got = unpack_fact(loads(dumps(pack_fact(transaction))), None, Bounds())
    assert (got.session, got.recipients, got.reverse_path) == (session, transaction.recipients, transaction.reverse_path)
    assert list(got.findings.attributed()) == list(transaction.findings.attributed())
    again = unpack_fact(loads(dumps(pack_fact(message))), share(message.content), Bounds())
    assert isinstance(again, Message)
    assert again.octets[:] == message.octets[:]
    again.content.close()
    for verdict in (accept(), reject("No").only("a@example.org")):
        assert unpack(pack(verdict)) == verdict
