"""Content in chunks on its way in: line ends over borders, bounds, binary content."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.models import LimitsConfig
from gateway.smtp.chunks import ChunkIntake, Dropped


def taken(directory: Path, *chunks: bytes, lenient: bool = False, is_binary: bool = False, **limits: int) -> ChunkIntake:
    intake = ChunkIntake(LimitsConfig.model_validate(limits), directory=directory, lenient=lenient, is_binary=is_binary)
    for chunk in chunks:
        intake.expect(len(chunk))
        for at in range(0, len(chunk), 7):
            intake.take(chunk[at : at + 7])
    intake.finish()
    assert not intake.must_close
    return intake


@pytest.mark.parametrize("chunks", [(b"a\r\nb\r\n",), (b"a\r", b"\nb\r\n"), (b"a", b"", b"\r", b"", b"\n", b"b\r\n")])
def test_a_line_end_across_chunks_is_one(tmp_path: Path, chunks: tuple[bytes, ...]) -> None:
    intake = taken(tmp_path, *chunks)
    assert intake.fault is None
    content = intake.content()
    assert (content.octets, content.is_binary, content.was_normalised) == (b"a\r\nb\r\n", False, False)


def test_no_dot_is_special_and_no_line_end_is_needed(tmp_path: Path) -> None:
    octets = b".\r\n..a\r\n.\r\n\r\n."
    assert taken(tmp_path, octets[:1], octets[1:]).content().octets == octets


@pytest.mark.parametrize("chunks", [(b"a\nb\r\n",), (b"a\rb\r\n",), (b"a\r", b"b\r\n"), (b"a\r\n\r",), (b"a\r\n", b"\nb")])
def test_bare_line_ends(tmp_path: Path, chunks: tuple[bytes, ...]) -> None:
    refused = taken(tmp_path, *chunks)
    assert str(refused.fault)[:9] == "550 5.6.0"
    refused.discard()
    normalised = taken(tmp_path, *chunks, lenient=True).content()
    joined = b"".join(chunks).replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    assert normalised.octets == joined
    assert normalised.was_normalised


@pytest.mark.parametrize("lenient", [False, True])
def test_binary_content_is_left_alone(tmp_path: Path, lenient: bool) -> None:
    octets = b"\0\r\0\n\r\n.\r\n\n\r" + b"x" * 5000
    intake = taken(tmp_path, octets[:3], octets[3:], lenient=lenient, is_binary=True, text_line=1024)
    assert intake.fault is None
    content = intake.content()
    assert (content.octets, content.is_binary) == (octets, True)


def test_a_line_that_is_too_long(tmp_path: Path) -> None:
    assert taken(tmp_path, b"x" * 1023, b"\r\n" + b"y" * 1024, text_line=1024).fault is None
    assert str(taken(tmp_path, b"x" * 1000, b"y" * 30 + b"\r\n", text_line=1024).fault) == "500 5.5.2 Line too long"


@pytest.mark.parametrize(("more", "fault"), [(400, ""), (401, "552 5.3.4")])
def test_the_limit_over_all_chunks(tmp_path: Path, more: int, fault: str) -> None:
    intake = ChunkIntake(LimitsConfig(message_size=1000), directory=tmp_path, lenient=False, is_binary=False)
    intake.expect(600)
    intake.take(b"x" * 600)
    assert intake.fault is None
    intake.expect(more)
    assert str(intake.fault or "")[:9] == fault, "before the octets come"
    intake.take(b"x" * more)
    assert str(intake.fault or "")[:9] == fault
    intake.discard()


def test_past_the_memory_limit_chunks_go_to_a_file(tmp_path: Path) -> None:
    content = taken(tmp_path / "spool", b"0123456\r\n" * 100, b"x" * 500, spool_memory=1000).content()
    assert bytes(content.octets) == b"0123456\r\n" * 100 + b"x" * 500
    assert (tmp_path / "spool").exists()
    content.close()


def test_what_is_dropped_is_gone() -> None:
    sink = Dropped()
    sink.take(b"x" * 100)
    sink.discard()
    assert not sink.must_close
