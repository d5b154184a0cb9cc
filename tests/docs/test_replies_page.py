"""docs/replies.md lists every reply of our own, and no other."""

from __future__ import annotations

import re

from tests.docs.own_replies import TOP, Found, found

ROW = re.compile(r"^\| (\d{3}) \| (\S*) ?\| (.*?) \| (.*?) ?\|$", re.MULTILINE)


def listed() -> list[tuple[int, str, str]]:
    page = (TOP / "docs" / "replies.md").read_text(encoding="utf-8")
    return [(int(code), enhanced, text) for code, enhanced, text, _ in ROW.findall(page)]


def test_the_page_is_complete_and_has_nothing_else() -> None:
    rows = listed()
    assert len(rows) == len(set(rows))
    code: dict[Found, str] = {}
    for one, place in found():
        code.setdefault(one, place)
    missing = {one: place for one, place in code.items() if one not in rows}
    gone = sorted(set(rows) - set(code))
    assert (missing, gone) == ({}, []), "docs/replies.md: add what is missing, take out what is gone"


def test_class_and_enhanced_class_agree() -> None:
    for (code, enhanced, text), place in found():
        assert enhanced in {"", "…"} or enhanced[0] == str(code)[0], f"{place}: {code} {enhanced} {text}"
