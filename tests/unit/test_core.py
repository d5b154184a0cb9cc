"""The compiled core: what is listed can be compiled, and what was compiled is used only for the source that it was made of."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tomllib
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from gateway.core import FOLDER, MANIFEST, NONE, digest, find, source_of

TOP = Path(__file__).parents[2]
MODULES: list[str] = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["mailgateway"]["compiled"]

PURE = {"len", "min", "max", "int"}
"""What may be asked twice."""
SET_BY_TESTS = {
    "AT_ONCE",
    "CAPABILITIES_AGE",
    "GRACE",
    "HEALTH_AGE",
    "LINGER",
    "LOOP_HELD",
    "LOOP_LAG",
    "MAX_ABANDONED",
    "PLUGIN_SECONDS",
    "QUIT_LIMIT",
    "TRANSACTION_SECONDS",
    "_PIECE",
}
"""Constants that are none where a test runs, of modules in which they are not asked for with every message."""


def built(top: Path, *names: str, suffix: str = EXTENSION_SUFFIXES[0]) -> Path:
    """Sources, and a manifest that knows them."""
    for name in names:
        source = top.joinpath(*name.split(".")).with_suffix(".py")
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(f'"""{name}"""\n')
    manifest = top / "gateway" / FOLDER / MANIFEST
    manifest.parent.mkdir(parents=True)
    modules = {name: digest(source_of(name, top)) for name in names}
    manifest.write_text(json.dumps({"suffix": suffix, "library": "lib__mypyc", "modules": modules}))
    return manifest


def test_without_a_manifest_there_is_none(tmp_path: Path) -> None:
    assert find(tmp_path) == (None, NONE)


def test_the_modules_of_a_core_are_found_in_its_folder(tmp_path: Path) -> None:
    manifest = built(tmp_path, "gateway.one", "gateway.sub.two")
    core, words = find(tmp_path)
    assert words == "2 modules"
    assert core is not None
    for name in ("gateway.one", "gateway.sub.two", "lib__mypyc"):
        spec = core.find_spec(name)
        assert spec is not None
        assert spec.origin == str(manifest.parent / (name + EXTENSION_SUFFIXES[0]))
    assert core.find_spec("gateway.other") is None


def test_after_an_edit_nothing_of_it_is_used(tmp_path: Path) -> None:
    built(tmp_path, "gateway.one", "gateway.two", "gateway.three")
    (tmp_path / "gateway" / "two.py").write_text('"""Another."""\n')
    assert find(tmp_path) == (None, "unused: the source of gateway.two has changed since; make core")
    (tmp_path / "gateway" / "three.py").unlink()
    assert find(tmp_path) == (None, "unused: the source of gateway.two and 1 more has changed since; make core")


def test_a_core_of_another_interpreter_is_not_used(tmp_path: Path) -> None:
    built(tmp_path, "gateway.one", suffix=".cpython-309-x86_64-linux-gnu.so")
    core, words = find(tmp_path)
    assert core is None
    assert words.startswith("unused: it was built for .cpython-309-x86_64-linux-gnu.so")


@pytest.mark.parametrize("manifest", ["", "{}", "[]", '{"suffix": 1, "library": 2, "modules": 3}', "\udcff"])
def test_a_manifest_that_cannot_be_read_is_no_core(tmp_path: Path, manifest: str) -> None:
    place = tmp_path / "gateway" / FOLDER / MANIFEST
    place.parent.mkdir(parents=True)
    place.write_bytes(manifest.encode("utf-8", "surrogateescape"))
    core, words = find(tmp_path)
    assert core is None
    assert words.startswith("unused: ")


@pytest.mark.parametrize(("switch", "status", "code"), [("0", "off (MAILGATEWAY_CORE=0)", 0), ("1", "", 1), ("", "unused: ", 0)])
def test_the_switch(tmp_path: Path, switch: str, status: str, code: int) -> None:
    """`1` is for whoever wants to be sure: a core that cannot be used is an error then."""
    built(tmp_path, "gateway.one", suffix=".of-another")
    (tmp_path / "gateway" / "core.py").write_bytes((TOP / "gateway" / "core.py").read_bytes())
    (tmp_path / "gateway" / "__init__.py").write_text("import gateway.core\n")
    probe = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from gateway.core import STATUS; print(STATUS)"
    environment = {**os.environ, "MAILGATEWAY_CORE": switch}
    done = subprocess.run([sys.executable, "-I", "-c", probe], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == code
    assert done.stdout.startswith(status)
    assert ("CoreError" in done.stderr) == bool(code)


def test_what_is_listed_is_there_once_and_in_order() -> None:
    assert sorted(set(MODULES)) == MODULES
    assert [name for name in MODULES if not source_of(name, TOP).is_file()] == []
    assert "gateway.core" not in MODULES


@pytest.mark.parametrize("name", MODULES)
def test_what_is_listed_can_be_compiled(name: str) -> None:
    """What mypyc refuses or compiles to something else, as far as it is seen without compiling."""
    tree = ast.parse(source_of(name, TOP).read_text())
    assert list(_faults(tree)) == []


@pytest.mark.parametrize("name", MODULES)
def test_a_constant_of_what_is_compiled_is_final(name: str) -> None:
    """Any other one may be assigned by whoever likes to, so that a dict is asked for it at each use."""
    tree = ast.parse(source_of(name, TOP).read_text())
    reassigned = {one for node in ast.walk(tree) if isinstance(node, ast.Global) for one in node.names}
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            found |= dict.fromkeys(map(ast.unparse, node.targets), "")
        elif isinstance(node, ast.AnnAssign):
            found[ast.unparse(node.target)] = ast.unparse(node.annotation)
    others = {one for one, kind in found.items() if not kind.startswith(("Final", "TypeAlias")) and not _is_type(one)}
    assert others - reassigned - SET_BY_TESTS - {"__all__"} == set()


def _is_type(name: str) -> bool:
    """An alias, or a variable of a generic class."""
    return name[:1].isupper() and (len(name) == 1 or not name.isupper())


def test_nothing_interpreted_inherits_from_what_is_compiled() -> None:
    """Python refuses it when the class is made, but where the class says that it may be."""
    found = []
    for path in sorted((TOP / "gateway").rglob("*.py")):
        name = ".".join(path.relative_to(TOP).with_suffix("").parts).removesuffix(".__init__")
        tree = ast.parse(path.read_text())
        origins = {
            alias.asname or alias.name: (node.module, alias.name)
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module is not None
            for alias in node.names
        }
        bases = [
            (node.name, *origins[ast.unparse(base)])
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and name not in MODULES
            for base in node.bases
            if ast.unparse(base) in origins
        ]
        found += [
            f"{name}.{kind} from {module}" for kind, module, base in bases if module in MODULES and not _is_open(module, base)
        ]
    assert found == []


def test_nothing_compiled_is_made_without_its_constructor() -> None:
    """`__new__` of a compiled class calls `__init__`: what `gateway.smtp.origin` makes field by field stays interpreted."""
    found = []
    for path in sorted((TOP / "gateway").rglob("*.py")):
        tree = ast.parse(path.read_text())
        compiled = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module in MODULES
            for alias in node.names
        }
        if ".".join(path.relative_to(TOP).with_suffix("").parts) in MODULES:
            compiled |= {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
        found += [
            f"{path.name}: {ast.unparse(node)}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {f"{name}.__new__" for name in compiled}
        ]
    assert found == []


def _is_open(module: str, name: str) -> bool:
    """Interpreted classes may inherit from this one."""
    tree = ast.parse(source_of(module, TOP).read_text())
    said = [
        ast.unparse(one)
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == name
        for one in node.decorator_list
    ]
    return "mypyc_attr(allow_interpreted_subclasses=True)" in said


def _faults(tree: ast.Module) -> list[str]:
    found: list[str] = []
    origins = {
        alias.asname or alias.name: node.module or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module not in MODULES
        for alias in node.names
    }
    unsure = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for one in ast.walk(node)
        if isinstance(one, ast.ImportFrom)
        for alias in one.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            fields = [one for one in node.body if isinstance(one, ast.AnnAssign) and node.decorator_list]
            found += [
                f"{node.name}.{ast.unparse(one.target)}: a dataclass needs {ast.unparse(one.annotation)} when it is made"
                for one in fields
                if ast.unparse(one.annotation) in unsure
            ]
            if any(ast.unparse(base).endswith(("BaseModel", "TypedDict")) for base in node.bases) and node.decorator_list:
                found.append(f"{node.name}: stays interpreted")
            if any(
                origins.get(ast.unparse(base), "").startswith("gateway.") and ast.unparse(base) != "Settled"
                for base in node.bases
            ) and "__slots__" in ast.unparse(node):
                found.append(f"{node.name}: __slots__ in a class whose base is not compiled")
            found += [
                f"{node.name}.{one.name}: what a cached_property has found is forgotten"
                for one in node.body
                if isinstance(one, ast.FunctionDef) and {"cached_property", "once"} & set(map(ast.unparse, one.decorator_list))
            ]
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "Final" and isinstance(node.value, ast.Tuple):
            # mypyc keeps it as numbers, of which it cannot tell that they are set: the module cannot be imported
            are_floats = all(isinstance(one, ast.Constant) and isinstance(one.value, float) for one in node.value.elts)
            found += [f"{ast.unparse(node.target)}: Final[tuple[float, ...]]"] if are_floats else []
        if isinstance(node, ast.AsyncWith) and any("TaskGroup" in ast.unparse(one) for one in node.items):
            # mypyc awaits its end where the exception is handled, and what others raise meanwhile is told as its consequence
            found.append(f"line {node.lineno}: a group of tasks")
        if isinstance(node, ast.Try):  # cancelled there, what mypyc makes of it crashes
            late = [*(one for handler in node.handlers for one in handler.body), *node.finalbody]
            if any(isinstance(one, ast.Await | ast.Yield) for part in late for one in ast.walk(part)):
                found.append(f"line {node.lineno}: awaits within except or finally")
        if isinstance(node, ast.If):
            found += _taken_for_none(node)
        if isinstance(node, ast.Slice):  # evaluated twice where what is cut is neither list nor str nor bytes
            calls = [one for one in ast.walk(node) if isinstance(one, ast.Call | ast.Await | ast.NamedExpr)]
            found += [f"{ast.unparse(one)} within a slice" for one in calls if ast.unparse(one).partition("(")[0] not in PURE]
        if isinstance(node, ast.AsyncFunctionDef):
            arguments = {one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
            found += [
                f"{node.name}: del of its argument {ast.unparse(target)}"
                for one in ast.walk(node)
                if isinstance(one, ast.Delete)
                for target in one.targets
                if ast.unparse(target) in arguments
            ]
    return found


def _taken_for_none(branch: ast.If) -> list[str]:
    """Where an attribute is None, mypyc takes it for None until it is set there, though others set it while the branch waits."""
    tests = branch.test.values if isinstance(branch.test, ast.BoolOp) and isinstance(branch.test.op, ast.And) else [branch.test]
    none = {
        ast.unparse(one.left)
        for one in tests
        if isinstance(one, ast.Compare) and isinstance(one.left, ast.Attribute) and ast.unparse(one).endswith(" is None")
    }
    inside = [one for part in branch.body for one in ast.walk(part)]
    pauses = [one.lineno for one in inside if isinstance(one, ast.Await | ast.Yield | ast.YieldFrom)]
    read = [one for one in inside if isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Load)]
    return [
        f"line {one.lineno}: {ast.unparse(one)} is not None for ever"
        for one in read
        if ast.unparse(one) in none and pauses and one.lineno > min(pauses)
    ]


def test_what_is_taken_for_none_is_found() -> None:
    code = "async def f(self):\n if self.x is None:\n  await g()\n  if self.x is None:\n   pass\n"
    assert _faults(ast.parse(code)) == ["line 4: self.x is not None for ever"]
