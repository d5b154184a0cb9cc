"""For mkdocs: the pages of the site in their order, so that a new page needs no entry. Those of index.md's table, plugins, the rest."""

import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
AUTHORS = [
    "first-plugin.md",
    "trying.md",
    "testing_plugins.md",
    "plugins/hooks.md",
    "api-stability.md",
    "porting-haraka.md",
    "porting-milter.md",
    "porting-mimedefang.md",
]
API = [
    "api/index.md",
    "api/gateway.md",
    "api/hooks.md",
    "api/testing.md",
    "api/mailauth.md",
    "api/scanning.md",
    "api/reputation.md",
]


def on_config(config: Any) -> Any:
    """Called by mkdocs before it reads the pages."""
    config["nav"] = nav()
    return config


def nav() -> list[Any]:
    """As mkdocs.yml would have it."""
    pages = [str(one.relative_to(HERE)) for one in sorted(HERE.rglob("*.md"))]
    index = re.findall(r"\(([\w./-]+\.md)\)", (HERE / "index.md").read_text(encoding="utf-8"))
    authors = [one for one in AUTHORS if one in pages]
    plugins = [one for one in pages if one.startswith("plugins/") and one not in authors]
    rest = [one for one in pages if one not in {*authors, *plugins, *API, "index.md"}]
    rest.sort(key=lambda page: index.index(page) if page in index else len(index))
    return ["index.md", {"Run it": rest}, {"Plugins": plugins}, {"Write a plugin": authors}, {"API reference": API}]
