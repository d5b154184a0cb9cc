"""docs/protocol.md: its generated half is fresh, its rows are proved by tests that exist, sections are named in code and tests."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.smtp.states import ALLOWED
from gateway.testing.dialogue import literal, read
from tests.docs import protocol_page as page

ONE_SIDED = {"Authentication-Results": ("a field of the message; no reply depends on it", "success", "refusal")}
"""Rows without a conversation for a success or a refusal: why, and what is missing."""


def test_the_generated_half_is_up_to_date() -> None:
    """Which files name a section may change without the page; which sections there are, and the states, may not."""
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.states() in text, "run: make docs"
    assert page.allowed() in text, "run: make docs"


def test_every_reference_in_the_code_is_listed_and_no_other() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    listed = {(int(number), section) for number, section in re.findall(r"^\| (\d{3,5}) \| ([\d.]+) \|", text, re.MULTILINE)}
    assert len(listed) > 80
    assert listed == set(page.in_code()), "run: make docs"


def test_lists_of_sections_are_taken_apart() -> None:
    text = "RFC 5321 4.1.1.5 to 4.1.1.10, RFC 3207 4. RFC 2047 6.2, 75 characters; RFC 8601 2.2 and 5 others, RFC 9989"
    assert list(page.references(text)) == [(5321, "4.1.1.5"), (5321, "4.1.1.10"), (3207, "4"), (2047, "6.2"), (8601, "2.2")]
    assert list(page.of_dialogue(" 5321 3.3, 4.2, 2034 4")) == [(5321, "3.3"), (5321, "4.2"), (2034, "4")]


def main_rows() -> list[str]:
    """The rows of the table by hand."""
    return [
        row
        for row in page.written_by_hand().partition("## Clients and next hops")[0].splitlines()
        if row.startswith("| ") and not row.startswith("| subject")
    ]


def first_digits(dialogue: Path) -> str:
    """Of all that the gateway says to the client after its greeting; a connection that it ends counts as 4."""
    digits = ""
    for line in read(dialogue).lines:
        if (line.who, line.how) == ("S", "^"):
            digits += "4"
        elif line.who == "S":
            said = literal(line, dialogue).decode("utf-8", "replace") if line.how == "!" else line.text
            digits += "".join(one[:1] for one in said.split("\r\n"))
    return digits


def test_each_row_is_proved_by_a_success_and_by_a_refusal() -> None:
    """In conversations; a row that has only one of them says why here."""
    for row in main_rows():
        _, subject, _, shown, _ = row.split("|")
        digits = "".join(first_digits(page.TOP / "tests" / "dialogues" / name) for name in re.findall(r"`(\w+\.smtp)`", shown))
        kinds = {"success" for one in digits if one in "23"} | {"refusal" for one in digits if one in "45"}
        missing = {"success", "refusal"} - kinds
        assert missing == set(ONE_SIDED.get(subject.strip(), ("",))[1:]), f"{subject}: missing {missing or 'nothing'}"


def test_each_row_names_what_shows_it() -> None:
    rows = main_rows()
    assert len(rows) > 25
    for row in rows:
        named = re.findall(r"`([\w/]+\.(?:smtp|py))`", row.split("|")[3])
        assert named, row
        for name in named:
            place = page.TOP / name if "/" in name else page.TOP / "tests" / "dialogues" / name
            assert place.exists(), f"{row}: {name}"


def test_the_diagram_has_every_move() -> None:
    drawn = page.states()
    for state, row in ALLOWED.items():
        for verb, after in row.items():
            if after is not state:
                assert re.search(rf"{state.value} --> {after.value}: .*\b{verb}\b", drawn), (state, verb)
