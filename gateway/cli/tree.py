"""A decision record as a tree for people: `explain` and `check` print the same. Text from outside is made harmless."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.text import Text
from rich.tree import Tree

from gateway.cli.terminal import moment, safe

if TYPE_CHECKING:
    from gateway.trace import RecipientRecord, Record, StepRecord

_COLOURS = {
    "delivered": "green",
    "held": "yellow",
    "discarded": "yellow",
    "rejected": "red",
    "deferred": "magenta",
    "vanished": "dim",
    "passed": "green",
    "error": "red",
    "timeout": "red",
    "circuit": "red",
    "verdict": "bold",
    "would": "cyan",
    "none": "dim",
    "skipped": "dim",
}
_HIDDEN = frozenset(["kind", "recipients", "evidence", "details"])


def render(record: Record) -> Tree:
    """The decision on one transaction: client, envelope, message, every step with evidence and time, fates, replies."""
    tree = Tree(_title(record))
    tree.add(_client(record))
    if record["reverse_path"]:
        tree.add(_text("MAIL ", record["reverse_path"], *(f" {one}" for one in record["parameters"])))
    if record["size"]:
        tree.add(_text(f"message of {record['size']} octets: ", record["subject"] or "(no subject)", f" {record['message_id']}"))
    _add_steps(tree, record["steps"], record["steps_dropped"])
    if record["recipients"]:
        branch = tree.add("recipients")
        for recipient in record["recipients"]:
            _add_recipient(branch, recipient)
    if record["next_hop"]:
        queue = f" as {record['queue_id']}" if record["queue_id"] else ""
        tree.add(_text(f"next hop {record['next_hop']}{queue}: ", record["next_hop_reply"]))
    if record["reply"]:
        tree.add(_text("reply ", record["reply"]))
    return tree


def render_steps(steps: list[StepRecord]) -> Tree:
    """Some steps by themselves, as they stand in the whole tree."""
    tree = Tree("", hide_root=True)
    _add_steps(tree, steps, 0)
    return tree


def _text(*pieces: str, style: str = "") -> Text:
    return Text("".join(safe(piece) for piece in pieces), style=style)


def _title(record: Record) -> Text:
    fate = record["verdict"] or "no verdict"
    title = _text(record["id"], "  ")
    title.append(safe(fate), style=_COLOURS.get(fate, ""))
    by = f" by {record['plugin']}" if record["plugin"] else ""
    reason = f": {record['reason']}" if record["reason"] else ""
    title.append(safe(by + reason))
    when = f"  {moment(record['time'])} UTC, " if record["time"] else "  "
    title.append(f"{when}{record['duration_ms']:.1f} ms", style="dim")
    return title


def _client(record: Record) -> Text:
    facts = [record["client"] or "unknown client"]
    if record["helo"]:
        facts.append(f"HELO {record['helo']}")
    if record["identity"]:
        facts.append(f"authenticated as {record['identity']}")
    facts += [record["tls"] or "no TLS", f"listener {record['listener']}", f"generation {record['generation']}"]
    return _text(", ".join(facts))


def _add_steps(tree: Tree, steps: list[StepRecord], dropped: int) -> None:
    for stage, group in groupby(steps, key=lambda step: step["stage"]):
        branch = tree.add(_text(stage))
        for step in group:
            _add_step(branch, step)
    if dropped:
        tree.add(_text(f"{dropped} more steps were not kept", style="red"))


def _add_step(branch: Tree, step: StepRecord) -> None:
    line = _text(step["plugin"] or "gateway", "  ")
    words = "would have" if step["outcome"] == "would" else step["outcome"]
    line.append(safe(words), style=_COLOURS.get(step["outcome"], ""))
    if step["verdict"] is not None:
        line.append(" " + _value(step["verdict"]))
    if step["recipient"]:
        line.append(safe(f" for {step['recipient']}"))
    if step["mode"] == "monitor":
        line.append(" (monitor)", style="cyan")
    line.append(f"  {step['duration_ms']:.2f} ms", style="dim")
    leaf = branch.add(line)
    if step["evidence"]:
        leaf.add(_text(step["evidence"], style="italic"))
    for finding in step["findings"]:
        said = str(finding.get("evidence") or "")
        found = leaf.add(Text(_value(finding) + (safe(f" ({said})") if said and said != step["evidence"] else "")))
        details = finding.get("details")
        for line in details if isinstance(details, list) else ():
            found.add(_text(str(line), style="dim"))


def _add_recipient(branch: Tree, recipient: RecipientRecord) -> None:
    line = _text(recipient["forward_path"])
    if recipient["sent_path"] and recipient["sent_path"] != recipient["forward_path"]:
        line.append(safe(f" sent as {recipient['sent_path']}"))
    line.append("  ")
    line.append(safe(recipient["fate"]), style=_COLOURS.get(recipient["fate"], ""))
    if recipient["verdict"]:
        by = f" by {recipient['plugin']}" if recipient["plugin"] else ""
        line.append(safe(f": {recipient['verdict']}{by} {recipient['reason']}"))
    if recipient["route"]:
        line.append(safe(f"  route {recipient['route']}"), style="dim")
    leaf = branch.add(line)
    if recipient["evidence"]:
        leaf.add(_text(recipient["evidence"], style="italic"))
    if recipient["reply"]:
        leaf.add(_text("reply ", recipient["reply"]))


def edit_line(value: dict[str, Any]) -> str:
    """An edit (a dict of its fields and its `kind`) on one line as a person would say it; `` for anything else."""
    field = f"{value.get('name')}: {' '.join(str(value.get('value', '')).split())}"
    match value.get("kind"):
        case "AddHeader":
            return safe(f"add {field}")
        case "InsertHeader":
            return safe(f"add {field} (below {value.get('below')})")
        case "ReplaceBody":
            return safe(f"replace the body ({value.get('octets')})")
        case "ReplacePart":
            note = f": {value['note']}" if value.get("note") else ""
            return safe(f"replace the part at {value.get('start')}–{value.get('end')}{note}")
        case "ReplaceHeader":
            return safe(f"replace {field}")
        case "RemoveHeader":
            occurrence = value.get("occurrence")
            return safe(f"remove {value.get('name')}" + ("" if occurrence is None else f" (occurrence {occurrence})"))
        case "TagSubject":
            return safe(f"tag the subject with {value.get('tag')}")
        case _:
            return ""


def _value(value: dict[str, Any]) -> str:
    """A verdict, finding or edit on one line: its kind, then what is set in it."""
    kind = str(value.get("kind", ""))
    if line := edit_line(value):
        return line
    if {"method", "result", "properties"} <= value.keys():  # AuthResult, and what plugins derive from it
        properties = [f"{name}={content}" for name, content in value.get("properties", ())]
        reason = f" ({value['reason']})" if value.get("reason") else ""
        return safe(f"{value.get('method')}={value.get('result')}{reason} {' '.join(properties)}".strip())
    facts = [
        f"{name}={_short(content)}" for name, content in value.items() if name not in _HIDDEN and content not in ("", None, False)
    ]
    return safe(f"{kind.lower()} {' '.join(facts)}".strip())


def _short(content: object) -> str:
    text = str(content)
    return repr(text) if " " in text else text
