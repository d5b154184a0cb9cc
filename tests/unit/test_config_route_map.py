"""Route maps: what an entry means, which one counts, and mistakes with their line; reloading a file."""

import asyncio
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.config import route_map
from gateway.config.route_map import MapError, parse_map, read_map
from gateway.relay import map_file
from gateway.relay.map_file import MapFile

ROUTES = ("default", "second")
TEXT = """
# comment
user@example.org    second          # one address
example.org         192.0.2.10:25
.example.org\t\tunix:/run/lmtp.sock
.deep.example.org   mx:example.net
Odd.User@Example.NET.  default
bücher.example      second
jörg@bücher.example [2001:db8::1]:26
"quoted"@example.net  second
"""


@pytest.mark.parametrize(
    ("local_part", "domain", "target"),
    [
        ("user", "example.org", "second"),
        ("USER", "example.org", "second"),
        ("other", "example.org", "192.0.2.10:25"),
        ("user", "sub.example.org", "unix:/run/lmtp.sock"),
        ("x", "a.b.example.org", "unix:/run/lmtp.sock"),
        ("x", "deep.example.org", "unix:/run/lmtp.sock"),
        ("x", "a.deep.example.org", "mx:example.net"),
        ("odd.user", "example.net", "default"),
        ('"Odd.User"', "example.net", "default"),
        ("quoted", "example.net", "second"),
        ("x", "example.net", None),
        ("x", "notexample.org", None),
        ("x", "org", None),
        ("x", "xn--bcher-kva.example", "second"),
        ("jörg", "xn--bcher-kva.example", "[2001:db8::1]:26"),
        ("JÖRG", "xn--bcher-kva.example", "second"),
        ("x", "[192.0.2.1]", None),
    ],
)
def test_entries(local_part: str, domain: str, target: str | None) -> None:
    """Address, domain, then the domains above, the nearest first. RFC 5321 2.4: only ASCII letters lose their case."""
    found = parse_map(TEXT.splitlines(), "map", ROUTES)
    assert found.target(local_part, domain) == target
    assert len(found) == 8


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("example.org", "then a route or a server"),
        ("example.org second third", "then a route or a server"),
        ("exa_mple..org second", "user@example.org"),
        ("@example.org second", "user@example.org"),
        ("user@ second", "user@example.org"),
        ("* second", "user@example.org"),
        ("example.org secnd:0", "a route (default, second) or a server"),
        ("example.org mx:", 'a route with "mx:"'),
        ("example.org inbox:", 'a route with "inbox:"'),
        ("twice.example default\ntwice.example second", "once"),
        ("x" * 1001 + " second", "then a route or a server"),
    ],
)
def test_mistakes_have_their_line(line: str, part: str) -> None:
    with pytest.raises(MapError) as error:
        parse_map(["", "fine.example second", *line.split("\n")], "routes.txt", ROUTES)
    number = 3 + line.count("\n")
    assert str(error.value).startswith(f"routes.txt:{number}: found ")
    assert part in str(error.value)


def test_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route_map, "MAX_ENTRIES", 2)
    parse_map(["a.test second", "b.test second"], "m", ROUTES)
    with pytest.raises(MapError, match="m:3: more than 2"):
        parse_map(["a.test second", "b.test second", "c.test second"], "m", ROUTES)
    file = tmp_path / "map"
    with pytest.raises(MapError, match="cannot be read: No such file"):
        read_map(file, ROUTES)
    file.write_bytes(b"a.test second\n\xff.test second\n")
    with pytest.raises(MapError, match=r":2: not UTF-8"):
        read_map(file, ROUTES)
    monkeypatch.setattr(route_map, "MAX_FILE", 10)
    with pytest.raises(MapError, match="more than 10 octets"):
        read_map(file, ROUTES)


async def test_a_changed_file_is_read_again_and_a_broken_one_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(map_file, "LOOK_AGAIN", 0.0)
    file = tmp_path / "routes.txt"

    def write(text: str) -> None:
        file.write_text(text)
        facts = file.stat()
        os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1_000_000_000))

    async def target() -> str | None:
        """As it is when a change was seen."""
        found.target("x", "example.org")
        if found.reading is not None:
            await found.reading
        return found.target("x", "example.org")

    file.write_text("example.org default")
    found = MapFile(file, ROUTES)
    assert await target() == "default"
    write("example.org second")
    assert await target() == "second"
    with capture_logs() as lines:
        write("# line 1\nexample.org third:0\n")
        assert await target() == "second"
        assert await target() == "second"
        file.unlink()
        assert await target() == "second"
    told = [line["problem"] for line in lines if line["event"] == "route_map.unusable"]
    assert len(told) == 2, "each broken version is told of once"
    assert told[0].startswith(f"{file}:2: found 'third:0'")
    write("example.org default")
    assert await target() == "default"


async def test_the_file_is_looked_at_now_and_then(tmp_path: Path) -> None:
    file = tmp_path / "routes.txt"
    file.write_text("example.org default")
    found = MapFile(file, ROUTES)
    found.target("x", "example.org")
    file.unlink()
    for _ in range(3):
        assert found.target("x", "example.org") == "default"
        assert found.reading is None
    await asyncio.sleep(0)
