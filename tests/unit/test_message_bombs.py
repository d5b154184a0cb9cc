"""Messages made to cost much: every fact of each is read in a process of its own, in little memory, and the limit is told.

Time is measured by hand: each takes well under two seconds of a processor.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.message_bombs import BOMBS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc"),
]

MOST = 250
"""MB that one message may cost, pages of its spool file counted."""
TOLD = {
    "multiparts in one another": {"mime-depth"},
    "messages in one another": {"mime-depth"},
    "boundaries of 1 MB": {"field-size", "mime-boundary"},
    "100,000 parts": {"mime-parts"},
    "100 MB of fields": {"header-fields"},
    "a field of 20 MB": {"author-addresses", "field-size"},
    "fields of a part": {"part-fields", "text"},
    "text like fields": {"text"},
    "base64": set(),
    "quoted-printable": set(),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, set[str]]]:
    """Of one process that reads all of them, one after the other."""
    command = [sys.executable, "-m", "tests.unit.message_bombs", str(tmp_path_factory.mktemp("bombs"))]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    found = {}
    for line in done.stdout.splitlines():
        memory, words, name = line.split(" ", 2)
        found[name] = int(memory), set(words.split(",")) - {"-"}
    return found


def test_each_has_its_words(results: dict[str, tuple[int, set[str]]]) -> None:
    assert TOLD.keys() == BOMBS.keys()
    assert "the limit is kept" in results  # that of what is allocated: one past it is an error


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_little_and_is_told(name: str, results: dict[str, tuple[int, set[str]]]) -> None:
    memory, words = results[name]
    assert memory < MOST
    assert TOLD[name] <= words
