"""Broken files of rules, tests/cases/broken_rules: `config check` says of each where the mistake is, what it is, and how to mend it.

Beside NAME.toml stands NAME.expected, what the command prints; `[...]` in it is any text.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from gateway.cli.config import check

CASES = sorted((Path(__file__).parents[1] / "cases" / "broken_rules").glob("*.toml"))
CONFIG = """\
plugins = ["rules"]
rule_files = ["rules.toml"]

[[route]]
domains = ["example.org"]
servers = ["inbox:"]
"""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_mistake_is_told_with_its_line(
    case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAILGATEWAY_CONFIG", raising=False)
    (tmp_path / "rules.toml").write_text(case.read_text())
    (tmp_path / "config.toml").write_text(CONFIG)
    with pytest.raises(typer.Exit) as caught:
        check()
    found = capsys.readouterr().err.replace(f"{tmp_path}/", "").rstrip("\n") + "\n"
    wanted = case.with_suffix(".expected").read_text()
    assert re.fullmatch(re.escape(wanted).replace(r"\[\.\.\.\]", ".*"), found), f"expected:\n{wanted}got:\n{found}"
    assert caught.value.exit_code == 2
    assert re.match(r"rules\.toml:\d+: ", found)


def test_there_are_fifty_of_them() -> None:
    assert len(CASES) >= 50
