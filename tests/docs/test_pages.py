"""Links resolve; functions, tests, keys, events, reasons, plugins and commands that pages name exist, and none is missing."""

from __future__ import annotations

import ast
import importlib
import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from gateway.cli import reference
from gateway.cli.demo import SAMPLES
from gateway.config import reference as configuration
from gateway.config.models import LimitsConfig
from tests.docs.blocks import PAGES, TOP, all_blocks, of_page

_LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    text = page.read_text(encoding="utf-8")
    for block in of_page(page):
        text = text.replace(block.text, "")
    return text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_links_resolve(page: Path) -> None:
    for target in _LINK.findall(prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, (
                f"{page.name}: {target}"
            )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_files_of_the_repository_that_are_named_exist(page: Path) -> None:
    for name in re.findall(r"`((?:tests|gateway|plugins|deploy|benchmarks)/[\w./*-]+)`", prose(page)):
        assert list(TOP.glob(name)) if "*" in name else (TOP / name).exists(), f"{page.name}: {name}"


def test_every_page_is_in_the_index() -> None:
    index = (TOP / "docs" / "index.md").read_text(encoding="utf-8")
    for page in sorted((TOP / "docs").rglob("*.md")):
        assert page.name == "index.md" or f"({page.relative_to(TOP / 'docs')})" in index, page


BUNDLED = {one.name for one in entry_points(group="mailgateway.plugins") if one.value.startswith("gateway.plugins.")}
SECTIONS = ["What it does", "Findings", "Verdicts", "Options", "Example", "Limits"]


def test_readme_and_index_list_the_plugins_that_come_with_it() -> None:
    readme = (TOP / "README.md").read_text(encoding="utf-8")
    index = (TOP / "docs" / "index.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\[(\w+)\]\(docs/plugins/\1\.md\)", readme)) == sorted(BUNDLED)
    assert sorted(re.findall(r"^\| \[(\w+)\]\(plugins/\1\.md\) \|", index, re.MULTILINE)) == sorted(BUNDLED)


@pytest.mark.parametrize("plugin", sorted(BUNDLED - {"rules"}))  # the page of `rules` is the manual of its language
def test_pages_of_plugins_have_the_same_sections(plugin: str) -> None:
    text = (TOP / "docs" / "plugins" / f"{plugin}.md").read_text(encoding="utf-8")
    assert [title for title in re.findall(r"^## (.*)$", text, re.MULTILINE) if title in SECTIONS] == SECTIONS


def test_readme_is_short_and_its_table_is_the_demo() -> None:
    text = (TOP / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") <= 160
    rows = re.findall(r"^\| ([^|]+) \| (\d{3}) \| (\w+) \| (\w*) ?\|$", text, re.MULTILINE)
    assert rows == [(one.name, one.reply, one.verdict, one.plugin) for one in SAMPLES]


def test_every_function_of_flow_exists() -> None:
    text = (TOP / "docs" / "flow.md").read_text(encoding="utf-8")
    names = re.findall(r"`(gateway(?:\.\w+)+)`", text)
    assert len(names) > 50
    for name in names:
        words = name.split(".")
        found: object = None
        for count in range(len(words), 0, -1):
            try:
                found = importlib.import_module(".".join(words[:count]))
            except ModuleNotFoundError:
                continue
            for word in words[count:]:
                assert hasattr(found, word), name
                found = getattr(found, word)
            break


def test_steps_of_flow_are_numbered_without_a_gap() -> None:
    steps = re.findall(r"^(\d+)\. ", (TOP / "docs" / "flow.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [int(step) for step in steps] == list(range(1, len(steps) + 1))


def test_generated_pages_are_fresh() -> None:
    assert (TOP / "docs" / "cli.md").read_text(encoding="utf-8") == reference.render(), "run: make docs"
    assert (TOP / "docs" / "configuration.md").read_text(encoding="utf-8") == configuration.render(), "run: make docs"


def test_every_command_that_a_page_names_exists_with_its_options() -> None:
    known = {name: {option for one in command.params for option in one.opts} for name, command in reference.commands()}
    named = 0
    for page in PAGES:
        for line in re.findall(r"mailgateway [a-z][^`\n#]*", page.read_text(encoding="utf-8")):
            name = next((one for one in known if re.match(rf"{one}\b", line)), None)
            if name is None:
                continue
            for option in re.findall(r"(?<=[\s\[])--[a-z-]+", line):
                assert option in known[name] | {"--help"}, f"{page.name}: {line}"
                named += 1
    assert named > 15


def test_every_limit_is_told_with_what_the_client_sees() -> None:
    cells = re.findall(r"^\| (`.*?`) \|", (TOP / "docs" / "limits.md").read_text(encoding="utf-8"), re.MULTILINE)
    rows = [key for cell in cells for key in re.findall(r"`(\w+)`", cell)]
    assert sorted(rows) == sorted(LimitsConfig.model_fields)


def literals(methods: set[str], keyword: str = "") -> set[str]:
    """First argument (or the keyword's) of calls of these methods, where it is written out."""
    found = set()
    for place in ("gateway", "plugins"):
        for file in (TOP / place).rglob("*.py"):
            if file.is_relative_to(TOP / "gateway" / "plugins") or file.is_relative_to(TOP / "gateway" / "testing"):
                continue
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                    values = [one.value for one in node.keywords if one.arg == keyword] if keyword else node.args[:1]
                    if name in methods:
                        found |= {one.value for one in values if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    return found


def test_every_event_of_the_log_is_told() -> None:
    text = (TOP / "docs" / "operations.md").read_text(encoding="utf-8")
    events = {name for name in literals({"info", "warning", "error", "exception"}) if re.fullmatch(r"[a-z_]+\.[a-z_]+", name)}
    assert len(events) > 12
    events |= literals({"again_and_again"})
    told = set(re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", text.partition("## The log")[2].partition("##")[0]))
    assert told == events


def test_every_reason_is_told() -> None:
    text = (TOP / "docs" / "operations.md").read_text(encoding="utf-8").partition("## Reasons")[2]
    told = {word for cell in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for word in re.findall(r"`([\w-]+)`", cell)}
    makers = {"reject", "defer", "Reject", "Defer", "quarantine", "discard", "redirect", "Refused", "record_of"}
    reasons = {word for word in literals(makers, "reason") if re.fullmatch(r"[a-z]+(-[a-z]+)+", word)}
    assert len(reasons) >= 8
    assert not reasons - told


def test_what_is_not_run_says_why() -> None:
    blocks = all_blocks("console", "sh")
    assert len(blocks) > 8
    for block in blocks:
        assert not block.comment.startswith("not run") or block.not_run, block.where
