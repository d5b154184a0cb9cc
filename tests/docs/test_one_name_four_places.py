"""A bundled plugin has one name in four places: module, table of the configuration, page, test. Its page has every option."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import EntryPoint

import pytest

from gateway import Plugin
from gateway.config.models import PluginUse
from gateway.plugins.rules.lists import ListOptions
from tests.docs.blocks import TOP, of_page

PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BUNDLED: dict[str, str] = PROJECT["entry-points"]["mailgateway.plugins"]
KEYS_OF_TABLES = {
    "clamav": {"name", "then", "score", "box"},
    "rules": {"name", "when", "then", "mode", "at", "test"} | set(ListOptions.model_fields),
    "ratelimit": {"name", "of", "count", "rate", "burst", "then", "weight", "clients"},
    "impersonation": {"names", "addresses"},
    "uribl": {"zone", "symbol", "weight", "weights", "faults", "explain", "of", "level", "hash"},
    "dnsbl": {"zone", "symbol", "weight", "weights", "faults", "explain", "of", "ipv6", "registrable"},
    "dkim_sign": {"domain", "selector", "file", "authors", "by", "identity"},
}
"""What stands in tables inside of an option."""
HEADINGS = {"What it does", "Findings", "Verdicts", "Options", "Limits"}


def kind(name: str) -> type[Plugin]:
    found = EntryPoint(name, BUNDLED[name], "mailgateway.plugins").load()
    assert isinstance(found, type)
    assert issubclass(found, Plugin)
    return found


def test_every_module_is_declared() -> None:
    modules = {file.stem for file in (TOP / "plugins").iterdir() if not file.name.startswith(("_", "."))}
    assert modules == set(BUNDLED)
    assert len(BUNDLED) >= 6


@pytest.mark.parametrize("name", BUNDLED)
def test_one_name_four_places(name: str) -> None:
    assert BUNDLED[name].startswith(f"gateway.plugins.{name}:")
    assert kind(name).__module__.startswith(f"gateway.plugins.{name}")
    assert (TOP / "tests" / "plugins" / f"test_{name}.py").exists()
    page = TOP / "docs" / "plugins" / f"{name}.md"
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {name}\n")
    assert set(re.findall(r"^## (.*)$", text, re.MULTILINE)) >= HEADINGS
    tables = "".join(block.text for block in of_page(page) if block.language == "toml")
    assert f"[plugin.{name}]" in tables or (name == "rules" and "[[rule]]" in tables)


@pytest.mark.parametrize("name", BUNDLED)
def test_every_option_is_on_its_page_and_no_other(name: str) -> None:
    text = (TOP / "docs" / "plugins" / f"{name}.md").read_text(encoding="utf-8")
    section = text.partition("## Options\n")[2].partition("\n## ")[0]
    told = {cell for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for cell in re.findall(r"`(\w+)`", row)}
    fields = set(kind(name).options_type.model_fields)
    assert fields <= told
    assert told <= fields | set(PluginUse.model_fields) | KEYS_OF_TABLES.get(name, set())


@pytest.mark.parametrize("name", BUNDLED)
def test_the_findings_that_it_declares_are_on_its_page_and_no_other(name: str) -> None:
    """What `mailgateway plugins show` says that it gives."""
    text = (TOP / "docs" / "plugins" / f"{name}.md").read_text(encoding="utf-8")
    section = text.partition("## Findings\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(auth\.[\w-]+)`", section)) == {one for one in kind(name).gives if one.startswith("auth.")}
