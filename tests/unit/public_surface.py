"""The surface that plugins stand on, as text: names, signatures, fields, hooks. `python -m tests.unit.public_surface` records it.

What changes in `public_surface.txt` changes for every plugin there is: docs/api-stability.md says which change needs which version.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from enum import Enum
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel

import gateway
import gateway.client_names
import gateway.consequences
import gateway.exemptions
import gateway.mailauth
import gateway.places
import gateway.reputation
import gateway.scanning
import gateway.services
import gateway.testing
from gateway.answers import SPECIFICATIONS

ROOMS = (
    gateway,
    gateway.testing,
    gateway.mailauth,
    gateway.scanning,
    gateway.services,
    gateway.consequences,
    gateway.reputation,
    gateway.exemptions,
    gateway.client_names,
    gateway.places,
)
"""What plugins may import; docs/api-stability.md names them."""
RECORDED = Path(__file__).with_suffix(".txt")
_EMPTY = inspect.Parameter.empty


def render() -> str:
    """The whole surface."""
    lines = [
        "The public surface of mailgateway for plugins. Written by `make api`; what follows from a change: docs/api-stability.md.",
        f"API version {'.'.join(map(str, gateway.API_VERSION))}",
    ]
    for module in ROOMS:
        lines += ["", f"[{module.__name__}]", *_of_module(module)]
    lines += ["", "[hooks]", *(f"{name}{_signature(spec)}" for name, spec in SPECIFICATIONS.items())]
    return "\n".join(lines) + "\n"


def _of_module(module: ModuleType) -> Iterator[str]:
    for name in sorted(module.__all__):
        value = getattr(module, name)
        if inspect.isclass(value):
            yield from _of_class(name, value)
        elif callable(value) and inspect.isroutine(value):
            yield f"{name}{_signature(value)}"
        else:
            yield f"{name} = {_shown(value)}"


def _of_class(name: str, kind: type) -> Iterator[str]:
    bases = ", ".join(base.__name__ for base in kind.__bases__ if base is not object)
    yield f"class {name}({bases})" if bases else f"class {name}"
    if issubclass(kind, Enum):
        yield from (f"    {one.name} = {one.value!r}" for one in kind)
    elif dataclasses.is_dataclass(kind):
        yield from (f"    {one.name}: {_annotation(one.type)}{_default(one)}" for one in dataclasses.fields(kind) if one.init)
    elif issubclass(kind, BaseModel):
        yield from (f"    {one}" for one in sorted(kind.model_fields))
    elif "__init__" in vars(kind):
        yield f"    __init__{_signature(vars(kind)['__init__'])}"
    made = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    members = {one.name: f"{one.name}: property" for one in made if not one.init and not one.name.startswith("_")}
    for owner in reversed([one for one in kind.__mro__ if one.__module__.startswith("gateway")]):
        for member, value in vars(owner).items():
            if not member.startswith("_") and (line := _of_member(member, value)):
                members[member] = line
    yield from (f"    {line}" for _, line in sorted(members.items()))


def _of_member(name: str, value: Any) -> str:
    if isinstance(value, property):
        return f"{name}: property"
    if isinstance(value, cached_property):
        return f"{name}: property"
    if inspect.isfunction(value):
        return f"{'async ' if inspect.iscoroutinefunction(value) else ''}{name}{_signature(value)}"
    if isinstance(value, classmethod | staticmethod):
        return f"{type(value).__name__} {name}{_signature(value.__func__)}"
    return ""


def _signature(call: Any) -> str:
    signature = inspect.signature(call)
    pieces: list[str] = []
    has_star = False
    for one in signature.parameters.values():
        if one.kind is one.KEYWORD_ONLY and not has_star:
            pieces.append("*")
            has_star = True
        has_star = has_star or one.kind is one.VAR_POSITIONAL
        stars = "*" if one.kind is one.VAR_POSITIONAL else "**" if one.kind is one.VAR_KEYWORD else ""
        annotation = "" if one.annotation is _EMPTY else f": {_annotation(one.annotation)}"
        pieces.append(f"{stars}{one.name}{annotation}" + ("" if one.default is _EMPTY else f" = {_shown(one.default)}"))
    answer = "" if signature.return_annotation is _EMPTY else f" -> {_annotation(signature.return_annotation)}"
    return f"({', '.join(pieces)}){answer}"


def _annotation(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return " = …"
    return "" if field.default is dataclasses.MISSING else f" = {_shown(field.default)}"


def _shown(value: Any) -> str:
    """As text that is the same each time."""
    text = repr(value)
    return type(value).__name__ if " at 0x" in text or len(text) > 200 else text


if __name__ == "__main__":
    RECORDED.write_text(render(), encoding="utf-8")
