"""The site of `make site`: every page is in its navigation, once, and the API pages name the modules that are public."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.docs.blocks import TOP
from tests.unit.public_surface import ROOMS

DOCS = TOP / "docs"


def pages_of(entry: Any) -> Iterator[str]:
    """The pages below an entry of the navigation."""
    if isinstance(entry, str):
        yield entry
    for one in entry if isinstance(entry, list) else entry.values() if isinstance(entry, dict) else ():
        yield from pages_of(one)


def test_every_page_is_in_the_navigation_once() -> None:
    specification = importlib.util.spec_from_file_location("site_nav", DOCS / "site_nav.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    found = list(pages_of(module.nav()))
    assert sorted(found) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_the_api_pages_name_modules() -> None:
    named = {name for page in (DOCS / "api").glob("*.md") for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)}
    assert named == {"gateway.hookspecs", *(room.__name__ for room in ROOMS)}
    for name in named:
        assert importlib.import_module(name).__doc__


def test_the_site_is_built_strictly_and_fetches_nothing() -> None:
    settings = yaml.safe_load((TOP / "mkdocs.yml").read_text(encoding="utf-8"))
    assert settings["strict"] is True
    assert settings["theme"]["font"] is False
    assert settings["site_dir"].startswith("build/")
