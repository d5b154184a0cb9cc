"""TOML files of plugins: their mistakes are told as those of the configuration are."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import ConfigError, PluginOptions, TomlFile


class One(PluginOptions):
    colour: str = ""
    size: int = 0


class Many(PluginOptions):
    one: tuple[One, ...] = ()


TEXT = '[[one]]\ncolour = "red"\n\n[[one]]\nsize = 1\n'


def refusal(file: Path, largest: int = 1_000) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        TomlFile(file, Many, largest=largest)
    return [str(problem).removeprefix(str(file)) for problem in caught.value.problems]


def test_the_value_and_the_lines(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(TEXT)
    read = TomlFile(file, Many)
    assert read.value == Many(one=(One(colour="red"), One(size=1)))
    assert [read.line(("one", 1, "size")), read.line(("one", 1, "colour")), read.line(("two",))] == [5, 4, None]
    assert str(read.problem(("one", 0, "colour"), "red", "blue", "blue")) == (
        f"{file}:2: one[0].colour: found red; allowed: blue (did you mean 'blue'?)"
    )


@pytest.mark.parametrize(
    ("octets", "problems"),
    [
        (
            TEXT.replace("colour", "color").replace("1", '"a"').encode(),
            [
                ":2: one[0].color: found the unknown key 'color'; allowed: colour, size (did you mean 'colour'?)",
                ':5: one[1].size: found "a"; allowed: a whole number',
            ],
        ),
        (b"[[one]]\n[[one\n", [":2: file: found a mistake in TOML: Expected ']]' at the end of an array declaration; "]),
        (b"[[one]]\ncolour = '''\n", [":2: file: found a mistake in TOML: "]),
        (b"# \n# \xe9\n", [":2: file: found the octet 0xe9; allowed: UTF-8 text"]),
        (b"#" * 1_001, [": file: found more than 1000 octets; allowed: a smaller file, or several"]),
    ],
)
def test_mistakes_have_their_lines(tmp_path: Path, octets: bytes, problems: list[str]) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(octets)
    found = refusal(file)
    assert len(found) == len(problems)
    assert all(one.startswith(wanted) for one, wanted in zip(found, problems, strict=True)), found


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.toml") == [
        ": file: found a file that cannot be read (No such file or directory); allowed: a readable TOML file"
    ]


def test_one_of_the_largest_size_is_read(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(b"#" * 1_000)
    assert TomlFile(file, Many, largest=1_000).value == Many()
