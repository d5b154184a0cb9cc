"""Compiles YARA rules. Run as a program of its own: the library compiles for seconds and lets no thread run meanwhile.

stdin: what to compile, as JSON; stdout: what came of it, as one line of JSON, and the compiled rules. Imports nothing of the gateway,
so that it starts fast.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any, TypedDict

import yara_x


class Order(TypedDict):
    """What to compile."""

    files: list[tuple[str, str]]
    """Namespace and path."""
    directories: list[str]
    """Where included files are looked for."""
    globals: dict[str, Any]
    relaxed: bool


class Mistake(TypedDict):
    """One error of a rule file."""

    file: str
    line: int
    what: str


class Told(TypedDict):
    """What came of it."""

    mistakes: list[Mistake]
    warnings: int
    rules: int


def compile_rules(order: Order) -> tuple[Told, bytes]:
    """All files; the compiled rules are empty when there is a mistake."""
    compiler = yara_x.Compiler(relaxed_re_syntax=order["relaxed"])
    for directory in order["directories"]:
        compiler.add_include_dir(directory)
    for name, value in order["globals"].items():
        compiler.define_global(name, value)
    unreadable: list[Mistake] = []
    for namespace, path in order["files"]:
        try:
            text = Path(path).read_bytes().decode("utf-8")
        except OSError as error:
            unreadable.append(Mistake(file=path, line=0, what=str(error.strerror or error)))
            continue
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            unreadable.append(Mistake(file=path, line=line, what="octets that are not UTF-8"))
            continue
        compiler.new_namespace(namespace)
        try:
            compiler.add_source(text, path)
        except yara_x.CompileError:
            continue  # it is in `errors`, with all others
    mistakes = unreadable + [_mistake(error) for error in compiler.errors()]
    warnings = len(compiler.warnings())
    if mistakes:
        return Told(mistakes=mistakes, warnings=warnings, rules=0), b""
    rules = compiler.build()
    compiled = io.BytesIO()
    rules.serialize_into(compiled)
    return Told(mistakes=[], warnings=warnings, rules=sum(1 for _ in rules)), compiled.getvalue()


def _mistake(error: dict[str, Any]) -> Mistake:
    label: dict[str, Any] = next(iter(error.get("labels", ())), {})
    what = ": ".join(text for text in (error.get("title", ""), label.get("text", "")) if text)
    return Mistake(file=label.get("code_origin") or "", line=label.get("line") or error.get("line") or 0, what=what)


if __name__ == "__main__":
    told, compiled_rules = compile_rules(json.load(sys.stdin))
    sys.stdout.buffer.write(json.dumps(told).encode() + b"\n" + compiled_rules)
