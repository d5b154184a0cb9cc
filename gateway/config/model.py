"""What every table of the configuration has in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict


class Model(BaseModel):
    """Base: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _plugin_entry(entry: Any) -> Any:
    if isinstance(entry, str) and entry:
        return entry
    if isinstance(entry, dict) and isinstance(entry.get("name"), str) and entry["name"]:
        return entry
    raise ValueError('a plugin name, or { name = "…", use = "…" }')


PluginEntry = Annotated[Any, AfterValidator(_plugin_entry)]
