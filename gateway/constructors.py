"""The constructors of dataclasses, written out for the compiler of the core (docs/performance.md, "A compiled core").

mypyc leaves the `__init__` that `dataclass` makes to the interpreter, and a value would cost ten times what it costs to make an object of
an ordinary class. So the compiler is given a copy of the source with an `__init__` in the place of the docstring: on one line, so that
tracebacks tell the lines of the source. What is not plain enough for that stays as it is. Pure: text in, text out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

MAKERS = {"dataclass", "value"}
"""Decorators whose classes get one: of `dataclasses`, and of `gateway.values`."""


class _NotPlainError(Exception):
    """A class that is left alone."""


@dataclass(slots=True)
class _Field:
    """What the constructor does for a field."""

    name: str
    parameter: str
    """`` where it takes none."""
    value: str
    """`` where it sets none."""


def with_constructors(source: str) -> str:
    """The same module; each class that `dataclass` would give a constructor has it written out."""
    lines = source.splitlines(keepends=True)
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef) or (made := _maker(node)) is None:
            continue
        docstring = node.body[0]
        if not isinstance(docstring, ast.Expr) or docstring.end_lineno is None or ast.get_docstring(node) is None:
            continue
        try:
            written = _constructor(node, {one.arg: _constant(one.value) for one in made.keywords if one.arg is not None})
        except _NotPlainError:
            continue
        first, last = docstring.lineno - 1, docstring.end_lineno
        lines[first:last] = [f"{' ' * docstring.col_offset}{written}\n", *["\n"] * (last - first - 1)]
    return "".join(lines)


def _maker(node: ast.ClassDef) -> ast.Call | None:
    for one in node.decorator_list:
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Name) and one.func.id in MAKERS:
            return one
    return None


def _constructor(node: ast.ClassDef, settings: dict[str, bool]) -> str:
    methods = {one.name for one in node.body if isinstance(one, ast.FunctionDef)}
    if node.bases or "__init__" in methods or not settings.get("init", True):
        raise _NotPlainError
    fields = list(_fields(node))
    if not fields:
        raise _NotPlainError
    parameters = [one.parameter for one in fields if one.parameter]
    if settings.get("kw_only", False) and parameters:
        parameters.insert(0, "*")
    steps = [f"self.{one.name} = {one.value}" for one in fields if one.value]
    if "__post_init__" in methods:
        steps.append("self.__post_init__()")
    # Frozen is what it is for everybody else.
    ignored = "  # type: ignore[misc]" if settings.get("frozen", False) else ""
    return f"def __init__(self, {', '.join(parameters)}) -> None: {'; '.join(steps)}{ignored}"


def _fields(node: ast.ClassDef) -> Iterator[_Field]:
    annotated = [one for one in node.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)]
    names = {ast.unparse(one.target) for one in annotated}
    for one in annotated:
        name, kind = ast.unparse(one.target), ast.unparse(one.annotation)
        if kind.startswith("ClassVar"):
            continue
        if kind.startswith(("InitVar", "KW_ONLY")):
            raise _NotPlainError
        yield _field(name, kind, one.value, names)


def _field(name: str, kind: str, default: ast.expr | None, names: set[str]) -> _Field:
    settings: dict[str, ast.expr] = {}
    if isinstance(default, ast.Call) and ast.unparse(default.func) == "field":
        settings = {one.arg: one.value for one in default.keywords if one.arg is not None}
        default = settings.get("default")
    made = _made(settings.get("default_factory"), names)
    if "kw_only" in settings or (made and "None" in kind):  # None means that it is to be made
        raise _NotPlainError
    if "init" in settings and not _constant(settings["init"]):
        return _Field(name, "", made or ("" if default is None else ast.unparse(default)))
    if made:
        return _Field(name, f"{name}: {kind} | None = None", f"{made} if {name} is None else {name}")
    return _Field(name, f"{name}: {kind}" if default is None else f"{name}: {kind} = {ast.unparse(default)}", name)


def _made(factory: ast.expr | None, names: set[str]) -> str:
    """What a `default_factory` gives, as an expression; `` without one."""
    if factory is None:
        return ""
    if any(isinstance(one, ast.Name) and one.id in names for one in ast.walk(factory)):  # it would be the parameter
        raise _NotPlainError
    return ast.unparse(factory.body) if isinstance(factory, ast.Lambda) else f"{ast.unparse(factory)}()"


def _constant(node: ast.expr) -> bool:
    if not isinstance(node, ast.Constant):
        raise _NotPlainError
    return bool(node.value)
