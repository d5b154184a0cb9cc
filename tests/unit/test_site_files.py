"""What plugins get from their site: libraries, secrets, files that are read again."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

from gateway import Context, OptionError, WatchedFile, library, read_secret
from gateway.site_files import LOOK_AGAIN, MAX_SECRET
from gateway.testing import FakeContext


def test_a_library_has_what_its_first_use_would_import() -> None:
    code = (
        "import asyncio, sys\n"
        "from gateway import library\n"
        "httpx = library('httpx2', extra='http')\n"
        "before = set(sys.modules)\n"
        "async def ask():\n"
        "    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(verify=False), trust_env=False) as client:\n"
        "        await client.get('http://127.0.0.1:9/')\n"
        "try:\n"
        "    asyncio.run(ask())\n"
        "except httpx.ConnectError:\n"
        "    print(*set(sys.modules) - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "\n", "ConnectError, and nothing was imported"


def test_a_missing_library_names_its_extra() -> None:
    assert library("json", extra="none").loads("1") == 1
    with pytest.raises(OptionError) as refused:
        library("no_such_library", extra="thing", key=("url",))
    [mistake] = refused.value.mistakes
    assert mistake.key == ("url",)
    assert "no_such_library, which is not installed" in mistake.found
    assert mistake.allowed == "pip install 'mailgateway[thing]'"


@pytest.mark.parametrize(
    ("octets", "secret"), [(b"s3cret\n", "s3cret"), (b"s3cret\r\n", "s3cret"), (b" a\n\n", " a\n"), (b"", "")]
)
def test_a_secret_is_the_text_without_its_last_line_end(tmp_path: Path, octets: bytes, secret: str) -> None:
    (tmp_path / "secret").write_bytes(octets)
    assert read_secret("secret", context=cast("Context", FakeContext(base_directory=str(tmp_path)))) == secret


@pytest.mark.parametrize(("octets", "why"), [(b"\xff\xfe", "not UTF-8$"), (b"x" * (MAX_SECRET + 1), "more than")])
def test_a_secret_that_is_none_is_not_shown(tmp_path: Path, octets: bytes, why: str) -> None:
    file = tmp_path / "secret"
    file.write_bytes(octets)
    with pytest.raises(ValueError, match=f"{file}: {why}"):
        read_secret(str(file), context=cast("Context", FakeContext()))
    with pytest.raises(OSError, match="missing"):
        read_secret(str(tmp_path / "missing"), context=cast("Context", FakeContext()))


def numbers(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()]


async def test_a_file_is_read_again_when_it_changed_and_a_broken_one_is_told_of_once(tmp_path: Path) -> None:
    context = FakeContext(base_directory=str(tmp_path))
    gone: list[list[int]] = []
    file = WatchedFile("list", read=numbers, context=cast("Context", context), put_away=gone.append)

    async def look() -> list[int]:
        context.clock.move(LOOK_AGAIN + 0.1)
        before = file.value
        assert file.value is before  # while it is read
        await asyncio.gather(*context._tasks)
        return file.value

    def write(text: str) -> None:
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").replace(tmp_path / "list")

    with pytest.raises(FileNotFoundError):
        await file.load()
    write("1")
    await file.load()
    assert await look() == [1]
    assert context.log.lines == []
    write("1 2")
    assert file.value == [1]  # not looked at yet
    assert await look() == [1, 2]
    write("three")
    assert await look() == [1, 2]
    assert await look() == [1, 2]
    (tmp_path / "list").unlink()
    assert await look() == [1, 2]
    write("3")
    assert await look() == [3]
    assert gone == [[1], [1, 2]]
    assert [line[:2] for line in context.log.lines] == [
        ("info", "plugin.file_reloaded"),
        ("warning", "plugin.file_unusable"),
        ("warning", "plugin.file_unusable"),
        ("info", "plugin.file_reloaded"),
    ]
