"""Content on its way in: memory, spool file, bounds."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from gateway.config.models import LimitsConfig
from gateway.smtp.dotstream import DotStream
from gateway.smtp.intake import MAX_CHUNKS, Intake


def an_intake(directory: Path, *, lenient: bool = False, **limits: int) -> tuple[DotStream, Intake]:
    stream = DotStream()
    return stream, Intake(stream, LimitsConfig.model_validate(limits), directory=directory, lenient=lenient)


def send(stream: DotStream, intake: Intake, octets: bytes, step: int) -> None:
    for at in range(0, len(octets), step):
        intake.take(stream.feed(octets[at : at + step]))


def test_single_octets_are_joined_now_and_then(tmp_path: Path) -> None:
    stream, intake = an_intake(tmp_path)
    octets = b"0123456\r\n" * 10_000
    send(stream, intake, octets + b".\r\n", 1)
    assert len(intake._chunks) <= MAX_CHUNKS + 1
    content = intake.content()
    assert content.octets == octets
    assert intake.fault is None


@pytest.mark.parametrize(("size", "in_file"), [(1000, False), (1001, True)])
def test_past_the_limit_it_goes_to_a_file(tmp_path: Path, size: int, *, in_file: bool) -> None:
    stream, intake = an_intake(tmp_path / "spool", spool_memory=1000)
    octets = b"x" * (size - 2) + b"\r\n"
    send(stream, intake, octets + b".\r\n", 100)
    assert (tmp_path / "spool").exists() is in_file
    content = intake.content()
    assert bytes(content.octets) == octets
    content.close()


@pytest.mark.parametrize(("size", "fault"), [(5000, ""), (5001, "552 5.3.4")])
def test_the_limit_of_a_message(tmp_path: Path, size: int, fault: str) -> None:
    stream, intake = an_intake(tmp_path, message_size=5000, spool_memory=1000)
    send(stream, intake, b"x" * (size - 2) + b"\r\n.\r\n", 100)
    assert str(intake.fault or "")[:9] == fault
    assert intake.size == size
    intake.discard()


@pytest.mark.parametrize(
    ("number", "reply"),
    [(errno.ENOSPC, "452 4.3.1"), (errno.EDQUOT, "452 4.3.1"), (errno.EFBIG, "452 4.3.1"), (errno.EIO, "451 4.3.0")],
)
def test_a_spool_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, reply: str) -> None:
    stream, intake = an_intake(tmp_path, spool_memory=10)
    send(stream, intake, b"0123456789\r\n", 12)

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("gateway.smtp.intake.os.write", fail)
    send(stream, intake, b"0123456789\r\n" * 10 + b".\r\n", 12)
    assert str(intake.fault)[:9] == reply
    assert stream.ended


def test_a_spool_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    stream, intake = an_intake(tmp_path / "file" / "spool", spool_memory=10)
    send(stream, intake, b"0123456789\r\n.\r\n", 3)
    assert str(intake.fault)[:9] == "451 4.3.0"


@pytest.mark.parametrize("step", [1, 2, 3, 1000])
def test_bare_line_ends(tmp_path: Path, step: int) -> None:
    octets = b"a\nb\rc\r\n\n\r\nd\r\n"
    stream, intake = an_intake(tmp_path)
    send(stream, intake, octets + b".\r\n", step)
    assert str(intake.fault)[:9] == "550 5.6.0"
    stream, intake = an_intake(tmp_path, lenient=True)
    send(stream, intake, octets + b".\r\n", step)
    content = intake.content()
    assert content.octets == b"a\r\nb\r\nc\r\n\r\n\r\nd\r\n"
    assert content.was_normalised
