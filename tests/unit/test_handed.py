"""Messages handed to processes of the pool: gateway.handed."""

from __future__ import annotations

import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from gateway.content import Content
from gateway.handed import Handed, hand_over, taken
from gateway.message import Message
from gateway.mime import Bounds
from gateway.testing import a_message

OCTETS = b"Subject: large\r\n\r\n" + b"line\r\n" * 100


def spooled() -> Message:
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the content closes it
    file.write(OCTETS)
    return Message(Content.from_file(file), Bounds(parts=7))


def seen(handed: Handed) -> tuple[int, bytes, int]:
    with taken(handed) as message:
        return os.getpid(), bytes(message.octets), message.bounds.parts


def test_what_is_in_memory_travels_itself() -> None:
    message = a_message(body="x")
    with hand_over(message) as handed:
        assert (handed.octets, handed.path) == (message.octets, "")
        assert seen(handed)[1] == message.octets


@pytest.mark.skipif(sys.platform != "linux", reason="opened by way of /proc")
def test_of_a_spool_file_only_its_place_travels() -> None:
    message = spooled()
    with hand_over(message) as handed, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert handed.octets == b""
        process, octets, parts = pool.submit(seen, handed).result()
    assert process != os.getpid()
    assert (octets, parts) == (OCTETS, 7)
    with pytest.raises(OSError):
        seen(handed)  # it is closed
    message.content.close()


def test_elsewhere_the_octets_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    message = spooled()
    with hand_over(message) as handed:
        assert seen(handed)[1] == OCTETS
    message.content.close()
