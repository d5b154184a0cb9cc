"""The wheel has every file of gateway/ and plugins/, under gateway, and no other; it can be installed without the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]


def tracked() -> list[str]:
    """Files below gateway/ and plugins/ as git knows them."""
    found = subprocess.run(["git", "ls-files", "gateway", "plugins"], cwd=TOP, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        pytest.skip("not a git checkout")
    return [name for name in found.stdout.splitlines() if (TOP / name).exists()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what git knows, so that nothing of an earlier build is in it."""
    names = tracked()
    source = tmp_path_factory.mktemp("source")
    for name in [*names, "pyproject.toml", "setup.py", "README.md", "LICENSE"]:
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TOP / name, target, follow_symlinks=False)
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(out), str(source)]
    if _has_setuptools():
        command.insert(5, "--no-build-isolation")
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


def _has_setuptools() -> bool:
    """New enough to build with; otherwise pip fetches one for the build."""
    probe = "import setuptools, sys; sys.exit(int(setuptools.__version__.split('.')[0]) < 77)"
    return subprocess.run([sys.executable, "-c", probe], capture_output=True, check=False).returncode == 0


def test_the_wheel_has_what_git_has(wheel: Path) -> None:
    wanted = {f"gateway/{name}" if name.startswith("plugins/") else name for name in tracked() if name != "gateway/plugins"}
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if not name.split("/")[0].endswith(".dist-info")}
    assert inside == wanted
    assert "gateway/py.typed" in inside


def test_the_wheel_declares_command_and_plugins(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
        entries = archive.read(name).decode()
    assert "mailgateway = gateway.cli:main" in entries
    for plugin in ("spf", "dkim", "dmarc", "authres", "recipients", "rules"):
        assert f"{plugin} = gateway.plugins.{plugin}:" in entries


def test_plugins_of_the_wheel_load_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    probe = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1]); import gateway, gateway.plugins.spf as spf; "
        "print(gateway.__file__, spf.__file__)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "MAILGATEWAY_CORE"}  # it has none
    done = subprocess.run(
        [sys.executable, "-I", "-c", probe, str(tmp_path)], capture_output=True, text=True, check=True, env=environment
    )
    for file in done.stdout.split():
        assert Path(file).is_relative_to(tmp_path)
