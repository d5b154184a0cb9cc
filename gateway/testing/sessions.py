"""Recorded sessions as tests: dialogue files that `mailgateway dev` wrote, or a person."""

from __future__ import annotations

import tempfile
from pathlib import Path


def recorded_sessions(folder: Path | str) -> list[Path]:
    r"""The `*.smtp` files of a folder, for `pytest.mark.parametrize`.

    Examples:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "null.smtp").write_text("title: x\n---\nC: NOOP\nS: 250 2.0.0 Ok\n")
        >>> [file.stem for file in recorded_sessions(folder)]
        ['null']
    """
    return sorted(Path(folder).glob("*.smtp"))


async def play_session(file: Path | str, *, text: str | None = None, directory: Path | None = None) -> None:
    r"""Play a session against a gateway in this process; AssertionError names the line that went another way.

    The format: `gateway.testing.dialogue`. `text`: the session itself, as if it were in the file. `directory` is for the gateway's state; default: one that goes with the end.

    Examples:
        >>> import pathlib, tempfile
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "noop.smtp"
        >>> _ = file.write_text("title: x\n---\nC: NOOP\nS: 250 2.0.0 Ok\n")
        >>> await play_session(file)
        >>> _ = file.write_text("title: x\n---\nC: NOOP\nS: 220 Hello\n")
        >>> await play_session(file)
        Traceback (most recent call last):
        gateway.testing.dialogue.DialogueError: ...noop.smtp:4: expected S: 220 Hello, got '250 2.0.0 Ok'
    """
    from gateway.testing.dialogue import parse, read
    from gateway.testing.play import play

    session = read(Path(file)) if text is None else parse(text.removeprefix("\n"), Path(file))
    if directory is not None:
        await play(session, directory)
        return
    with tempfile.TemporaryDirectory(prefix="mailgateway-test-") as own:
        await play(session, Path(own))
