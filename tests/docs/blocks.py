"""Fenced blocks of the pages, with the comment that may stand above one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).parents[2]
PAGES = (TOP / "README.md", TOP / "CHANGELOG.md", *sorted((TOP / "docs").rglob("*.md")))
_BLOCK = re.compile(r"(?:^<!-- ([^\n]*) -->\n)?^```(\w*)(?: ([^\n]*))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    page: Path
    line: int
    language: str
    name: str
    text: str
    comment: str

    @property
    def where(self) -> str:
        """For a person: page and line."""
        return f"{self.page.relative_to(TOP)}:{self.line}"

    @property
    def not_run(self) -> str:
        """Why it is not run, or nothing."""
        return self.comment.removeprefix("not run:").strip() if self.comment.startswith("not run:") else ""


def of_page(page: Path) -> Iterator[Block]:
    """The blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        comment, language, name, inside = (part or "" for part in found.groups())
        yield Block(page, text.count("\n", 0, found.start(4)), language, name, inside, comment)


def all_blocks(*languages: str) -> list[Block]:
    """Those of all pages in these languages."""
    return [block for page in PAGES for block in of_page(page) if block.language in languages]
