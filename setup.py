"""The compiled core, where it is asked for: `MAILGATEWAY_COMPILE=1 pip install .`, and `make core` in a checkout.

mypyc makes C of the modules that pyproject.toml lists ([tool.mailgateway] compiled), a C compiler makes a library of it; both go into
gateway/_compiled with a manifest, which `gateway.core` reads. Without the variable this adds nothing: the wheel is pure Python.

What mypyc reads is a copy of `gateway` below build/, in which `gateway.constructors` has written out what dataclasses make when they
are imported.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

TOP = Path(__file__).parent
PROJECT: dict[str, Any] = tomllib.loads((TOP / "pyproject.toml").read_text("utf-8"))
GROUP = "mailgateway_core"
LIBRARY = f"{GROUP}__mypyc"
"""mypyc's name for what all modules of a group are in."""
OPTIMISE = os.environ.get("MAILGATEWAY_OPTIMISE", "2")
SUFFIX: str = sysconfig.get_config_var("EXT_SUFFIX")


def part(name: str) -> Any:
    """A module of `gateway`, without `gateway`, whose dependencies may not be there while it is built."""
    spec = importlib.util.spec_from_file_location(f"{name}_of_mailgateway", TOP / "gateway" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


os.environ["MAILGATEWAY_CORE"] = "0"  # what is built needs none
CORE = part("core")
CONSTRUCTORS = part("constructors")
MODULES: list[str] = PROJECT["tool"]["mailgateway"]["compiled"]
SOURCES = [str(CORE.source_of(name, Path())) for name in MODULES]
COPY = TOP / "build" / "source"


def copied() -> Path:
    """What the compiler reads."""
    shutil.rmtree(COPY, ignore_errors=True)
    shutil.copytree(TOP / "gateway", COPY / "gateway", ignore=shutil.ignore_patterns(CORE.FOLDER, "__pycache__"))
    if (TOP / "stubs").is_dir():
        shutil.copytree(TOP / "stubs", COPY / "stubs")
    for source in SOURCES:
        text = (TOP / source).read_text("utf-8")
        (COPY / source).write_text(CONSTRUCTORS.with_constructors(text), "utf-8")
    return COPY


class BuildCore(build_ext):
    """Everything is built below build/ and then laid into gateway/_compiled, of the wheel or of the checkout."""

    def finalize_options(self) -> None:
        """The C sources, of which there are none before."""
        from mypyc.build import mypycify

        # Before they are read: an edit while the compiler runs makes a core that is not used, and not one of the older source.
        self.hashes = {name: CORE.digest(Path(source)) for name, source in zip(MODULES, SOURCES, strict=True)}
        # What is not compiled is read for its types alone: it may import what is not installed here.
        options = [f"--config-file={TOP / 'pyproject.toml'}", "--no-warn-unreachable", "--follow-imports=silent"]
        options.append(f"--cache-dir={TOP / 'build' / 'mypy'}")
        os.chdir(copied())  # so that tracebacks name files as they are named here
        made = mypycify([*options, *SOURCES], group_name=GROUP, target_dir="../c", opt_level=OPTIMISE, debug_level="0")
        os.chdir(TOP)
        for extension in made:  # setuptools takes no others
            extension.sources = [os.path.relpath(COPY / source) for source in extension.sources]
            extension.depends = [os.path.relpath(COPY / source) for source in extension.depends]
            extension.include_dirs = [str((COPY / folder).resolve()) for folder in extension.include_dirs]
        self.distribution.ext_modules = made
        super().finalize_options()
        self.is_here, self.inplace = bool(self.inplace), False

    def run(self) -> None:
        """To a folder of its own first: setuptools would lay each beside its source."""
        given, self.build_lib = Path(self.build_lib), str(Path(self.build_temp) / "core")
        super().run()
        target = (TOP if self.is_here else given) / "gateway" / CORE.FOLDER
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for extension in self.extensions:
            shutil.copy(self.get_ext_fullpath(extension.name), target / (extension.name + SUFFIX))
        manifest = {"suffix": SUFFIX, "library": LIBRARY, "modules": self.hashes}
        (target / CORE.MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
        self.extensions = []  # setuptools would look for them beside their sources


if os.environ.get("MAILGATEWAY_COMPILE", "0") in {"", "0"}:
    setup()
else:
    setup(
        ext_modules=[Extension("gateway._compiled", sources=[])],
        cmdclass={"build_ext": BuildCore},
        # For a build of its own (PEP 517). The dependencies: mypyc reads their types.
        setup_requires=[]
        if importlib.util.find_spec("mypyc")
        else [*PROJECT["dependency-groups"]["core"], *PROJECT["project"]["dependencies"]],
    )
