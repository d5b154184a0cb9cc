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


def make(directory: Path, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [MAKE or "", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=30, check=False)


def test_make_alone_lists_its_targets() -> None:
    found = make(ROOT)
    listed = re.findall(r"^make ([\w-]+) +\S", found.stdout, re.MULTILINE)
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


def checkout(tmp_path: Path, *, user: int) -> dict[str, str]:
    """A directory with the Makefile, a Python without python3-venv, and programs that write down that they were called."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "gateway" / "plugins").mkdir(parents=True)
    programs = {
        "python3": f'case "$*" in *ensurepip*) exit 1;; *"-m venv"*) echo "$*" >> {tmp_path}/calls; exit 1;; esac',
        "id": f"echo {user}",
        "apt-get": f'echo "apt-get $*" >> {tmp_path}/calls',
    }
    (tmp_path / "bin").mkdir()
    for name, script in programs.items():
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    return {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}


def test_a_missing_venv_package_is_named(tmp_path: Path) -> None:
    found = make(tmp_path, ".venv/made", "PYTHON=python3", environment=checkout(tmp_path, user=1000))
    assert found.returncode != 0
    assert "the package python3-venv is missing: sudo apt install python3-venv" in found.stdout
    assert not (tmp_path / "calls").exists()


def test_a_missing_venv_package_is_installed_by_root(tmp_path: Path) -> None:
    make(tmp_path, ".venv/made", "PYTHON=python3", environment=checkout(tmp_path, user=0))
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == ["apt-get -qq update", "apt-get -qq -y install python3-venv", "-m venv .venv"]


def no_headers(tmp_path: Path, *, user: int) -> dict[str, str]:
    """A virtual environment whose Python has no header files."""
    environment = checkout(tmp_path, user=user)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\necho {tmp_path}/include\n")
    python.chmod(0o755)
    return environment


def test_a_missing_compiler_is_named(tmp_path: Path) -> None:
    found = make(tmp_path, "compiler", "PYTHON=python3", environment=no_headers(tmp_path, user=1000))
    assert found.returncode != 0
    assert "sudo apt install gcc python3-dev" in found.stdout
    assert not (tmp_path / "calls").exists()


def test_a_missing_compiler_is_installed_by_root(tmp_path: Path) -> None:
    make(tmp_path, "compiler", "PYTHON=python3", environment=no_headers(tmp_path, user=0))
    assert (tmp_path / "calls").read_text().splitlines()[-1] == "apt-get -qq -y install gcc libc6-dev python3-dev"


def test_make_run_compiles_nothing() -> None:
    planned = make(ROOT, "-n", "run").stdout
    assert "setup.py" not in planned
    assert "MAILGATEWAY_COMPILE" not in planned


def test_servers_that_cannot_be_installed_are_named(tmp_path: Path) -> None:
    environment = checkout(tmp_path, user=1000)
    environment["PATH"] = f"{tmp_path}/bin"
    command = ["/bin/sh", str(ROOT / "tests" / "install-servers")]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert found.returncode == 0
    assert "tests that need them are skipped" in found.stderr
    assert "swaks" in found.stderr
    assert not (tmp_path / "calls").exists()


def test_fuzz_means_the_same_for_every_test() -> None:
    """One multiplier, read in one place: otherwise `make fuzz` says little about what was run."""
    tests = Path(__file__).parents[1]
    readers = {path.name for path in tests.rglob("*.py") if '"MAILGATEWAY_FUZZ"' in path.read_text() and path != Path(__file__)}
    assert readers == {"fuzzing.py"}
    outside = [path for path in tests.rglob("test_*.py") if "tests.fuzzing" in path.read_text() and path.parent.name != "fuzz"]
    assert [path for path in outside if path != Path(__file__)] == []
