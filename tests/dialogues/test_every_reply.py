"""Every reply of our own is seen in a dialogue, or in another test that is named here with the reason."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.testing.dialogue import literal, read
from tests.docs.own_replies import TOP, Found, found

HERE = Path(__file__).parent
DISK = "a disk that is full or broken"
SEVERAL = "takes more clients than one"
GUARD = "guards against a defect; no client can bring it about"

ENDINGS = "tests/unit/smtp/test_server_endings.py"
BAD_INPUT = "tests/integration/test_bad_input.py"

ELSEWHERE: dict[Found, tuple[str, str]] = {
    (421, "4.3.0", "Internal fault; try again later"): (
        GUARD,
        f"{ENDINGS}::test_a_fault_of_ours_is_421_with_a_record_that_says_so",
    ),
    (421, "4.3.2", "Too busy; try again later"): (
        SEVERAL,
        "tests/integration/test_limits_of_all_workers.py::test_four_workers_take_exactly_as_many_as_may_be",
    ),
    (421, "4.7.0", "Connections from your network come too fast"): (SEVERAL, f"{ENDINGS}::test_a_network_that_comes_too_often"),
    (421, "4.7.0", "Too many connections from your network"): (
        SEVERAL,
        "tests/integration/test_limits_of_all_workers.py::test_four_workers_take_exactly_as_many_as_may_be",
    ),
    (451, "4.3.0", "Spool failed; try again later"): (
        DISK,
        f"{ENDINGS}::test_a_spool_that_cannot_be_read_is_451_and_the_session_goes_on",
    ),
    (452, "4.3.1", "Insufficient system storage"): (DISK, f"{BAD_INPUT}::test_a_full_disk_under_the_spool"),
    (451, "4.3.0", "Try again later"): (DISK, f"{ENDINGS}::test_what_cannot_be_recorded_is_not_promised"),
    (452, "4.3.1", "Insufficient storage, try again later"): (DISK, f"{ENDINGS}::test_what_cannot_be_recorded_is_not_promised"),
    (451, "4.3.5", "Nothing can be held here now"): (DISK, f"{BAD_INPUT}::test_where_nothing_can_be_held"),
    (451, "4.3.0", "No answer"): (GUARD, ""),
    (451, "4.3.0", "No link to the next hop"): (GUARD, ""),
    (451, "4.3.0", "The transaction has ended"): (GUARD, ""),
    (503, "5.5.1", "The transaction has ended"): (GUARD, ""),
    (451, "4.3.5", "The next hop gave no usable answer"): (GUARD, ""),
    (451, "4.4.2", "The client left"): ("its client has left", ""),
    (451, "4.5.3", "This recipient goes another way, send again"): (GUARD, ""),
    (554, "5.7.1", "Malware found: …"): (
        "said by what clamd found",
        "tests/plugins/test_clamav.py::test_a_signature_is_refused_by_name",
    ),
    (451, "4.3.5", "The message cannot be handled here now; try again later"): (
        "said to an MTA",
        "tests/unit/test_milter_server.py::test_what_cannot_be_said_is_put_off",
    ),
}
"""Reply → why no dialogue can show it, and the test that does; a guard may have none."""


def said() -> list[str]:
    """What the gateway says to clients in the dialogues: whole lines, as they stand there."""
    lines = []
    for file in sorted(HERE.glob("*.smtp")):
        for line in read(file).lines:
            if line.who == "S" and line.how in ":*~":
                lines.append(line.text)
            elif line.who == "S" and line.how == "!":
                lines += literal(line, file).decode("utf-8", "replace").split("\r\n")
    return lines


def pattern(reply: Found) -> re.Pattern[str]:
    """What a line of a dialogue looks like that shows it; a regular expression shows it in its own form."""
    code, enhanced, text = reply
    number = {"": "", "…": r"\d\.\d+\.\d+ "}.get(enhanced, re.escape(enhanced) + " ")
    return re.compile(rf"{code}[ -]{number}{re.escape(text).replace('…', '.+')}(?: \(ID\))?")


def test_each_is_seen_in_a_dialogue_or_named_here() -> None:
    lines = said()
    replies = dict(found())
    assert len(replies) > 100
    unseen = {reply: place for reply, place in replies.items() if not any(map(pattern(reply).fullmatch, lines))}
    missing = {reply: place for reply, place in unseen.items() if reply not in ELSEWHERE}
    seen = sorted(ELSEWHERE.keys() - unseen.keys())
    assert (missing, seen) == ({}, []), (
        "write a dialogue for what is missing; take out of ELSEWHERE what a dialogue shows, or is gone"
    )


def test_the_others_are_few_and_their_tests_exist() -> None:
    assert len(ELSEWHERE) <= 18
    for reply, (why, test) in ELSEWHERE.items():
        assert why, reply
        assert test or why not in {DISK, SEVERAL}, reply
        file, _, name = test.partition("::")
        assert not test or re.search(rf"def {name}\(", (TOP / file).read_text(encoding="utf-8")), test


def test_a_reply_that_no_dialogue_shows_would_be_found() -> None:
    lines = ["250 2.1.5 Ok (ID)", r"552 5\.3\.4 .*", "552 5.3.4 Message is larger than 7 octets (ID)"]
    shown = pattern((552, "5.3.4", "Message is larger than … octets"))
    assert [line for line in lines if shown.fullmatch(line)] == lines[2:]
    assert not any(map(pattern((250, "2.0.0", "Ok")).fullmatch, lines))
    assert any(map(pattern((250, "…", "…")).fullmatch, lines))
