"""Examples in docstrings: found for every public name, and run. As doctest does it, with `await` allowed and a loop for each docstring."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import importlib
import inspect
import io
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

_PARSER = doctest.DocTestParser()
_CHECKER = doctest.OutputChecker()
_FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def docstring(module: ModuleType, name: str) -> str:
    """Of a public name; for what is neither class nor function the string below its assignment."""
    value = getattr(module, name)
    if inspect.isclass(value) or inspect.isroutine(value):
        return inspect.getdoc(value) or "" if "__doc__" in vars(value) or inspect.isroutine(value) else ""
    return _below_assignment(Path(str(module.__file__)), name)


def _below_assignment(file: Path, name: str) -> str:
    statements = ast.parse(file.read_text(encoding="utf-8")).body
    body = [inner for one in statements for inner in (one.body if isinstance(one, ast.If) else [one])]
    for number, node in enumerate(body):
        match node:
            case ast.ImportFrom(module=str(source), names=names) if any((one.asname or one.name) == name for one in names):
                return _below_assignment(Path(str(importlib.import_module(source).__file__)), name)
            case ast.Assign(targets=[ast.Name(id=found)]) | ast.AnnAssign(target=ast.Name(id=found)) if found == name:
                match body[number + 1] if number + 1 < len(body) else None:
                    case ast.Expr(value=ast.Constant(value=str(text))):
                        return inspect.cleandoc(text)
                    case _:
                        return ""
            case _:
                pass
    return ""


def examples(text: str) -> list[doctest.Example]:
    """Those of a docstring."""
    return _PARSER.get_examples(text)


def run(text: str, names: dict[str, Any]) -> None:
    """Run the examples of a docstring in turn. AssertionError names the one that prints something else."""
    scope = {"__name__": "__main__", "__builtins__": __builtins__, **names}
    with asyncio.Runner() as runner, _as_main(scope):
        for example in examples(text):
            got = _output(example.source, scope, runner)
            wanted = example.want if example.exc_msg is None else example.exc_msg
            assert _CHECKER.check_output(wanted, got, _FLAGS), f"{example.source}expected: {wanted}got: {got}"


@contextlib.contextmanager
def _as_main(scope: dict[str, Any]) -> Iterator[None]:
    """Dataclasses and pydantic look for names of annotations in the module of the class."""
    before = sys.modules["__main__"]
    module = ModuleType("__main__")
    module.__dict__.update(scope)
    scope.update(__name__="__main__")
    sys.modules["__main__"] = module
    scope["__builtins__"] = __builtins__
    try:
        yield
    finally:
        sys.modules["__main__"] = before


def _output(source: str, scope: dict[str, Any], runner: asyncio.Runner) -> str:
    """What is printed, or the last lines of an exception."""
    printed = io.StringIO()
    shown = sys.displayhook
    sys.displayhook = sys.__displayhook__
    try:
        code = compile(source, "<example>", "single", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        with contextlib.redirect_stdout(printed):
            result = eval(code, scope)
            if inspect.iscoroutine(result):
                runner.run(result)
    except Exception as error:  # an example may show one
        return "".join(traceback.format_exception_only(error))
    finally:
        sys.displayhook = shown
    return printed.getvalue()
