"""`mailgateway plugins new`: a plugin that works, as one file or as a package, with its tests. Nothing is ever written over."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import gateway
from gateway.errors import GatewayError

MAX_NAME = 40
_NAME = re.compile(rf"[a-z][a-z0-9_]{{0,{MAX_NAME - 1}}}")
_ALLOWED = f"a name of at most {MAX_NAME} of a-z 0-9 _ that begins with a letter"
_RESERVED = frozenset(["conftest", "gateway", "plugins", "mailgateway"])


class NewPluginError(GatewayError):
    """A plugin that cannot be made, and why."""

    def __init__(self, found: str, allowed: str, hint: str = "") -> None:
        super().__init__(f"found {found}; allowed: {allowed}" + (f" (did you mean {hint!r}?)" if hint else ""))


def objection(name: str, taken: Mapping[str, str], *, is_module: bool = False) -> NewPluginError | None:
    """Why a plugin may not be called so; `taken` says of each name in use whose it is. `is_module`: its file bears the name."""
    if "/" in name or os.sep in name or name in {".", ".."}:
        return NewPluginError(f"the path {name[:80]!r}", f"{_ALLOWED}; --into names the directory", _as_name(name))
    if _NAME.fullmatch(name) is None:
        return NewPluginError(f"the name {name[:80]!r}", _ALLOWED, _as_name(name))
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return NewPluginError(f"{name!r}, a word of Python's grammar", _ALLOWED, f"{name}_mail")
    if name in _RESERVED or name.startswith("test_"):
        return NewPluginError(f"{name!r}, which plugin_path takes for no plugin", _ALLOWED, f"{name.removeprefix('test_')}_mail")
    if name in taken:
        return NewPluginError(f"the name {name!r}, which {taken[name]} has", "each name once", f"own_{name}")
    if is_module and (name in sys.stdlib_module_names or importlib.util.find_spec(name) is not None):
        return NewPluginError(
            f"{name!r}, a module that is installed: its tests would import that one", "another name", f"own_{name}"
        )
    return None


def _as_name(text: str) -> str:
    """The nearest right name, or ``."""
    name = re.sub(r"[^a-z0-9]+", "_", re.sub(r"\.py$", "", text).lower()).strip("_")[:MAX_NAME].strip("_")
    name = name.lstrip("0123456789_")
    return name if _NAME.fullmatch(name) else ""


def class_name(name: str) -> str:
    """`no_executables` as `NoExecutables`; one that the API has already gets `Plugin` behind it."""
    words = "".join(word.capitalize() for word in name.split("_"))
    return f"{words}Plugin" if words in {*gateway.__all__, "Options"} else words


def single_file(name: str) -> dict[str, str]:
    """File → text: the plugin and its test beside it."""
    words = _words(name, module=name)
    return {f"{name}.py": _fill("plugin.py", words), f"test_{name}.py": _fill("test.py", words)}


def package(name: str, version: str) -> dict[str, str]:
    """File → text: a distribution of its own, for this version of the gateway and newer ones."""
    module = f"mailgateway_{name}"
    words = {**_words(name, module=module), "version": version}
    return {
        f"{name}/pyproject.toml": _fill("pyproject.toml", words),
        f"{name}/README.md": _fill("README.md", words),
        f"{name}/.gitignore": _fill("gitignore", words),
        f"{name}/.github/workflows/test.yml": _fill("workflow.yml", words),
        f"{name}/src/{module}/__init__.py": _fill("plugin.py", words),
        f"{name}/src/{module}/py.typed": "",
        f"{name}/tests/test_{name}.py": _fill("test.py", words),
    }


def write(directory: Path, files: Mapping[str, str]) -> list[Path]:
    """Write all of them or none. NewPluginError when one is there already, or cannot be written."""
    for name in files:
        first = directory / name.partition("/")[0]
        if first.exists() or first.is_symlink():
            raise NewPluginError(f"{first}, which is there already", "a new file: nothing is written over")
    written: list[Path] = []
    made: list[Path] = []
    try:
        for name, text in files.items():
            target = directory / name
            _make_directories(target.parent, made)
            with target.open("x", encoding="utf-8") as file:  # fails where somebody was faster, and on a symbolic link
                written.append(target)
                file.write(text)
    except OSError as error:
        for one in reversed(written):
            one.unlink(missing_ok=True)
        for one in reversed(made):
            one.rmdir()
        raise NewPluginError(f"{error.filename or directory}: {error.strerror}", "a directory that can be written to") from error
    return written


def _make_directories(directory: Path, made: list[Path]) -> None:
    if not directory.is_dir():
        if directory.parent != directory:
            _make_directories(directory.parent, made)
        directory.mkdir()
        made.append(directory)


def _words(name: str, *, module: str) -> dict[str, str]:
    return {
        "name": name,
        "Class": class_name(name),
        "names": ", ".join(sorted([class_name(name), "Options"])),
        "module": module,
        "distribution": f"mailgateway-{name.replace('_', '-')}",
    }


def _fill(template: str, words: Mapping[str, str]) -> str:
    text = resources.files("gateway.cli.plugins").joinpath("templates", f"{template}.txt").read_text(encoding="utf-8")
    return re.sub(r"@(\w+)@", lambda found: words[found[1]], text)
