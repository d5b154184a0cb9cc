"""The two commands of a newcomer: `make` lists its targets, and says what is wrong with a checkout without links."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKE = shutil.which("make")
pytestmark = pytest.mark.skipif(MAKE is None, reason="make is not installed")


def make(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [MAKE or "", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=30, check=False)


def test_make_alone_lists_its_targets() -> None:
    found = make(ROOT)
    listed = re.findall(r"^make (\w+) +\S", found.stdout, re.MULTILINE)
    assert found.returncode == 0
    assert {"run", "test", "lint", "types", "fmt", "bench", "demo"} <= set(listed)
    assert len(found.stdout.splitlines()) == len(listed)


def test_a_checkout_that_lost_the_link_is_told(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "gateway").mkdir()
    (tmp_path / "gateway" / "plugins").write_text("../plugins")  # what unpacking without links leaves
    found = make(tmp_path, "run")
    assert found.returncode != 0
    assert "gateway/plugins is not a directory" in found.stderr


def test_the_plugins_are_reached_through_the_link() -> None:
    link = ROOT / "gateway" / "plugins"
    assert link.is_symlink()
    assert link.readlink() == Path("../plugins")
    assert link.is_dir()


def test_a_changed_project_file_is_installed_again() -> None:
    """A new entry point is seen by an editable installation only after another one."""
    rules = dict(re.findall(r"^(\.venv/\S+): ?(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert "pyproject.toml" in rules[".venv/installed"].split()
    assert ".venv/installed" in rules[".venv/installed-tests"].split()
