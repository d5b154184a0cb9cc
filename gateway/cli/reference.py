"""`docs/cli.md`, made from the commands themselves: run `python -m gateway.cli.reference` after a change of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from gateway.cli.commands import app

_INTRODUCTION = """\
# The command `mailgateway`

<!-- Made by `python -m gateway.cli.reference`: change the commands in gateway/cli. -->

Exit status: 0 done, 1 it could not be done or the answer is no, 2 the configuration or the command line has a mistake. Every command that
reads a configuration takes `--config FILE`, else `MAILGATEWAY_CONFIG`, else `./config.toml`. What came from the network is printed with
everything unprintable shown as an escape.
"""


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its words, groups left out."""
    yield from _below("mailgateway", get_command(app))


def _below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
        return
    for word, one in inner.items():
        yield from _below(f"{name} {word}", one)


def _rows(command: Any) -> Iterator[str]:
    for parameter in command.params:
        if "--help" in parameter.opts:
            continue
        is_option = parameter.param_type_name == "option"
        names = ", ".join(f"`{name}`" for name in parameter.opts) if is_option else f"`{parameter.name.upper().rstrip('_')}`"
        default = parameter.default
        shown = (
            "" if default is None or default in ("", False) or callable(default) or default == () else f" Default: `{default}`."
        )
        meaning = " ".join((parameter.help or "").split())
        yield f"| {names} | {meaning}{shown} |".replace("  ", " ")


def render() -> str:
    """The whole page."""
    lines = [_INTRODUCTION]
    for name, command in commands():
        lines += [f"## {name}", "", " ".join((command.help or "").split()), ""]
        if rows := list(_rows(command)):
            lines += ["| argument | meaning |", "|---|---|", *rows, ""]
    return "\n".join(lines)


if __name__ == "__main__":
    Path("docs/cli.md").write_text(render(), encoding="utf-8")
