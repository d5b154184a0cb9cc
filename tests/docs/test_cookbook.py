"""The cookbook of rules: every recipe has a message that it catches and one that it lets pass, and does both."""

from __future__ import annotations

import io
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from gateway import Context
from gateway.plugins.rules import Options, Rules
from gateway.plugins.rules.cases import NOTHING, Case
from gateway.testing import FakeContext, a_message
from tests.docs.blocks import TOP, Block, of_page

PAGE = TOP / "docs" / "rules.md"


def zipped(*, is_encrypted: bool) -> bytes:
    """A message with an archive that holds a program."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("invoice.exe", b"MZ\x90\x00\x03\x00\x00\x00" + bytes(200))
    octets = made.getvalue()
    if is_encrypted:  # bit 0 of the flags, in both headers (APPNOTE 4.4.4)
        for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            at = octets.index(signature) + place
            octets = octets[:at] + bytes([octets[at] | 1]) + octets[at + 1 :]
    return bytes(a_message(attach=("invoice.zip", octets)).octets)


SAMPLES = {
    "samples/large.eml": b"Subject: large\r\n\r\n" + b"x" * 20_000 + b"\r\n",
    "samples/zipped.eml": zipped(is_encrypted=False),
    "samples/encrypted.eml": zipped(is_encrypted=True),
}
"""Files that recipes name, which the reader has of his own."""
RECIPES = [block for block in of_page(PAGE) if block.language == "toml"]


def groups(text: str) -> Iterator[dict[str, Any]]:
    """The options of each group of a recipe."""
    data = tomllib.loads(text)
    if "rule" in data:
        yield {key: data[key] for key in ("rule", "list") if key in data} | data.get("plugin", {}).get("rules", {})
    yield from (table for name, table in data.get("plugin", {}).items() if "rule" in table and name != "rules")


def catches(case: Case) -> bool:
    verdict = case.expect.verdict
    return any(one != NOTHING for one in verdict.values()) if isinstance(verdict, dict) else verdict != NOTHING


@pytest.mark.parametrize("block", [pytest.param(block, id=block.where) for block in RECIPES])
async def test_every_recipe_catches_and_lets_pass(block: Block, tmp_path: Path) -> None:
    for name, octets in SAMPLES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(octets)
    context = cast("Context", FakeContext(base_directory=str(tmp_path)))
    made = [Rules(Options.model_validate(options), name="rules", context=context) for options in groups(block.text)]
    cases = [case for group in made for rule in group.rules for case in rule.test]
    assert any(map(catches, cases)), "no message that it catches"
    assert not all(map(catches, cases)), "no message that it lets pass"
    wrong = [
        f"{trial.name}: {trial.problem}\n{trial.told}" for group in made for trial in await group.trials() if not trial.passed
    ]
    assert not wrong, "\n".join(wrong)


def test_there_is_a_recipe_below_each_heading() -> None:
    headings = [line for line in PAGE.read_text().splitlines() if line.startswith("### ")]
    assert len(headings) == len(RECIPES) == len(set(headings))
    assert len(RECIPES) >= 30
