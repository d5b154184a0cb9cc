"""The state directory and the place of a run below it: gateway.server.directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.server.directory import DirectoryError, RunDirectory, make_state_directory


def test_the_state_directory_is_made_for_us_alone(tmp_path: Path) -> None:
    made = make_state_directory(tmp_path / "a" / "var")
    assert made.is_dir()
    assert made.stat().st_mode & 0o007 == 0
    assert list(made.iterdir()) == []
    assert make_state_directory(made) == made


def test_a_state_directory_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DirectoryError, match=r"file/var: Not a directory"):
        make_state_directory(tmp_path / "file" / "var")


def test_what_the_dead_left_is_removed_and_the_living_stay(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from gateway.server.directory import RunDirectory;"
        f"run = RunDirectory(pathlib.Path({str(tmp_path)!r})); print(run.path, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as living:
        assert living.stdout is not None
        other = Path(living.stdout.readline().strip())
        dead = tmp_path / "run" / "4194999"
        dead.mkdir()
        (dead / "lock").touch()
        unlocked = tmp_path / "run" / "4194998"
        unlocked.mkdir()
        run = RunDirectory(tmp_path)
        assert other.is_dir()
        assert not dead.exists()
        assert not unlocked.exists()
        assert run.metrics.is_dir()
        (run.metrics / "gauge_livesum_5.db").touch()
        (run.metrics / "gauge_livesum_55.db").touch()
        (run.metrics / "counter_5.db").touch()
        run.forget_gauges(5)
        assert {file.name for file in run.metrics.iterdir()} == {"gauge_livesum_55.db", "counter_5.db"}
        living.kill()
        living.wait()
        run.remove()
        assert not run.path.exists()
        RunDirectory(tmp_path).remove()
        assert not other.exists()
