"""`docs/configuration.md`, made from the models: run `python -m gateway.config.reference` after a change of them."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.config.models import Config, PluginUse, RouteAuth, ServerEntry, TlsConfig
from gateway.config.show import inline, plain

_INTRODUCTION = """\
# Configuration

<!-- Made by `python -m gateway.config.reference` from the models in gateway/config: change those. -->

One file, `config.toml`, or a directory of `*.toml` read in name order. `mailgateway run --config FILE`; without the
option the file named by `MAILGATEWAY_CONFIG`, else `./config.toml`, else nothing but defaults and the environment.

- `mailgateway config check` reports every mistake at once, each with file and line, and warns of risky settings.
- `mailgateway config show --origin` prints the effective configuration and where each value came from.
- `mailgateway config schema` prints a JSON Schema for editors.

In a directory a key that is set twice is a mistake; `[[listener]]`, `[[route]]` and `[[rule]]` of several files add up.
File names are relative to the directory of the configuration.

Durations are written `"250ms"`, `"30s"`, `"5m"`, `"2h"`, `"7d"`; sizes `"25MB"`, `"64KiB"` or a number of octets.

## Environment

Every key can be set by a variable, which wins over the file: `MAILGATEWAY__SECTION__KEY`, in capitals or not. Values
are JSON; what is not JSON is a plain string. Elements of `[[listener]]` and `[[route]]` go by their name and are made
when there is none of that name; `-` in a name is `_` in the variable.

```sh
MAILGATEWAY__PLUGINS='["spf", "dkim", "dmarc", "authres"]'
MAILGATEWAY__SERVER__NAME=mx.example.org
MAILGATEWAY__LISTENER__MX__BIND=0.0.0.0:25
MAILGATEWAY__ROUTE__DEFAULT__DOMAINS='["example.org"]'
MAILGATEWAY__ROUTE__DEFAULT__SERVERS='["postfix:25"]'
MAILGATEWAY__PLUGIN__SPF__TIMEOUT=5s
MAILGATEWAY__PLUGIN__TICKETS__TOKEN_FILE=/run/secrets/token
```

A name that ends in `_FILE` sets the key without that ending to the text of the file, without its last line end: for
secrets. A plugin option whose own name ends in `_file` is set through its whole table: `MAILGATEWAY__PLUGIN__NAME='{…}'`.
"""


def kind_of(annotation: Any, field: FieldInfo | None = None) -> str:
    """A type in words of a postmaster."""
    schema = next((part.json_schema for part in (field.metadata if field else ()) if hasattr(part, "json_schema")), None)
    if schema is not None:
        return "duration" if schema["examples"] == ["30s"] else "size"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{inline(value)}`" for value in arguments)
    if origin in {Union, types.UnionType}:
        return " or ".join(kind_of(part) for part in arguments if part is not type(None))
    if origin in {tuple, list}:
        return "list"
    if origin is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return "table"
    return {str: "string", int: "number", bool: "true or false", float: "number"}.get(annotation, "any")


def default_of(field: FieldInfo) -> str:
    """The default as it would be written; `required` or a dash where there is none."""
    if field.is_required():
        return "required"
    if field.get_default(call_default_factory=True) is None:
        return "–"
    return f"`{inline(plain(field.get_default(call_default_factory=True), field.metadata))}`"


def meaning_of(field: FieldInfo) -> str:
    """Its docstring on one line."""
    return " ".join((field.description or "").split()).replace("``", "empty").replace("|", "\\|")


def _table(model: type[BaseModel], *, without: tuple[str, ...] = ()) -> Iterator[str]:
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for name, field in model.model_fields.items():
        if name not in without:
            yield f"| `{name}` | {kind_of(field.annotation, field)} | {default_of(field)} | {meaning_of(field)} |"


def _sections() -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in Config.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield f"[{name}]", annotation
        elif get_origin(annotation) is tuple and name in {"listener", "route"}:
            yield f"[[{name}]]", get_args(annotation)[0]


def render() -> str:
    """The whole page."""
    sections = list(_sections())
    lines = [_INTRODUCTION, "## Top level", ""]
    tables = tuple(title.strip("[]") for title, _ in sections)
    lines += _table(Config, without=tables)
    for title, model in sections:
        lines += ["", f"## {title}", "", (model.__doc__ or "").partition(": ")[2].strip().capitalize(), ""]
        lines += _table(model)
        if title == "[[listener]]":
            lines += ["", "`tls` has these keys:", ""]
            lines += _table(TlsConfig)
        if title == "[[route]]":
            lines += ["", "A server in `servers` may be a table with these keys:", ""]
            lines += _table(ServerEntry)
            lines += ["", "`auth` has these keys:", ""]
            lines += _table(RouteAuth)
    lines += [
        "",
        "## [plugin.NAME]",
        "",
        f"{PluginUse.__doc__} The options of each plugin are on its page in `docs/plugins/`.",
        "",
    ]
    lines += _table(PluginUse)
    return "\n".join(line.rstrip() for line in lines) + "\n"


if __name__ == "__main__":
    Path("docs/configuration.md").write_text(render(), encoding="utf-8")
