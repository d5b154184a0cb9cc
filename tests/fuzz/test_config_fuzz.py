"""Configurations mutated at random: a mistake is a ConfigError, whatever it is, and never anything else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.load import load
from gateway.errors import ConfigError
from gateway.plugins.rules.files import read_files
from tests.fuzzing import examples

DEPTH = examples(150)
USUAL = (Path(__file__).parents[2] / "config.toml").read_text()
WORDS = [
    '"', "'", "[", "]", "{", "}", "=", "\n", ",", ".", "#", "\\", '"""', "[[", "]]", "-1", "1e400", "nan", "inf", "true", "0",
    "\x00", "\ufeff", "\u2028", "é", "\r", "9" * 30, "9" * 5000, "0x", "1979-05-27", "07:32:00", '"${X}"', '"env:X"', '"file:/dev/null"', '"/"', '"::"',
    '"127.0.0.1:99999"', '"[::1]:25"', '"unix:"', '"[::1"', '"5 parsecs"', '"1e999s"', '"999999999999999999999d"', '"-5MB"', '"\\u0000"',
    "[listener]", "[[route]]", "[plugin]", "[plugin.spf]", "[[plugin.spf]]", "[[rule]]", "plugins", "[server.x]", "[limits]", "[dns]", "when", "then",
    "[[]]", "{}", "[{}]", '[""]', "a.b.c = 1", '"".x = 1', "[a.b]\n[a]\nb = 1", "[" * 500, "{a=" * 300
]  # fmt: skip
word = st.sampled_from(WORDS) | st.text(max_size=8)
edit = st.tuples(st.integers(0, len(USUAL)), st.integers(0, 40), word)
VALUES = st.recursive(
    st.sampled_from(
        ['""', "0", "-1", "true", '"x"', "1.5", "nan", '"10s"', "1979-05-27", '"127.0.0.1:25"', "9" * 25, '"\\u0000"']
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(inner, max_size=3).map(lambda items: "{" + ", ".join(f"k{n} = {one}" for n, one in enumerate(items)) + "}")
    ),
    max_leaves=6,
)


def read(octets: bytes, directory: Path, **environ: str) -> None:
    file = directory / "config.toml"
    file.write_bytes(octets)
    problems = 1
    try:
        load(file, environ=environ, needs_route=True)
    except ConfigError as error:
        problems = len(error.problems)
    assert problems, "an error that names no problem"


@DEPTH
@given(st.lists(edit, min_size=1, max_size=5))
def test_a_mutated_file(tmp_path: Path, edits: list[tuple[int, int, str]]) -> None:
    text = USUAL
    for at, cut, put in edits:
        text = text[:at] + put + text[at + cut :]
    read(text.encode("utf-8", "surrogatepass"), tmp_path)


@DEPTH
@given(st.integers(0, USUAL.count("=") - 1), VALUES)
def test_a_value_of_another_kind(tmp_path: Path, which: int, value: str) -> None:
    lines = USUAL.split("\n")
    places = [number for number, line in enumerate(lines) if " = " in line and not line.startswith(("#", " "))]
    place = places[which % len(places)]
    lines[place] = lines[place].partition(" = ")[0] + f" = {value}"
    read("\n".join(lines).encode(), tmp_path)


@DEPTH
@given(st.binary(max_size=200))
def test_octets(tmp_path: Path, octets: bytes) -> None:
    read(octets, tmp_path)


@DEPTH
@given(
    st.sampled_from(["SERVER__NAME", "LISTENER", "LISTENER__0__BIND", "ROUTE", "ROUTE__default__SERVERS", "PLUGIN__SPF__FAIL", "PLUGINS", "LIMITS__IDLE", "RULE", "X", "SERVER", "__", "LIMITS__IDLE__X"]),
    word.filter(lambda text: "\0" not in text) | VALUES | st.sampled_from(['{"a": 1}', "[1]", "null", '"', "[{}]", '[{"bind": 1}]', "[" * 3000]),
)  # fmt: skip
def test_variables(tmp_path: Path, name: str, value: str) -> None:
    read(USUAL.encode(), tmp_path, **{f"MAILGATEWAY__{name}": value})


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 3000, "[" * 3000 + "]" * 3000])
def test_a_value_that_cannot_be_read(tmp_path: Path, value: str) -> None:
    """Both readers have bounds of their own, and say so with errors of their own."""
    with pytest.raises(ConfigError):
        load(None, environ={"MAILGATEWAY__LIMITS__IDLE": value})
    (tmp_path / "config.toml").write_text(f"x = {value}")
    with pytest.raises(ConfigError):
        load(tmp_path / "config.toml", environ={})
    with pytest.raises(ConfigError):
        read_files(["config.toml"], tmp_path)


def test_the_usual_one_is_taken(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(USUAL)
    assert load(tmp_path / "config.toml", environ={}, needs_route=True).config.route
    with pytest.raises(ConfigError):
        load(tmp_path / "config.toml", environ={"MAILGATEWAY__LIMITS__IDLE": "-"}, needs_route=True)
