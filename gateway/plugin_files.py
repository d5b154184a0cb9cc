"""Single files that are plugins, as they lie in a folder of `plugin_path`. They are imported elsewhere (`discovery`)."""

from __future__ import annotations

from pathlib import Path

MAX_FILES = 1_000
"""Files looked at in one directory of `plugin_path`."""


def plugin_files(directory: Path) -> list[Path]:
    """Those in this folder. OSError when it cannot be read."""
    return [file for file in sorted(directory.iterdir())[:MAX_FILES] if _is_plugin(file)]


def _is_plugin(file: Path) -> bool:
    """A test may stand beside its plugin."""
    word = file.stem
    return file.suffix == ".py" and word.isidentifier() and not word.startswith(("_", "test_")) and word != "conftest"
