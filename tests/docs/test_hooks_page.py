"""`docs/plugins/hooks.md` is what the hook specifications say."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import hook_reference
from gateway.answers import ARGUMENTS, SPECIFICATIONS

PAGE = Path(__file__).parents[2] / "docs" / "plugins" / "hooks.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == hook_reference.render(), "run: python -m gateway.hook_reference"


@pytest.mark.parametrize("name", list(SPECIFICATIONS))
def test_each_docstring_has_its_six_parts(name: str) -> None:
    summary, parts = hook_reference.parts_of(name)
    assert summary.endswith(".")
    assert tuple(parts) == hook_reference.PARTS
    assert all(parts.values())


def test_a_docstring_without_a_part_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def judge() -> None:
        """Decide.

        When: always.
        """

    monkeypatch.setitem(SPECIFICATIONS, "judge", judge)
    with pytest.raises(ValueError, match="judge: the docstring needs When, Reads"):
        hook_reference.parts_of("judge")


def test_hooks_come_in_the_order_of_a_session() -> None:
    names = (
        "startup connect helo authenticated mail rcpt route policy_class data check judge rewrite sign done disconnect shutdown"
    )
    assert list(ARGUMENTS) == names.split()
