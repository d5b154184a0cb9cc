"""Files of every format, changed at random: nothing raises, nothing is left open, and what is told survives the channel.

A reader that fails for a reason of its own (a wrong type, a name that is not there) is told from one that met hostile octets.
"""

from __future__ import annotations

import json
import random
import re

import pytest

from gateway import Message
from gateway.content import Content
from gateway.files import FileBounds, Opened
from gateway.files.found import Given
from gateway.files.parts import given, wanted
from gateway.files.walking import open_all
from gateway.testing import a_message
from tests.archive_samples import NAMES, sample
from tests.archives import EICAR, WITH_EICAR, a_quoting_bomb, a_zip
from tests.fuzzing import FIRST_SEED, TIMES, chances

BOUNDS = FileBounds(count=200, size=3_000_000, total=10_000_000, time=20.0)
SEEDS: dict[str, bytes] = {
    **{f"a.{ending}": octets for ending, (octets, _) in WITH_EICAR.items()},
    **{name: sample(name) for name in NAMES},
    "bomb.zip": a_quoting_bomb(20, 1_000),
    "all.zip": a_zip({f"a.{ending}": octets for ending, (octets, _) in WITH_EICAR.items()}),
}
OF_LIBRARIES = ("rar", "doc", "msg", "zip", "eml")
"""Where a library may raise anything at all, or holds such a file."""
OUR_MISTAKES = re.compile(r"(?:Type|Attribute|Name|UnboundLocal|Assertion|Key|Runtime)Error")
ENDS = [
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"\xff" * 8,
    b"\x7f\xff\xff\xff",
    b"\x80",
    b"PK\3\4",
    b"PK\1\2",
    b"\r\n\r\n",
    b"--",
    b"../",
    b"\0",
]


def changed(octets: bytes, chance: random.Random) -> bytes:
    """A few octets, a piece lost, doubled or moved, a number that is the largest there is."""
    found = bytearray(octets)
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        if not found:
            break
        # Headers stand at both ends, and in discs behind 32 KB.
        at = chance.choice(
            [
                chance.randrange(min(len(found), 300)),
                len(found) - 1 - chance.randrange(min(len(found), 300)),
                chance.randrange(len(found)),
            ]
        )
        match chance.randrange(6):
            case 0:
                found[at] ^= 1 << chance.randrange(8)
            case 1:
                found[at] = chance.randrange(256)
            case 2:
                end = chance.choice(ENDS)
                found[at : at + len(end)] = end
            case 3:
                del found[at : at + chance.choice([1, 4, 100, 10_000])]
            case 4:
                found[at:at] = found[at : at + chance.choice([1, 4, 64, 512])]
            case _:
                del found[chance.randrange(len(found)) :]
    return bytes(found)


def check(name: str, found: Opened) -> None:
    assert Opened.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert len(found.files) <= 2 * BOUNDS.count + 1
    assert {one.word for one in found.unopened} <= set(found.limits_hit)
    for one in found.files:
        assert one.path.isprintable()
        assert one.size >= 0
    if name.rpartition(".")[2] not in OF_LIBRARIES:
        assert not [one.reason for one in found.unopened if OUR_MISTAKES.match(one.reason)]


@pytest.mark.parametrize("name", SEEDS)
def test_a_changed_file(name: str) -> None:
    large = len(SEEDS[name]) > 100_000
    for seed in range(FIRST_SEED, FIRST_SEED + (8 if large else 40) * TIMES):
        octets = changed(SEEDS[name], chances(seed))
        check(name, open_all([Given(names=(name,), content=octets, declared_type="", part=0)], BOUNDS))


@pytest.mark.parametrize("kind", sorted(SEEDS))
def test_only_its_first_octets(kind: str) -> None:
    for size in range(0, min(len(SEEDS[kind]), 1_600), 40):
        check(kind, open_all([Given(names=(kind,), content=SEEDS[kind][:size], declared_type="", part=0)], BOUNDS))


def test_changed_messages() -> None:
    whole = bytes(a_message(attach=[("a.zip", a_zip({"eicar.com": EICAR})), ("a.dat", WITH_EICAR["dat"][0])]).octets)
    for seed in range(FIRST_SEED, FIRST_SEED + 150 * TIMES):
        message = Message(Content(changed(whole, chances(seed))))
        check("a.eml", open_all(given(message.octets, wanted(message)), BOUNDS))
