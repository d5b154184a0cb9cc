"""The porting guides: each plugin on them loads as a single file, each of their trials does what it says, each name exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import gateway
from gateway.answers import SPECIFICATIONS
from gateway.discovery import choose, load, site_files
from gateway.registration import objections
from tests.docs import examples
from tests.docs.blocks import TOP, of_page
from tests.docs.test_examples import NAMES

PAGES = [TOP / "docs" / f"porting-{word}.md" for word in ("haraka", "milter", "mimedefang")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_ported_does_what_the_page_says(page: Path, tmp_path: Path) -> None:
    scope: dict[str, Any] = {**NAMES}
    ported = tried = 0
    for block in of_page(page):
        if block.language == "python":
            file = tmp_path / block.name
            file.write_text(block.text, encoding="utf-8")
            kind = load(choose(file.stem, site_files([tmp_path])))
            assert not objections(kind), block.where
            scope[kind.__name__] = kind
            ported += 1
        elif block.language == "pycon":
            assert examples.examples(block.text), block.where
            try:
                examples.run(block.text, scope)
            except AssertionError as error:
                raise AssertionError(f"{block.where}: {error}") from None
            tried += 1
    assert ported == tried >= 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_the_table_names_exists(page: Path) -> None:
    """The second column: hooks, names of the API, attributes of what hooks are handed."""
    text = page.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (.+?) \| (.+?) \|", text.partition("## What is what")[2].partition("\n## ")[0], re.MULTILINE)[1:]
    assert len(rows) > 25
    known = {*SPECIFICATIONS, *gateway.__all__}
    facts = {
        "session": gateway.Session,
        "transaction": gateway.Transaction,
        "message": gateway.Message,
        "recipient": gateway.Recipient,
    }
    for _, cell in rows:
        for code in re.findall(r"`([^`]+)`", cell):
            called = re.match(r"([a-z_]+)(?:\(|$)", code)
            if called and code not in {"timeout", "plugins", "skip", "zipfile", "plugin_path", "only(…)"}:
                assert called[1] in known, code
            owner, _, attribute = code.partition(".")
            if owner in facts and attribute:
                word = re.match(r"\w+", attribute)
                assert word is not None
                assert hasattr(facts[owner], word[0]), code
            if code.startswith("self.context."):
                assert hasattr(gateway.Context, code.removeprefix("self.context.")), code
