"""Every `*.smtp` file beside this one is a conversation that must go exactly so; the format: `gateway.testing.dialogue`."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.testing.dialogue import DialogueError, read
from gateway.testing.play import play

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.smtp"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
async def test_dialogue(file: Path, tmp_path: Path) -> None:
    await play(read(file), tmp_path)


def test_each_says_what_it_shows() -> None:
    titles = [read(file).header["title"] for file in FILES]
    assert len(titles) > 30
    assert len(set(titles)) == len(titles)
    assert all(read(file).header["rfc"] for file in FILES)


WRONG = {
    "S: 250 2.0.0 No": "4: expected S: 250 2.0.0 No, got '250 2.0.0 Ok'",
    "S~ 3.*": "4: expected S~ 3.*, got '250 2.0.0 Ok'",
    "S* 3": "4: expected S* 3, got nothing within",
    'S! b"3"': "4: expected S! b\"3\", got b'2'",
    "S^": "4: expected S^ , got '250 2.0.0 Ok'",
    "= hold 1": "4: expected =hold 1, got no fact of that name; there are next_hop_connections, ",
    "= held 1": "4: expected =held 1, got 0",
    "# nothing is read": "3: expected  the end, got S: b'250 2.0.0 Ok",
    "S? x": "4: expected `C: …`",
    "C! x y": "4: expected a Python literal",
}


@pytest.mark.parametrize("line", WRONG)
async def test_a_dialogue_that_goes_another_way_is_told_with_its_line(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.testing.play.LIMIT", 0.3)
    file = tmp_path / "wrong.smtp"
    file.write_text(f"title: wrong\n---\nC: NOOP\n{line}\n")
    with pytest.raises(DialogueError) as told:
        await play(read(file), tmp_path)
    assert f"wrong.smtp:{WRONG[line]}" in str(told.value)


async def test_a_command_nobody_expected_at_the_next_hop_is_told(tmp_path: Path) -> None:
    file = tmp_path / "wrong.smtp"
    file.write_text(
        "title: wrong\n---\nC: MAIL FROM:<>\nG: MAIL FROM:<>\nN: 250 Ok\nS: 250 2.0.0 Ok\nC: RSET\nS: 250 2.0.0 Ok\nC+ 0.1s\n"
    )
    with pytest.raises(DialogueError, match=r"wrong\.smtp:9: expected  the end, got G: b'RSET"):
        await play(read(file), tmp_path)


def test_an_unknown_header_line_is_told(tmp_path: Path) -> None:
    file = tmp_path / "wrong.smtp"
    file.write_text("titel: wrong\n---\n")
    with pytest.raises(DialogueError, match=r"wrong\.smtp:1: expected `title:`"):
        read(file)
