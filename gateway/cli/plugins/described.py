"""`mailgateway plugins show`: one plugin as its code describes it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import typer

from gateway.cli import terminal
from gateway.cli.plugins.options import options_of
from gateway.cli.plugins.sources import BUNDLED, place_of, source_of, version_of
from gateway.cli.terminal import safe
from gateway.hook_reference import parts_of
from gateway.registration import hook_names, objections
from gateway.steps import Kind, kind_of_call

if TYPE_CHECKING:
    from gateway.discovery import Found
    from gateway.plugin import Plugin

_WHERE = {
    Kind.LOOP: "async def, on the event loop",
    Kind.CHEAP: "def marked cheap, on the event loop",
    Kind.THREAD: "def, in a thread",
}
_LONGEST = 2_000


def describe(name: str, found: Found) -> None:
    """Print it."""
    kind = found.kind
    module = inspect.getmodule(kind)
    summary = inspect.getdoc(module) if module is not None else ""
    told = _first(summary or vars(kind).get("__doc__") or "").removeprefix(f"{name}: ")
    typer.echo(safe(f"{name}: {told}" if told else name))
    typer.echo()
    rows = {
        "source": source_of(found.origin),
        "class": f"{kind.__module__}:{kind.__qualname__} ({place_of(kind)})",
        "version": version_of(found.origin, kind) or "none given",
        "page": f"docs/plugins/{found.origin.name}.md" if found.origin.distribution == BUNDLED else "none",
        "gives": ", ".join(kind.gives) or "no finding that it declares",
        "waits for": ", ".join(kind.needs) or "no finding",
    }
    for word, text in rows.items():
        typer.echo(safe(f"{word:<10}{text}", _LONGEST))
    _hooks(kind)
    _options(kind)


def _hooks(kind: type[Plugin[Any]]) -> None:
    table = terminal.table("hook", "when", "runs as")
    for hook in hook_names(kind):
        table.add_row(hook, parts_of(hook)[1]["When"].partition("; ")[0].rstrip("."), _WHERE[kind_of_call(getattr(kind, hook))])
    terminal.console().print(table)
    for what, hint in objections(kind):
        typer.echo(safe(f"WRONG {what}" + (f" (did you mean {hint!r}?)" if hint else "")), err=True)


def _options(kind: type[Plugin[Any]]) -> None:
    found = options_of(kind)
    if not found:
        typer.echo("It has no options of its own.")
        return
    table = terminal.table("option", "type", "default", "meaning")
    for one in found:
        cells = (one.name, one.kind, one.default, one.meaning.replace("\\|", "|"))
        table.add_row(*(safe(cell.replace("`", ""), _LONGEST) for cell in cells))
    terminal.console().print(table)


def _first(text: str) -> str:
    """The first sentence, on one line."""
    return " ".join(inspect.cleandoc(text).split("\n\n", maxsplit=1)[0].split())
