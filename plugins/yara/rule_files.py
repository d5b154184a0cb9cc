"""The rule files of a site: found in files and directories, with what they include, and compiled; every mistake with its file and line."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway import ConfigError, ConfigProblem
from gateway.plugins.yara import compiling

ENDINGS = (".yar", ".yara")
MAX_FILES = 20_000
MAX_SIZE = 200_000_000
"""Octets of all files."""
LIMIT = 300.0
"""Seconds to compile in."""
_INCLUDE = re.compile(rb'^[ \t]*include[ \t]+"([^"\r\n]{1,1000})"', re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """Rules that can be scanned with."""

    octets: bytes
    digest: str
    rules: int
    warnings: int
    read: tuple[Path, ...]
    """Files and directories that the rules depend on."""


def compile_files(
    names: Iterable[str], base: Path, *, variables: Mapping[str, str | float | bool], relaxed: bool, key: str
) -> Compiled:
    """The rules of all files and directories. ConfigError with every problem; `key`: the option that names them."""
    files, directories = _found(names, base, key)
    places = list(dict.fromkeys([*(one.parent for one in files), *directories]))
    read = _with_included(files, places, key)
    order = compiling.Order(
        files=[(one.stem, str(one)) for one in files],
        directories=[str(one) for one in places],
        globals=dict(variables),
        relaxed=relaxed,
    )
    try:
        told, octets = compile_apart(order)
    except subprocess.TimeoutExpired:
        raise ConfigError(
            [_problem(str(base), None, key, f"rules that take longer than {LIMIT:g} s to compile", "fewer")]
        ) from None
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2][:200]
        raise ConfigError([_problem(str(base), None, key, f"rules that yara-x cannot compile: {last}", "YARA rules")]) from error
    if told["mistakes"]:
        raise ConfigError(
            [_problem(one["file"] or str(base), one["line"] or None, key, one["what"], "YARA rules") for one in told["mistakes"]]
        )
    if not told["rules"]:
        raise ConfigError([_problem(str(base), None, key, "no rule in them", f"files with rules: *{' *'.join(ENDINGS)}")])
    return Compiled(
        octets=octets,
        digest=hashlib.sha256(octets).hexdigest(),
        rules=told["rules"],
        warnings=told["warnings"],
        read=(*read, *directories),
    )


def compile_apart(order: compiling.Order) -> tuple[compiling.Told, bytes]:
    """In a process of its own. TimeoutExpired, CalledProcessError."""
    command = [sys.executable, "-P", compiling.__file__]
    done = subprocess.run(command, input=json.dumps(order).encode(), capture_output=True, timeout=LIMIT, check=True)  # noqa: S603
    head, _, octets = done.stdout.partition(b"\n")
    return json.loads(head), octets


def _found(names: Iterable[str], base: Path, key: str) -> tuple[list[Path], list[Path]]:
    """Files with rules, each once, and directories in which another one would be one more."""
    files: dict[Path, None] = {}
    directories: dict[Path, None] = {}
    problems = []
    for name in names:
        path = base / name
        if path.is_dir():
            inside = sorted(
                one for one in path.rglob("*") if not any(part.startswith(".") for part in one.relative_to(path).parts)
            )
            directories.update(dict.fromkeys([path, *(one for one in inside if one.is_dir())]))
            files.update(dict.fromkeys(one for one in inside if one.suffix.lower() in ENDINGS and one.is_file()))
        elif path.is_file():
            files[path] = None
        else:
            problems.append(_problem(str(path), None, key, "nothing there", "a file of YARA rules, or a directory of them"))
    if len(files) > MAX_FILES:
        problems.append(_problem(str(base), None, key, f"{len(files)} files", f"at most {MAX_FILES}"))
    if problems:
        raise ConfigError(problems)
    return list(files), list(directories)


def _with_included(files: Iterable[Path], directories: Iterable[Path], key: str) -> tuple[Path, ...]:
    """The files, and those that they include, for the watch over changes. The compiler says what is wrong with them."""
    known = dict.fromkeys(files)
    waiting = list(known)
    size = 0
    while waiting and len(known) <= MAX_FILES:
        one = waiting.pop()
        try:
            size += one.stat().st_size
            if size > MAX_SIZE:
                raise ConfigError([_problem(str(one), None, key, f"more than {MAX_SIZE} octets of rules", "fewer")])
            octets = one.read_bytes()
        except OSError:
            continue
        for name in _INCLUDE.findall(octets):
            for directory in directories:
                included = directory / name.decode("utf-8", "replace")
                if included not in known and included.is_file():
                    known[included] = None
                    waiting.append(included)
    return tuple(known)


def _problem(file: str, line: int | None, key: str, found: str, allowed: str) -> ConfigProblem:
    return ConfigProblem(file=file, line=line, key=key, found=found, allowed=allowed)
