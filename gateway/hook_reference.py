"""`docs/plugins/hooks.md`, made from the hook specifications: run `python -m gateway.hook_reference` after a change of them."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

from gateway import hookspecs
from gateway.answers import SPECIFICATIONS

PARTS = ("When", "Reads", "Answer", "Error or time-out", "RFC", "Examples")
"""What each docstring says, in this order, after its first line."""

_INTRODUCTION = """\
# Hooks

<!-- Made by `python -m gateway.hook_reference` from gateway/hookspecs.py: change that file. -->

A plugin is a class derived from `gateway.Plugin`; its methods marked `@hook` are called at the stage of their name. A hook

- may be `async def` (runs on the event loop; what blocks belongs into a thread or `context.run_in_process`), `def` (runs in a
  thread), or `def` marked `@hook(cheap=True)` (runs on the loop and must not block);
- takes the arguments that it names and no others, in any order;
- answers with values and never changes what it was handed; None is no opinion.

Names and arguments are checked when the configuration is loaded, answers when they are given: anything else is an error of the
plugin. Every hook runs under a deadline: the smallest of the plugin's `timeout`, its stage's budget (`limits.envelope_budget`,
`limits.check_budget`) and what is left of the transaction's time. A late answer is dropped. With `mode = "monitor"` a hook is run
and recorded, and its verdicts and edits are not applied; findings of `check` are facts and stay.

How to write one: [first-plugin.md](../first-plugin.md).
"""


def parts_of(name: str) -> tuple[str, dict[str, str]]:
    """First line and the six parts of a hook's docstring. ValueError when one is missing or out of order."""
    summary, _, rest = inspect.cleandoc(SPECIFICATIONS[name].__doc__ or "").partition("\n")
    pieces = re.split(rf"^({'|'.join(PARTS)}):(?: |\n)", rest.strip(), flags=re.MULTILINE)
    found = {
        part: inspect.cleandoc(text) if part == "Examples" else " ".join(text.split())
        for part, text in zip(pieces[1::2], pieces[2::2], strict=True)
    }
    if tuple(found) != PARTS or pieces[0].strip():
        raise ValueError(f"{name}: the docstring needs {', '.join(PARTS)}, in this order")
    return summary, found


def signatures() -> dict[str, str]:
    """Each hook as a plugin writes it."""
    tree = ast.parse(inspect.getsource(hookspecs))
    found = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            arguments = "".join(
                f", {argument.arg}: {ast.unparse(argument.annotation)}" for argument in node.args.args if argument.annotation
            )
            answer = ast.unparse(node.returns) if node.returns is not None else "None"
            found[node.name] = f"@hook\nasync def {node.name}(self{arguments}) -> {answer}: ..."
    return found


def render() -> str:
    """The whole page."""
    written = signatures()
    lines = [_INTRODUCTION]
    for name in SPECIFICATIONS:
        summary, parts = parts_of(name)
        lines += [f"## {name}", "", summary, "", "```python", written[name], "```", ""]
        example = parts.pop("Examples")
        lines += [f"- {part}: {text}" for part, text in parts.items()]
        lines += ["", "```pycon", example, "```", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    Path("docs/plugins/hooks.md").write_text(render(), encoding="utf-8")
