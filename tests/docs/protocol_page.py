"""The generated half of docs/protocol.md: states and references. `python -m tests.docs.protocol_page` writes it anew."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from gateway.smtp.states import AFTER_LAST, ALLOWED, State

TOP = Path(__file__).parents[2]
PAGE = TOP / "docs" / "protocol.md"
MARK = "<!-- Made by `python -m tests.docs.protocol_page` from here on. -->\n"
_SECTION = r"\d+(?:\.\d+)*(?![\w.]*\w)"
_LATER = r"\d+(?:\.\d+)+(?![\w.]*\w)"
_REFERENCE = re.compile(rf"RFC (\d{{3,5}}) ({_SECTION}(?:(?:, | and | to ){_LATER})*)")
_HEADER = re.compile(r"(\d{3,5}) (\w+(?:\.\d+)*)")

Reference = tuple[int, str]


def references(text: str) -> Iterator[Reference]:
    """Every `RFC number section` in a text, lists taken apart."""
    for number, sections in _REFERENCE.findall(text):
        for section in re.findall(r"\d+(?:\.\d+)*", sections):
            yield int(number), section


def of_dialogue(header: str) -> Iterator[Reference]:
    """Those of the `rfc:` line of a dialogue: `5321 3.3, 4.2`; a number holds until the next."""
    number = 0
    for part in header.split(","):
        words = part.split()
        if len(words) == 2:
            number = int(words[0])
        yield number, words[-1]


def in_code() -> dict[Reference, list[str]]:
    """Where each reference is in the code."""
    found: dict[Reference, list[str]] = defaultdict(list)
    for place in ("gateway", "plugins"):
        for file in sorted((TOP / place).rglob("*.py")):
            shown = str(file.relative_to(TOP))
            if not shown.startswith(("gateway/plugins/", "gateway/testing/")):
                for one in sorted(set(references(file.read_text(encoding="utf-8")))):
                    found[one].append(shown)
    return found


def in_tests() -> dict[Reference, list[str]]:
    """Which conversations and tests name it."""
    found: dict[Reference, list[str]] = defaultdict(list)
    for file in sorted((TOP / "tests").rglob("*.smtp")):
        header = next((line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("rfc:")), "rfc:")
        for one in of_dialogue(header[4:]) if header[4:].strip() else ():
            found[one].append(str(file.relative_to(TOP)))
    for file in sorted((TOP / "tests").rglob("test_*.py")):
        for one in sorted(set(references(file.read_text(encoding="utf-8")))):
            found[one].append(str(file.relative_to(TOP)))
    return found


def states() -> str:
    """The state machine as a diagram; verbs that leave the state as it is are left out."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> greeting: 220", "    [*] --> refused: 554"]
    for state, row in ALLOWED.items():
        moves: dict[State, list[str]] = defaultdict(list)
        for verb, after in row.items():
            if after is not state or verb == "RCPT":
                moves[after].append(verb)
        if "BDAT" in row:
            moves[AFTER_LAST].append("BDAT LAST")
        lines += [f"    {state.value} --> {after.value}: {', '.join(verbs)}" for after, verbs in moves.items()]
        if "QUIT" in row:
            lines.append(f"    {state.value} --> [*]: QUIT")
    return "\n".join([*lines, "```"])


def allowed() -> str:
    """The same as a table: the state after each verb."""
    verbs = sorted({verb for row in ALLOWED.values() for verb in row})
    lines = ["| verb | " + " | ".join(state.value for state in ALLOWED) + " |", "|---|" + "---|" * len(ALLOWED)]
    for verb in verbs:
        cells = [row[verb].value if verb in row else "503" for row in ALLOWED.values()]
        if verb == "BDAT":
            cells = [f"{cell}, {AFTER_LAST.value} after LAST" if cell == "bdat" else cell for cell in cells]
        lines.append(f"| {verb} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _key(reference: Reference) -> tuple[int, list[int]]:
    return reference[0], [int(part) for part in reference[1].split(".")]


def render() -> str:
    """Everything below the mark."""
    code, tests = in_code(), in_tests()
    lines = ["| RFC | section | code | tests that name it |", "|---|---|---|---|"]
    for one in sorted(code, key=_key):
        shown = ", ".join(f"`{file}`" for file in code[one])
        lines.append(f"| {one[0]} | {one[1]} | {shown} | {', '.join(f'`{file}`' for file in tests.get(one, []))} |")
    parts = [
        MARK,
        "## States of a session\n",
        "From `gateway/smtp/states.py`: the state after each verb when it succeeded. A verb that is refused changes nothing.\n",
        "BDAT is the exception: behind a refused chunk there are only chunks to drop, up to the last one or RSET.\n",
        states() + "\n",
        allowed() + "\n",
        "## References\n",
        "Every section of an RFC that the code names.\n",
        "\n".join(lines) + "\n",
    ]
    return "\n".join(parts)


def written_by_hand() -> str:
    """What stands above the mark."""
    return PAGE.read_text(encoding="utf-8").partition(MARK)[0]


if __name__ == "__main__":
    PAGE.write_text(written_by_hand() + render(), encoding="utf-8")
