"""What the compiler of the core is given for `dataclass`: the constructors that it would make, and lines that stay where they are."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import tomllib
from pathlib import Path
from typing import Any, TypeGuard

import pytest

from gateway.constructors import MAKERS, with_constructors
from gateway.core import source_of

TOP = Path(__file__).parents[2]
MODULES: list[str] = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["mailgateway"]["compiled"]


def _added(name: str) -> str:
    source = source_of(name, TOP).read_text()
    text = with_constructors(source)
    return "" if text == source else text


PLAIN = '''
from dataclasses import dataclass, field

@dataclass(slots=True, kw_only=True)
class Parcel:
    """A parcel.

    Of several lines.
    """

    size: int
    name: str = "x"
    """What it is called."""
    notes: list[str] = field(default_factory=list)
    pair: tuple[int, int] = field(default_factory=lambda: (1, 2), compare=False)
    count: int = field(init=False, default=3)
    double: int = field(init=False)

    def __post_init__(self) -> None:
        """Made last."""
        self.double = 2 * self.size
'''


def written(source: str) -> dict[str, Any]:
    """A module with what is written out alone: `dataclass` keeps a constructor that is there."""
    made: dict[str, Any] = {"__name__": "made"}
    exec(compile(with_constructors(source), "made.py", "exec", dont_inherit=True), made)
    return made


def test_a_written_constructor_does_what_the_made_one_does() -> None:
    kind = written(PLAIN)["Parcel"]
    one, other = kind(size=4), kind(size=4, name="y", notes=["z"], pair=(3, 4))
    assert dataclasses.astuple(one) == (4, "x", [], (1, 2), 3, 8)
    assert dataclasses.astuple(other) == (4, "y", ["z"], (3, 4), 3, 8)
    assert kind(size=4).notes is not one.notes
    for arguments in ([4], []):
        with pytest.raises(TypeError):
            kind(*arguments)


def test_every_line_stays_where_it_is() -> None:
    lines = with_constructors(PLAIN).split("\n")
    before = PLAIN.split("\n")
    assert len(lines) == len(before)
    assert [(now, then) for now, then in zip(lines[9:], before[9:], strict=True) if now != then] == []
    assert lines[5].startswith("    def __init__(self, *, size: int, name: str = 'x', ")


@pytest.mark.parametrize(
    "source",
    [
        '@dataclass\nclass A:\n    """Bare."""\n    x: int\n',
        '@dataclass(init=False)\nclass A:\n    """No constructor."""\n    x: int\n',
        '@dataclass(slots=True)\nclass A(B):\n    """Fields of another."""\n    x: int\n',
        '@dataclass(slots=True)\nclass A:\n    """Its own."""\n    x: int\n    def __init__(self) -> None: self.x = 1\n',
        '@dataclass(slots=True)\nclass A:\n    """None is a value."""\n    x: int | None = field(default_factory=make)\n',
        '@dataclass(slots=True)\nclass A:\n    """A parameter in the way."""\n    list: int\n    x: list = field(default_factory=list)\n',
        '@dataclass(slots=True)\nclass A:\n    """Not a field."""\n    x: InitVar[int]\n',
        '@dataclass(kw_only=SOMETIMES)\nclass A:\n    """Known at run time."""\n    x: int\n',
        "@dataclass(slots=True)\nclass A:\n    x: int\n",
        '@dataclass(slots=True)\nclass A:\n    """Empty."""\n',
        '@other(slots=True)\nclass A:\n    """Something else."""\n    x: int\n',
    ],
)
def test_what_is_not_plain_is_left_alone(source: str) -> None:
    assert with_constructors(source) == source


def test_what_is_frozen_is_frozen_for_others_only() -> None:
    source = '@value(frozen=True)\nclass A:\n    """Frozen."""\n    x: int\n'
    assert "def __init__(self, x: int) -> None: self.x = x  # type: ignore[misc]\n" in with_constructors(source)


@pytest.mark.parametrize("name", [name for name in MODULES if "def __init__(self, " in _added(name)])
def test_of_what_is_compiled_each_takes_what_its_fields_say(name: str) -> None:
    module = importlib.import_module(name)
    for node in ast.parse(with_constructors(source_of(name, TOP).read_text())).body:
        if not isinstance(node, ast.ClassDef) or not dataclasses.is_dataclass(kind := getattr(module, node.name)):
            continue
        for made in node.body:
            if isinstance(made, ast.FunctionDef) and made.name == "__init__":
                taken = made.args.args[1:] + made.args.kwonlyargs
                wanted = [one for one in dataclasses.fields(kind) if one.init]
                assert [one.arg for one in taken] == [one.name for one in wanted]
                assert [one.arg for one in made.args.kwonlyargs] == [one.name for one in wanted if one.kw_only]


def test_an_heir_of_what_is_written_out_has_one_of_its_own() -> None:
    """Else what mypyc makes does not compile."""
    nodes = [
        one for name in MODULES for one in ast.parse(with_constructors(source_of(name, TOP).read_text())).body if _is_made(one)
    ]
    have = {node.name for node in nodes if any(isinstance(one, ast.FunctionDef) and one.name == "__init__" for one in node.body)}
    heirs = {node.name for node in nodes if any(ast.unparse(base) in have for base in node.bases)}
    assert heirs - have == set()


def _is_made(node: ast.stmt) -> TypeGuard[ast.ClassDef]:
    return isinstance(node, ast.ClassDef) and any(
        isinstance(one, ast.Call) and ast.unparse(one.func) in MAKERS for one in node.decorator_list
    )
